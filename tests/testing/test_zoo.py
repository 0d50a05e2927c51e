"""The kit on rules whose verdict is known: no false alarm, every error found, on few samples."""

import copy

import pytest
from hypothesis import settings
from strategies import drawn_as_shown
from testing.zoo import CORRECT, FAULTY

from pseudolabel.testing import LawViolation, check_labeling_rule, examine_labeling_rule

EXAMPLES = max(12, settings().max_examples // 5)


@pytest.mark.parametrize("entry", CORRECT, ids=lambda entry: entry.name)
def test_a_correct_rule_raises_no_alarm(entry):
    report = examine_labeling_rule(
        entry.rule, kind=entry.kind, max_examples=EXAMPLES, **entry.promises
    )
    found = [str(f.violation) for f in report.findings if f.violation is not None]
    assert not found, "\n".join(found)


def of_large_cases(entry):
    """Those that few large cases show, of which older versions of hypothesis draw others."""
    return drawn_as_shown if entry.samples > 100 else ()


@pytest.mark.parametrize(
    "entry", [pytest.param(e, marks=of_large_cases(e), id=e.name) for e in FAULTY]
)
def test_an_error_is_found_on_few_samples(entry):
    rule = copy.deepcopy(entry.rule)  # some keep state
    with pytest.raises(LawViolation) as raised:
        check_labeling_rule(rule, kind=entry.kind, laws=entry.found_by[:1], **entry.promises)
    assert raised.value.law == entry.found_by[0]
    case = raised.value.case  # there is none where not even a plain one is answered
    assert case is None or case.num_samples <= entry.samples
    # In words: what the law asks for and what came, not an error of the law's own.
    text = str(raised.value)
    assert f"expected:\n    {raised.value.expected.splitlines()[0]}" in text
    assert f"got:\n    {raised.value.got.splitlines()[0]}" in text
    assert ("Error: " in text) == entry.raises


def test_the_zoo_is_large_enough_to_mean_something():
    assert len(CORRECT) >= 12
    assert len(FAULTY) >= 25
