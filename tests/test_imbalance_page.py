"""benchmarks/imbalance.py draws what it says, docs/imbalance.md has its tables."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "imbalance.md"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    path = ROOT / "benchmarks" / "imbalance.py"
    spec = importlib.util.spec_from_file_location("imbalance_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_the_table_is_that_of_the_results(benchmark, name):
    measured = json.loads((ROOT / "benchmarks" / "results" / f"imbalance-{name}.json").read_text())
    table = benchmark.table(measured["results"])
    assert f"<!-- {name} -->\n{table}\n\n<!-- /{name} -->" in PAGE.read_text()


def test_a_tail_falls_geometrically_and_repeats_no_row(benchmark):
    truth = np.arange(5000) % 10
    rows, sizes = benchmark.tail(truth, 100, 400, np.random.default_rng(0))
    assert (sizes[0], sizes[-1]) == (400, 4)
    assert np.allclose(sizes[1:] / sizes[:-1], 100 ** (-1 / 9), atol=0.05)
    assert len(set(rows)) == len(rows) == sizes.sum()
    assert sorted(np.bincount(truth[rows]), reverse=True) == sizes.tolist()
    assert np.bincount(truth[rows]).tolist() != sizes.tolist()


def test_priors_are_what_they_say(benchmark):
    truth = np.repeat(np.arange(10), [50, 5, 20, 9, 7, 6, 4, 3, 2, 1])
    sizes = np.sort(np.bincount(truth))[::-1]
    made = benchmark.priors(sizes, truth, truth, np.random.default_rng(0))
    assert made["uniform"] is None
    assert made["true sizes"].tolist() == sizes.tolist()
    counted = made["counts in 100 labelled rows, and 1"]
    assert counted.sum() == 100 + 10
    assert counted.min() > 0
    assert made["sizes of the k-means clusters"].tolist() == np.bincount(truth).tolist()
