"""Prototype pseudo-labels: SPICE Eq. 2-4 and RPSC Eq. 1-3 and 6.

`select_confident` and `class_prototypes` make the prototypes (selection.py), `assign_labels` labels
the samples near them (assignment.py), `prototype_labels` composes the three (labels.py).
"""

from pseudolabel.prototypes.assignment import assign_labels
from pseudolabel.prototypes.labels import label_confidence, nearest_prototype, prototype_labels
from pseudolabel.prototypes.selection import class_prototypes, select_confident

__all__ = [
    "assign_labels",
    "class_prototypes",
    "label_confidence",
    "nearest_prototype",
    "prototype_labels",
    "select_confident",
]
