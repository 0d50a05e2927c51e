"""The kit itself: what it says, what it refuses, and that it leaves the rest alone."""

import subprocess
import sys
from dataclasses import replace
from functools import partial

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from testing.zoo import voted

from pseudolabel import FixedThreshold, Selection, prototype_labels, reliable_mask
from pseudolabel.testing import (
    LAWS,
    LabelingRule,
    LawViolation,
    check_labeling_rule,
    examine_labeling_rule,
    features,
    labels,
    priors,
    probabilities,
    quotas,
)
from pseudolabel.testing._comparing import only_twins_differ
from pseudolabel.testing._ties import by_index
from pseudolabel.testing.answers import Answer
from pseudolabel.testing.cases import Case


def never(features, labels):
    return torch.zeros(len(labels), dtype=torch.bool)


def always(features, labels):
    return torch.ones(len(labels), dtype=torch.bool)


def test_without_hypothesis_the_import_says_what_to_install():
    code = "import sys; sys.modules['hypothesis'] = None; import pseudolabel.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: pseudolabel.testing needs hypothesis")
    assert "pip install hypothesis" in last


def test_a_violation_says_the_law_the_case_and_both_answers():
    with pytest.raises(LawViolation) as raised:
        check_labeling_rule(always, kind="mask")
    violation = raised.value
    assert isinstance(violation, AssertionError)
    assert violation.law == "ignored"
    assert violation.case.labels.tolist() == [-1]
    for words in (
        "the law 'ignored' is broken: A sample labelled -1 is never kept.",
        "smallest case found (1 samples, 2 classes):",
        "labels = [-1]",
        "expected:\n    no sample with label -1 kept",
        "got:\n    mask = [True]",
    ):
        assert words in str(violation)


def test_a_crash_is_told_with_the_line_of_the_rule():
    def misspelt(features, labels):
        return features.double().sort(0, stabel=True).values[:, 0] > 0

    with pytest.raises(LawViolation, match="an answer to at least one plain case") as raised:
        check_labeling_rule(misspelt, kind="mask")
    line = misspelt.__code__.co_firstlineno + 1
    said = f"test_kit.py:{line}: return features.double().sort(0, stabel=True).values[:, 0] > 0"
    assert raised.value.got.splitlines()[-1] == said


def test_the_same_seed_finds_the_same_case():
    def first_half(features, labels):
        return (torch.arange(len(labels)) < len(labels) / 2) & (labels >= 0)

    def found(seed):
        report = examine_labeling_rule(first_half, kind="mask", seed=seed)
        return [str(f.violation) for f in report.findings]

    assert found(3) == found(3)


def test_an_answer_that_changes_with_the_calls_so_far_is_seen():
    calls = []

    def after_a_warm_up(probs):
        calls.append(1)
        confident = probs.amax(-1) > 0.6
        return probs.argmax(-1), (confident & (len(calls) > 60)).float()

    with pytest.raises(LawViolation, match="asked before all laws, and again") as raised:
        check_labeling_rule(after_a_warm_up, kind="selection", laws=["form", "determinism"])
    assert raised.value.law == "determinism"

    large = []

    def of_many_samples_once(probs):  # no case of this law has as many
        large.extend([1] * (len(probs) > 25))
        if len(large) > 1:
            raise RuntimeError("no more")
        return probs.argmax(-1), torch.ones(len(probs))

    chosen = {"laws": ["determinism"], "num_samples": (5, 26)}
    report = examine_labeling_rule(of_many_samples_once, kind="selection", **chosen)
    last = report.findings[-1].violation
    assert last.expected.startswith("targets = [")
    assert last.got == "RuntimeError: no more"
    assert report.findings[0].violation.got == "RuntimeError: no more"


def test_a_violation_on_many_samples_is_searched_on_fewer():
    def choosing_all_unless(bad):
        return lambda probs: (probs.argmax(-1), torch.full((len(probs),), float(not bad(probs))))

    def found(rule):
        with pytest.raises(LawViolation, match="'quota'") as raised:
            check_labeling_rule(
                rule, kind="selection", laws=["quota"], count=lambda n, k: n, num_classes=1
            )
        return raised.value.case.num_samples

    # Taken away one by one, samples would have to be taken away 20 at a time.
    assert found(choosing_all_unless(lambda probs: len(probs) % 20 == 0)) == 20
    most = 51 if hypothesis.__version_info__ >= (6, 170) else 100  # older ones stop earlier
    assert 51 <= found(choosing_all_unless(lambda probs: len(probs) > 50)) <= most


