"""Pseudo-labels people can trust: labelling rules as small tensor operators."""

from pseudolabel._checks import check_values
from pseudolabel.heads import ClusterHeads, select_head
from pseudolabel.losses import (
    consistency_loss,
    double_softmax_cross_entropy,
    entropy_regularizer,
    soft_contrastive_loss,
)
from pseudolabel.metrics import (
    adjusted_rand_index,
    balanced_clustering_accuracy,
    clustering_accuracy,
    normalized_mutual_info,
)
from pseudolabel.neighbors import (
    InvertedLists,
    NeighborBackend,
    RecallReport,
    nearest_neighbors,
)
from pseudolabel.prototypes import (
    assign_labels,
    class_prototypes,
    label_confidence,
    nearest_prototype,
    prototype_labels,
    select_confident,
)
from pseudolabel.reliability import (
    ReliabilityReport,
    ReliableLabels,
    reliability_ratio,
    reliable_labels,
    reliable_mask,
)
from pseudolabel.thresholds import FixedThreshold, SelfAdaptiveThreshold
from pseudolabel.types import Neighbors, PseudoLabels, Selection

__version__ = "0.1.0.dev0"

__all__ = [
    "ClusterHeads",
    "FixedThreshold",
    "InvertedLists",
    "NeighborBackend",
    "Neighbors",
    "PseudoLabels",
    "RecallReport",
    "ReliabilityReport",
    "ReliableLabels",
    "Selection",
    "SelfAdaptiveThreshold",
    "adjusted_rand_index",
    "assign_labels",
    "balanced_clustering_accuracy",
    "check_values",
    "class_prototypes",
    "clustering_accuracy",
    "consistency_loss",
    "double_softmax_cross_entropy",
    "entropy_regularizer",
    "label_confidence",
    "nearest_neighbors",
    "nearest_prototype",
    "normalized_mutual_info",
    "prototype_labels",
    "reliability_ratio",
    "reliable_labels",
    "reliable_mask",
    "select_confident",
    "select_head",
    "soft_contrastive_loss",
]
