"""RPSC's soft contrastive loss, with every reading of its equation: RPSC Eq. 4-5."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pseudolabel._checks import (
    check_device,
    check_flag,
    check_integer,
    check_option,
    check_real,
    values_are_checked,
    wrong_value,
)
from pseudolabel._numerics import without_autocast
from pseudolabel.losses._reduction import (
    Reduction,
    check_batch,
    entry_values,
    reduce,
    widen,
)


def soft_contrastive_loss(
    predictions: Tensor,
    labels: Tensor,
    confidence: Tensor | None = None,
    *,
    temperature: float = 0.5,
    confidence_mode: Literal["scale", "weight", "smooth", "literal"] = "scale",
    negatives: bool = True,
    include_positive: bool = False,
    sample_ids: Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int = -1,
) -> Tensor:
    r"""Pulls predictions to their pseudo-label and pushes other labels' away (RPSC Eq. 4-5).

    .. math:: L_i = -\log \frac{\exp(a_i / \tau)}
        {\sum_{k : y_k \ne y_i} \exp(\cos(z_i, z_k) / \tau)}

    where :math:`a_i` is the similarity of the prediction :math:`z_i` to the one-hot of its label,
    with the label's confidence :math:`d_i`. As printed, the paper takes the cosine to
    :math:`d_i \cdot` one-hot, which does not depend on :math:`d_i`; hence the modes

    - ``"scale"``: :math:`a_i = d_i \cos(z_i, e_{y_i})`, closest to the formula;
    - ``"weight"``: the loss of the entry times :math:`d_i`;
    - ``"smooth"``: :math:`a_i = \cos(z_i, d_i e_{y_i} + (1 - d_i) / K)`;
    - ``"literal"``: as printed, ``confidence`` without effect.

    RPSC's Table 4: SCL-1 is ``confidence=None, negatives=False``; SCL-2 has the confidence; SCL-3
    the negatives; SCL both. The loss can be negative.

    Args:
        predictions: Probabilities ``(*heads, B, K)``; gets the gradient, as anchor and as negative.
        labels: int64 ``(*heads, B)`` in ``[0, K)``; entries of -1 and ``ignore_index`` are left out
            and are nobody's negatives.
        confidence: ``(*heads, B)`` in [0, 1], constants; None means ones.
        temperature: Above 0.
        confidence_mode: How the confidence enters, see above.
        negatives: Whether there is a denominator. An anchor without any negative never has one.
        include_positive: Whether the denominator includes the numerator.
        sample_ids: int64 ``(B,)`` or ``(*heads, B)``: entries of one sample (overlapping labels,
            two views) are not each other's negatives.
        reduction: ``"mean"`` over the entries that count, ``"sum"``, or ``"none"``.
        ignore_index: A further label to leave out.

    Returns:
        ``(*heads,)``, or ``(*heads, B)`` under ``"none"``, in the dtype of ``predictions``. Without
        any entry to learn from it is 0 and can be differentiated.

    Raises:
        TypeError: If an input is of the wrong kind or dtype.
        ValueError: If a shape, value or option does not fit.

    Example:
        >>> import torch
        >>> from pseudolabel import soft_contrastive_loss
        >>> predictions = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> soft_contrastive_loss(predictions, torch.tensor([0, 1]))  # -1 / 0.5 + log(exp(0))
        tensor(-2.)
    """
    valid = check_batch("predictions", predictions, "labels", labels, reduction, ignore_index)
    _check_predictions(predictions, valid)
    if confidence is not None:
        confidence = entry_values("confidence", confidence, labels, valid, high=1.0)
    check_real("temperature", temperature, high=float("inf"), low_open=True, high_open=True)
    check_option("confidence_mode", confidence_mode, ("scale", "weight", "smooth", "literal"))
    check_flag("negatives", negatives)
    check_flag("include_positive", include_positive)
    if sample_ids is not None:
        _check_sample_ids(sample_ids, labels)

    units = _unit(widen(torch.where(valid.unsqueeze(-1), predictions, 0)))
    own = units.gather(-1, torch.where(valid, labels, 0).unsqueeze(-1)).squeeze(-1)
    positive = own
    if confidence is not None and confidence_mode == "scale":
        positive = own * confidence
    elif confidence is not None and confidence_mode == "smooth":
        positive = _smooth_similarity(units, own, confidence)
    positive = positive / temperature
    losses = -positive
    if negatives:
        allowed = _negative_pairs(labels, valid, sample_ids)
        losses = losses + _log_denominator(units, positive, allowed, temperature, include_positive)
    if confidence is not None and confidence_mode == "weight":
        losses = losses * confidence
    losses = torch.where(valid, losses, 0)
    return reduce(losses, valid.sum(-1), reduction, predictions.dtype)


def _smooth_similarity(units: Tensor, own: Tensor, confidence: Tensor) -> Tensor:
    """Cosine of unit predictions with ``d * onehot + (1 - d) / K``."""
    num_classes = units.shape[-1]
    rest = (1 - confidence) / num_classes
    dot = confidence * own + rest * units.sum(-1)
    squared_norm = (confidence + rest) ** 2 + (num_classes - 1) * rest**2
    return dot / squared_norm.sqrt()


def _negative_pairs(labels: Tensor, valid: Tensor, sample_ids: Tensor | None) -> Tensor:
    """Which entry is whose negative, bool ``(*heads, B, B)``."""
    pairs = labels.unsqueeze(-1) != labels.unsqueeze(-2)
    pairs = pairs & valid.unsqueeze(-1) & valid.unsqueeze(-2)
    if sample_ids is not None:
        pairs = pairs & (sample_ids.unsqueeze(-1) != sample_ids.unsqueeze(-2))
    return pairs


def _log_denominator(
    units: Tensor, positive: Tensor, allowed: Tensor, temperature: float, include_positive: bool
) -> Tensor:
    """Log of the denominator ``(*heads, B)``; 0 for an anchor without any negative."""
    some = allowed.any(-1, keepdim=True)
    with without_autocast(units.device):
        exponents = (units @ units.mT) / temperature
    exponents = exponents.masked_fill(~allowed & some, -torch.inf)  # a row of -inf has NaN gradient
    if include_positive:
        exponents = torch.cat([exponents, positive.unsqueeze(-1)], dim=-1)
    return torch.where(some.squeeze(-1), exponents.logsumexp(-1), 0)


def _unit(x: Tensor) -> Tensor:
    """L2-normalised rows; a zero row stays zero and has a finite gradient."""
    largest = x.detach().amax(-1, keepdim=True)  # squares of tiny rows would vanish
    x = x / torch.where(largest > 0, largest, 1)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(norm > 0, norm, 1)


def _check_predictions(predictions: Tensor, valid: Tensor) -> None:
    if values_are_checked(predictions):
        outside = valid.unsqueeze(-1) & ((predictions < 0) | (predictions > 1))
        if outside.any():
            wrong = predictions[outside][0].item()
            wrong_value("predictions", "probabilities in [0, 1]", wrong)


def _check_sample_ids(sample_ids: Tensor, labels: Tensor) -> None:
    check_integer("sample_ids", sample_ids, "*heads, B")
    check_device("sample_ids", sample_ids, labels)
    if sample_ids.shape not in (labels.shape, labels.shape[-1:]):
        expected = f"shape {tuple(labels.shape[-1:])} or {tuple(labels.shape)}"
        wrong_value("sample_ids", expected, sample_ids)