def test_the_global_random_state_is_left_alone():
    def draws(features, labels):
        return torch.rand(len(labels)) > 2

    before = torch.get_rng_state()
    assert examine_labeling_rule(draws, kind="mask").broken == ("determinism",)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_default_device_is_not_asked():
    def first_half(features, labels):
        return (torch.arange(len(labels)) < len(labels) / 2) & (labels >= 0)

    expected = examine_labeling_rule(first_half, kind="mask")
    with torch.device("meta"):
        found = examine_labeling_rule(first_half, kind="mask")
    assert str(found) == str(expected)


def test_a_rule_that_answers_at_random_is_reported_and_not_flaky():
    with pytest.raises(LawViolation, match="determinism"):
        check_labeling_rule(
            lambda f, y: (torch.rand(len(y)) > 0.5) & (y >= 0), kind="mask", laws=["determinism"]
        )


@pytest.mark.parametrize("least", [1, 2, 7, 40])
def test_a_rule_is_asked_only_what_it_takes(least):
    asked = set()

    def rule(features, labels):
        if len(labels) < least:
            raise ValueError("too few")
        asked.add(len(labels))
        return never(features, labels)

    assert not check_labeling_rule(rule, kind="mask", max_examples=5).broken
    assert least in asked


def test_sizes_that_are_told_are_kept():
    sizes = set()

    def rule(features, probs):
        sizes.add((len(probs), probs.shape[1], features.shape[1]))
        return probs.argmax(-1)

    check_labeling_rule(
        rule, kind="labels", num_samples=(5, 6), num_classes=3, num_features=2, skip=["ties"]
    )
    assert sizes <= {(n, 3, 2) for n in (5, 6)}


def test_a_rule_that_takes_nothing_is_reported():
    def rule(features, labels):
        raise RuntimeError("never")

    with pytest.raises(LawViolation, match="RuntimeError: never"):
        check_labeling_rule(rule, kind="mask")


def test_an_error_on_a_special_case_is_reported_with_the_case():
    def rule(features, labels):
        return torch.bincount(labels)[labels] > 1

    with pytest.raises(LawViolation, match="RuntimeError") as raised:
        check_labeling_rule(rule, kind="mask", laws=["form"])
    assert raised.value.case.labels.tolist() == [-1]


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (lambda labels: max(labels[labels >= 0].tolist()), "ValueError: max()"),
        (lambda labels: np.concatenate([[x] for x in labels.tolist() if x >= 0]), "ValueError"),
        (lambda labels: labels[labels >= 0].tolist().index(0), "ValueError: 0 is not in list"),
    ],
    ids=["max", "concatenate", "index"],
)
def test_a_call_that_goes_wrong_is_no_refusal(fail, words):
    def rule(features, labels):
        fail(labels)
        return always(features, labels)

    with pytest.raises(LawViolation, match="'form'") as raised:
        check_labeling_rule(rule, kind="mask", laws=["form"])
    assert (raised.value.case.num_samples, raised.value.expected) == (1, "an answer")
    assert raised.value.got.startswith(words)


def test_an_unpacking_that_goes_wrong_is_no_refusal():
    def with_one_axis_of_heads(probs):
        if probs.ndim > 2:
            _, _, _ = probs.shape
        return probs.argmax(-1), torch.ones(probs.shape[:-1])

    with pytest.raises(LawViolation, match="'heads'") as raised:
        check_labeling_rule(with_one_axis_of_heads, kind="selection", laws=["heads"], heads=True)
    assert raised.value.got == "ValueError: too many values to unpack (expected 3)"


def test_a_single_head_is_a_head_too():
    def without_its_only_head(probs):
        probs = probs.squeeze(0) if probs.ndim == 3 else probs
        return probs.argmax(-1), torch.ones(probs.shape[:-1])

    with pytest.raises(LawViolation, match="the targets of shape") as raised:
        check_labeling_rule(without_its_only_head, kind="selection", laws=["heads"], heads=True)
    assert raised.value.case.probs.shape[0] == 1


