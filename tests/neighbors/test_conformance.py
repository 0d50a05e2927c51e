"""One suite for every exact backend: the oracle's neighbours, on the cases that break searches."""

import importlib.util

import numpy as np
import oracles
import pytest
import torch
from strategies import METRICS, gaussian

from pseudolabel import nearest_neighbors
from pseudolabel.neighbors import _plan, _search
from pseudolabel.neighbors._sweep import Sweep

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="needs faiss-cpu or faiss-gpu"
)
SIZE = 97  # odd: no tile, block or vector divides it


def kinds(count, dim=13):
    """A few rows, again and again: more of each than k and any margin."""
    return gaussian(0, count, dim)[torch.arange(SIZE) * 5 % count]


CASES = {
    "apart": gaussian(0, SIZE, 13),
    "every row twice": gaussian(0, SIZE, 13)[torch.arange(SIZE) // 2],
    "blocks of ties": kinds(2),
    "one block of ties": kinds(1),
    "ties beside others": torch.cat([kinds(1)[:60], gaussian(1, SIZE - 60, 13)]),
    "zero rows": gaussian(0, SIZE, 13) * (torch.arange(SIZE) % 3 > 0).unsqueeze(1),
    "all zero": torch.zeros(SIZE, 3),
    "near ties": 1 + 1e-4 * gaussian(0, SIZE, 3),
    "multiples": gaussian(0, 9, 13)[torch.arange(SIZE) % 9]
    * 2.0 ** (torch.arange(SIZE) % 7).view(-1, 1),
    "opposites": gaussian(0, SIZE, 13) * (1 - 2 * (torch.arange(SIZE) % 2)).unsqueeze(1),
    "huge": gaussian(0, SIZE, 13) * 2.0**90,
    "tiny": gaussian(0, SIZE, 13) * 2.0**-90,
    "one column": torch.arange(SIZE).view(-1, 1) % 11 - 5.0,
    "many columns": gaussian(0, SIZE, 700),
    "two samples": gaussian(0, 2, 5),
    "three samples": gaussian(0, 3, 5),
}

BACKENDS = [
    "rows",
    "float32 tiles",
    "bfloat16 tiles",
    pytest.param("faiss", marks=needs_faiss),
]


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """The backend's name for `nearest_neighbors`, which is made to take small tiles."""
    if "tiles" in request.param:
        monkeypatch.setattr(_plan, "_TILED_FROM", 40)
        monkeypatch.setattr(_plan, "_SAMPLE", 64)
        monkeypatch.setattr(_plan, "_TILE", 32)
        monkeypatch.setattr(Sweep, "pays", lambda self: True)
        dtype = torch.float32 if "float32" in request.param else torch.bfloat16
        monkeypatch.setattr(_search, "fast_dtype", lambda device: dtype)
    return "faiss" if request.param == "faiss" else "torch"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", CASES)
def test_the_neighbours_are_the_oracles(backend, case, metric):
    features = CASES[case].float()
    size = len(features)
    for k, include_self in ((1, False), (3, True), (20, False), (size - 1, False), (size, True)):
        if k <= size - 1 + include_self:
            options = {"metric": metric, "include_self": include_self}
            found = nearest_neighbors(features, k, backend=backend, **options)
            expected, _ = oracles.nearest_neighbors(features, k, **options)
            assert found.indices.tolist() == expected


def test_every_k(backend):
    features = torch.cat([kinds(3)[:30], gaussian(1, SIZE - 30, 13)]).float()
    longest = nearest_neighbors(features, SIZE - 1, backend=backend)
    for k in range(1, SIZE):
        found = nearest_neighbors(features, k, backend=backend)
        assert torch.equal(found.indices, longest.indices[:, :k])
        assert torch.equal(found.similarity, longest.similarity[:, :k])


@pytest.mark.parametrize("metric", METRICS)
def test_kinds_and_layouts_do_not_show(backend, metric, tmp_path):
    features = torch.cat([kinds(3)[:30], gaussian(1, SIZE - 30, 13)]).half().float()
    expected = nearest_neighbors(features, 7, metric=metric)
    np.save(tmp_path / "features.npy", features.numpy())
    np.save(tmp_path / "half.npy", features.half().numpy())
    for same in (
        features.t().contiguous().t(),
        features.repeat_interleave(2, dim=1)[:, ::2],
        features.half(),
        features.numpy(),
        np.asfortranarray(features.numpy()),
        features.numpy().astype(">f4"),
        np.load(tmp_path / "features.npy", mmap_mode="r"),
        np.load(tmp_path / "half.npy", mmap_mode="r"),
    ):
        found = nearest_neighbors(same, 7, metric=metric, backend=backend)
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(found.similarity, expected.similarity)
