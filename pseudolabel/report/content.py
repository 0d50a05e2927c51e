"""What a report says, worked out before any of it becomes HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pseudolabel._numerics import as_fraction
from pseudolabel.reliability import ReliableLabels
from pseudolabel.report.doubt import Doubt

CLASSES_SHOWN = 200
DOUBTFUL_CLASSES_SHOWN = 20
DOUBTFUL_ROWS_SHOWN = 40
NEIGHBORS_SHOWN = 8
_BARS = 20
_RIVAL_SHARE = 0.05
_DOUBTFUL_SHARE = 0.5  # a class with fewer reliable labels than this is named as doubtful


class Bar(NamedTuple):
    """Samples whose ratio lies in ``(low, high]``; the first bar is the ratio 0 alone."""

    low: float
    high: float
    reliable: int
    doubtful: int

    @property
    def total(self) -> int:
        """All samples of the bar."""
        return self.reliable + self.doubtful


class ClassRow(NamedTuple):
    """One class of the table.

    Attributes:
        code: The class.
        name: What to call it.
        samples: How many rows carry the label.
        reliable: How many of them are reliable.
        median: The median ratio; None without samples.
        next_ratio: The largest ratio that does not pass the threshold; None if there is none above
            0.
        next_count: How many samples have it.
        rival: The other class that most of its rows' neighbours carry, or None.
        rival_share: The share of all its rows' neighbours that carry it.
        suspects: How many of its rows the neighbours suggest another class for.
        bars: The ratios of its rows.
        reason: Why it came out empty; empty where it did not.
    """

    code: int
    name: str
    samples: int
    reliable: int
    median: float | None
    next_ratio: float | None
    next_count: int
    rival: str | None
    rival_share: float
    suspects: int
    bars: list[Bar]
    reason: str

    @property
    def share(self) -> float:
        """The share of its samples that are reliable."""
        return self.reliable / self.samples if self.samples else 0.0


class RowNeighbor(NamedTuple):
    """A neighbour of a doubtful row; ``label`` is None where it has none."""

    row: int
    label: str | None
    conflicting: bool


class DoubtfulRow(NamedTuple):
    """A row whose neighbours speak for another class."""

    row: int
    label: str
    suggested: str
    agreeing: int
    votes: list[tuple[str, int]]
    neighbors: list[RowNeighbor]


def histogram(ratio: np.ndarray, mask: np.ndarray, width: int) -> list[Bar]:
    """Counts ratios, which are whole numbers of ``width`` neighbours, in at most 21 bars."""
    step = _step(width)
    bar = -(-np.rint(ratio * width).astype(np.int64) // step)
    bars = -(-width // step) + 1
    kept = np.bincount(bar[mask], minlength=bars)
    others = np.bincount(bar[~mask], minlength=bars)
    return [
        Bar(max(0, b - 1) * step / width, min(b * step, width) / width, int(kept[b]), int(o))
        for b, o in enumerate(others)
    ]


def threshold_place(threshold: float, strict: bool, width: int) -> float:
    """Where in a histogram, in bars from its left end, ratios begin to pass."""
    exact = as_fraction(threshold) * width
    failing = math.floor(exact) if strict else math.ceil(exact) - 1
    return 1 + failing / _step(width) if failing >= 0 else 0.0


def _step(width: int) -> int:
    return max(1, -(-width // _BARS))


def class_rows(
    reliable: ReliableLabels, indices: np.ndarray, doubt: Doubt, names: Sequence[str]
) -> list[ClassRow]:
    """Every class in order, empty ones included."""
    report = reliable.report()
    given, mask = reliable.given.cpu().numpy(), reliable.mask.cpu().numpy()
    ratio = reliable.ratio.cpu().numpy()
    passes = ratio > reliable.threshold if reliable.strict else ratio >= reliable.threshold
    suspects = np.bincount(given[doubt.order], minlength=len(names))
    members = np.split(
        np.argsort(given, kind="stable"), np.searchsorted(np.sort(given), range(len(names)))
    )[1:]
    rows = []
    for code, own in enumerate(members):
        below = ratio[own[~passes[own]]]
        best = float(below.max(initial=0))
        rival, rival_share = _rival(given, indices[own], code)
        median = float(report.median_ratio[code])
        rows.append(
            ClassRow(
                code=code,
                name=names[code],
                samples=len(own),
                reliable=int(mask[own].sum()),
                median=None if math.isnan(median) else median,
                next_ratio=best or None,
                next_count=int((below == best).sum()) if best else 0,
                rival=None if rival is None else names[rival],
                rival_share=rival_share,
                suspects=int(suspects[code]),
                bars=histogram(ratio[own], mask[own], indices.shape[1]),
                reason=report.reasons[code],
            )
        )
    return rows


def _rival(given: np.ndarray, indices: np.ndarray, code: int) -> tuple[int | None, float]:
    carried = given[indices].ravel()
    others = np.bincount(carried[(carried >= 0) & (carried != code)])
    if not others.any():
        return None, 0.0
    return int(others.argmax()), float(others.max() / carried.size)


def doubtful_classes(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """The classes with the smallest share of reliable labels, if it is below a half."""
    found = [row for row in rows if row.reliable == 0 or row.share < _DOUBTFUL_SHARE]
    return sorted(found, key=lambda row: (row.share, row.code))


def why(row: ClassRow, noun: str) -> str:
    """Why a class is doubtful, in a sentence or two."""
    share = f"{100 * row.share:.0f} %"
    parts = [
        row.reason or f"only {row.reliable:,} of {row.samples:,} labels are reliable ({share})."
    ]
    if row.rival is not None and row.rival_share >= _RIVAL_SHARE:
        rival = f"{100 * row.rival_share:.0f} % of its rows' neighbours"
        parts.append(f"It mixes with {row.rival}, which {rival} carry.")
    if row.suspects:
        look = "looks" if row.suspects == 1 else "look"
        parts.append(f"{row.suspects:,} of its rows {look} like another {noun}'s.")
    text = " ".join(parts)
    return text[0].upper() + text[1:]


def doubtful_rows(
    given: np.ndarray, indices: np.ndarray, doubt: Doubt, names: Sequence[str]
) -> list[DoubtfulRow]:
    """The first of the doubtful rows, with their nearest neighbours."""
    rows = []
    for row in doubt.order[:DOUBTFUL_ROWS_SHOWN].tolist():
        carried = given[indices[row]]
        codes, counts = np.unique(carried[carried >= 0], return_counts=True)
        most = np.lexsort((codes, -counts))
        nearest = zip(
            indices[row, :NEIGHBORS_SHOWN].tolist(),
            carried[:NEIGHBORS_SHOWN].tolist(),
            strict=True,
        )
        rows.append(
            DoubtfulRow(
                row=row,
                label=names[given[row]],
                suggested=names[doubt.suggested[row]],
                agreeing=int((carried == given[row]).sum()),
                votes=[(names[codes[i]], int(counts[i])) for i in most],
                neighbors=[
                    RowNeighbor(
                        other, None if code < 0 else names[code], code >= 0 and code != given[row]
                    )
                    for other, code in nearest
                ],
            )
        )
    return rows


def typical_rows(
    reliable: ReliableLabels, confidence: np.ndarray | None, count: int
) -> list[list[int]]:
    """For every class the rows of the highest ratio, then confidence, then the lowest index."""
    given, ratio = reliable.given.cpu().numpy(), reliable.ratio.cpu().numpy()
    second = np.zeros(len(given)) if confidence is None else -confidence
    order = np.lexsort((second, -ratio))
    codes = given[order]
    return [order[codes == code][:count].tolist() for code in range(reliable.num_classes)]
