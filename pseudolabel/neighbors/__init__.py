"""Nearest neighbours that do not depend on backend, block or device.

`nearest_neighbors` is in search.py; backends.py holds the backends and the two-method protocol of a
caller's own.
"""

from pseudolabel.neighbors.backends import NeighborBackend
from pseudolabel.neighbors.search import nearest_neighbors

__all__ = ["NeighborBackend", "nearest_neighbors"]
