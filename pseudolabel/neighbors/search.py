"""Exact nearest neighbours: products of few bits propose, float64 decides."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import check_flag
from pseudolabel.neighbors._plan import DEFAULT_MEMORY
from pseudolabel.neighbors._search import make_search, progress_bar
from pseudolabel.neighbors._storage import NeighborFiles
from pseudolabel.neighbors.backends import NeighborBackend
from pseudolabel.types import Neighbors


@torch.no_grad()
def nearest_neighbors(
    features: Tensor | np.ndarray,
    k: int,
    *,
    queries: Tensor | np.ndarray | None = None,
    metric: Literal["cosine", "euclidean"] = "cosine",
    include_self: bool = False,
    backend: str | NeighborBackend = "auto",
    memory_limit: int = DEFAULT_MEMORY,
    progress: bool = False,
    out: str | Path | None = None,
) -> Neighbors:
    """Finds the k nearest samples of every sample, exactly and reproducibly.

    Neighbours come most similar first, ties to the lowest index. Products of few bits find the
    candidates, with a bound that loses nobody; float64 orders them, and exact arithmetic decides
    what float64 leaves open: memory, blocks and backend never show in the answer.

    Args:
        features: ``(N, D)``: a tensor on any device, a NumPy array, or a memory-mapped one. Rows
            need not be normalised; under the cosine a zero row has similarity 0 to everything.
        k: How many neighbours, in ``[1, N - 1]``; up to N with ``queries`` or ``include_self``.
        queries: ``(Q, D)`` other samples whose neighbours among ``features`` are wanted.
        metric: ``"cosine"`` or ``"euclidean"``; the similarity is the cosine, or minus the
            distance.
        include_self: False leaves a sample out of its own neighbours, by its index, so that a
            duplicate still counts; True gives it one of the k places, always.
        backend: ``"torch"`` (``"auto"`` means it), ``"faiss"`` (exact, through faiss-cpu or
            faiss-gpu), or a `NeighborBackend`, which is as exact as its candidates.
        memory_limit: Bytes that the search may take beyond input and output. Less of it means
            smaller blocks and, below about ``14 N k`` bytes, twice the products.
        progress: Whether to show a bar (needs tqdm).
        out: A folder for ``indices.npy`` and ``similarity.npy``, which the result then reads from.
            A search that was interrupted goes on where it was when it is called again in the same
            way; with one that is finished it returns at once.

    Returns:
        Neighbors of int64 ``indices (N, k)`` and float32 ``similarity (N, k)`` (float64 for float64
        features), on the features' device (on the host with ``out``); ``(Q, k)`` with ``queries``.

    Raises:
        TypeError: If an input is neither a floating-point tensor nor such an array.
        ValueError: If a shape, ``k`` or an option is out of range, a value is not finite, or
            ``queries`` and ``include_self`` are both asked for, ``memory_limit`` is too small for
            any block, or ``out`` holds something else.
        ImportError: If ``"faiss"`` or ``progress`` is asked for and faiss or tqdm not installed.

    Example:
        >>> import torch
        >>> from pseudolabel import nearest_neighbors
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> nearest_neighbors(features, 1).indices.flatten()
        tensor([1, 0, 3, 2])
    """
    search = make_search(
        features,
        k,
        queries=queries,
        metric=metric,
        include_self=include_self,
        backend=backend,
        memory_limit=memory_limit,
    )
    check_flag("progress", progress)
    shape = (len(search.asked), search.k)
    dtype = torch.float64 if search.source.dtype == torch.float64 else torch.float32
    files = None
    if out is not None:
        files = NeighborFiles(out, search.describe(), shape, str(dtype).removeprefix("torch."))
        if files.finished:
            return files.finish()
        found = files.partial()
    else:
        device = search.source.device
        indices = torch.empty(shape, dtype=torch.int64, device=device)
        found = Neighbors(indices, torch.empty(shape, dtype=dtype, device=device))
    groups = search.groups(0 if files is None else files.done)
    with progress_bar(search, groups, shown=progress):
        for start, stop in groups:
            for candidates in search.candidates(start, stop):
                indices, similarity = search.nearest(candidates)
                similarity = similarity.clamp(min=torch.finfo(dtype).min)  # distances stay finite
                rows = candidates.rows.to(found.indices.device)
                found.indices[rows] = indices.to(rows.device)
                found.similarity[rows] = similarity.to(rows.device, dtype)
            if files is not None:
                files.commit(stop)
    return found if files is None else files.finish()
