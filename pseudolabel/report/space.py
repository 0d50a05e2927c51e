"""A flat map of embeddings, for the eye alone."""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

import numpy as np

MapKind = Literal["auto", "pca", "tsne", "none"]

POINTS = 2000
_LEAST_FOR_TSNE = 30
_TSNE_WIDTH = 50  # columns that t-SNE is given, after PCA


class FlatMap(NamedTuple):
    """Some rows in two dimensions.

    Attributes:
        rows: int64 ``(P,)``, ascending.
        places: float64 ``(P, 2)`` in [0, 1], one scale for both axes.
        method: ``"PCA"`` or ``"t-SNE"``.
    """

    rows: np.ndarray
    places: np.ndarray
    method: str


def flat_map(
    features: np.ndarray, *, kind: MapKind = "auto", metric: str = "cosine", seed: int = 0
) -> FlatMap | None:
    """Lays out up to 2,000 rows, drawn at random where there are more.

    Args:
        features: ``(N, D)``, finite; may be memory-mapped.
        kind: ``"tsne"``, ``"pca"``, ``"auto"`` (t-SNE from 30 rows on) or ``"none"``.
        metric: ``"cosine"`` scales rows to unit length first.
        seed: Of the draw.

    Returns:
        The map, or None for ``"none"``.
    """
    if kind == "none":
        return None
    rows = np.arange(len(features))
    if len(rows) > POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), POINTS, replace=False))
    points = np.asarray(features[rows], dtype=np.float64)
    peak = np.abs(points).max(axis=1, keepdims=True) if metric == "cosine" else np.abs(points).max()
    points = points / np.where(peak > 0, peak, 1)  # no square overflows
    if metric == "cosine":
        length = np.linalg.norm(points, axis=1, keepdims=True)
        points = points / np.where(length > 0, length, 1)

    components = _principal(points)
    flat = np.pad(components[:, :2], ((0, 0), (0, max(0, 2 - components.shape[1]))))
    spread = flat.std(axis=0)[0]
    if kind == "pca" or spread == 0 or (kind == "auto" and len(rows) < _LEAST_FOR_TSNE):
        return FlatMap(rows, _in_unit_square(flat), "PCA")
    return FlatMap(rows, _in_unit_square(_tsne(components, flat / spread * 1e-4)), "t-SNE")


def _principal(points: np.ndarray) -> np.ndarray:
    """The leading principal components, signs fixed by the largest loading."""
    centred = points - points.mean(axis=0)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    width = min(_TSNE_WIDTH, len(sizes))
    largest = np.abs(axes[:width]).argmax(axis=1)
    signs = np.where(axes[np.arange(width), largest] < 0, -1, 1)
    components: np.ndarray = left[:, :width] * sizes[:width] * signs
    # Rows that are all alike differ by rounding alone.
    components[:, sizes[:width] < 1e-12] = 0
    return components


def _tsne(components: np.ndarray, start: np.ndarray) -> np.ndarray:
    """t-SNE, which draws nothing where it is told how to start."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(components) - 1) / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        places: np.ndarray = TSNE(
            init=start.astype(np.float32), perplexity=perplexity
        ).fit_transform(components.astype(np.float32))
    return places


def _in_unit_square(places: np.ndarray) -> np.ndarray:
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (high - low).max() or 1.0
    squared: np.ndarray = 0.5 + (places - (low + high) / 2) / scale
    return squared
