"""Clusters of embeddings from timm or CLIP, and a classifier of new ones that learns the clusters.

    python examples/plug_in/given.py features.npz
    python examples/plug_in/embeddings_before.py features.npz
    python examples/plug_in/embeddings_after.py features.npz

The file has ``embeddings`` ``(N, D)``, and ``labels`` ``(N,)``, for the scores alone. The first
script clusters by k-means. The second one clusters by prototypes, and learns reliable labels only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from pseudolabel import clustering_accuracy


def main(path: Path, seed: int = 0) -> dict[str, float]:
    """Clustering accuracy of what was learned from, and of the fifth that was held out."""
    with np.load(path) as file:
        embeddings, truth = file["embeddings"], file["labels"]
    order = np.random.default_rng(seed).permutation(len(embeddings))
    test, train = np.split(order, [len(order) // 5])
    x = embeddings[train]
    labels = KMeans(10, n_init=20, random_state=seed).fit_predict(x).astype(np.int64)
    classifier = LogisticRegression(max_iter=500).fit(x, labels)
    return {
        "clusters": clustering_accuracy(labels, truth[train]),
        "held out": clustering_accuracy(classifier.predict(embeddings[test]), truth[test]),
    }


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
