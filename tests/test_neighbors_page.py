"""docs/neighbors.md: its code runs, its tables are those of the result files."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "neighbors.md"


def test_the_code_runs():
    pytest.importorskip("faiss")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) >= 3
    namespace = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), namespace)


def test_the_tables_are_those_of_the_results(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    path = ROOT / "benchmarks" / "neighbors.py"
    spec = importlib.util.spec_from_file_location("neighbor_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "neighbor_benchmark", benchmark)
    spec.loader.exec_module(benchmark)
    assert f"{benchmark.MARKS[0]}\n{benchmark.tables()}\n{benchmark.MARKS[1]}" in PAGE.read_text()
