"""How a tie was decided, and whether it was one."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from pseudolabel.testing.answers import SAME_WEIGHT, Answer
from pseudolabel.testing.cases import Case
from pseudolabel.testing.rules import LabelingRule
from pseudolabel.testing.violation import LawViolation

_ORDERS = 12  # random ones, beside the given one and its reverse


def breaks_ties(case: Case, answer: Answer, in_order: Answer, backwards: bool) -> bool:
    """Whether something was taken although ties in order would take what comes before it.

    Ties decide who is chosen; where they decide how many, a threshold follows the numbers, as
    weights do that are relative to the spread of a batch. Targets may differ where they do not tie.
    """
    if answer.chosen.sum() != in_order.chosen.sum():
        return False
    got, wanted = answer.given, in_order.given
    if answer.weights is not None:
        assert case.probs is not None
        both = torch.stack([got, wanted], -1)
        values = case.probs.gather(-1, both.clamp(min=0))
        tied = (both < 0).any(-1) | (values[..., 0] == values[..., 1])
        classes = torch.arange(case.num_classes)
        got, wanted = torch.where(tied, got, wanted)[:, None] == classes, wanted[:, None] == classes
        got = torch.cat([answer.chosen[:, None], got], -1)
        wanted = torch.cat([in_order.chosen[:, None], wanted], -1)
    first = (got != wanted).flatten().nonzero()[:, 0]
    return len(first) > 0 and bool(wanted.flatten()[first[-1 if backwards else 0]])


def by_index(rule: LabelingRule, case: Case, answer: Answer) -> bool:
    """Whether the rule gives an answer in another order of the samples or classes: a tie decides.

    Otherwise it was not a tie of these, but of what the rule made of them, up to rounding.
    """
    names = list(range(case.num_classes))[::-1]
    for order in _orders(case.num_samples):
        shuffled, back = case.shuffled(order.tolist()), order.argsort().tolist()
        if rule(shuffled).shuffled(back).chooses_as(answer):
            return True
        if rule(shuffled.renamed(names)).renamed(names).shuffled(back).chooses_as(answer):
            return True
    return False


def _orders(size: int) -> list[Tensor]:
    """The given one, its reverse, and random ones that are always the same."""
    ahead, generator = torch.arange(size), torch.Generator().manual_seed(0)
    drawn = [torch.randperm(size, generator=generator) for _ in range(_ORDERS)]
    return [ahead, ahead.flip(0), *drawn]


def only_pairs_tie(rule: LabelingRule, case: Case) -> bool:
    """Whether the order of the samples decides within fixed pairs, and nowhere else.

    Two samples are always as far from the mean of both, and each other's nearest ones as far from
    one another. No movement of the numbers breaks such ties, so it is for the index to do.
    """
    answers = _in_every_order(rule, case)
    columns = [*torch.stack([a.columns() for a in answers], dim=-1).unbind(-2)]
    weights = [answer.weights for answer in answers if answer.weights is not None]
    if weights:
        columns.append(_levels(torch.stack(weights, dim=-1)))
    return all(_exchanged_in_pairs(column) for column in columns)


def order_decides(rule: LabelingRule, case: Case) -> bool:
    """Whether the order of the samples decides anything."""
    first, *others = _in_every_order(rule, case)
    return not all(answer.same(first) for answer in others)


def _in_every_order(rule: LabelingRule, case: Case) -> list[Answer]:
    """The answers to the shuffled cases, put back in order."""
    return [
        rule(case.shuffled(order.tolist())).shuffled(order.argsort().tolist())
        for order in _orders(case.num_samples)
    ]


def _levels(weights: Tensor) -> Tensor:
    """Weights as whole numbers, the same for those that rounding may part."""
    ordered, order = weights.flatten().sort()
    levels = torch.zeros_like(order)
    levels[order[1:]] = (ordered.diff() > SAME_WEIGHT).cumsum(0)
    return levels.view_as(weights)


def _exchanged_in_pairs(answers: Tensor) -> bool:
    """Whether of values ``(N, orders)`` those that vary are exchanged with one other, always."""
    varied = answers[(answers != answers[:, :1]).any(-1)]
    one, other = varied.unsqueeze(0), varied.unsqueeze(1)
    values = torch.stack([torch.minimum(one, other), torch.maximum(one, other)])
    partners = (values == values[..., :1]).all(-1).all(0).fill_diagonal_(False)
    return bool((partners.sum(-1) == 1).all())


def equal_classes_in_order(rule: LabelingRule, case: Case, answer: Answer, backwards: bool) -> None:
    """Of two equal classes with equal counts, the later one gets no more samples.

    Unless another rounding would: of a matrix product equal columns need not come out equal.
    """
    assert case.probs is not None
    got = answer.count_by_class(case)
    for group in rule.equal_counts(case.num_samples, case.num_classes):
        for first, later in combinations(group, 2):
            served, waiting = (later, first) if backwards else (first, later)
            equal = torch.equal(case.probs[..., first], case.probs[..., later])
            more = (got[..., waiting] > got[..., served]).any()
            if equal and more and rule.is_clear(case, keep_ties=True):
                expected = f"classes {first} and {later} are equal: {served} is served first"
                raise LawViolation("ties", case, expected, str(answer))


def equal_samples_in_order(rule: LabelingRule, case: Case, answer: Answer, backwards: bool) -> None:
    """Of two equal samples, the later one is chosen only if the earlier one is.

    Unless others lie in the same place: which of these are the neighbours of a sample is decided by
    index too, and by which one it is itself.
    """
    passed_over = _passed_over(case, answer, backwards)
    if passed_over is None:
        return
    parted = case.parted()
    if _passed_over(parted, rule(parted), backwards) is None:
        return
    first, later = sorted(passed_over)
    expected = f"samples {first} and {later} are equal: {passed_over[0]} is chosen first"
    raise LawViolation("ties", case, expected, str(answer))


def _passed_over(case: Case, answer: Answer, backwards: bool) -> tuple[int, int] | None:
    """A sample that should have been chosen, and its equal that was."""
    rows = torch.cat(list(case.inputs.values()), -1)
    order = range(len(rows))[::-1] if backwards else range(len(rows))
    waiting: dict[tuple[float, ...], int] = {}  # the first of equals that was not chosen
    for sample in order:
        row = tuple(rows[sample].tolist())
        if not answer.chosen[sample]:
            waiting.setdefault(row, sample)
        elif row in waiting:
            return waiting[row], sample
    return None
