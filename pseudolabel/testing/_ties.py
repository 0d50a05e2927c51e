"""How a tie was decided, and whether it was one."""

from __future__ import annotations

import torch

from pseudolabel.testing.cases import Case
from pseudolabel.testing.rules import Answer, LabelingRule
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
    names, generator = list(range(case.num_classes))[::-1], torch.Generator().manual_seed(0)
    ahead = torch.arange(case.num_samples)
    orders = [ahead, ahead.flip(0)]
    orders += [torch.randperm(case.num_samples, generator=generator) for _ in range(_ORDERS)]
    for order in orders:
        shuffled, back = case.shuffled(order.tolist()), order.argsort().tolist()
        if rule(shuffled).shuffled(back).chooses_as(answer):
            return True
        if rule(shuffled.renamed(names)).renamed(names).shuffled(back).chooses_as(answer):
            return True
    return False


def equal_samples_in_order(case: Case, answer: Answer, backwards: bool) -> None:
    """Of two equal samples, the later one is chosen only if the earlier one is."""
    rows = torch.cat(list(case.inputs.values()), -1)
    for first in range(len(rows)):
        for later in range(first + 1, len(rows)):
            served, waiting = (later, first) if backwards else (first, later)
            if (
                torch.equal(rows[first], rows[later])
                and answer.chosen[waiting]
                and not answer.chosen[served]
            ):
                expected = f"samples {first} and {later} are equal: {served} is chosen first"
                raise LawViolation("ties", case, expected, str(answer))
