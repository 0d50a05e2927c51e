"""The k nearest neighbours by comparing every pair in float64."""

import numpy as np


def _units(rows) -> np.ndarray:
    # A power of two first, so that the squares neither overflow nor vanish.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = np.ldexp(rows, -np.frexp(largest)[1])
    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return rows / np.where(lengths == 0, 1.0, lengths)


def _against(metric, row, rows) -> np.ndarray:
    # A sum over contiguous rows: equal rows get equal values, wherever they stand.
    if metric == "cosine":
        return (rows * row).sum(axis=1)
    return -np.sqrt(((rows - row) ** 2).sum(axis=1))


def nearest_neighbors(features, k, *, queries=None, metric="cosine", include_self=False):
    """(indices, similarities) as N x k lists: most similar first, then the lowest index."""
    rows = np.ascontiguousarray(features, dtype=np.float64)
    asked = rows if queries is None else np.ascontiguousarray(queries, dtype=np.float64)
    if metric == "cosine":
        rows, asked = _units(rows), _units(asked)
    all_indices, all_values = [], []
    for me, query in enumerate(asked):
        values = _against(metric, query, rows)
        others = [i for i in range(len(rows)) if queries is not None or i != me]
        others.sort(key=lambda i: (-values[i], i))
        chosen = others[:k]
        if include_self:
            chosen = sorted([me, *others[: k - 1]], key=lambda i: (-values[i], i))
        all_indices.append(chosen)
        all_values.append([float(values[i]) for i in chosen])
    return all_indices, all_values
