"""What the classes that a network confuses cost in NMI, from the confusion matrices of its runs.

    python benchmarks/confused.py benchmarks/results/fashion-mnist.jsonl
    python benchmarks/confused.py benchmarks/results/fashion-mnist.jsonl --into docs/results.md

For a group of classes the NMI is computed twice more: as if the images that are in a cluster of
the group, but not in their own, were in their own (told apart); and as if the group's clusters were
one, classes left as they are (one cluster). ``--into`` and ``--check`` are those of results_table.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from _harness import markdown
from results_table import mean_and_deviation, put, runs_of
from torch import Tensor

from pseudolabel import normalized_mutual_info

GROUPS = {"shirt, pullover, coat": (6, 2, 4), "sandal, sneaker, boot": (5, 7, 9)}
"""Of Fashion-MNIST."""


@dataclass(frozen=True)
class Settings:
    """Which runs, and where to."""

    results: tyro.conf.Positional[Path]
    """Raw file of runs on Fashion-MNIST."""
    into: Path | None = None
    """Document that has the table; None prints it."""
    check: bool = False
    """Only see whether the document says what the raw file does."""


def told_apart(confusion: Tensor, group: tuple[int, ...]) -> Tensor:
    """The matrix ``(classes, clusters)``, had no class of a group images in another's cluster."""
    changed = confusion.clone()
    for own in group:
        changed[own, own] = confusion[own, list(group)].sum()
        changed[own, [other for other in group if other != own]] = 0
    return changed


def one_cluster(confusion: Tensor, group: tuple[int, ...]) -> Tensor:
    """The matrix ``(classes, clusters)``, were the clusters of a group one."""
    changed = confusion.clone()
    changed[:, list(group)] = 0
    changed[:, group[0]] = confusion[:, list(group)].sum(1)
    return changed


def nmi(confusion: Tensor) -> float:
    """Of the classes and clusters whose images a matrix counts."""
    classes, clusters = confusion.nonzero().T
    counts = confusion[classes, clusters]
    labels = classes.repeat_interleave(counts), clusters.repeat_interleave(counts)
    return normalized_mutual_info(*labels)


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table: one row a configuration, in the order in which they were first run."""
    changes = {"told apart": told_apart, "one cluster": one_cluster}
    titles = ["configuration", "options", "seeds", "NMI"]
    titles += [f"{group}: {change}" for group in GROUPS for change in changes]
    lines = [titles, ["---"] * len(titles)]
    for (name, options), runs in runs_of(records).items():
        matrices = [torch.tensor(run["findings"]["confusion"]) for run in runs]
        values = [[nmi(matrix) for matrix in matrices]]
        values += [
            [nmi(change(matrix, group)) for matrix in matrices]
            for group in GROUPS.values()
            for change in changes.values()
        ]
        told = f"`{options}`" if options else ""
        lines.append([name, told, str(len(runs)), *map(mean_and_deviation, values)])
    return markdown(lines)


def main(settings: Settings) -> None:
    """Prints, writes or checks the table."""
    made = table([json.loads(line) for line in settings.results.read_text().splitlines()])
    put(made, settings.into, f"{settings.results.stem}, confused", check=settings.check)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
