"""Reliability of labels by local consistency: SPICE Eq. 6-7, RPSC Eq. 6.

`reliability_ratio` and `reliable_mask` are the rule (mask.py); `reliable_labels` adds the published
code's further rules (labels.py) and a report that says why a class came out empty (report.py).
"""

from pseudolabel.reliability.labels import ReliableLabels, reliable_labels
from pseudolabel.reliability.mask import reliability_ratio, reliable_mask
from pseudolabel.reliability.report import ReliabilityReport

__all__ = [
    "ReliabilityReport",
    "ReliableLabels",
    "reliability_ratio",
    "reliable_labels",
    "reliable_mask",
]