@pytest.mark.parametrize("again", [False, True])
def test_what_is_raised_is_a_refusal_raised_again_or_not(again):
    def rule(features, labels):
        with torch.no_grad():
            if (labels < 0).any():
                try:
                    raise ValueError("labels: expected none of -1")
                except ValueError:
                    if again:
                        raise
                    raise ValueError("no") from None
        return always(features, labels)

    check_labeling_rule(rule, kind="mask", laws=["form"])


def test_a_rule_that_refuses_all_but_plain_cases_is_reported():
    calls = []

    def rule(features, labels):
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("no more")
        return never(features, labels)

    with pytest.raises(LawViolation, match="refused every case"):
        check_labeling_rule(rule, kind="mask", laws=["form"])


@pytest.mark.parametrize(
    ("rule", "words", "got"),
    [
        (lambda p: p, "a Selection, or targets and weights", "torch.float32 ["),
        (lambda p: (p.argmax(-1), p), "the weights of shape", "the weights of shape ("),
        (lambda p: (p.argmax(-1).float(), p.amax(-1)), "int64 targets", "torch.float32 ["),
        (lambda p: (p.argmax(-1) + p.shape[-1], p.amax(-1)), "targets in", "torch.int64 ["),
        (lambda p: (p.argmax(-1), None), "weights as a tensor", "a NoneType"),
        (lambda p: (p.argmax(-1), 1 + p.amax(-1)), "weights in", "torch.float32 [1.5"),
    ],
)
def test_a_wrong_form_is_named(rule, words, got):
    with pytest.raises(LawViolation, match="'form'") as raised:
        check_labeling_rule(rule, kind="selection", laws=["form"])
    assert words in raised.value.expected
    assert raised.value.got.startswith(got)
    assert raised.value.case is not None


def entries(**changes):
    """A rule that answers with PseudoLabels, some of their fields wrong."""

    def rule(features, probs):
        given = prototype_labels(features, probs)
        return given._replace(**{name: change(given) for name, change in changes.items()})

    return rule


@pytest.mark.parametrize(
    ("rule", "words", "got"),
    [
        (
            entries(labels=lambda given: given.labels - 1),
            "-1 among the labels exactly where",
            "torch.int64 [",
        ),
        (entries(indices=lambda given: given.indices + 100), "indices in [-1, ", "torch.int64 [10"),
        (entries(labels=lambda given: given.labels + 1), "labels in [-1, ", "torch.int64 ["),
        (
            entries(indices=lambda given: given.indices * 0),
            "no sample twice under one label",
            "torch.int64 [0",
        ),
        (lambda features, probs: None, "PseudoLabels, labels (N,) or bool (N, K)", "a NoneType"),
        (lambda features, probs: probs, "int64 labels or a bool tensor", "torch.float32 ["),
        (
            lambda features, probs: probs.argmax(-1) + probs.shape[-1],
            "labels in [-1, ",
            "torch.int64 [",
        ),
        (
            lambda features, probs: probs.argmax(-1)[1:],
            "the labels of shape",
            "the labels of shape (",
        ),
        (lambda features, probs: probs[1:] > 0.5, "the labels of shape", "the labels of shape ("),
    ],
)
def test_a_wrong_form_of_labels_is_named(rule, words, got):
    with pytest.raises(LawViolation, match="'form'") as raised:
        check_labeling_rule(rule, kind="labels", laws=["form"], num_samples=(4, 8))
    assert words in raised.value.expected
    assert raised.value.got.startswith(got)
    assert raised.value.case is not None


@pytest.mark.parametrize(
    ("rule", "words", "got"),
    [
        (lambda features, labels: labels, "a bool tensor", "torch.int64 ["),
        (lambda features, labels: [True] * len(labels), "a bool tensor", "a list"),
        (lambda features, labels: labels[1:] >= 0, "the mask of shape", "the mask of shape ("),
    ],
)
def test_a_wrong_form_of_a_mask_is_named(rule, words, got):
    with pytest.raises(LawViolation, match="'form'") as raised:
        check_labeling_rule(rule, kind="mask", laws=["form"])
    assert words in raised.value.expected
    assert raised.value.got.startswith(got)
    assert raised.value.case is not None


def test_a_rule_may_decline_a_dtype_but_not_answer_it_wrongly():
    def answering(probs, other):
        if probs.dtype != torch.float32:
            return other(probs)
        return FixedThreshold(0.8)(probs)

    def declining(probs):
        raise TypeError("float32 only")

    def check(other):
        rule = partial(answering, other=other)
        return check_labeling_rule(rule, kind="selection", laws=["dtypes"])

    assert not check(declining).broken
    with pytest.raises(LawViolation, match="int64 targets"):
        check(lambda probs: (probs, probs))


