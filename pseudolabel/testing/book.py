"""The book of laws: which of them a rule falls under, and what each is tried on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from pseudolabel.testing import _trials as trials
from pseudolabel.testing import laws
from pseudolabel.testing._samples import CLEAR, PLAIN
from pseudolabel.testing._trials import Arguments, case_alone, case_with
from pseudolabel.testing.rules import LabelingRule


class Law(NamedTuple):
    """One law.

    Attributes:
        name: Its name.
        check: The function that raises a LawViolation, and returns False where the case decides
            nothing.
        reason: Why a rule does not fall under it, or None.
        arguments: A strategy for what `check` takes after the rule: a case first.
        effort: How many examples are tried for each that is asked for.
    """

    name: str
    check: Callable[..., bool | None]
    reason: Callable[[LabelingRule], str | None]
    arguments: Arguments
    effort: float = 1.0

    @property
    def statement(self) -> str:
        """The law in one sentence."""
        return (self.check.__doc__ or "").strip().splitlines()[0]


def _only(*kinds: str) -> Callable[[LabelingRule], str | None]:
    words = " and ".join(f'"{kind}"' for kind in kinds)
    return lambda rule: None if rule.kind in kinds else f"only for {words}"


def _always(rule: LabelingRule) -> str | None:
    return None


def _metric(*metrics: str) -> Callable[[LabelingRule], str | None]:
    def reason(rule: LabelingRule) -> str | None:
        if rule.kind == "selection":
            return "no features"
        if rule.metric is None:
            return "no metric"
        return None if rule.metric in metrics else f"not under {rule.metric!r}"

    return reason


def _told(*names: str) -> Callable[[LabelingRule], str | None]:
    def reason(rule: LabelingRule) -> str | None:
        told = any(getattr(rule, name) not in (None, False) for name in names)
        return None if told else "needs " + " or ".join(f"{name}=" for name in names)

    return reason


def _ties(rule: LabelingRule) -> str | None:
    if rule.ties == "any":
        return "ties are broken in any way"
    return "in the law 'literal'" if rule.kind == "mask" else None


def _literal(rule: LabelingRule) -> str | None:
    if rule.kind == "labels":
        return 'only for "mask" and "selection"'
    if rule.threshold is None or (rule.kind == "mask" and rule.k is None):
        return "needs threshold= and, for a mask, k="
    return None


def _cuda(rule: LabelingRule) -> str | None:
    return None if torch.cuda.is_available() else "no CUDA device"


def _per_sample(rule: LabelingRule) -> str | None:
    return _told("per_sample")(rule) or _only("selection")(rule)


_BOOK = (
    Law("form", laws.form, _always, case_alone()),
    Law("inputs_unchanged", laws.inputs_unchanged, _always, case_alone()),
    Law("determinism", laws.determinism, _always, trials.two_cases),
    Law(
        "sample_permutation",
        laws.sample_permutation,
        _always,
        trials.samples_in_another_order,
        2.5,
    ),
    Law(
        "class_permutation",
        laws.class_permutation,
        _always,
        case_with(trials.other_names, CLEAR),
        3,
    ),
    Law(
        "scale",
        laws.scale,
        _metric("cosine", "euclidean", "dot"),
        case_with(trials.row_factors, CLEAR, most=150),
        2,
    ),
    Law(
        "rotation",
        laws.rotation,
        _metric("cosine", "euclidean", "dot"),
        case_with(trials.a_turn, CLEAR, most=150),
        1.5,
    ),
    Law(
        "translation",
        laws.translation,
        _metric("euclidean"),
        case_with(trials.an_offset, CLEAR),
        1.5,
    ),
    Law("quota", laws.quota, _told("count", "at_most"), trials.many_samples, 2),
    Law("exclusive", laws.exclusive, _told("exclusive"), case_alone()),
    Law("ties", laws.ties, _ties, trials.tied_samples, 6),
    Law("heads", laws.heads, _told("heads"), trials.case_with_heads),
    Law("per_sample", laws.per_sample, _per_sample, case_alone()),
    Law(
        "monotone", laws.monotone, _told("threshold_argument"), case_with(trials.two_thresholds), 8
    ),
    Law("ignored", laws.ignored, _only("mask"), trials.few_labels),
    Law("literal", laws.literal, _literal, trials.at_the_edge, 3),
    Law("reference", laws.reference, _told("reference"), trials.with_and_without_ties, 2),
    Law("dtypes", laws.dtypes, _told("dtypes"), trials.another_dtype, 2),
    Law("layout", laws.layout, _always, case_alone(CLEAR)),
    Law("compiled", laws.compiled, _told("compiled"), trials.one_shape, effort=0.1),
    Law("devices", laws.devices, _cuda, case_alone(PLAIN)),
)

LAWS = {law.name: law for law in _BOOK}
