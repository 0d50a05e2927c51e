"""Who proposes candidates: exact torch, exact faiss, or an object of the caller's.

A backend only proposes. Its candidates are scored again in float64 and ordered by the rule of
`nearest_neighbors`, so every exact backend gives the same answer.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import values_are_checked, wrong_type, wrong_value


@runtime_checkable
class NeighborBackend(Protocol):
    """What a search structure must offer; every ``faiss.Index`` does.

    Both methods see the rows that the search compares: under ``"cosine"`` the L2-normalised
    features, to be ranked by inner product; under ``"euclidean"`` the features shifted and scaled
    as a whole, to be ranked by Euclidean distance.
    """

    def add(self, rows: np.ndarray, /) -> object:
        """Takes the ``(N, D)`` float32 rows to search in, whose positions are their indices.

        An index that already holds N vectors (its ``ntotal``) is used as it is: they must be
        those of the same features.
        """

    def search(self, queries: np.ndarray, k: int, /) -> tuple[Any, Any]:
        """Finds about ``k`` candidates for ``(B, D)`` float32 queries.

        Returns:
            Scores, which are not used, and int64 indices ``(B, k)``, -1 where there is none.
        """


class Candidates:
    """Candidates for blocks of queries, from whichever backend."""

    exact = True

    def search(self, queries: Tensor, count: int) -> Tensor:
        """Indices ``(B, count)`` of the rows nearest to ``(B, D)`` queries, -1 for none."""
        raise NotImplementedError


class TorchCandidates(Candidates):
    """All products of a block in float32, then `torch.topk`."""

    def __init__(self, rows: Tensor, metric: str) -> None:
        self.rows = rows
        self.offset = (rows * rows).sum(-1) / 2 if metric == "euclidean" else None

    def search(self, queries: Tensor, count: int) -> Tensor:
        """Ranks by q.x, or by q.x - |x|^2 / 2, which orders like minus the distance."""
        with torch.autocast(queries.device.type, enabled=False):
            scores = queries @ self.rows.T
        if self.offset is not None:
            scores -= self.offset
        return scores.topk(count, dim=-1).indices


class ArrayCandidates(Candidates):
    """A `NeighborBackend` over NumPy arrays, a faiss index for instance."""

    def __init__(self, index: NeighborBackend, rows: Tensor, *, exact: bool) -> None:
        self.index, self.total = index, len(rows)
        self.exact = exact
        held = getattr(index, "ntotal", 0)
        if held not in (0, len(rows)):
            wrong_value("backend", f"an empty index or one of {len(rows)} vectors", int(held))
        if held == 0:
            index.add(rows.cpu().numpy())

    def search(self, queries: Tensor, count: int) -> Tensor:
        """Asks the index and brings its answer back to the queries' device."""
        _, found = self.index.search(queries.cpu().numpy(), count)
        indices = torch.as_tensor(np.asarray(found, dtype=np.int64), device=queries.device)
        if indices.dim() != 2 or len(indices) != len(queries):
            wrong_value("backend", f"indices of shape ({len(queries)}, k) from search", indices)
        if values_are_checked(indices) and (indices >= self.total).any():
            wrong_value("backend", f"indices below {self.total} from search", int(indices.max()))
        return indices


def make_candidates(backend: object, rows: Tensor, metric: str, count: int) -> Candidates:
    """The candidates of the backend named or given."""
    if isinstance(backend, str):
        if backend in ("auto", "torch"):
            return TorchCandidates(rows, metric)
        if backend == "faiss":
            index = _flat_index(rows.shape[-1], metric, rows.device, count)
            return ArrayCandidates(index, rows, exact=True)
        expected = "'auto', 'torch', 'faiss' or an object with add and search"
        wrong_value("backend", expected, backend)
    if not isinstance(backend, NeighborBackend):
        wrong_type("backend", "a name or an object with add and search", backend)
    return ArrayCandidates(backend, rows, exact=False)


def _flat_index(dimension: int, metric: str, device: torch.device, count: int) -> NeighborBackend:
    faiss = _import_faiss()
    flat = faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2
    index: NeighborBackend = flat(dimension)
    if device.type == "cuda" and hasattr(faiss, "StandardGpuResources"):
        if count > _FAISS_GPU_LIMIT:
            wrong_value("k", f"at most about {_FAISS_GPU_LIMIT} with faiss on a GPU", count)
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), device.index or 0, index)
    return index


def _import_faiss() -> ModuleType:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        message = "backend 'faiss' needs faiss: install pseudolabel[faiss-cpu] or [faiss-gpu]"
        raise ImportError(message) from error


_FAISS_GPU_LIMIT = 2048
