"""Cases for a rule: few samples in many styles, many of one, or a few again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from pseudolabel.testing._domain import Domain
from pseudolabel.testing._rows import FEATURE_STYLES, PROB_STYLES
from pseudolabel.testing.cases import Case
from pseudolabel.testing.rules import LabelingRule
from pseudolabel.testing.strategies import cases


class Styles(NamedTuple):
    """What features and probabilities a law is tried on."""

    features: Sequence[str] = FEATURE_STYLES
    probs: Sequence[str] = PROB_STYLES
    mixed: bool = False


ALL = Styles()
TIED = Styles(("decimals", "duplicates", "grid"), (*PROB_STYLES[:5],))
# Duplicates, which masks take for the sample itself.
TWINS = TIED._replace(features=("decimals", "duplicates", "duplicates", "grid"))
# Ties are rare here: where the answer hangs on one, laws about clear numbers learn nothing.
CLEAR = Styles(
    ("decimals", "clustered", "decimals", "low_rank", "norms"), ("weights", "imbalanced"), True
)
PLAIN = Styles(("decimals", "grid", "clustered", "low_rank"), ("weights",), True)


def few_cases(
    rule: LabelingRule,
    domain: Domain,
    styles: Styles = ALL,
    *,
    extra: int | None = None,
    heads: tuple[int, ...] = (),
) -> st.SearchStrategy[Case]:
    if extra is None:  # of few more than k samples nearly all are neighbours of each other
        extra = 10 + 2 * min(rule.k or 0, 20) * styles.mixed
    return cases(
        rule.kind,
        domain.sizes,
        num_features=domain.num_features,
        largest=domain.largest,
        extra=extra,
        heads=heads,
        feature_styles=styles.features,
        prob_styles=styles.probs,
        mixed=styles.mixed,
    )


@st.composite
def wide_cases(
    draw: st.DrawFn, rule: LabelingRule, domain: Domain, most: int, shares: Sequence[int] = ()
) -> Case:
    """Up to ``most`` samples from a normal distribution; often one of ``shares`` for each class.

    No fewer and no more, though, than the rule takes.
    """
    num_classes = draw(st.sampled_from(sorted(domain.sizes)))
    least = domain.sizes[num_classes]
    sizes = st.integers(1, most) | st.just(most)
    if shares:
        sizes |= st.sampled_from(shares).map(lambda n: n * num_classes)
    largest = most if domain.largest is None else min(most, domain.largest)
    size = max(least, min(largest, draw(sizes)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    rows = torch.from_numpy(rng.normal(size=(size, domain.num_features[1]))).float()
    # Drawn to one class, so that bounds are reached and classes run short.
    logits = rng.normal(size=(size, num_classes)) * 2 + np.arange(num_classes)[::-1]
    # Of labels that follow the rows a mask keeps some, and leaves some out.
    labels = (rows[:, 0] > 0).long() % num_classes
    labels[torch.from_numpy(rng.random(size) < 1 / 8)] = -1
    return Case(
        num_classes,
        features=None if rule.kind == "selection" else rows,
        probs=None if rule.kind == "mask" else torch.from_numpy(logits).softmax(-1).float(),
        labels=labels if rule.kind == "mask" else None,
    )


@st.composite
def crowds(
    draw: st.DrawFn, rule: LabelingRule, domain: Domain, most: int, styles: Styles = TIED
) -> Case:
    """A few samples again and again, often ``most`` of them: many of one class are equal.

    Of a mask the labels are drawn anew: they tell which of equal neighbours were taken.
    """
    few = few_cases(rule, domain, styles, extra=0) | few_cases(rule, domain, styles, extra=2)
    case: Case = draw(few)
    largest = most if domain.largest is None else min(most, domain.largest)
    most = max(case.num_samples, largest)
    size = draw(st.integers(case.num_samples, most) | st.just(most) | st.just(most))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    crowd = case.shuffled(rng.integers(case.num_samples, size=size).tolist())
    if rule.kind == "mask":
        labels = torch.from_numpy(rng.integers(-1, case.num_classes, size))
        crowd = replace(crowd, labels=labels)
    return crowd
