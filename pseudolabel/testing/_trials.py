"""What each law is tried on: cases, and what is drawn to go with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from math import floor, log2
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from pseudolabel.testing._domain import Domain
from pseudolabel.testing._literal import needed_votes
from pseudolabel.testing._samples import (
    ALL,
    CLEAR,
    PLAIN,
    TIED,
    TWINS,
    Styles,
    crowds,
    few_cases,
    wide_cases,
)
from pseudolabel.testing.cases import Case
from pseudolabel.testing.rules import LabelingRule

_FACTORS = (1.0, 2.0, 0.5, 3.0, 10.0, 0.1, 1e3, 1e-3)
_CROWD = 160
_WIDE = 600  # samples: more than a byte counts, more than most rules take at a time


Arguments = Callable[[LabelingRule, Domain], st.SearchStrategy[tuple[Any, ...]]]


def case_alone(styles: Styles = ALL) -> Arguments:
    """A case and nothing else."""
    return lambda rule, domain: st.tuples(few_cases(rule, domain, styles))


def case_with(
    draws: Callable[[st.DrawFn, LabelingRule, Case], tuple[Any, ...]],
    styles: Styles = ALL,
    *,
    most: int = 0,
) -> Arguments:
    """A case, and what is drawn to go with it; some cases of up to ``most`` samples."""

    def arguments(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
        few = few_cases(rule, domain, styles)
        some = few | few | wide_cases(rule, domain, most) if most else few

        @st.composite
        def drawn(draw: st.DrawFn) -> tuple[Any, ...]:
            case = draw(some)
            return (case, *draws(draw, rule, case))

        return drawn()

    return arguments


def with_and_without_ties(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(few_cases(rule, domain) | few_cases(rule, domain, CLEAR))


def two_cases(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(few_cases(rule, domain, TIED), few_cases(rule, domain, TIED))


def other_names(draw: st.DrawFn, rule: LabelingRule, case: Case) -> tuple[list[int]]:
    names = list(range(case.num_classes))
    # Only equals may swap their names: two neighbours, or all.
    groups = rule.equal_counts(case.num_samples, case.num_classes)
    pairs = [pair for group in groups for pair in pairwise(group)]
    swapped: tuple[int, int] | None = draw(st.sampled_from([None, *pairs]) | st.none())
    if swapped is not None:
        first, later = swapped
        names[first], names[later] = later, first
        return (names,)
    for group in groups:
        for c, name in zip(group, _other_order(draw, group), strict=True):
            names[c] = name
    return (names,)


def _other_order(draw: st.DrawFn, things: Sequence[int]) -> list[int]:
    """Any order but the one they are in, if there is another."""
    order = list(draw(st.permutations(list(things))))
    return order if order != list(things) else order[::-1]


def row_factors(draw: st.DrawFn, rule: LabelingRule, case: Case) -> tuple[list[float]]:
    factor = st.sampled_from(_FACTORS)
    if rule.metric != "cosine":
        return ([draw(factor)] * case.num_samples,)
    return (draw(st.lists(factor, min_size=case.num_samples, max_size=case.num_samples)),)


def a_turn(draw: st.DrawFn, rule: LabelingRule, case: Case) -> tuple[torch.Tensor]:
    """Axes swapped and mirrored, and one plane turned by the angle of a 3-4-5 triangle."""
    assert case.features is not None
    dim = case.features.shape[-1]
    matrix = np.eye(dim)[draw(st.permutations(range(dim)))]
    matrix = matrix * draw(st.lists(st.sampled_from([1, -1]), min_size=dim, max_size=dim))
    if dim > 1 and draw(st.booleans()):
        turn = np.eye(dim)
        turn[:2, :2] = [[0.6, -0.8], [0.8, 0.6]]
        matrix = matrix @ turn
    return (torch.from_numpy(matrix),)


def an_offset(draw: st.DrawFn, rule: LabelingRule, case: Case) -> tuple[list[float]]:
    """In units of the shortest row, to which float32 keeps three digits of the sum at least."""
    assert case.features is not None
    steps = draw(st.tuples(*[st.integers(-5, 5)] * case.features.shape[-1]))
    lengths = case.features.double().norm(dim=-1)
    shortest = float(lengths[lengths > 0].min()) if (lengths > 0).any() else 1.0
    size = draw(st.sampled_from([1.0, 10.0, 100.0])) * 2.0 ** floor(log2(shortest))
    return ([size * x for x in steps],)


def two_thresholds(draw: st.DrawFn, rule: LabelingRule, case: Case) -> tuple[float, float]:
    low, high = rule.thresholds
    inside = st.sampled_from([low + (high - low) * n / 20 for n in range(1, 20)])
    places = inside | inside | st.sampled_from([low, high])  # some take 0 for nothing
    if case.probs is not None:  # and those that part the samples
        tops = case.probs.amax(-1).double().flatten().tolist()
        beside = st.tuples(st.sampled_from(tops), st.sampled_from([-1e-3, 0.0, 1e-3]))
        places |= beside.map(lambda pair: min(high, max(low, sum(pair))))
    smaller, larger = sorted(draw(st.lists(places, min_size=2, max_size=2, unique=low < high)))
    return smaller, larger


def few_labels(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
    """A case of which most samples may be unlabelled, and a threshold: None for the rule's own."""

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[Case, float | None]:
        case: Case = draw(few_cases(rule, domain))
        assert case.labels is not None
        size = case.num_samples
        if draw(st.booleans()):
            taken = st.lists(
                st.sampled_from([False, True, True, True]), min_size=size, max_size=size
            )
            blank = torch.tensor(draw(taken))
            case = replace(case, labels=case.labels.masked_fill(blank, -1))
        if rule.threshold_argument is None or draw(st.booleans()):
            return case, None
        return case, two_thresholds(draw, rule, case)[0]

    return drawn()


