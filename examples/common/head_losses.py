"""The losses by which heads learn pseudo-labels, each under the name that the papers give it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy

from common.prototype_task import Entries, HeadLoss
from common.ranges import Positive
from pseudolabel import double_softmax_cross_entropy, soft_contrastive_loss

HeadLossName = Literal["double-softmax", "ce", "tce", "scl", "scl-1", "scl-2", "scl-3"]


@dataclass(frozen=True)
class LossSettings:
    """Details of the losses that have any."""

    ce_temperature: Positive = 0.2
    """Divides the logits under tce; 0.2 was the best of eight in SPICE's Table VII."""
    scl_temperature: Positive = 0.5
    """Divides the similarities under scl; RPSC's tau."""
    scl_confidence: Literal["one_minus", "paper"] = "one_minus"
    """1 - d, which falls with the distance d to the prototype, or d itself as RPSC prints it."""
    scl_mode: Literal["scale", "weight", "smooth", "literal"] = "scale"
    """How the confidence enters; as RPSC prints it (literal) it has no effect at all."""


def head_loss(name: HeadLossName, settings: LossSettings) -> HeadLoss:
    """A loss by its name.

    Args:
        name: ``"double-softmax"`` (SPICE Eq. 5), ``"ce"`` and ``"tce"`` (SPICE's Table VII: plain,
            and with a temperature), ``"scl"`` (RPSC Eq. 4-5) and its parts (RPSC's Table 4): 1 and
            2 lack the negatives, 1 and 3 the confidence.
        settings: See there.

    Returns:
        From logits and entries to one loss a head.
    """
    if name == "double-softmax":
        return lambda logits, entries: double_softmax_cross_entropy(logits, entries.labels)
    if name in ("ce", "tce"):
        temperature = settings.ce_temperature if name == "tce" else 1.0
        return lambda logits, entries: _cross_entropy(logits / temperature, entries.labels)

    def contrastive(logits: Tensor, entries: Entries) -> Tensor:
        confidence = entries.confidence
        if settings.scl_confidence == "paper":
            confidence = 1 - confidence
        return soft_contrastive_loss(
            logits.softmax(-1),
            entries.labels,
            confidence if name in ("scl", "scl-2") else None,
            temperature=settings.scl_temperature,
            confidence_mode=settings.scl_mode,
            negatives=name in ("scl", "scl-3"),
            sample_ids=entries.sample_ids,
        )

    return contrastive


def loss_floor(
    name: HeadLossName, settings: LossSettings, *, num_classes: int, batch_size: int
) -> float:
    """What a loss cannot fall below, so that a number near it is a good one.

    Args:
        name: See `head_loss`.
        settings: See there.
        num_classes: K.
        batch_size: Entries a step, as many of every class.
    """
    if name == "double-softmax":
        return math.log(1 + (num_classes - 1) / math.e)
    if name in ("ce", "tce"):
        return 0.0
    negatives = batch_size * (1 - 1 / num_classes) if name in ("scl", "scl-3") else 1
    return math.log(max(1, negatives)) - 1 / settings.scl_temperature


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the entries that carry a label, ``(H,)``; 0 where there is none."""
    losses = cross_entropy(logits.mT, labels, ignore_index=-1, reduction="none")
    return losses.sum(-1) / (labels >= 0).sum(-1).clamp(min=1)
