"""The package's own operators as labelling rules: what each promises, and which laws it breaks.

Run as a script it prints the table of docs/laws.md.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from pseudolabel import (
    FixedThreshold,
    SelfAdaptiveThreshold,
    assign_labels,
    class_prototypes,
    nearest_neighbors,
    nearest_prototype,
    prototype_labels,
    reliability_ratio,
    reliable_labels,
    reliable_mask,
    select_confident,
)
from pseudolabel.testing import examine_labeling_rule


class Ours(NamedTuple):
    """One operator as a rule.

    `breaks` says why for every law that it breaks although nothing is wrong with it.
    """

    name: str
    rule: Any
    kind: str
    promises: dict[str, Any]
    breaks: Mapping[str, str] = MappingProxyType({})


def share(num_samples, num_classes):
    return num_samples // num_classes


def half_share(num_samples, num_classes):
    return max(1, share(num_samples, num_classes) // 2)


def confident(features, probs):
    """`select_confident` as a rule: a sample carries the labels of the classes that select it."""
    indices = select_confident(probs, half_share(*probs.shape[-2:]))
    hot = torch.zeros_like(probs.mT, dtype=torch.bool).scatter(-1, indices, True)
    return hot.mT


def prototypes(features, probs):
    return class_prototypes(features, select_confident(probs, half_share(*probs.shape[-2:])))


def assigned(features, probs, **options):
    return assign_labels(features, prototypes(features, probs), share(*probs.shape[-2:]), **options)


def nearest(features, probs, **options):
    return nearest_prototype(features, prototypes(features, probs), **options)


def by_ratio(features, labels):
    return reliability_ratio(labels, nearest_neighbors(features, 3)) > 0.5


def balanced(features, labels):
    probs = features.new_full((len(labels), 2), 1 / 2)
    options = {"k": 3, "threshold": 0.5, "probs": probs, "balance": True}
    return reliable_labels(
        features, labels, generator=torch.Generator("cpu").manual_seed(0), **options
    ).mask


def adaptive(probs):
    """A fresh one for every batch: a module that has seen others answers by them too."""
    with probs.device:
        return SelfAdaptiveThreshold(probs.shape[-1], momentum=0.5)(probs)


COSINE, EUCLIDEAN = {"metric": "cosine"}, {"metric": "euclidean"}
LABELS = {"heads": True, "count": share}
EXCLUSIVE = {**LABELS, "exclusive": True}
MASK = {
    "k": 3,
    "threshold": 0.5,
    "heads": True,
    "threshold_argument": "threshold",
}

OURS = [
    Ours("prototype_labels", prototype_labels, "labels", {**COSINE, **LABELS}),
    Ours(
        'prototype_labels(metric="euclidean")',
        partial(prototype_labels, metric="euclidean"),
        "labels",
        {**EUCLIDEAN, **LABELS},
    ),
    Ours(
        'prototype_labels(assignment="greedy")',
        partial(prototype_labels, assignment="greedy"),
        "labels",
        {**COSINE, **EXCLUSIVE},
    ),
    Ours(
        'prototype_labels(assignment="optimal")',
        partial(prototype_labels, assignment="optimal"),
        "labels",
        {**COSINE, **EXCLUSIVE, "ties": "any"},
    ),
    Ours(
        'prototype_labels(assignment="sequential")',
        partial(prototype_labels, assignment="sequential"),
        "labels",
        {**COSINE, **EXCLUSIVE},
        {"class_permutation": "cluster 0 is served first"},
    ),
    Ours(
        'prototype_labels(assignment="nearest")',
        partial(prototype_labels, assignment="nearest"),
        "labels",
        {**COSINE, "heads": True, "exclusive": True, "at_most": share},
    ),
    Ours("select_confident", confident, "labels", {"heads": True, "count": half_share}),
    Ours("assign_labels", partial(assigned, metric="euclidean"), "labels", {**EUCLIDEAN, **LABELS}),
    Ours(
        "nearest_prototype",
        partial(nearest, metric="euclidean"),
        "labels",
        {**EUCLIDEAN, "heads": True, "exclusive": True},
    ),
    Ours(
        "reliable_mask", partial(reliable_mask, k=3), "mask", {**COSINE, **MASK, "threshold": 0.95}
    ),
    Ours(
        "reliable_mask(strict=False, include_self=True)",
        partial(reliable_mask, k=3, threshold=0.5, strict=False, include_self=True),
        "mask",
        {**COSINE, **MASK, "strict": False, "include_self": True},
    ),
    Ours(
        'reliable_mask(metric="euclidean")',
        partial(reliable_mask, k=3, threshold=0.5, metric="euclidean"),
        "mask",
        {**EUCLIDEAN, **MASK},
    ),
    Ours(
        "reliability_ratio above a threshold",
        by_ratio,
        "mask",
        {**COSINE, "k": 3, "threshold": 0.5},
    ),
    Ours(
        "reliable_labels(balance=True)",
        balanced,
        "mask",
        {**COSINE, "num_classes": 2},
        {"sample_permutation": "a random order decides which samples are cut"},
    ),
    Ours(
        "FixedThreshold",
        FixedThreshold(0.9),
        "selection",
        {"threshold": 0.9, "strict": False, "per_sample": True},
    ),
    Ours(
        "FixedThreshold(strict=True)",
        FixedThreshold(0.9, strict=True),
        "selection",
        {"threshold": 0.9, "per_sample": True},
    ),
    Ours("SelfAdaptiveThreshold", adaptive, "selection", {}),
]


def examine(ours, max_examples):
    return examine_labeling_rule(
        ours.rule, kind=ours.kind, max_examples=max_examples, **ours.promises
    )


def row(ours, report):
    """One line of the table; laws of other kinds of rules, and of what was told, are left out."""
    by_outcome = {"holds": [], "broken": [], "not promised": []}
    for finding in report.findings:
        words, why = finding.law, finding.why
        if finding.law == "devices" or why.startswith(("only for", "no features", "needs", "in ")):
            continue
        if finding.outcome == "broken":
            why = ours.breaks.get(finding.law, "WRONG")
        by_outcome[finding.outcome].append(f"{words} ({why})" if why else words)
    cells = [", ".join(words) or "none" for words in by_outcome.values()]
    return f"| `{ours.name}` | " + " | ".join(cells) + " |"


def table(rows):
    return "\n".join(
        ["| operator | obeys | breaks | does not promise |", "|---|---|---|---|", *rows]
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table(row(ours, examine(ours, 60 if ours.breaks else 15)) for ours in OURS))  # noqa: T201