def test_weights_without_their_targets_are_not_the_literal_rule():
    def rule(probs):
        return probs.argmin(-1), FixedThreshold(0.8)(probs).weights

    with pytest.raises(LawViolation, match=r"'literal'(.|\n)*targets = "):
        check_labeling_rule(rule, kind="selection", laws=["literal"], threshold=0.8, strict=False)


def test_the_literal_selection_has_no_neighbours():
    rule, promises = FixedThreshold(0.8), {"threshold": 0.8, "strict": False, "k": 3}
    check_labeling_rule(rule, kind="selection", laws=["literal"], **promises)


def test_no_rule_is_asked_more_samples_than_it_takes():
    asked = set()

    def rule(features, probs):
        asked.add(len(probs))
        means = probs.double().T @ features.double()
        return torch.cosine_similarity(features.double()[:, None], means, dim=-1).argmax(-1)

    promises = {"metric": "cosine", "ties": "any", "num_samples": (4, 20), "num_classes": 3}
    examine_labeling_rule(rule, kind="labels", **promises)
    assert (min(asked), max(asked)) == (4, 20)


def test_a_bound_that_is_told_and_not_kept_is_named():
    def rule(features, labels):
        return (features[4] > 0).any() & (labels >= 0)

    expected = "an answer to a plain case of 3 samples, as num_samples= says"
    with pytest.raises(LawViolation, match=expected):
        check_labeling_rule(rule, kind="mask", num_samples=(3, 9))


def test_a_sample_that_is_its_own_only_neighbour_is_kept():
    rule = partial(reliable_mask, k=1, include_self=True)
    promises = {"k": 1, "threshold": 0.95, "include_self": True, "metric": "cosine"}
    check_labeling_rule(rule, kind="mask", laws=["literal"], **promises)
    with pytest.raises(LawViolation, match="literal"):
        check_labeling_rule(never, kind="mask", laws=["literal"], **promises)


def test_unknown_and_unpromised_laws_are_errors():
    with pytest.raises(ValueError, match="expected some of form"):
        check_labeling_rule(never, kind="mask", laws=["gravity"])
    with pytest.raises(ValueError, match="'quota': needs count= or at_most="):
        check_labeling_rule(never, kind="mask", laws=["quota"])
    with pytest.raises(ValueError, match="kind: expected one of"):
        check_labeling_rule(never, kind="labelling")
    with pytest.raises(ValueError, match="metric: expected one of"):
        check_labeling_rule(never, kind="mask", metric="manhattan")


def test_skipped_laws_are_left_out():
    report = check_labeling_rule(always, kind="mask", skip=["ignored"], max_examples=5)
    assert {f.law: f.why for f in report.findings}["ignored"] == "left out"
    assert "ignored" in str(report)


def test_a_compiled_rule_answers_as_eagerly():
    check = {"kind": "selection", "laws": ["compiled"], "compiled": "eager"}
    assert not check_labeling_rule(FixedThreshold(0.5), **check).broken

    def differs(probs):
        chosen = 0.0 if torch.compiler.is_compiling() else 1.0
        return Selection(probs.argmax(-1), torch.full_like(probs[:, 0], chosen))

    with pytest.raises(LawViolation, match="compiled"):
        check_labeling_rule(differs, **check)
    torch._dynamo.reset()


def test_a_reference_finds_another_rule():
    def loose(probs):
        return probs.argmax(-1), (probs.amax(-1) > 0.6).float()

    with pytest.raises(LawViolation, match="reference"):
        check_labeling_rule(loose, kind="selection", reference=FixedThreshold(0.8))


def most(features, probs):
    return probs.argmax(-1)


def least(features, probs):
    return probs.argmin(-1)


def unlabelled(features, probs):
    return torch.full_like(most(features, probs), -1)


