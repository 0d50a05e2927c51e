"""One call that puts a rule under the laws."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from math import ceil
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, Verbosity, given, reject, settings
from hypothesis import seed as seeded
from hypothesis.errors import Flaky, Unsatisfiable

from pseudolabel.testing._comparing import difference
from pseudolabel.testing._domain import Domain, find_domain, plain_case
from pseudolabel.testing._shared_state import undisturbed
from pseudolabel.testing.answers import Answer
from pseudolabel.testing.book import LAWS, Law
from pseudolabel.testing.cases import Case
from pseudolabel.testing.rules import Kind, LabelingRule
from pseudolabel.testing.violation import LawViolation

_SHRINKS = 500  # cases tried after the first violation, to make it smaller
_SMALL = 12  # samples that nobody minds reading


class Finding(NamedTuple):
    """What came of one law.

    Attributes:
        law: Its name.
        outcome: ``"holds"``, ``"broken"``, ``"undecided"`` in half of the cases or
            more, or ``"not promised"``.
        why: Why it is not promised; empty otherwise.
        violation: The violation if it is broken, else None.
        cases: How many cases were tried, unless it is broken.
        undecided: On how many of them a difference did not count, because it hung on a tie or on
            rounding.
    """

    law: str
    outcome: str
    why: str = ""
    violation: LawViolation | None = None
    cases: int = 0
    undecided: int = 0

    def __str__(self) -> str:
        why = self.why
        if 4 * self.undecided > self.cases:  # a few are nothing to worry about
            why = f"in {self.undecided} of {self.cases} cases a tie or rounding decided"
        return f"{self.law:<20}{self.outcome}{': ' + why if why else ''}"


class LawReport(NamedTuple):
    """What came of all laws; prints as a table.

    Attributes:
        findings: One for each law.
    """

    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the broken laws."""
        return tuple(f.law for f in self.findings if f.outcome == "broken")

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))


def check_labeling_rule(
    rule: Callable[..., Any],
    *,
    kind: Kind,
    laws: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    max_examples: int = 50,
    seed: int = 0,
    **promises: Any,  # noqa: ANN401 - each has its type in LabelingRule
) -> LawReport:
    """Puts a labelling rule under the laws that it promises to obey.

    Args:
        rule: ``"labels"``: ``(features, probs)`` to PseudoLabels, labels ``(N,)`` or bool
            ``(N, K)``; ``"mask"``: ``(features, labels)`` to bool ``(N,)``; ``"selection"``:
            ``(probs)`` to a Selection or ``(targets, weights)``.
        kind: ``"labels"``, ``"mask"`` or ``"selection"``.
        laws: Names from `LAWS`; None means all that apply to what the rule promises.
        skip: Names of laws to leave out.
        max_examples: How many cases to try for each law.
        seed: Other cases for another seed; the same ones for the same.
        **promises: What the rule promises; see `LabelingRule`.

    Returns:
        LawReport, if every law holds.

    Raises:
        LawViolation: If a law is broken, on the smallest case that was found; an AssertionError.
        ValueError: If a law is unknown, or asked for by name and not promised.

    Example:
        >>> from pseudolabel import FixedThreshold
        >>> from pseudolabel.testing import check_labeling_rule
        >>> rule = FixedThreshold(0.9)
        >>> report = check_labeling_rule(
        ...     rule, kind="selection", threshold=0.9, strict=False, per_sample=True
        ... )
        >>> report.broken
        ()
    """
    report = examine_labeling_rule(
        rule, kind=kind, laws=laws, skip=skip, max_examples=max_examples, seed=seed, first=True,
        **promises,
    )  # fmt: skip
    for finding in report.findings:
        if finding.violation is not None:
            raise finding.violation
    return report


def examine_labeling_rule(
    rule: Callable[..., Any],
    *,
    kind: Kind,
    laws: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    max_examples: int = 50,
    seed: int = 0,
    first: bool = False,
    **promises: Any,  # noqa: ANN401 - each has its type in LabelingRule
) -> LawReport:
    """Like `check_labeling_rule`, but reports the broken laws instead of raising.

    Args:
        rule: See `check_labeling_rule`, like the options up to ``seed``.
        kind: ``"labels"``, ``"mask"`` or ``"selection"``.
        laws: Names from `LAWS`; None means all that apply to what the rule promises.
        skip: Names of laws to leave out.
        max_examples: How many cases to try for each law.
        seed: Other cases for another seed; the same ones for the same.
        first: True stops at the first broken law.
        **promises: What the rule promises; see `LabelingRule`.

    Returns:
        LawReport.

    Raises:
        LawViolation: If not even a plain case is answered.
        ValueError: If a law is unknown, or asked for by name and not promised.

    Example:
        >>> import torch
        >>> from pseudolabel.testing import examine_labeling_rule
        >>> def first_come(features, labels):  # keeps the first half, whatever it holds
        ...     return torch.arange(len(labels)) < len(labels) / 2
        >>> examine_labeling_rule(first_come, kind="mask").broken
        ('sample_permutation', 'ignored')
    """
    tested = LabelingRule(function=rule, kind=kind, **promises)
    chosen = list(LAWS) if laws is None else list(laws)
    for name in [*chosen, *skip]:
        if name not in LAWS:
            raise ValueError(f"laws: expected some of {', '.join(LAWS)}, got {name!r}")
    findings: list[Finding] = []
    with undisturbed():
        domain = find_domain(tested)
        asked_first = _answered(tested, domain)
        for name in chosen:
            why = "left out" if name in set(skip) else LAWS[name].reason(tested)
            if why is not None:
                if laws is not None and name not in set(skip):
                    raise ValueError(f"laws: expected laws that apply, got {name!r}: {why}")
                findings.append(Finding(name, "not promised", why))
                continue
            findings.append(_search(LAWS[name], tested, domain, max_examples, seed))
            if name == "determinism" and findings[-1].violation is None:
                findings[-1] = _asked_again(findings[-1], tested, asked_first)
            if findings[-1].violation is not None and first:
                break
    return LawReport(tuple(findings))


