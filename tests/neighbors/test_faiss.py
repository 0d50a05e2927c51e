"""faiss and torch in one process, a caller's own index, and what is said when faiss does not do."""

import subprocess
import sys

import pytest
import torch
from comparisons import assert_identical
from strategies import METRICS, gaussian

from pseudolabel import nearest_neighbors, reliable_mask
from pseudolabel.neighbors import backends

faiss = pytest.importorskip("faiss")

# Both libraries bring OpenMP. Products of each are taken by turns, from two threads too, and the
# number of threads of either is left alone.
TOGETHER = """
import threading
{imports}
import numpy as np
from pseudolabel import nearest_neighbors
torch.set_num_threads(2)
faiss.omp_set_num_threads(2)
features = torch.randn(3000, 32, generator=torch.Generator().manual_seed(0))
expected = nearest_neighbors(features, 9)
answers = []
def search(backend):
    for _ in range(3):
        answers.append(nearest_neighbors(features, 9, backend=backend))
threads = [threading.Thread(target=search, args=(name,)) for name in ("faiss", "torch")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(answers) == 6
for found in answers:
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.similarity, expected.similarity)
assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == (2, 2)
print("done")
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import faiss\nimport torch",
        "import torch\nimport faiss",
        "import torch, sklearn\nimport faiss",
    ],
)
def test_either_may_be_imported_first(imports):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", TOGETHER.format(imports=imports)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr


@pytest.mark.parametrize("metric", METRICS)
def test_an_index_of_the_callers_own(metric):
    """Exact where its candidates are: here all lists are probed."""
    features = gaussian(0, 2000, 16, dtype=torch.float32)
    flat = faiss.IndexFlatIP(16) if metric == "cosine" else faiss.IndexFlatL2(16)
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    index = faiss.IndexIVFFlat(flat, 16, 20, kind)
    unit = torch.nn.functional.normalize(features) if metric == "cosine" else features
    index.train(unit.numpy())
    index.nprobe = 20
    expected = nearest_neighbors(features, 9, metric=metric)
    assert_identical(nearest_neighbors(features, 9, metric=metric, backend=index), expected)


def test_an_untrained_index_is_refused():
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(5), 5, 4)
    with pytest.raises(ValueError, match=r"^backend: expected a trained index"):
        nearest_neighbors(gaussian(0, 60, 5), 3, backend=index)
    assert index.ntotal == 0


def test_rows_are_handed_over_in_blocks_that_fit_the_limit():
    features = gaussian(0, 3000, 40, dtype=torch.float32)
    added = []

    class Recorder:
        def add(self, rows):
            added.append(len(rows))

        def search(self, queries, k):
            scores = queries @ features.numpy().T
            return scores, scores.argsort(1)[:, ::-1][:, :k].copy()

    nearest_neighbors(features, 4, backend=Recorder(), memory_limit=4 * 2**20)
    assert sum(added) == 3000
    assert max(added) * 40 * 4 <= 2**19


def test_missing_faiss_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="install pseudolabel"):
        nearest_neighbors(gaussian(0, 60, 5), 3, backend="faiss")
    with pytest.raises(ImportError, match="install pseudolabel"):
        reliable_mask(gaussian(0, 60, 5), torch.zeros(60, dtype=torch.int64), k=3, backend="faiss")


def test_a_cpu_build_asked_for_a_gpu_is_named(monkeypatch):
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    with pytest.raises(ImportError, match=r"CPU build.*cuda:0.*faiss-gpu"):
        backends._flat_index(8, "cosine", torch.device("cuda", 0), 20)


def test_the_gpus_limit_on_k_is_named(monkeypatch):
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    with pytest.raises(ValueError, match=r"^k: expected at most about 2048"):
        backends._flat_index(8, "cosine", torch.device("cuda", 0), 2049)


def test_one_resource_of_bounded_scratch_serves_a_gpu(monkeypatch):
    """As far as it can be seen without a GPU: made once, told its scratch memory."""
    made = []

    class Resources:
        def __init__(self):
            made.append(self)

        def setTempMemory(self, size):
            self.size = size

    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(
        faiss,
        "index_cpu_to_gpu",
        lambda resources, device, index: (resources, device),
        raising=False,
    )
    backends._gpu_resources.cache_clear()
    moved = [backends._flat_index(8, "cosine", torch.device("cuda", 0), 20) for _ in range(2)]
    backends._gpu_resources.cache_clear()
    assert moved == [(made[0], 0)] * 2
    assert made[0].size == 64 * 2**20