@pytest.mark.parametrize(
    ("kind", "rule", "reference", "words"),
    [
        ("mask", always, never, "should be left out, but is kept"),
        ("mask", never, always, "should be kept, but is left out"),
        ("labels", most, least, "should carry label 1, but carries label 0"),
        ("labels", unlabelled, most, "should carry label 0, but carries no label"),
        ("labels", most, unlabelled, "should carry no label, but carries label 0"),
        (
            "selection",
            lambda p: (p.argmax(-1), p.amax(-1)),
            lambda p: (p.argmin(-1), p.amin(-1)),
            "should have target 1 and weight 0.0, but has target 0 and weight 1.0",
        ),
    ],
)
def test_the_first_sample_that_differs_is_told_in_words(kind, rule, reference, words):
    features = None if kind == "selection" else torch.ones(1, 2)
    probs = None if kind == "mask" else torch.tensor([[1.0, 0.0]])
    one = Case(2, features, probs, torch.tensor([0]) if kind == "mask" else None)
    with pytest.raises(LawViolation) as raised:
        LAWS["reference"].check(LabelingRule(function=rule, kind=kind, reference=reference), one)
    assert raised.value.got.splitlines()[-1] == f"sample 0 {words}"


def test_heads_and_shapes_that_differ_are_told_in_words():
    def answer(rows):
        return Answer("mask", torch.tensor(rows))

    expected = answer([[True, False], [True, True]])
    other = answer([[True, False], [True, False]])
    assert other.against(expected) == "head [1], sample 1 should be kept, but is left out"
    assert answer([True, False]).against(expected) == "an answer of shape (2,)"


def test_a_law_that_no_case_decides_is_not_said_to_hold():
    def parity(probs):
        """Whom it selects hangs on the seventh digit: moving a number a little changes it."""
        top = probs.max(-1)
        return Selection(top.indices, (probs[:, 0] * 1e7).long().remainder(2).double())

    laws = ["class_permutation", "layout"]
    renamed, layout = examine_labeling_rule(parity, kind="selection", laws=laws).findings
    assert renamed.undecided > renamed.cases / 2 == 75
    words = f"undecided: in {renamed.undecided} of 150 cases a tie or rounding decided"
    assert str(renamed) == f"class_permutation   {words}"
    assert (layout.outcome, layout.cases, layout.undecided) == ("holds", 50, 0)

    # Without other samples, a rule that is relative to them cannot tell the classes apart.
    alone = examine_labeling_rule(parity, kind="selection", laws=laws[:1], num_samples=(1, 1))
    assert [f.outcome for f in alone.findings] == ["undecided"]
    assert alone.broken == ()


@pytest.mark.parametrize(
    ("metric", "promised"),
    [
        (None, []),
        ("dot", ["scale", "rotation"]),
        ("cosine", ["scale", "rotation"]),
        ("euclidean", ["scale", "rotation", "translation"]),
    ],
)
def test_what_a_metric_promises(metric, promised):
    rule = LabelingRule(function=always, kind="mask", metric=metric)
    geometry = ["scale", "rotation", "translation"]
    assert [law for law in geometry if LAWS[law].reason(rule) is None] == promised


@pytest.mark.parametrize("heads", [(), (2,), (2, 3)])
def test_classes_are_renamed_in_every_head(heads):
    given_to = torch.zeros(*heads, 4, 3, dtype=torch.bool)
    given_to[..., 1, 0] = given_to[..., 2, 2] = True
    renamed = Answer("labels", given_to).renamed([1, 2, 0]).given
    assert renamed.nonzero().tolist() == [
        [*h, *cell] for h in np.ndindex(*heads) for cell in ([1, 1], [2, 0])
    ]


def test_samples_in_one_place_may_be_told_apart_by_their_neighbours():
    """The last of six has itself for a neighbour, and not the one before it."""
    hot = torch.eye(3)[[0, 1, 2, 2, 0, 2]]
    case = Case(3, features=torch.zeros(6, 2), probs=hot)
    rule = LabelingRule(function=voted, kind="labels", metric="euclidean")
    assert rule(case).chosen.tolist() == [False] * 5 + [True]
    assert LAWS["ties"].check(rule, case)
    later_first = replace(rule, function=lambda x, p: torch.tensor([-1, -1, -1, -1, -1, 1]))
    with pytest.raises(LawViolation, match="samples 2 and 5 are equal: 2 is chosen first"):
        LAWS["ties"].check(later_first, case)


