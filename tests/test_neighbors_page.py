"""docs/neighbors.md: its tables are those of the result files. Its code is run by test_docs.py."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "neighbors.md"


def test_the_tables_are_those_of_the_results(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    path = ROOT / "benchmarks" / "neighbors.py"
    spec = importlib.util.spec_from_file_location("neighbor_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "neighbor_benchmark", benchmark)
    spec.loader.exec_module(benchmark)
    assert f"{benchmark.MARKS[0]}\n{benchmark.tables()}\n{benchmark.MARKS[1]}" in PAGE.read_text()