def another_dtype(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
    """A case and a dtype; without features also copies of a few samples, for what is counted."""
    few = few_cases(rule, domain, PLAIN)
    some = few | crowds(rule, domain, _WIDE, PLAIN) if rule.metric is None else few
    return st.tuples(some, st.sampled_from(list(rule.dtypes)))


def samples_in_another_order(
    rule: LabelingRule, domain: Domain
) -> st.SearchStrategy[tuple[Any, ...]]:
    """Few samples, or so many that rules take them in parts."""

    @st.composite
    def few(draw: st.DrawFn) -> tuple[Case, list[int]]:
        case = draw(few_cases(rule, domain, CLEAR))
        return case, _other_order(draw, range(case.num_samples))

    @st.composite
    def many(draw: st.DrawFn) -> tuple[Case, list[int]]:
        case = draw(wide_cases(rule, domain, _WIDE))
        order = np.random.default_rng(draw(st.integers(0, 99))).permutation(case.num_samples)
        return case, order.tolist()

    return few() | few() | few() | many()


def many_samples(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
    """Few samples, or up to 600, where counts have digits that can be rounded wrongly."""
    wide = wide_cases(rule, domain, _WIDE, shares=(300, 100, 50, 20))
    return st.tuples(few_cases(rule, domain) | wide | wide)


def tied_samples(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
    """Few samples, or more than 16: of fewer, a sort that is not stable keeps equals in order."""
    # Where nothing else ties, it shows who was taken.
    plain = Styles(("decimals",), ("ties", "one_hot", "ties"))
    few, many = few_cases(rule, domain, TIED), few_cases(rule, domain, TIED, extra=24)
    crowd = crowds(rule, domain, _CROWD)
    return st.tuples(few | many | few_cases(rule, domain, plain, extra=24) | crowd | crowd)


def case_with_heads(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
    shapes = st.sampled_from([(2,), (3,), (1,), (1, 2), (2, 2)])
    return st.tuples(shapes.flatmap(lambda heads: few_cases(rule, domain, CLEAR, heads=heads)))


def one_shape(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
    """Cases of a single shape, which is compiled once."""
    num_classes = min(domain.sizes)
    size = domain.sizes[num_classes] + (4 if domain.largest is None else 0)
    one = Domain({num_classes: size}, (domain.num_features[1],) * 2, size)
    return st.tuples(few_cases(rule, one, CLEAR, extra=0))


def at_the_edge(rule: LabelingRule, domain: Domain) -> st.SearchStrategy[tuple[Any, ...]]:
    """Votes or probabilities that lie exactly at the threshold, and next to it."""
    edge = _even_votes(rule, domain) if rule.kind == "mask" else _even_probs(rule, domain)
    plain = few_cases(rule, domain) | few_cases(rule, domain, CLEAR)
    twins = few_cases(rule, domain, TWINS)
    wide, crowd = wide_cases(rule, domain, _WIDE // 2), crowds(rule, domain, _CROWD)
    return st.tuples(edge | edge | twins | twins | plain | wide | crowd)


@st.composite
def _even_votes(draw: st.DrawFn, rule: LabelingRule, domain: Domain) -> Case:
    """As few samples as can be: then all are neighbours, and class 0 casts the votes we choose."""
    assert rule.k is not None
    assert rule.threshold is not None
    case: Case = draw(few_cases(rule, domain, PLAIN, extra=0))
    votes = needed_votes(rule.k, rule.threshold, rule.strict) + draw(st.sampled_from([0, -1, -2]))
    members = votes if rule.include_self else votes + 1
    labels = [0 if i < members else 1 for i in range(case.num_samples)]
    return Case(case.num_classes, features=case.features, labels=torch.tensor(labels))


@st.composite
def _even_probs(draw: st.DrawFn, rule: LabelingRule, domain: Domain) -> Case:
    assert rule.threshold is not None
    case: Case = draw(few_cases(rule, domain))
    assert case.probs is not None
    probs = case.probs.clone()
    for sample in range(case.num_samples):
        if draw(st.booleans()):
            top = draw(st.integers(0, case.num_classes - 1))
            # Lost in half precision, and beside its roundest numbers.
            beside = draw(st.sampled_from([0.0, -2e-4, 2e-4, -5e-5, 5e-5, -5e-6, 5e-6]))
            limit = min(1.0, float(np.float32(rule.threshold)) * (1 + beside))
            probs[sample] = (1 - limit) / max(1, case.num_classes - 1)
            probs[sample, top] = limit
    return Case(case.num_classes, probs=probs)
