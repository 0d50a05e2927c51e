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

METRICS = ("accuracy", "nmi", "ari")
WRITTEN_BY = {
    "distributed": "distributed",
    "estimator": "estimator",
    "imbalance-digits": "imbalance",
    "imbalance-fashion-mnist": "imbalance",
    "plug-in": "plug_in",
}
STAGES = {"1": "k-means on the features", "2": "after stage 2", "3": "after stage 3"}


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
    if raw.suffix == ".jsonl":
        return table([json.loads(line) for line in raw.read_text().splitlines()])
    if raw.stem not in WRITTEN_BY:
        raise SystemExit(f"error: {raw}: expected one of {', '.join(WRITTEN_BY)}")
    made: str = import_module(WRITTEN_BY[raw.stem]).table(json.loads(raw.read_text())["results"])
    return made


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table: one row a configuration, in the order in which they were first run."""
    names = list(dict.fromkeys((record["configuration"], record["options"]) for record in records))
    metrics = [f"{name} {metric}" for name in STAGES.values() for metric in ("ACC", "NMI", "ARI")]
    titles = ["configuration", "options", "seeds", *metrics]
    lines = [titles, ["---"] * len(titles)]
    for name, options in names:
        runs = [r for r in records if (r["configuration"], r["options"]) == (name, options)]
        seeds = {record["seed"] for record in runs}
        if len(seeds) != len(runs):
            raise ValueError(f"{name}: expected one run a seed, got {len(runs)} of {len(seeds)}")
        scores = [_score(runs, stage, metric) for stage in STAGES for metric in METRICS]
        lines.append([name, f"`{options}`" if options else "", str(len(runs)), *scores])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _score(runs: list[dict[str, Any]], stage: str, metric: str) -> str:
    """Mean and sample deviation of a metric after a stage; empty if not every run has it."""
    values = [
        score[metric] for run in runs for score in run["scores"] if score["stage"][:1] == stage
    ]
    if len(values) != len(runs) or None in values:
        return ""
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def main(settings: Settings) -> None:
    """Prints, writes or checks the table."""
    made = table_of(settings.results)
    if settings.into is None:
        print(made)
        return
    name = settings.results.stem
    text = settings.into.read_text()
    marked = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not marked.search(text):
        raise SystemExit(f"error: {settings.into}: expected the lines <!-- {name} --> and its end")
    new = marked.sub(lambda found: f"{found[1]}\n{made}\n\n{found[2]}", text)
    if settings.check and new != text:
        raise SystemExit(f"error: {settings.into}: the table of {name} is not that of the raw file")
    if not settings.check:
        aside = settings.into.with_suffix(".partial")
        aside.write_text(new)
        aside.replace(settings.into)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
