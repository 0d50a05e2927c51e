"""When two answers that should be one count as different."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pseudolabel.testing._literal import Verdict
from pseudolabel.testing.answers import Answer
from pseudolabel.testing.cases import Case, show
from pseudolabel.testing.rules import LabelingRule
from pseudolabel.testing.violation import LawViolation

# How far numbers are moved before an answer in a dtype is compared with float32's.
_SIZES = {torch.float64: 1e-3, torch.float16: 5e-3, torch.bfloat16: 3e-2}

_COPIES = 8


def compare(
    law: str, rule: LabelingRule, case: Case, changed: Case, expected: Answer, change: str
) -> bool:
    """Compares with the answer to a changed case, where neither hangs on a tie or on rounding."""
    got = rule(changed)

    def clear() -> bool:
        if only_twins_differ(rule, case, expected, got):
            return False
        return rule.is_clear(case) and rule.is_clear(changed)

    return settled(law, case, expected, got, f"changed: {change}", clear)


def alike(
    law: str, rule: LabelingRule, case: Case, other: Case, dtype: torch.dtype, words: str
) -> bool:
    """Compares with another form of the same inputs, which the rule may decline in any way."""
    expected = rule(case)
    try:
        # Not a copy: that would have strides of its own.
        got = rule.read(rule.ask(*other.inputs.values()), other)
    except LawViolation:
        raise
    except Exception:
        return True
    size = _SIZES[dtype]

    def clear() -> bool:
        if rule.metric is not None:
            return rule.is_clear(case, size)
        # Copies of a sample are as equal in any dtype; of features, products need not be.
        copies = rule.is_clear(case, size, keep_ties=True)
        return copies and rule.is_clear(case.without_copies(), size)

    return settled(law, case, expected, got, f"the same inputs, {words}", clear)


def settled(
    law: str,
    case: Case,
    expected: Answer,
    got: Answer,
    change: str,
    clear: Callable[[], bool],
) -> bool:
    """Whether two answers agree; a violation where they do not and the case is clear."""
    if got.same(expected):
        return True
    if not clear():
        return False
    raise difference(law, case, expected, got, change)


def only_twins_differ(rule: LabelingRule, case: Case, expected: Answer, got: Answer) -> bool:
    """Whether samples have changed sides between classes of one prototype, and nowhere else."""
    if expected.kind != "labels" or got.given.shape != expected.given.shape:
        return False
    classes = (got.given != expected.given).flatten(0, -2).any(0).nonzero()[:, 0]
    return set(classes.tolist()) <= {c for pair in _twins(rule, case) for c in pair}


def twins_decide(
    rule: LabelingRule, case: Case, names: Sequence[int], expected: Answer, got: Answer
) -> bool:
    """Whether the answer to a renamed case hangs on two classes of one prototype.

    Either the new names reverse them, which may decide about others, too; or samples have changed
    sides between them, and nowhere else; or they are twins because there are so few samples.
    """
    return (
        _reversed(names, _twins(rule, case))
        or only_twins_differ(rule, case.renamed(names), expected, got)
        or _few_make_twins(rule, case, names, got)
    )


def _few_make_twins(rule: LabelingRule, case: Case, names: Sequence[int], got: Answer) -> bool:
    """Whether classes have one prototype because it is made of all samples, or of nearly all.

    Of all: then the new names change nothing. Of either kind: they mean nothing among many copies
    of the samples, each moved a little.
    """
    if rule.kind != "labels" or rule.metric is None:
        return False
    of_nearly_all = case.twin_classes(case.num_samples - 1)
    if not got.same(rule(case)) and not _reversed(names, of_nearly_all):
        return False
    order = list(range(case.num_samples)) * _COPIES
    if rule.num_samples is not None and len(order) > rule.num_samples[1]:
        return True  # more than it takes, so that nobody can tell
    crowd = case.shuffled(order)
    crowd = crowd.moved(rule.metric, 0, 1, _SIZES[torch.float64])
    return rule(crowd.renamed(names)).same(rule(crowd).renamed(names))


def _reversed(names: Sequence[int], twins: Sequence[tuple[int, int]]) -> bool:
    return any(names[first] > names[later] for first, later in twins)


def _twins(rule: LabelingRule, case: Case) -> list[tuple[int, int]]:
    # Without a metric there are no prototypes: classes compete for their best samples, unless
    # there is but one, which is as good for each as any.
    if rule.metric is None and case.num_samples > 1:
        return []
    return case.twin_classes(case.num_samples // 2)


def difference(law: str, case: Case, expected: Answer, got: Answer, change: str) -> LawViolation:
    """The violation, in words."""
    says = f"{got}\n{got.against(expected)}"
    # Shuffled samples stand elsewhere in the case that is shown.
    if law != "sample_permutation" and got.given.shape == expected.given.shape:
        says += case.unshown(int(got.differs(expected).nonzero()[0, -1]))
    return LawViolation(law, case, str(expected), says, change)


def judged(case: Case, answer: Answer, verdict: Verdict, verb: str) -> None:
    """Raises where something is chosen that may not be, or is not that must be."""
    wrong = (verdict.must & ~answer.chosen) | (answer.chosen & ~verdict.may)
    if wrong.any():
        sample = int(wrong.nonzero()[0, -1])
        side = "should be" if verdict.must[sample] else "should not be"
        expected = f"{verb}: {show(verdict.must)}\nsample {sample} {side} {verb}"
        raise LawViolation("literal", case, expected, f"{verb}: {show(answer.chosen)}")


def same_inputs(case: Case, after: dict[str, Tensor]) -> None:
    for name, x in case.inputs.items():
        if not torch.equal(after[name], x):
            change = f"in {x.dtype}" if x.dtype == torch.float64 else ""
            expected, got = f"{name} = {show(x)} after the call", f"{name} = {show(after[name])}"
            raise LawViolation("inputs_unchanged", case, expected, got, change)
