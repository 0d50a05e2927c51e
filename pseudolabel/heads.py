"""Many independent clustering heads as one batched module, and how to choose among them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pseudolabel._checks import (
    check_device,
    check_floating,
    check_has_values,
    check_int,
    check_option,
    wrong_type,
    wrong_value,
)


class ClusterHeads(nn.Module):
    r"""Independent two-layer heads, computed together.

    Head h maps features to the logits :math:`W_2 \, \mathrm{relu}(W_1 f + b_1) + b_2`, with batch
    normalisation before the relu under ``norm="batch"`` (RPSC's heads, as in BYOL; SPICE has none).
    Heads differ only by their random initial weights, each drawn as `torch.nn.Linear` draws them.

    Args:
        num_heads: H.
        in_features: D.
        num_classes: K.
        hidden_features: Width of the hidden layer; None means D.
        norm: None or ``"batch"``.

    Raises:
        TypeError: If a size is not an int.
        ValueError: If a size is below 1 or ``norm`` unknown.

    Example:
        >>> import torch
        >>> from pseudolabel import ClusterHeads
        >>> heads = ClusterHeads(10, 512, 4)
        >>> heads(torch.randn(32, 512)).shape
        torch.Size([10, 32, 4])
    """

    def __init__(
        self,
        num_heads: int,
        in_features: int,
        num_classes: int,
        *,
        hidden_features: int | None = None,
        norm: Literal["batch"] | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = check_int("num_heads", num_heads, 1, None)
        self.in_features = check_int("in_features", in_features, 1, None)
        self.num_classes = check_int("num_classes", num_classes, 1, None)
        if hidden_features is None:
            hidden_features = in_features
        self.hidden_features = check_int("hidden_features", hidden_features, 1, None)
        if norm is not None:
            check_option("norm", norm, ("batch",))
        self.norm = nn.BatchNorm1d(num_heads * hidden_features) if norm == "batch" else None
        self.weight1 = nn.Parameter(torch.empty(num_heads, hidden_features, in_features))
        self.bias1 = nn.Parameter(torch.empty(num_heads, hidden_features))
        self.weight2 = nn.Parameter(torch.empty(num_heads, num_classes, hidden_features))
        self.bias2 = nn.Parameter(torch.empty(num_heads, num_classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial weights."""
        for weight, bias in ((self.weight1, self.bias1), (self.weight2, self.bias2)):
            bound = 1 / math.sqrt(weight.shape[-1])
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)
        if self.norm is not None:
            self.norm.reset_parameters()

    def extra_repr(self) -> str:
        """The sizes, as the module prints."""
        return (
            f"num_heads={self.num_heads}, in_features={self.in_features}, "
            f"num_classes={self.num_classes}, hidden_features={self.hidden_features}"
        )

    def forward(self, features: Tensor) -> Tensor:
        """Computes the logits of all heads.

        Args:
            features: ``(B, D)`` for all heads, or ``(H, B, D)``, each head its own.

        Returns:
            Logits ``(H, B, K)``.

        Raises:
            TypeError: If ``features`` is not a floating-point tensor, or not of the weights' dtype
                outside of an autocast region.
            ValueError: If its shape or device does not fit, or a batch of one meets batch
                normalisation in training.
        """
        check_floating("features", features, "*heads, B, D", finite=False)
        shared = features.dim() == 2
        own = features.dim() == 3 and len(features) == self.num_heads
        if features.shape[-1] != self.in_features or not (shared or own):
            expected = f"shape (B, {self.in_features}) or ({self.num_heads}, B, {self.in_features})"
            wrong_value("features", expected, features)
        check_device("features", features, self.weight1)
        if features.dtype != self.weight1.dtype and not _autocast(features.device):
            wrong_type("features", f"the weights' dtype, {self.weight1.dtype}", features)
        if self.norm is not None and self.training and features.shape[-2] < 2:
            wrong_value("features", "two rows or more to normalise in training", features)

        hidden = features @ self.weight1.mT + self.bias1.unsqueeze(-2)
        if self.norm is not None:
            by_sample = self.norm(hidden.transpose(0, 1).flatten(1))
            hidden = by_sample.reshape(-1, self.num_heads, self.hidden_features).transpose(0, 1)
        return relu(hidden) @ self.weight2.mT + self.bias2.unsqueeze(-2)

    @torch.no_grad()
    def head(self, index: int) -> nn.Sequential:
        """A copy of one head as a plain module of ``torch.nn`` layers.

        Args:
            index: In ``[0, num_heads)``.

        Returns:
            Linear, BatchNorm1d (under ``norm="batch"``), ReLU, Linear, in the same mode, dtype and
            device.

        Raises:
            TypeError: If ``index`` is not an int.
            ValueError: If it is out of range.
        """
        check_int("index", index, 0, self.num_heads - 1)
        sizes = (self.in_features, self.hidden_features, self.num_classes)
        layers: list[nn.Module] = [
            nn.Linear(*sizes[:2], device="meta"),
            nn.ReLU(),
            nn.Linear(*sizes[1:], device="meta"),
        ]
        states: list[dict[str, Tensor]] = [
            {"weight": self.weight1[index], "bias": self.bias1[index]},
            {},
            {"weight": self.weight2[index], "bias": self.bias2[index]},
        ]
        if self.norm is not None:
            mine = slice(index * self.hidden_features, (index + 1) * self.hidden_features)
            norm_state = self.norm.state_dict().items()
            layers.insert(1, nn.BatchNorm1d(self.hidden_features, device="meta"))
            states.insert(1, {name: x[mine] if x.dim() else x for name, x in norm_state})
        for layer, state in zip(layers, states, strict=True):
            layer.load_state_dict({name: x.clone() for name, x in state.items()}, assign=True)
        return nn.Sequential(*layers).train(self.training)


def _autocast(device: torch.device) -> bool:
    """Whether products on a device are of a dtype that the region decides."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def select_head(losses: Tensor) -> int:
    """The head of the smallest label-free loss.

    Args:
        losses: ``(H,)``. NaN never wins; ties go to the lowest head.

    Returns:
        The index of the head.

    Raises:
        TypeError: If ``losses`` is not a floating-point tensor.
        ValueError: If it is not of one axis, is empty, or all NaN.

    Example:
        >>> import torch
        >>> from pseudolabel import select_head
        >>> select_head(torch.tensor([float("nan"), 1.7, 1.5, 1.5]))
        2
    """
    check_floating("losses", losses, "H", finite=False)
    if losses.numel() == 0:
        wrong_value("losses", "the loss of at least one head", losses)
    check_has_values("losses", losses)
    missing = torch.isnan(losses)
    if missing.all():
        wrong_value("losses", "at least one loss that is not NaN", losses)
    # A head whose loss is inf still beats one whose loss is NaN.
    candidates = (~missing).nonzero()[:, 0]
    return int(candidates[losses[candidates].argmin()])
