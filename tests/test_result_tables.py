"""The tables on the pages are what the benchmarks make of their raw files."""

import json
import math

import pytest
import torch
from benchmark_modules import PAGES, RESULTS, load_benchmark

TABLES = {
    "digits.jsonl": "results.md",
    "digits-probe.jsonl": "results.md",
    "sharding.json": "distributed.md",
    "estimator.json": "estimator.md",
    "fashion-mnist.jsonl": "results.md",
    "imbalance-digits.json": "imbalance.md",
    "imbalance-fashion-mnist.json": "imbalance.md",
    "plug-in.json": "plug-in.md",
}


@pytest.mark.parametrize("raw", TABLES)
def test_the_table_is_that_of_the_results(raw):
    tables = load_benchmark("results_table")
    settings = tables.Settings(RESULTS / raw, PAGES / TABLES[raw], check=True)
    tables.main(settings)


def test_the_table_of_confused_classes_is_that_of_the_results():
    confused = load_benchmark("confused")
    confused.main(
        confused.Settings(RESULTS / "fashion-mnist.jsonl", PAGES / "results.md", check=True)
    )


def test_what_confused_classes_cost():
    """Two of three classes are shared out evenly between two clusters, the third has its own."""
    confused = load_benchmark("confused")
    matrix = torch.tensor([[5, 5, 0], [5, 5, 0], [0, 0, 10]])
    two = math.log(3) - 2 / 3 * math.log(2)
    assert confused.nmi(matrix) == pytest.approx(two / math.log(3))
    assert confused.nmi(confused.told_apart(matrix, (0, 1))) == pytest.approx(1)
    assert confused.nmi(confused.one_cluster(matrix, (0, 1))) == pytest.approx(
        2 * two / (math.log(3) + two)
    )
    stray = torch.tensor([[5, 1, 2], [3, 4, 0], [0, 6, 10]])
    assert confused.told_apart(stray, (0, 1)).tolist() == [[6, 0, 2], [0, 7, 0], [0, 6, 10]]
    assert confused.one_cluster(stray, (1, 0)).tolist() == [[0, 6, 2], [0, 7, 0], [0, 6, 10]]


def test_the_tables_of_neighbours_are_those_of_the_results():
    neighbors = load_benchmark("neighbors")
    start, end = neighbors.MARKS
    assert f"{start}\n{neighbors.tables()}\n{end}" in (PAGES / "neighbors.md").read_text()


def test_ranks_gave_the_answer_of_one_process():
    results = json.loads((RESULTS / "sharding.json").read_text())["results"]
    alone = results.pop("one process")
    assert all(ranks[name]["equal"] is True for ranks in results.values() for name in alone)
