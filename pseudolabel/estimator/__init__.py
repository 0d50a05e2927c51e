"""Clusters of embeddings under scikit-learn's contract; imported only when asked for.

The estimator is in clustering.py, the training of its heads in _training.py.
"""

from pseudolabel.estimator.clustering import PrototypeClustering

__all__ = ["PrototypeClustering"]
