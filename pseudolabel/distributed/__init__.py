"""The operators over samples that are sharded across ranks, with the answer of one process.

Every rank holds some of the samples, in rank order: rank 0 the first ones. Shards may be uneven or
empty. Indices that come back are global. Every rank of the group has to make the same call; what is
wrong on one of them is an error on all.
"""

from pseudolabel.distributed.labels import prototype_labels
from pseudolabel.distributed.neighbors import nearest_neighbors
from pseudolabel.distributed.reliability import reliability_ratio, reliable_mask

__all__ = ["nearest_neighbors", "prototype_labels", "reliability_ratio", "reliable_mask"]
