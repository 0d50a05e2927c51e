"""How well clusters agree with classes. The only operators that ever see ground truth."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from pseudolabel._checks import as_int64, check_has_values, wrong_type, wrong_value


def clustering_accuracy(predicted: Tensor | np.ndarray, target: Tensor | np.ndarray) -> float:
    r"""Accuracy under the best one-to-one matching of clusters to classes (Hungarian method).

    .. math:: \max_m \frac{1}{n} \sum_i [\, m(\hat y_i) = y_i \,]

    Args:
        predicted: Integer clusters ``(N,)``; -1 counts as wrong. Their number may differ from that
            of the classes; clusters without a class count as wrong.
        target: Integer classes ``(N,)``; samples of -1 are left out.

    Returns:
        The accuracy in [0, 1]; 0 where no target is left.

    Raises:
        TypeError: If an input is neither a tensor nor an array of integers.
        ValueError: If the shapes differ, are not ``(N,)``, or a label is below -1.

    Example:
        >>> import torch
        >>> from pseudolabel import clustering_accuracy
        >>> clustering_accuracy(torch.tensor([1, 1, 0, -1]), torch.tensor([0, 0, 1, 1]))
        0.75
    """
    table, matched = _match(predicted, target)
    return float(table[matched].sum() / max(table.sum(), 1))


def balanced_clustering_accuracy(
    predicted: Tensor | np.ndarray, target: Tensor | np.ndarray
) -> float:
    r"""Mean recall of the classes under the matching of `clustering_accuracy`.

    .. math:: \frac{1}{C} \sum_{c=1}^C \frac{1}{n_c} \sum_{i : y_i = c} [\, m(\hat y_i) = c \,]

    Every class counts the same, however few samples it has. Of several matchings of the same
    accuracy, m is the one of the largest mean. Where classes are of equal size the mean is the
    accuracy.

    Args:
        predicted: Integer clusters ``(N,)``; -1 counts as wrong. Their number may differ from that
            of the classes; a class without a cluster has a recall of 0.
        target: Integer classes ``(N,)``, of which C occur; samples of -1 are left out.

    Returns:
        The mean recall in [0, 1]; 0 where no target is left.

    Raises:
        TypeError: If an input is neither a tensor nor an array of integers.
        ValueError: If the shapes differ, are not ``(N,)``, or a label is below -1.

    Example:
        >>> import torch
        >>> from pseudolabel import balanced_clustering_accuracy
        >>> predicted, target = torch.tensor([0, 0, 0, 1, 0]), torch.tensor([5, 5, 5, 7, 7])
        >>> balanced_clustering_accuracy(predicted, target)
        0.75
    """
    table, matched = _match(predicted, target)
    sizes = table.sum(axis=0)
    return float((table / sizes)[matched].sum() / max(len(sizes), 1))


def normalized_mutual_info(predicted: Tensor | np.ndarray, target: Tensor | np.ndarray) -> float:
    r"""Mutual information over the arithmetic mean of the two entropies.

    .. math:: \frac{2 I(\hat y; y)}{H(\hat y) + H(y)}

    Args:
        predicted: Integer clusters ``(N,)``; predictions of -1 count as wrong, each a
            cluster of its own.
        target: Integer classes ``(N,)``; samples of -1 are left out.

    Returns:
        A number in [0, 1]; 0 where no target or no prediction is left.

    Raises:
        TypeError: If an input is neither a tensor nor an array of integers.
        ValueError: If the shapes differ, are not ``(N,)``, or a label is below -1.

    Example:
        >>> import torch
        >>> from pseudolabel import normalized_mutual_info
        >>> normalized_mutual_info(torch.tensor([1, 1, 0, 0]), torch.tensor([0, 0, 1, 1]))
        1.0
    """
    from sklearn.metrics import normalized_mutual_info_score

    predicted, target = _pair(predicted, target)
    if not (predicted >= 0).any():
        return 0.0
    return float(normalized_mutual_info_score(target, _apart(predicted)))


def adjusted_rand_index(predicted: Tensor | np.ndarray, target: Tensor | np.ndarray) -> float:
    """Share of sample pairs on which clusters and classes agree, adjusted for chance.

    Args:
        predicted: Integer clusters ``(N,)``; predictions of -1 count as wrong, each a
            cluster of its own.
        target: Integer classes ``(N,)``; samples of -1 are left out.

    Returns:
        A number in [-0.5, 1]; 0 is chance, and where no target or no prediction
        is left.

    Raises:
        TypeError: If an input is neither a tensor nor an array of integers.
        ValueError: If the shapes differ, are not ``(N,)``, or a label is below -1.

    Example:
        >>> import torch
        >>> from pseudolabel import adjusted_rand_index
        >>> adjusted_rand_index(torch.tensor([1, 1, 0, 0]), torch.tensor([0, 0, 1, 1]))
        1.0
    """
    from sklearn.metrics import adjusted_rand_score

    predicted, target = _pair(predicted, target)
    if not (predicted >= 0).any():
        return 0.0
    return float(adjusted_rand_score(target, _apart(predicted)))


def _pair(
    predicted: Tensor | np.ndarray, target: Tensor | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, without the samples whose target is -1."""
    predicted, target = _as_array("predicted", predicted), _as_array("target", target)
    if predicted.shape != target.shape:
        wrong_value("target", f"shape {predicted.shape}, like predicted", target)
    known = target >= 0
    return predicted[known], target[known]


def _match(
    predicted: Tensor | np.ndarray, target: Tensor | np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """How many samples every cluster has of every class, and the matched cells.

    Predictions of -1 have a row too, of which no cell is matched. The sum of the matched cells is
    the largest possible; of several such matchings the recalls decide.
    """
    from scipy.optimize import linear_sum_assignment

    predicted, target = _pair(predicted, target)
    clusters, row = np.unique(predicted, return_inverse=True)
    classes, column = np.unique(target, return_inverse=True)
    table = np.zeros((len(clusters), len(classes)), dtype=np.int64)
    np.add.at(table, (row, column), 1)
    # All recalls together weigh less than one sample.
    worth = table * (len(classes) + 1) + table / table.sum(axis=0)
    worth[clusters < 0] = 0
    rows, columns = linear_sum_assignment(worth, maximize=True)
    named = clusters[rows] >= 0
    return table, (rows[named], columns[named])


def _apart(predicted: np.ndarray) -> np.ndarray:
    """Gives every prediction of -1 a cluster of its own: it is with nobody it belongs with."""
    unlabelled = predicted < 0
    apart = predicted.copy()
    apart[unlabelled] = predicted.max() + 1 + np.arange(unlabelled.sum())
    return apart


def _as_array(name: str, labels: Tensor | np.ndarray) -> np.ndarray:
    if isinstance(labels, Tensor) and not labels.dtype.is_floating_point:
        check_has_values(name, labels)
        labels = labels.detach().cpu().numpy()
    if not isinstance(labels, (Tensor, np.ndarray)):
        wrong_type(name, "a tensor or NumPy array of integers, shape (N,)", labels)
    if isinstance(labels, Tensor) or not np.issubdtype(labels.dtype, np.integer):
        wrong_type(name, "an integer dtype", labels)
    if labels.ndim != 1:
        wrong_value(name, "shape (N,)", labels)
    labels = as_int64(name, labels)
    if labels.size and labels.min() < -1:
        wrong_value(name, "labels of -1 or above", int(labels.min()))
    return labels
