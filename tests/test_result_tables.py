"""The tables on the pages are what the benchmarks make of their raw files."""

import json

import pytest
from benchmark_modules import PAGES, RESULTS, load_benchmark

TABLES = {
    "digits.jsonl": "results.md",
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


def test_the_tables_of_neighbours_are_those_of_the_results():
    neighbors = load_benchmark("neighbors")
    start, end = neighbors.MARKS
    assert f"{start}\n{neighbors.tables()}\n{end}" in (PAGES / "neighbors.md").read_text()


def test_ranks_gave_the_answer_of_one_process():
    results = json.loads((RESULTS / "sharding.json").read_text())["results"]
    alone = results.pop("one process")
    assert all(ranks[name]["equal"] is True for ranks in results.values() for name in alone)
