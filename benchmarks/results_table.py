"""The tables of the results, recomputed from the raw files: mean and deviation over the seeds.

    python benchmarks/results_table.py benchmarks/results/digits.jsonl
    python benchmarks/results_table.py benchmarks/results/plug-in.json --into docs/plug-in.md

A .jsonl file is one of runs of the pipelines; of others the benchmark that wrote them knows how to
make a table. With ``--into`` it replaces what stands between the lines ``<!-- NAME -->`` and
``<!-- /NAME -->`` of a document, where NAME is that of the raw file, plug-in; with ``--check`` too,
nothing is written, and a document that says something else is an error.
"""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import tyro
from _harness import markdown

METRICS = ("accuracy", "nmi", "ari")
WRITTEN_BY = {
    "sharding": "sharding",
    "estimator": "estimator",
    "imbalance-digits": "imbalance",
    "imbalance-fashion-mnist": "imbalance",
    "plug-in": "plug_in",
}
STAGES = {"1": "k-means on the features", "2": "after stage 2", "3": "after stage 3"}
STL, CIFAR, CIFAR_20 = "STL-10", "CIFAR-10", "CIFAR-100-20"
PAPERS = {
    "spice": f"0.908 ± 0.001 {STL}; 0.838 {CIFAR}; 0.468 {CIFAR_20}",
    "spice: Table VII, non-overlap": f"0.885 ± 0.002 {STL}",
    "spice: Table VII, Joint-SH": f"0.622 ± 0.061 {STL}",
    "spice: Table VII, Joint-MH": f"0.687 ± 0.037 {STL}",
    "spice: Table VII, entropy": f"0.907 ± 0.001 {STL}",
    "spice: Table VII, CE": f"0.875 ± 0.031 {STL}",
    "spice: Table VII, TCE": f"0.895 ± 0.005 {STL}",
    "spice: RPSC's Table 5, SPICE-SCL": f"0.501 {CIFAR_20}",
    "spice: Table VIII, weak and weak": f"0.905 ± 0.002 {STL}",
    "spice: Table VIII, strong and weak": f"0.883 ± 0.029 {STL}",
    "spice: Table VIII, strong and strong": f"0.902 ± 0.008 {STL}",
    "rpsc": f"0.920 {STL}; 0.857 ± 0.003 {CIFAR}; 0.518 {CIFAR_20}",
    "rpsc: Table 3, No and No": f"0.853 ± 0.002 {CIFAR}",
    "rpsc: Table 3, Yes and No": f"0.839 ± 0.017 {CIFAR}",
    "rpsc: Table 3, Yes and Yes": f"0.851 ± 0.006 {CIFAR}",
    "rpsc: Table 4, SCL-1": f"0.832 {CIFAR}",
    "rpsc: Table 4, SCL-2": f"0.842 {CIFAR}",
    "rpsc: Table 4, SCL-3": f"0.844 {CIFAR}",
    "rpsc: Table 5, RPSC-CE": f"0.486 {CIFAR_20}",
    "scan": f"0.459 {CIFAR_20}",
    "scan: RPSC's Table 5, SCAN-SCL": f"0.472 {CIFAR_20}",
}
"""ACC that the papers print for a configuration, after stage 2 (SCAN: in RPSC's Table 5): on other
images than a table's own, so that it is the distances between rows that compare."""


@dataclass(frozen=True)
class Settings:
    """Which table, and where to."""

    results: tyro.conf.Positional[Path]
    """Raw file."""
    into: Path | None = None
    """Document that has the table; None prints it."""
    check: bool = False
    """Only see whether the document says what the raw file does."""


def table_of(raw: Path) -> str:
    """The Markdown table of a raw file."""
    if not raw.is_file():
        raise SystemExit(f"error: {raw}: expected a raw file, got no such file")
    if raw.suffix == ".jsonl":
        return table([json.loads(line) for line in raw.read_text().splitlines()])
    if raw.stem not in WRITTEN_BY:
        raise SystemExit(f"error: {raw}: expected one of {', '.join(WRITTEN_BY)}")
    made: str = import_module(WRITTEN_BY[raw.stem]).table(json.loads(raw.read_text())["results"])
    return made


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table: one row a configuration, in the order in which they were first run.

    Linear probes have columns where there are any.
    """
    metrics = [f"{name} {metric}" for name in STAGES.values() for metric in ("ACC", "NMI", "ARI")]
    columns = [(stage, metric) for stage in STAGES for metric in METRICS]
    if any(score.get("probe") is not None for record in records for score in record["scores"]):
        metrics += ["linear probe after stage 1", "linear probe after stage 3"]
        columns += [("1", "probe"), ("3", "probe")]
    titles = ["configuration", "options", "seeds", *metrics, "ACC in the papers"]
    lines = [titles, ["---"] * len(titles)]
    for (name, options), runs in runs_of(records).items():
        scores = [_score(runs, stage, metric) for stage, metric in columns]
        told = f"`{options}`" if options else ""
        lines.append([name, told, str(len(runs)), *scores, PAPERS.get(name, "")])
    return markdown(lines)


def runs_of(records: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The runs of every configuration and its options, in the order in which they were first run.

    Raises:
        ValueError: If two runs of a configuration have the same seed.
    """
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        runs.setdefault((record["configuration"], record["options"]), []).append(record)
    for (name, _), of_it in runs.items():
        seeds = {record["seed"] for record in of_it}
        if len(seeds) != len(of_it):
            raise ValueError(f"{name}: expected one run a seed, got {len(of_it)} of {len(seeds)}")
    return runs


def mean_and_deviation(values: list[float]) -> str:
    """Of several values with the sample deviation."""
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def _score(runs: list[dict[str, Any]], stage: str, metric: str) -> str:
    """Mean and sample deviation of a metric after a stage; empty if not every run has it."""
    values = [
        score[metric] for run in runs for score in run["scores"] if score["stage"][:1] == stage
    ]
    return "" if len(values) != len(runs) or None in values else mean_and_deviation(values)


def put(made: str, into: Path | None, name: str, *, check: bool) -> None:
    """Prints a table, or writes it between the marks of its name, or checks what stands there."""
    if into is None:
        print(made)
        return
    text = into.read_text()
    marked = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not marked.search(text):
        raise SystemExit(f"error: {into}: expected the lines <!-- {name} --> and its end")
    new = marked.sub(lambda found: f"{found[1]}\n{made}\n\n{found[2]}", text)
    if check and new != text:
        raise SystemExit(f"error: {into}: the table of {name} is not that of the raw file")
    if not check:
        aside = into.with_suffix(".partial")
        aside.write_text(new)
        aside.replace(into)


def main(settings: Settings) -> None:
    """Prints, writes or checks the table."""
    made = table_of(settings.results)
    put(made, settings.into, settings.results.stem, check=settings.check)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
