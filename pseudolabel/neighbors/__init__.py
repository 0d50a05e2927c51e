"""Nearest neighbours that do not depend on backend, block or device.

`nearest_neighbors` is in search.py. Products of few bits find candidates tile by tile (_sweep.py,
_strip.py), within a bound that loses nobody (_filter.py); float64 and exact products put them in
order (_scoring.py, _pairs.py). Sizes come from a memory limit (_plan.py). backends.py: faiss, and
the two-method protocol of a caller's own index; lists.py: an approximate search.
"""

from pseudolabel.neighbors._plan import DEFAULT_MEMORY
from pseudolabel.neighbors.backends import NeighborBackend
from pseudolabel.neighbors.lists import InvertedLists, RecallReport
from pseudolabel.neighbors.search import nearest_neighbors

__all__ = [
    "DEFAULT_MEMORY",
    "InvertedLists",
    "NeighborBackend",
    "RecallReport",
    "nearest_neighbors",
]
