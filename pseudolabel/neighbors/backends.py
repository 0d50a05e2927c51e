"""Who else may propose candidates: faiss, or an object of the caller's.

A backend only proposes. Its candidates are scored again in float64 and ordered by the rule of
`nearest_neighbors`, so every exact backend gives the same answer.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pseudolabel._checks import values_are_checked, wrong_type, wrong_value
from pseudolabel.neighbors._filter import Filter, Frame
from pseudolabel.neighbors._source import Source

_FAISS_GPU_LIMIT = 2048
_FAISS_SCRATCH = 64 * 2**20  # bytes on a GPU; what faiss takes by itself is a fifth of the memory


@runtime_checkable
class NeighborBackend(Protocol):
    """What a search structure must offer; every ``faiss.Index`` does.

    Both methods see the rows that the search compares: under ``"cosine"`` the L2-normalised
    features, to be ranked by inner product; under ``"euclidean"`` the features shifted and scaled
    as a whole, to be ranked by Euclidean distance.
    """

    def add(self, rows: np.ndarray, /) -> object:
        """Takes the next ``(n, D)`` float32 rows to search in; their order gives the indices.

        An index that already holds N vectors (its ``ntotal``) is used as it is: they must be
        those of the same features. Many rows come in several blocks.
        """

    def search(self, queries: np.ndarray, k: int, /) -> tuple[Any, Any]:
        """Finds about ``k`` candidates for ``(B, D)`` float32 queries.

        Returns:
            Scores, which are not used, and int64 indices ``(B, k)``, -1 where there is none.
        """


class Proposals:
    """The candidates of an index.

    Args:
        index: A `NeighborBackend`.
        source: The rows to search in.
        frame: How rows are handed to the index.
        count: How many candidates to ask for.
        exact: Whether they are the nearest by float32 scores, as of a flat faiss index.
        memory: Bytes of rows to hand over at a time.
    """

    def __init__(
        self,
        index: NeighborBackend,
        source: Source,
        frame: Frame,
        count: int,
        *,
        exact: bool,
        memory: int,
    ) -> None:
        self.index, self.total, self.exact = index, len(source), exact
        self.count = min(count, self.total)
        self.filter = Filter(frame, torch.float32)
        held = getattr(index, "ntotal", 0)
        if held not in (0, self.total):
            wrong_value("backend", f"an empty index or one of {self.total} vectors", int(held))
        if not getattr(index, "is_trained", True):
            wrong_value("backend", "a trained index", index)
        if held == 0:
            size = max(1, memory // (8 * 4 * source.dimension))
            for start in range(0, self.total, size):
                blocks = [frame.rows(block).float() for block in source.blocks(start, size)]
                index.add(torch.cat(blocks).cpu().numpy())

    def search(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Different indices and their scores ``(B, c)``, on the queries' device; -1 for none."""
        scores, found = self.index.search(queries.cpu().numpy(), self.count)
        indices = torch.as_tensor(np.asarray(found, dtype=np.int64), device=queries.device)
        if indices.dim() != 2 or len(indices) != len(queries):
            wrong_value("backend", f"indices of shape ({len(queries)}, k) from search", indices)
        if values_are_checked(indices) and (indices >= self.total).any():
            wrong_value("backend", f"indices below {self.total} from search", int(indices.max()))
        indices, order = indices.sort(dim=1)
        indices[:, 1:][indices[:, 1:] == indices[:, :-1]] = -1
        if not self.exact:
            return indices, torch.zeros_like(indices, dtype=torch.float32)
        similar = torch.as_tensor(scores, device=queries.device).gather(1, order)
        return indices, similar if self.filter.frame.metric == "cosine" else similar / -2


def make_proposals(
    backend: object, source: Source, frame: Frame, count: int, memory: int
) -> Proposals | None:
    """The candidates of the backend named or given; None for torch, which sweeps all pairs."""
    if isinstance(backend, str):
        if backend in ("auto", "torch"):
            return None
        if backend == "faiss":
            index = _flat_index(source.dimension, frame.metric, source.device, count)
            return Proposals(index, source, frame, count, exact=True, memory=memory)
        expected = "'auto', 'torch', 'faiss' or an object with add and search"
        wrong_value("backend", expected, backend)
    if not isinstance(backend, NeighborBackend):
        wrong_type("backend", "a name or an object with add and search", backend)
    return Proposals(backend, source, frame, count, exact=False, memory=memory)


def _flat_index(dimension: int, metric: str, device: torch.device, count: int) -> NeighborBackend:
    faiss = import_faiss()
    flat = faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2
    index: NeighborBackend = flat(dimension)
    if device.type != "cuda":
        return index
    if not hasattr(faiss, "StandardGpuResources"):
        message = f"backend 'faiss' is a CPU build, the features are on {device}: install faiss-gpu"
        raise ImportError(message)
    if count > _FAISS_GPU_LIMIT:
        wrong_value("k", f"at most about {_FAISS_GPU_LIMIT} with faiss on a GPU", count)
    where = torch.cuda.current_device() if device.index is None else device.index
    moved: NeighborBackend = faiss.index_cpu_to_gpu(_gpu_resources(where), where, index)
    return moved


@lru_cache
def _gpu_resources(device: int) -> Any:  # noqa: ANN401
    """One for all searches on a GPU: each would otherwise set memory of its own aside."""
    resources = import_faiss().StandardGpuResources()
    resources.setTempMemory(_FAISS_SCRATCH)
    return resources


def import_faiss() -> ModuleType:
    """The module, or an error that says what to install."""
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        message = "backend 'faiss' needs faiss: install pseudolabel[faiss-cpu] or [faiss-gpu]"
        raise ImportError(message) from error
