"""Which predictions are confident enough: FixMatch's fixed and FreeMatch's adaptive thresholds."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pseudolabel._checks import (
    check_device,
    check_flag,
    check_int,
    check_probs,
    check_real,
    wrong_value,
)
from pseudolabel._numerics import as_fraction
from pseudolabel.types import Selection


class FixedThreshold(nn.Module):
    r"""Selects predictions by one threshold (FixMatch; SPICE Eq. 8).

    .. math:: w_b = [\, \max_c q_{bc} \ge \eta \,]

    Args:
        threshold: In [0, 1].
        strict: True selects only above the threshold, False also at it (FixMatch's code).

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If ``threshold`` lies outside [0, 1].

    Example:
        >>> import torch
        >>> from pseudolabel import FixedThreshold
        >>> FixedThreshold(0.9)(torch.tensor([[0.95, 0.05], [0.4, 0.6]]))
        Selection(targets=tensor([0, 1]), weights=tensor([1., 0.]))
    """

    def __init__(self, threshold: float = 0.95, *, strict: bool = False) -> None:
        super().__init__()
        check_flag("strict", strict)
        check_real("threshold", threshold)
        self.threshold = float(as_fraction(threshold))
        self.strict = strict

    def extra_repr(self) -> str:
        """The options, as the module prints."""
        return f"threshold={self.threshold:g}, strict={self.strict}"

    @torch.no_grad()
    def forward(self, probs: Tensor) -> Selection:
        """Selects among probabilities.

        Args:
            probs: ``(B, K)``.

        Returns:
            Selection of the most probable classes, without gradient.

        Raises:
            TypeError: If ``probs`` is not a floating-point tensor.
            ValueError: If its shape or a value does not fit.
        """
        _check_batch(probs)
        wide = _widen(probs)
        return _select(probs, wide.new_full(wide.shape[-1:], self.threshold), self.strict)


class SelfAdaptiveThreshold(nn.Module):
    r"""FreeMatch's thresholds, which follow the model's own confidence (RPSC Eq. 8).

    .. math:: \tau \leftarrow m \tau + (1 - m) \, \overline{\max_c q_{bc}}, \qquad
        \tilde p \leftarrow m \tilde p + (1 - m) \, \overline{q_b}, \qquad
        \tau(c) = \tau \frac{\tilde p_c}{\max_j \tilde p_j}

    In training mode a call first updates :math:`\tau` and :math:`\tilde p` with the batch, then
    selects; in eval mode it only selects. The statistics are buffers: they are saved, loaded and
    moved with the module, and stay float32 whatever it is cast to. An empty batch changes nothing.

    Args:
        num_classes: K.
        momentum: m, in [0, 1].
        strict: True selects only above the threshold (the papers), False also at it (the code).
        process_group: The ranks whose batches count as one. None means the default group when
            `torch.distributed` is initialised; every rank must then call the module in training.

    Attributes:
        mean_confidence: float32 scalar, :math:`\tau`; starts at 1 / K.
        mean_probs: float32 ``(K,)``, :math:`\tilde p`; starts at 1 / K.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If ``num_classes`` or ``momentum`` is out of range.

    Example:
        >>> import torch
        >>> from pseudolabel import SelfAdaptiveThreshold
        >>> threshold = SelfAdaptiveThreshold(2, momentum=0.5)
        >>> threshold(torch.tensor([[0.9, 0.1], [0.7, 0.3]])).weights
        tensor([1., 1.])
        >>> threshold.thresholds
        tensor([0.6500, 0.3500])
    """

    mean_confidence: Tensor
    mean_probs: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        momentum: float = 0.999,
        strict: bool = False,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = check_int("num_classes", num_classes, 1, None)
        self.momentum = check_real("momentum", momentum)
        check_flag("strict", strict)
        self.strict = strict
        self.process_group = process_group
        self.register_buffer(
            "mean_confidence", torch.tensor(1 / self.num_classes, dtype=torch.float32)
        )
        self.register_buffer(
            "mean_probs", torch.ones(self.num_classes, dtype=torch.float32) / self.num_classes
        )

    @property
    def thresholds(self) -> Tensor:
        """The threshold of every class, float32 ``(K,)``."""
        largest = self.mean_probs.max()
        return self.mean_confidence * self.mean_probs / torch.where(largest > 0, largest, 1)

    def extra_repr(self) -> str:
        """The options, as the module prints."""
        return f"{self.num_classes}, momentum={self.momentum:g}, strict={self.strict}"

    @torch.no_grad()
    def forward(self, probs: Tensor) -> Selection:
        """Updates the statistics (in training mode), then selects.

        Args:
            probs: ``(B, K)``.

        Returns:
            Selection of the most probable classes, without gradient.

        Raises:
            TypeError: If ``probs`` is not a floating-point tensor.
            ValueError: If its shape, device or a value does not fit.
        """
        _check_batch(probs)
        if probs.shape[-1] != self.num_classes:
            wrong_value("probs", f"shape (B, {self.num_classes})", probs)
        check_device("probs", probs, self.mean_probs)
        if self.training:
            self._update(probs)
        return _select(probs, self.thresholds, self.strict)

    def _update(self, probs: Tensor) -> None:
        wide = probs.double()
        sums = torch.cat(
            [wide.sum(0), wide.amax(-1).sum().view(1), wide.new_tensor([float(len(probs))])]
        )
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums, group=self.process_group)
        weight = (1 - self.momentum) * (sums[-1] > 0)
        means = sums[:-1] / sums[-1].clamp(min=1)
        for statistic, mean in ((self.mean_probs, means[:-1]), (self.mean_confidence, means[-1])):
            statistic.lerp_(mean.to(statistic.dtype), weight.to(statistic.dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SelfAdaptiveThreshold:
        """Moves the statistics with the module, but keeps them in float32."""

        def keeping_float32(x: Tensor) -> Tensor:
            moved = fn(x)
            if moved.dtype == torch.float32 or not moved.is_floating_point():
                return moved
            return x.to(moved.device)

        super()._apply(keeping_float32, recurse)  # type: ignore[no-untyped-call]
        return self


def _select(probs: Tensor, thresholds: Tensor, strict: bool) -> Selection:
    """Selects by thresholds ``(K,)`` of the classes; ties of the argmax to the lowest class."""
    wide = _widen(probs)
    confidence, targets = wide.amax(-1), wide.argmax(-1)
    thresholds = thresholds[targets]
    passed = confidence > thresholds if strict else confidence >= thresholds
    return Selection(targets, passed.to(probs.dtype))


def _widen(probs: Tensor) -> Tensor:
    return probs if probs.dtype == torch.float64 else probs.float()


def _check_batch(probs: Tensor) -> None:
    check_probs("probs", probs, "B, K")
    if probs.shape[-1] == 0:
        wrong_value("probs", "at least one class", probs)
