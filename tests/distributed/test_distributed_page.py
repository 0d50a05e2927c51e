"""docs/distributed.md: its table is that of the result file."""

import importlib.util
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_is_that_of_the_results(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    path = ROOT / "benchmarks" / "distributed.py"
    spec = importlib.util.spec_from_file_location("distributed_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "distributed_benchmark", benchmark)
    spec.loader.exec_module(benchmark)
    record = json.loads((ROOT / "benchmarks/results/distributed.json").read_text())
    start, end = benchmark.MARKS
    assert f"{start}\n{benchmark.table(record['results'])}\n{end}" in benchmark.PAGE.read_text()
    assert all(
        operator["equal"]
        for case, operators in record["results"].items()
        if case != "one process"
        for operator in operators.values()
    )
