"""Losses on pseudo-labels: cross-entropies (cross_entropy.py) and RPSC's SCL (contrastive.py)."""

from pseudolabel.losses.contrastive import soft_contrastive_loss
from pseudolabel.losses.cross_entropy import (
    consistency_loss,
    double_softmax_cross_entropy,
    entropy_regularizer,
)

__all__ = [
    "consistency_loss",
    "double_softmax_cross_entropy",
    "entropy_regularizer",
    "soft_contrastive_loss",
]
