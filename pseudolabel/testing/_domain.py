"""What a rule can be asked."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import NamedTuple

import torch

from pseudolabel.testing.cases import Case
from pseudolabel.testing.rules import LabelingRule
from pseudolabel.testing.violation import LawViolation

_PACKAGE, _INSTALLED = str(Path(__file__).parent), str(Path(torch.__file__).parent.parent)
_SIZES = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 101, 128, 201, 256)


class Domain(NamedTuple):
    """What a rule can be asked.

    Attributes:
        sizes: For every K, the smallest N.
        num_features: The bounds of D.
        largest: The largest N, if there is one.
    """

    sizes: dict[int, int]
    num_features: tuple[int, int]
    largest: int | None


def find_domain(rule: LabelingRule) -> Domain:
    """How many samples the rule needs for every number of classes, by asking it plain questions."""
    bounds = (2, 4) if rule.num_classes is None else rule.num_classes
    low, high = (bounds, bounds) if isinstance(bounds, int) else bounds
    dims = rule.num_features
    dims = (dims, dims) if isinstance(dims, int) else dims
    least, largest = (1, None) if rule.num_samples is None else rule.num_samples
    if rule.kind == "mask" and rule.k is not None:
        least = max(least, rule.k if rule.include_self else rule.k + 1)
    sizes: dict[int, int] = {}
    error: Exception | None = None
    for num_classes in range(low, high + 1):
        grid = [least, *(n for n in _SIZES if n > least)] if rule.num_samples is None else [least]
        refused = least - 1
        for size in grid:
            error_here = _asked(rule, size, num_classes, dims[1])
            if error_here is None:
                for smaller in range(refused + 1, size):
                    if _asked(rule, smaller, num_classes, dims[1]) is None:
                        size = smaller
                        break
                sizes[num_classes] = size
                break
            refused, error = size, error_here
        told = rule.num_classes is not None
        if told and num_classes not in sizes and not rule.declines_by(error):
            wanted = f"an answer for {num_classes} classes, as num_classes= says, or a refusal"
            raise LawViolation("form", None, wanted, _told(error))
    if not sizes:
        wanted = "an answer to at least one plain case"
        if rule.num_samples is not None:
            wanted = f"an answer to a plain case of {least} samples, as num_samples= says"
        raise LawViolation("form", None, wanted, _told(error))
    return Domain(sizes, dims, largest)


def _told(error: Exception | None) -> str:
    """An exception and the line that it comes from, of the rule as far as its source is known."""
    frames = traceback.extract_tb(error.__traceback__ if error is not None else None)
    own = [f for f in frames if not f.filename.startswith((_PACKAGE, _INSTALLED)) and f.line]
    place = [f"{Path(own[-1].filename).name}:{own[-1].lineno}: {own[-1].line}"] if own else []
    return "\n".join([f"{type(error).__name__}: {error}", *place])


def plain_case(rule: LabelingRule, num_samples: int, num_classes: int, dim: int) -> Case:
    """A case without anything special about it."""
    generator = torch.Generator().manual_seed(num_samples)
    features = torch.randn(num_samples, dim, generator=generator)
    probs = torch.randn(num_samples, num_classes, generator=generator).mul(2).softmax(-1)
    labels = torch.arange(num_samples) % num_classes
    inputs = {
        "labels": {"features": features, "probs": probs},
        "mask": {"features": features, "labels": labels},
        "selection": {"probs": probs},
    }[rule.kind]
    return Case(num_classes, **inputs)


def _asked(rule: LabelingRule, num_samples: int, num_classes: int, dim: int) -> Exception | None:
    """What the rule raises on a plain case."""
    try:
        rule(plain_case(rule, num_samples, num_classes, dim))
    except LawViolation:
        return None
    except Exception as error:
        return error
    return None