@pytest.mark.parametrize("size", [1e6, 0.0])
def test_equal_classes_may_be_told_apart_by_rounding_alone(size):
    def later_or_earlier(features, probs):
        rounding = (size * probs).sin() if size else torch.ones(probs.shape)
        return (probs + 1e-6 * rounding * torch.arange(probs.shape[-1])).argmax(-1)

    case = Case(2, features=torch.eye(3), probs=torch.full((3, 2), 0.500005))
    rule = LabelingRule(function=later_or_earlier, kind="labels")
    assert rule(case).given[:, 1].all()
    if size:
        LAWS["ties"].check(rule, case)
    else:
        with pytest.raises(LawViolation, match="classes 0 and 1 are equal: 0 is served first"):
            LAWS["ties"].check(rule, case)


def test_a_tie_may_show_in_another_order_of_the_classes_alone():
    """Which of two equal classes a rule takes does not hang on the order of the samples."""

    def largest(probs):
        top = probs.max(-1)
        return Selection(top.indices, top.values)

    rule = LabelingRule(function=largest, kind="selection")
    case = Case(2, probs=torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]))
    last = Answer("selection", torch.tensor([1, 0, 1]), torch.ones(3).double())
    assert rule(case).given.tolist() == [0, 0, 1]
    assert by_index(rule, case, rule(case))
    assert by_index(rule, case, last)
    assert not by_index(rule, case, last._replace(given=torch.tensor([1, 1, 1])))


def test_only_probabilities_that_compete_have_to_differ():
    """Of ten classes and more some two are always equally probable somewhere."""
    probs = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.75, 0.0], [0.5, 0.1, 0.4], [0.3, 0.1, 0.6]])
    assert Case(3, probs=probs).is_distinct(None, 1e-3)
    assert not Case(3, probs=probs[:, [1, 2, 2]]).is_distinct(None, 1e-3)
    assert Case(1, probs=torch.ones(2, 3, 1)).is_distinct(None, 1e-3)  # one class is the largest


def test_classes_with_the_same_best_samples_are_twins():
    probs = torch.tensor([[0.4, 0.1, 0.5], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.2, 0.6, 0.2]])
    case = Case(3, features=torch.eye(4), probs=probs)
    assert case.twin_classes(case.num_samples // 2) == [(0, 2)]
    assert replace(case, features=None).twin_classes(case.num_samples // 2) == []

    def later(features, probs):  # the later twin takes what the first one might
        return torch.tensor([2, 1, 0, 1]) if len(probs) == 4 else probs.argmax(-1)

    names = [2, 1, 0]
    rule = LabelingRule(function=later, kind="labels", metric="cosine")
    assert LAWS["class_permutation"].check(rule, case, names) is False
    with pytest.raises(LawViolation):  # who serves a class first without prototypes, serves it so
        LAWS["class_permutation"].check(replace(rule, metric=None), case, names)

    def fixed(features, probs):
        return torch.arange(len(probs))

    two = Case(2, features=torch.eye(2), probs=torch.tensor([[0.6, 0.5], [0.3, 0.2]]))
    rule = LabelingRule(function=fixed, kind="labels", metric="cosine")
    assert LAWS["class_permutation"].check(rule, two, [1, 0]) is False
    with pytest.raises(LawViolation):  # two samples are enough to compete for
        LAWS["class_permutation"].check(replace(rule, metric=None), two, [1, 0])


def test_distances_that_cancel_are_found_far_from_zero():
    def nearest(features, labels):
        size = features.square().sum(1)
        apart = (size[:, None] + size - 2 * features @ features.T).fill_diagonal_(torch.inf)
        return labels[apart.argmin(1)] == labels

    features = torch.tensor([[0.0], [1.0], [2.5], [3.0], [5.0], [5.75]])
    case = Case(2, features=features, labels=torch.tensor([0, 0, 1, 1, 0, 1]))
    rule = LabelingRule(function=nearest, kind="mask", metric="euclidean")
    assert LAWS["translation"].check(rule, case, [8.0])
    with pytest.raises(LawViolation, match="features plus"):
        LAWS["translation"].check(rule, case, [32768.0])


def test_a_conversion_to_float64_is_no_copy_of_float64():
    def clamped(probs):
        wide = probs.double().clamp_(0.2, 0.7)
        return Selection(wide.argmax(-1), wide.amax(-1))

    case = Case(2, probs=torch.tensor([[0.75, 0.25]]))
    with pytest.raises(LawViolation, match=r"in torch\.float64"):
        LAWS["inputs_unchanged"].check(LabelingRule(function=clamped, kind="selection"), case)


def test_every_law_has_a_statement():
    assert all(law.statement.endswith(".") for law in LAWS.values())


def test_a_law_can_be_called_alone():
    rule = LabelingRule(function=always, kind="mask")
    case = check_case()
    with pytest.raises(LawViolation):
        LAWS["ignored"].check(rule, case)


def check_case():
    return Case(2, features=torch.eye(2), labels=torch.tensor([0, -1]))


@given(st.data())
def test_strategies_draw_what_they_say(data):
    size, classes = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 2))
    with torch.device("meta"):  # whatever the default device, they are of the CPU
        rows = data.draw(features(size, 3, dtype=torch.float64))
        probs = data.draw(probabilities(size, classes, heads=(2,)))
        y = data.draw(labels(size, classes, heads=(2,), unlabelled=False))
    assert rows.shape == (size, 3)
    assert rows.dtype == torch.float64
    assert probs.shape == (2, size, classes)
    assert ((probs >= 0) & (probs <= 1)).all()
    assert y.shape == (2, size)
    assert ((y >= 0) & (y < classes)).all()
    counts = data.draw(quotas(size, classes))
    assert len(counts) == classes
    assert min(counts) >= 1
    assert sum(counts) <= size
    prior = data.draw(priors(classes))
    assert all(0 < p < 1 for p in prior)
    assert prior == [round(p, 2) for p in prior]  # short to read


