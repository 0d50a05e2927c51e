"""The rules once more, slowly: scalar Python, float64 and fractions, written from the equations.

Nothing here imports the library or torch. Arguments are nested lists or NumPy arrays, indices are
Python integers, and one head is served at a time.
"""

from oracles.neighbors import nearest_neighbors
from oracles.prototypes import (
    Entries,
    assign,
    class_prototypes,
    decided,
    dense,
    label_confidence,
    multi_hot,
    nearest_prototype,
    part,
    prototype_labels,
    select_confident,
    shares,
    unit_rows,
)
from oracles.reliability import (
    balanced_size,
    class_counts,
    is_reliable,
    reliability_ratio,
    reliable_before_balance,
)
from oracles.similarity import as_written, cosine, negative_distance, similarity

__all__ = [
    "Entries",
    "as_written",
    "assign",
    "balanced_size",
    "class_counts",
    "class_prototypes",
    "cosine",
    "decided",
    "dense",
    "is_reliable",
    "label_confidence",
    "multi_hot",
    "nearest_neighbors",
    "nearest_prototype",
    "negative_distance",
    "part",
    "prototype_labels",
    "reliability_ratio",
    "reliable_before_balance",
    "select_confident",
    "shares",
    "similarity",
    "unit_rows",
]
