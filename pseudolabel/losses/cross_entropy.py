"""Cross-entropies on pseudo-labels, and the entropy that keeps clusters alive: SPICE, FixMatch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax

from pseudolabel._checks import check_probs, wrong_value
from pseudolabel.losses._reduction import (
    Reduction,
    check_batch,
    entry_values,
    reduce,
    widen,
)


def double_softmax_cross_entropy(
    logits: Tensor, labels: Tensor, *, reduction: Reduction = "mean", ignore_index: int = -1
) -> Tensor:
    r"""Cross-entropy of the softmax of the softmax (SPICE Eq. 5).

    .. math:: L_i = -\log \operatorname{softmax}(\operatorname{softmax}(z_i))_{y_i}

    The loss lies between :math:`\log(1 + (K - 1) / e)`, its floor for a perfect prediction, and
    :math:`\log(e + K - 1)`: for K = 10 between 1.461 and 2.461, and a uniform prediction has 2.303.
    Its gradient vanishes on confident predictions, wrong ones included.

    Args:
        logits: ``(*heads, B, K)``; gets the gradient.
        labels: int64 ``(*heads, B)`` in ``[0, K)``; -1 and ``ignore_index`` leave an entry out,
            whatever its logits hold.
        reduction: ``"mean"`` over the entries that count, ``"sum"``, or ``"none"`` (0 at entries
            left out).
        ignore_index: A further label to leave out.

    Returns:
        ``(*heads,)``, or ``(*heads, B)`` under ``"none"``, in the dtype of the logits. Without any
        entry to learn from it is 0 and can be differentiated.

    Raises:
        TypeError: If ``logits`` is not floating-point or ``labels`` not int64.
        ValueError: If a shape, a label or an option does not fit, or a logit is not finite.

    Example:
        >>> import torch
        >>> from pseudolabel import double_softmax_cross_entropy
        >>> logits = torch.tensor([[100.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        >>> double_softmax_cross_entropy(logits, torch.tensor([0, -1]))
        tensor(0.5514)
    """
    valid = check_batch("logits", logits, "labels", labels, reduction, ignore_index)
    once = softmax(_masked(logits, valid), dim=-1)
    losses = _negative_log(once, labels, valid)
    return reduce(losses, valid.sum(-1), reduction, logits.dtype)


def consistency_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
    ignore_index: int = -1,
) -> Tensor:
    r"""Weighted cross-entropy of strong views against pseudo-labels (SPICE Eq. 9, RPSC Eq. 8).

    .. math:: L = \frac{1}{B} \sum_b w_b \, H(\hat q_b, \operatorname{softmax}(z_b))

    Args:
        logits: ``(*heads, B, K)`` of the strongly augmented views; gets the gradient.
        targets: int64 ``(*heads, B)`` in ``[0, K)``; -1 and ``ignore_index`` leave an entry out.
        weights: ``(*heads, B)``, 0 or more, as a threshold selects; constants. None means ones.
        reduction: ``"mean"`` divides by the whole batch B, where masked entries count 0;
            ``"sum"``; or ``"none"``.
        ignore_index: A further target to leave out.

    Returns:
        ``(*heads,)``, or ``(*heads, B)`` under ``"none"``, in the dtype of the logits.

    Raises:
        TypeError: If ``logits`` or ``weights`` is not floating-point or ``targets`` not int64.
        ValueError: If a shape, value or option does not fit.

    Example:
        >>> import torch
        >>> from pseudolabel import consistency_loss
        >>> logits = torch.zeros(4, 2)
        >>> weights = torch.tensor([1.0, 1.0, 0.0, 0.0])
        >>> consistency_loss(logits, torch.tensor([0, 1, 0, 1]), weights)  # log(2) / 2
        tensor(0.3466)
    """
    valid = check_batch("logits", logits, "targets", targets, reduction, ignore_index)
    if weights is not None:
        weights = entry_values("weights", weights, targets, valid, high=float("inf"))
    losses = _negative_log(_masked(logits, valid), targets, valid)
    if weights is not None:
        losses = losses * weights
    return reduce(losses, logits.shape[-2], reduction, logits.dtype)


def entropy_regularizer(probs: Tensor) -> Tensor:
    r"""Minus the entropy of the mean prediction: least when clusters are used equally.

    .. math:: \sum_c \bar p_c \log \bar p_c, \qquad \bar p = \frac{1}{B} \sum_b p_b

    Args:
        probs: Probabilities ``(*heads, B, K)``; gets the gradient.

    Returns:
        ``(*heads,)``, in ``[-log K, 0]`` where rows sum to 1, in the dtype of ``probs``; 0 for an
        empty batch.

    Raises:
        TypeError: If ``probs`` is not a floating-point tensor.
        ValueError: If it has too few axes or a value outside [0, 1].

    Example:
        >>> import torch
        >>> from pseudolabel import entropy_regularizer
        >>> entropy_regularizer(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        tensor(-0.6931)
    """
    check_probs("probs", probs, "*heads, B, K")
    if probs.shape[-1] == 0:
        wrong_value("probs", "at least one class", probs)
    mean = widen(probs).sum(-2) / max(probs.shape[-2], 1)
    tiny = torch.finfo(mean.dtype).tiny  # an unused cluster gets a steep but finite gradient
    return (mean * mean.clamp(min=tiny).log()).sum(-1).to(probs.dtype)


def _masked(scores: Tensor, valid: Tensor) -> Tensor:
    """Scores with rows that do not count set to 0: what they hold reaches no gradient."""
    return widen(torch.where(valid.unsqueeze(-1), scores, 0))


def _negative_log(scores: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of each entry that counts; 0 elsewhere."""
    picked = torch.where(valid, labels, 0).unsqueeze(-1)
    losses = -log_softmax(scores, dim=-1).gather(-1, picked).squeeze(-1)
    return torch.where(valid, losses, 0)