def test_twins_excuse_nobody_else():
    rule = LabelingRule(function=len, kind="labels", metric="cosine")
    probs = torch.tensor([[0.4, 0.4, 0.2], [0.3, 0.3, 0.4], [0.1, 0.1, 0.8]])
    case = Case(3, features=torch.eye(3), probs=probs)
    assert case.twin_classes(1) == [(0, 1)]
    given = Answer("labels", torch.eye(3).bool())
    among_twins = Answer("labels", torch.eye(3).bool()[[1, 0, 2]])
    beyond = Answer("labels", torch.eye(3).bool()[[2, 1, 0]])
    assert only_twins_differ(rule, case, given, among_twins)
    assert not only_twins_differ(rule, case, given, beyond)


def test_classes_of_other_counts_keep_their_names():
    def two_and_one(probs):
        targets, weights = probs.argmax(-1), torch.zeros(len(probs))
        for c, count in ((0, 2), (1, 1)):
            own = (targets == c).nonzero()[:, 0]
            order = probs[own, c].sort(descending=True, stable=True).indices
            weights[own[order[:count]]] = 1
        return targets, weights

    promises = {"kind": "selection", "at_most": [2, 1], "num_classes": 2}
    report = examine_labeling_rule(two_and_one, laws=["class_permutation"], **promises)
    assert report.broken == ()


def test_weights_that_are_no_numbers_have_no_form():
    def nan(probs):
        return probs.argmax(-1), torch.full((len(probs),), torch.nan)

    report = examine_labeling_rule(nan, kind="selection", laws=["form"])
    assert report.broken == ("form",)


def test_another_seed_asks_other_questions():
    def asked(seed):
        seen = []

        def rule(probs):
            seen.append(probs.tolist())
            return probs.argmax(-1), torch.ones(len(probs))

        check_labeling_rule(rule, kind="selection", laws=["form"], seed=seed)
        return seen

    assert asked(0) == asked(0)
    assert asked(0) != asked(1)


def test_the_global_generator_is_put_back():
    def careless(probs):
        torch.rand(3)
        return probs.argmax(-1), torch.ones(len(probs))

    before = torch.get_rng_state()
    examine_labeling_rule(careless, kind="selection", laws=["form", "determinism"], max_examples=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_law_to_skip_has_to_exist():
    with pytest.raises(ValueError, match=r"laws: expected some of .*, got 'scales'"):
        check_labeling_rule(len, kind="selection", skip=["scales"])


def test_an_answer_without_a_form_is_told_by_the_statement_of_the_form():
    def heads_apart(probs):
        if probs.dim() == 3:
            return probs.argmax(-1)[0], torch.ones(probs.shape[1])
        return probs.argmax(-1), torch.ones(len(probs))

    with pytest.raises(LawViolation) as raised:
        check_labeling_rule(heads_apart, kind="selection", laws=["heads"], heads=True)
    assert raised.value.law == "form"
    assert LAWS["form"].statement in str(raised.value)
    assert LAWS["heads"].statement not in str(raised.value)
