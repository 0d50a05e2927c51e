"""Why labels were kept or not, class by class, in numbers and in a sentence."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pseudolabel._numerics import as_fraction


class ReliabilityReport(NamedTuple):
    """A row for every class; prints as a table.

    Attributes:
        samples: int64 ``(K,)``, how many samples carry the label.
        reliable: int64 ``(K,)``, how many of them were kept.
        median_ratio: float64 ``(K,)``, the (lower) median of their ratios; NaN without samples.
        best_ratio: float64 ``(K,)``, their largest ratio: where the class would first come out
            non-empty; NaN without samples.
        keep: A number of samples that was asked about.
        keep_ratio: float64 ``(K,)``, the ratio of the keep-th best sample: a threshold below it
            (with ``strict=False`` at or below) keeps that many; NaN with fewer samples.
        reasons: For every class why it came out empty, in words; empty where it did not.
    """

    samples: Tensor
    reliable: Tensor
    median_ratio: Tensor
    best_ratio: Tensor
    keep: int
    keep_ratio: Tensor
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        asked = f"ratio of no. {self.keep}"
        lines = [f"class  samples  reliable  median ratio  best ratio  {asked}"]
        columns = (
            self.samples,
            self.reliable,
            self.median_ratio,
            self.best_ratio,
            self.keep_ratio,
        )
        for c, (samples, kept, median, best, enough) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            ratios = f"{median:12.3f}  {best:10.3f}  {enough:{len(asked)}.3f}"
            lines.append(f"{c:5d}  {samples:7d}  {kept:8d}  {ratios}")
        lines += [f"class {c}: {reason}" for c, reason in enumerate(self.reasons) if reason]
        return "\n".join(lines)


def reliability_report(
    given: Tensor,
    mask: Tensor,
    ratio: Tensor,
    threshold: float,
    strict: bool,
    num_classes: int,
    keep: int,
) -> ReliabilityReport:
    """Builds the report from what `reliable_labels` returns."""
    samples = torch.bincount(given[given >= 0], minlength=num_classes)
    reliable = torch.bincount(given[mask], minlength=num_classes)
    nothing = torch.full((num_classes,), torch.nan, dtype=torch.float64, device=ratio.device)
    median, best, enough = nothing, nothing.clone(), nothing.clone()
    limit = float(as_fraction(threshold))
    passes = (given >= 0) & ((ratio > limit) if strict else (ratio >= limit))
    passing = torch.bincount(given[passes], minlength=num_classes)
    for c in range(num_classes):
        if samples[c] > 0:
            of_class = ratio[given == c]
            median[c], best[c] = of_class.median(), of_class.max()
            if len(of_class) >= keep:
                enough[c] = of_class.topk(keep).values[-1]
    # Balancing empties every class or none: only then is a class without survivors to blame.
    starved = [c for c in range(num_classes) if passing[c] == 0 and not mask.any()]
    reasons = tuple(
        ""
        if reliable[c] > 0
        else _reason(int(samples[c]), int(passing[c]), float(best[c]), threshold, strict, starved)
        for c in range(num_classes)
    )
    return ReliabilityReport(samples, reliable, median, best, keep, enough, reasons)


def _reason(
    samples: int, passing: int, best: float, threshold: float, strict: bool, starved: list[int]
) -> str:
    if samples == 0:
        return "no sample carries this label."
    if passing > 0:
        blame = f"; no sample of class {starved[0]} passes" if starved else ""
        return (
            f"{passing} of {samples} samples pass the threshold, but min_confidence or balance "
            f"removed them{blame}."
        )
    if best == 0:
        return "no sample has a neighbour that carries its label."
    digits = 4 - math.ceil(math.log10(best))
    # Rounded down, for it must keep the sample.
    reached = math.floor(as_fraction(best) * 10**digits) / 10**digits
    above, below = ("above", "below") if strict else ("at or above", "at or below")
    return (
        f"the best of {samples} samples has ratio {reached}, not {above} {threshold!r}; "
        f"a threshold {below} {reached} keeps it."
    )