def _answered(rule: LabelingRule, domain: Domain) -> tuple[Case, Answer] | None:
    """A plain case, and what the rule answers before any law is tried, if it does."""
    num_classes, size = max(domain.sizes.items())
    size = size + 30 if domain.largest is None else min(size + 30, domain.largest)
    case = plain_case(rule, size, num_classes, domain.num_features[1])
    with suppress(Exception):
        return case, rule(case)
    return None


def _asked_again(
    finding: Finding, rule: LabelingRule, answered: tuple[Case, Answer] | None
) -> Finding:
    """The finding of `determinism`, or that the rule changed its mind over many calls."""
    if answered is None:
        return finding
    case, before = answered
    change = "asked before all laws, and again after hundreds of other cases"
    try:
        again = rule(case)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        violation = LawViolation(finding.law, case, str(before), said, change)
    else:
        if again.same(before):
            return finding
        violation = difference(finding.law, case, before, again, change)
    return Finding(finding.law, "broken", "", _stated(violation))


def _search(law: Law, rule: LabelingRule, domain: Domain, max_examples: int, seed: int) -> Finding:
    """A violation on a small case, or none.

    Hypothesis takes samples away one by one, and stops where one less shows nothing. So as long as
    a case is large, those of half its size at most are searched, too, or small ones.
    """
    finding = _tried(law, rule, domain, max_examples, seed)
    samples = _samples(finding)
    for most in (samples // 2, _SMALL) if samples > _SMALL else ():
        sizes = {k: least for k, least in domain.sizes.items() if least <= most}
        if sizes:
            few = domain._replace(sizes=sizes, largest=most)
            smaller = _search(law, rule, few, max_examples, seed)
            if _samples(smaller):
                return smaller
    return finding


def _samples(finding: Finding) -> int:
    """How many samples the case of a violation has; 0 without one."""
    case = finding.violation.case if finding.violation is not None else None
    return case.num_samples if case is not None else 0


def _tried(law: Law, rule: LabelingRule, domain: Domain, max_examples: int, seed: int) -> Finding:
    """The violation on the smallest case that Hypothesis finds, or none."""
    smallest: list[LawViolation] = []
    decided: list[bool] = []
    shrinks = 0

    @seeded(seed)
    @settings(
        max_examples=ceil(max_examples * law.effort),
        deadline=None,
        database=None,
        print_blob=False,
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(law.arguments(rule, domain))
    def trial(arguments: tuple[Any, ...]) -> None:
        nonlocal shrinks
        shrinks += bool(smallest)
        if shrinks > _SHRINKS:
            return  # the smallest so far will do
        try:
            decided.append(law.check(rule, *arguments) is not False)
        except LawViolation as violation:
            smallest[:] = [min([violation, *smallest], key=_size)]
            raise
        except Exception as error:
            if rule.declines_by(error):
                reject()
            said = f"{type(error).__name__}: {error}"
            raised = LawViolation(law.name, arguments[0], "an answer", said)
            smallest[:] = [min([raised, *smallest], key=_size)]
            raise raised from error

    try:
        trial()
    except (LawViolation, Flaky):  # a rule that answers at random cannot be replayed
        return Finding(law.name, "broken", "", _stated(smallest[0]))
    except Unsatisfiable:
        got = "it refused every case; say what it takes (num_samples, num_classes, num_features)"
        refused = LawViolation(law.name, None, "a rule that answers", got)
        return Finding(law.name, "broken", "", _stated(refused))
    outcome = "holds" if 2 * sum(decided) > len(decided) else "undecided"
    return Finding(law.name, outcome, cases=len(decided), undecided=decided.count(False))


def _stated(violation: LawViolation) -> LawViolation:
    """With the statement of its law: an answer of no form is one whatever law asks for it."""
    return violation.stating(LAWS[violation.law].statement)


def _size(violation: LawViolation) -> tuple[int, int]:
    case = violation.case
    samples = case.num_samples if case is not None else 0
    return samples, len(str(violation))
