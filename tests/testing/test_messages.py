"""What a violation says, word for word, law by law; and the parts that draw and move cases."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from testing.zoo import shared, shared_ties_to_the_last

from pseudolabel import FixedThreshold, PseudoLabels, Selection
from pseudolabel.testing import (
    LAWS,
    LabelingRule,
    LawViolation,
    check_labeling_rule,
    examine_labeling_rule,
    probabilities,
)
from pseudolabel.testing import laws as by_name
from pseudolabel.testing._domain import Domain
from pseudolabel.testing._literal import literal_mask, literal_selection
from pseudolabel.testing._shared_state import settings_put_back
from pseudolabel.testing._ties import breaks_ties, equal_samples_in_order
from pseudolabel.testing._trials import (
    an_offset,
    at_the_edge,
    few_labels,
    many_samples,
    tied_samples,
    two_thresholds,
    with_and_without_ties,
)
from pseudolabel.testing.answers import Answer
from pseudolabel.testing.cases import Case, nudged, sharpened, show
from pseudolabel.testing.strategies import cases

PROBS = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]])
SELECTED = Case(2, probs=PROBS)
LABELLED = Case(2, features=torch.tensor([[1.0], [2.0], [4.0]]), probs=PROBS)
MASKED = Case(2, features=torch.tensor([[1.0], [2.0]]), labels=torch.tensor([0, 1]))


def said(law, case, rule, *more, kind="selection", **promises):
    """The lines of a violation after those that show the case."""
    tested = LabelingRule(function=rule, kind=kind, **promises)
    with pytest.raises(LawViolation) as raised:
        getattr(by_name, law)(tested, case, *more)
    assert str(raised.value.case) == str(case)
    lines = str(raised.value).splitlines()
    shown = len(str(case).splitlines())
    assert lines[:2] == [
        f"the law '{raised.value.law}' is broken",
        f"smallest case found ({case.num_samples} samples, {case.num_classes} classes):",
    ]
    assert lines[2 : 2 + shown] == [f"    {line}" for line in str(case).splitlines()]
    return lines[2 + shown :]


def select(targets, weights):
    return lambda probs: Selection(torch.tensor(targets), torch.tensor(weights))


def test_inputs_changed():
    def halves(probs):
        probs /= 2
        return probs.argmax(-1), probs.amax(-1)

    assert said("inputs_unchanged", SELECTED, halves) == [
        "expected:",
        "    probs = [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]] after the call",
        "got:",
        "    probs = [[0.375, 0.125], [0.25, 0.25], [0.125, 0.375]]",
    ]


def test_an_answer_that_the_next_call_changes():
    kept = torch.zeros(3, dtype=torch.long), torch.zeros(3)

    def reuses(probs):
        kept[0].copy_(probs.argmax(-1))
        kept[1].copy_(probs.amax(-1))
        return kept

    other = Case(2, probs=PROBS.flip(0))
    assert said("determinism", SELECTED, reuses, other) == [
        "    asked in between:",
        "        probs = [[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]]",
        "    the first answer, read again",
        "expected:",
        "    targets = [0, 0, 1], weights = [0.75, 0.5, 0.75]",
        "got:",
        "    targets = [1, 0, 0], weights = [0.75, 0.5, 0.75]",
        "    sample 0 should have target 0 and weight 0.75, but has target 1 and weight 0.75",
    ]


def test_a_quota_that_is_not_kept():
    rule = select([0, 0, 1], [1.0, 1.0, 1.0])
    got = ["got:", "    [2, 1] samples, targets = [0, 0, 1], weights = [1.0, 1.0, 1.0]"]
    exactly = said("quota", SELECTED, rule, count=1)
    assert exactly == ["expected:", "    exactly [1, 1] samples of each class", *got]
    at_most = said("quota", SELECTED, rule, at_most=[1, 2])
    assert at_most == ["expected:", "    at most [1, 2] samples of each class", *got]


def test_a_sample_with_two_labels():
    def both(features, probs):
        return torch.tensor([[True, False], [True, True], [False, True]])

    assert said("exclusive", LABELLED, both, kind="labels", exclusive=True) == [
        "expected:",
        "    at most one label a sample",
        "got:",
        "    labels = [0, [0, 1], 1]",
    ]


def test_a_head_of_a_mask_that_depends_on_the_others():
    def of_the_first(features, labels):
        return (labels if labels.dim() == 1 else labels[:1].expand_as(labels)) == 0

    two = Case(2, features=torch.eye(2), labels=torch.tensor([[0, 1], [1, 0]]))
    assert said("heads", two, of_the_first, kind="mask", heads=True) == [
        "    head [1] alone, then among all",
        "expected:",
        "    mask = [False, True]",
        "got:",
        "    mask = [True, False]",
        "    sample 0 should be left out, but is kept",
    ]


def test_a_head_that_depends_on_the_others():
    def of_the_first(probs):
        first = probs if probs.dim() == 2 else probs[:1].expand_as(probs)
        return first.argmax(-1), torch.ones(probs.shape[:-1])

    probs = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.3, 0.7], [0.6, 0.4]]])
    assert said("heads", Case(2, probs=probs), of_the_first, heads=True) == [
        "    head [1] alone, then among all",
        "expected:",
        "    targets = [1, 0], weights = [1.0, 1.0]",
        "got:",
        "    targets = [0, 1], weights = [1.0, 1.0]",
        "    sample 0 should have target 1 and weight 1.0, but has target 0 and weight 1.0",
    ]


@pytest.mark.parametrize(
    ("asks", "words"),
    [
        (lambda x: x.stride() == (1, 3), "transposed in memory"),
        (lambda x: x.stride() == (4, 2), "every other number of a larger tensor"),
        (lambda x: x.requires_grad, "that require a gradient"),
    ],
)
def test_an_answer_that_hangs_on_how_the_inputs_lie_in_memory(asks, words):
    def rule(probs):
        return probs.argmax(-1), torch.full((len(probs),), float(asks(probs)))

    one = Case(2, probs=torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.8, 0.2]]))
    lines = said("layout", one, rule)
    assert lines[:2] == [f"    the same inputs, {words}", "expected:"]


@pytest.mark.parametrize(("sample", "shown"), [(11, False), (12, True), (19, True)])
def test_the_row_of_a_sample_too_far_down_is_told_with_it(sample, shown):
    labels = torch.zeros(20, dtype=torch.int64)
    angle = 0.15 * torch.arange(20)
    one = Case(2, features=torch.stack([angle.cos(), angle.sin()], 1), labels=labels)
    alone = torch.arange(20) == sample
    nobody = torch.zeros(20, dtype=torch.bool)
    lines = said("reference", one, lambda *_: alone, kind="mask", reference=lambda *_: nobody)
    row = [f"    its features = {show(one.features[sample])}", "    its labels = 0"]
    told = [f"    sample {sample} should be left out, but is kept", *(row if shown else [])]
    assert lines[-len(told) :] == told


def test_what_is_said_of_an_unlabelled_sample_that_is_kept():
    one = Case(2, features=torch.eye(2), labels=torch.tensor([0, -1]))

    def rule(features, labels, limit=0.5):
        return torch.arange(2) >= limit

    options = {"kind": "mask", "threshold_argument": "limit"}
    lines = said("ignored", one, rule, **options)
    assert lines == [
        "expected:",
        "    no sample with label -1 kept",
        "got:",
        "    mask = [False, True]",
    ]
    lines = said("ignored", one, rule, 0.0, **options)
    assert lines[0] == "    limit = 0"
    assert lines[-1] == "    mask = [True, True]"


def test_of_long_lists_the_first_are_shown_and_all_are_counted():
    assert show(torch.arange(12)) == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]"
    assert show(torch.arange(100)).endswith(", ... 100 in all]")
    assert len(show(torch.arange(1000))) < 100


@pytest.mark.parametrize("bound", [2.0, 3.0])
def test_thresholds_are_drawn_up_to_their_bounds(bound):
    rule = LabelingRule(function=torch.equal, kind="mask", thresholds=(2.0, 3.0))
    find(
        st.composite(lambda draw: two_thresholds(draw, rule, MASKED))(),
        lambda pair: bound in pair,
        settings=settings(max_examples=300, database=None, derandomize=True),
    )


@given(st.data())
def test_thresholds_are_drawn_within_their_bounds(data):
    selecting = LabelingRule(function=torch.equal, kind="selection", thresholds=(0.3, 0.6))
    masking = LabelingRule(function=torch.equal, kind="mask", thresholds=(2.0, 3.0))
    for rule, case in ((selecting, SELECTED), (masking, MASKED)):
        low, high = two_thresholds(data.draw, rule, case)
        assert rule.thresholds[0] <= low <= high <= rule.thresholds[1]


def test_cases_of_few_labels_are_asked_at_thresholds_that_the_rule_takes():
    domain = Domain({2: 4}, (2, 2), None)
    plain = LabelingRule(function=torch.equal, kind="mask")
    told = replace(plain, threshold_argument="limit", thresholds=(2.0, 3.0))
    some = settings(max_examples=300, database=None, derandomize=True)
    for rule, asked in ((plain, lambda x: x is None), (told, lambda x: x is None or 2 <= x <= 3)):
        with pytest.raises(NoSuchExample):
            find(few_labels(rule, domain), lambda found, ok=asked: not ok(found[1]), settings=some)
    find(few_labels(told, domain), lambda found: found[1] is not None, settings=some)
    find(few_labels(plain, domain), lambda found: (found[0].labels < 0).sum() == 3, settings=some)
    find(few_labels(plain, domain), lambda found: (found[0].labels >= 0).all(), settings=some)


@pytest.mark.parametrize(
    ("kind", "case", "answer", "expected", "got"),
    [
        ("mask", MASKED, torch.tensor([1, 0]), "a bool tensor", "torch.int64 [1, 0]"),
        ("mask", MASKED, [True, False], "a bool tensor", "a list"),
        (
            "selection",
            SELECTED,
            (torch.tensor([0]), torch.ones(3)),
            "the targets of shape (3,)",
            "the targets of shape (1,)",
        ),
        (
            "selection",
            SELECTED,
            (torch.tensor([0, 1, 0]), torch.ones(1)),
            "the weights of shape (3,)",
            "the weights of shape (1,)",
        ),
        ("selection", SELECTED, None, "a Selection, or targets and weights", "a NoneType"),
        (
            "labels",
            LABELLED,
            torch.tensor([0, 2, -1]),
            "labels in [-1, 1]",
            "torch.int64 [0, 2, -1]",
        ),
        (
            "labels",
            LABELLED,
            PseudoLabels(
                torch.tensor([0, 3]), torch.tensor([0, 1]), torch.ones(2), torch.ones(2, 1), "dot"
            ),
            "indices in [-1, 2]",
            "torch.int64 [0, 3]",
        ),
        (
            "labels",
            LABELLED,
            PseudoLabels(
                torch.tensor([0, -2]), torch.tensor([0, -1]), torch.ones(2), torch.ones(2, 1), "dot"
            ),
            "indices in [-1, 2]",
            "torch.int64 [0, -2]",
        ),
    ],
)
def test_an_answer_of_another_form(kind, case, answer, expected, got):
    lines = said("form", case, lambda *inputs: answer, kind=kind)
    assert lines == ["expected:", f"    {expected}", "got:", f"    {got}"]


def test_chance_of_numpy_is_seen_too():
    def at_random(probs):
        return probs.argmax(-1), torch.from_numpy(np.random.rand(len(probs)))  # noqa: NPY002

    lines = said("determinism", SELECTED, at_random, SELECTED)
    assert lines[1] == "    the global random state left alone"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda: torch.set_default_dtype(torch.float64), "torch.get_default_dtype()"),
        (lambda: torch.set_grad_enabled(False), "torch.is_grad_enabled()"),
        (
            lambda: torch.use_deterministic_algorithms(True),
            "torch.are_deterministic_algorithms_enabled()",
        ),
        (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "torch.get_num_threads()"),
        (
            lambda: torch.set_float32_matmul_precision("medium"),
            "torch.get_float32_matmul_precision()",
        ),
        (lambda: np.seterr(all="raise"), "numpy.geterr()"),
    ],
)
def test_settings_that_everybody_shares_are_seen_and_put_back(change, name):
    def setting(probs):
        change()
        return probs.argmax(-1), torch.ones(len(probs))

    with settings_put_back() as changed:
        lines = said("determinism", SELECTED, setting, SELECTED)
        report = examine_labeling_rule(setting, kind="selection", laws=["form", "determinism"])
    expected = "    the settings of torch and NumPy left alone"
    assert lines == ["expected:", expected, "got:", f"    another {name}"]
    assert report.broken == ("determinism",)
    assert not changed


@pytest.mark.parametrize(
    ("rule", "promised", "trace", "expected", "got"),
    [
        (shared_ties_to_the_last, "lowest", "less", "[[0, 1], 1, 0, -1]", "[1, [0, 1], 0, -1]"),
        (shared, "highest", "more", "[1, [0, 1], 0, -1]", "[[0, 1], 1, 0, -1]"),
    ],
)
def test_ties_by_another_index(rule, promised, trace, expected, got):
    features = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.1, -0.1], [0.0] * 3, [0.0] * 3])
    case = Case(2, features=features, probs=torch.tensor([[1.0, 0.0]] * 2 + [[0.5, 0.5]] * 2))
    lines = said("ties", case, rule, kind="labels", ties=promised)
    assert lines[:-1] == [
        f"    the answer with ties, against that with every probability a trace {trace} than",
        "    the one before it (samples in order, in each sample the classes in order)",
        "expected:",
        f"    labels = {expected}",
        "got:",
        f"    labels = {got}",
    ]


def test_what_a_rule_cannot_answer_is_not_clear():
    def unable(probs):
        raise RuntimeError

    clear = Case(2, probs=PROBS[[0, 2]])
    assert LabelingRule(function=FixedThreshold(0.9), kind="selection").is_clear(clear)
    assert not LabelingRule(function=unable, kind="selection").is_clear(clear)


def test_references_are_asked_about_ties_and_about_clear_numbers():
    rule = LabelingRule(function=len, kind="labels", metric="euclidean")
    drawn = []

    @given(with_and_without_ties(rule, Domain({2: 6}, (2, 2), 9)))
    @settings(max_examples=50, derandomize=True, database=None)
    def draw(arguments):
        (case,) = arguments
        drawn.append(case.is_distinct("euclidean", 1e-3))

    draw()
    assert min(sum(drawn), len(drawn) - sum(drawn)) >= 8


def test_another_answer_in_float64_is_seen():
    def finer(probs):
        low = probs.dtype == torch.float64
        return probs.argmin(-1) if low else probs.argmax(-1), torch.ones(len(probs))

    case = Case(2, probs=torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    lines = said("dtypes", case, finer, torch.float64)
    assert lines[0] == "    the same inputs, torch.float64"


def test_the_first_line_states_the_law():
    with pytest.raises(LawViolation) as raised:
        check_labeling_rule(lambda probs: None, kind="selection", laws=["form"])
    assert str(raised.value).startswith(
        "the law 'form' is broken: The rule answers, in the form its kind documents"
    )


def test_a_report_tells_what_is_broken_from_what_holds():
    def first_class(probs):
        return torch.zeros(len(probs), dtype=torch.long), torch.ones(len(probs))

    report = examine_labeling_rule(
        first_class, kind="selection", laws=["form", "class_permutation"], max_examples=20
    )
    assert [f.outcome for f in report.findings] == ["holds", "broken"]
    assert str(report) == "form                holds\nclass_permutation   broken"


def test_a_number_of_classes_that_is_told_may_be_refused():
    def two_only(probs):
        if probs.shape[-1] != 2:
            raise ValueError("two classes")
        return probs.argmax(-1), torch.ones(len(probs))

    report = examine_labeling_rule(
        two_only, kind="selection", laws=["form"], num_classes=(2, 3), max_examples=5
    )
    assert report.broken == ()


def test_a_rule_that_refuses_all_but_what_it_is_asked_first():
    asked = []

    def tires(probs):
        asked.append(probs)
        if len(asked) > 3:
            raise ValueError("tired")
        return probs.argmax(-1), torch.ones(len(probs))

    with pytest.raises(LawViolation) as raised:
        check_labeling_rule(tires, kind="selection", laws=["form"])
    assert raised.value.expected == "a rule that answers"
    assert raised.value.got.startswith("it refused every case; say what it takes")


def test_reasons_name_the_kinds_of_rules():
    rule = LabelingRule(function=len, kind="mask", ties="any")
    assert LAWS["ties"].reason(rule) == "ties are broken in any way"
    rule = LabelingRule(function=len, kind="mask")
    assert LAWS["quota"].reason(rule) == "needs count= or at_most="
    assert LAWS["ties"].reason(rule) == "in the law 'literal'"
    assert LAWS["devices"].reason(rule) == (None if torch.cuda.is_available() else "no CUDA device")


# --- the parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beyond", "must", "may"),
    [(-1e-3, False, False), (-1e-9, False, True), (0.0, False, False), (1e-9, False, True)],
)
def test_a_hair_beside_the_threshold_both_answers_are_right(beyond, must, may):
    top = 0.9 + beyond
    probs = torch.tensor([[1 - top, top]], dtype=torch.float64)
    targets, verdict = literal_selection(probs, 0.9, strict=True)
    assert targets.tolist() == [1]
    assert (verdict.must.tolist(), verdict.may.tolist()) == ([must], [may])


def test_numbers_beyond_a_dtype_are_not_compared_in_it():
    rule = LabelingRule(function=lambda features, labels: labels >= 0, kind="mask")
    case = Case(1, features=torch.full((2, 2), 1e6), labels=torch.zeros(2, dtype=torch.int64))
    assert by_name.dtypes(rule, case, torch.bfloat16)
    assert not by_name.dtypes(rule, case, torch.float16)


@pytest.mark.parametrize("backwards", [False, True])
def test_nudging_moves_by_a_trace_in_order(backwards):
    probs = torch.full((3, 2), 0.5, dtype=torch.float64)
    moved = nudged(probs, backwards).flatten()
    order = moved.flip(0) if backwards else moved
    assert (order.diff() < 0).all()
    assert ((moved - 0.5).abs() < 1e-4).all()


@pytest.mark.parametrize("backwards", [False, True])
def test_sharpened_rows_are_surer_in_order_and_their_ties_likelier(backwards):
    probs = torch.tensor([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2]], dtype=torch.float64)
    first, second = sharpened(probs, backwards).flip(0, 1) if backwards else sharpened(probs, False)
    likelier, equal = (1, 2) if backwards else (0, 1)
    assert first[likelier] > first[equal]
    assert second[likelier] > second[equal]
    assert first.std() > second.std()
    assert (first.sum() - 1).abs() < 1e-9
    assert (sharpened(probs, backwards) - probs).abs().max() < 1e-3


def test_rows_are_distinct_on_different_lines():
    def case(*rows):
        return Case(2, features=torch.tensor(rows), labels=torch.zeros(len(rows)).long())

    assert not case([1.0, 2.0], [-1.0, -2.0]).is_distinct("cosine", 1e-3)
    assert case([1.0, 2.0], [-1.0, -2.0]).is_distinct("euclidean", 1e-3)
    for metric in ("cosine", "euclidean"):
        assert not case([1.0, 2.0], [1.0, 2.0]).is_distinct(metric, 1e-3)
        assert case([1.0, 2.0], [1.0, 2.0]).is_distinct(metric, 1e-3, keep_ties=True)
    assert not case([1.0, 2.0], [2.0, 4.0]).is_distinct("cosine", 1e-3)
    assert case([1.0, 2.0], [2.0, 4.0]).is_distinct("euclidean", 1e-3)


def test_moved_probabilities_keep_their_sum_in_every_head():
    probs = torch.rand(3, 4, 5, dtype=torch.float64).softmax(-1)
    moved = Case(5, probs=probs).moved(None, 0, 1, 1e-3).probs
    assert not torch.equal(moved, probs)
    torch.testing.assert_close(moved.sum(-1), torch.ones(3, 4, dtype=torch.float64))


def test_a_case_moves_in_opposite_directions():
    seen = []

    def rule(features, labels):
        seen.append(features.clone())
        return labels >= 0

    case = Case(2, features=torch.randn(5, 3), labels=torch.arange(5) % 2)
    assert LabelingRule(function=rule, kind="mask", metric="euclidean").is_clear(case)
    assert len(seen) == 9
    for plus, minus in zip(seen[1::2], seen[2::2], strict=True):
        assert not torch.equal(plus, minus)
        torch.testing.assert_close((plus + minus) / 2, case.features)


def test_the_literal_mask_knows_products_and_ties():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.5], [-0.5, 0.1]])
    labels = torch.tensor([0, 1, 0, 0])
    options = {"k": 1, "threshold": 0.5, "strict": True, "include_self": False, "ties": "lowest"}
    verdict = literal_mask(rows, labels, metric="dot", **options)
    # By products the third row is the nearest of all others, and the second of it.
    assert verdict.must.tolist() == verdict.may.tolist() == [True, False, False, True]
    verdict = literal_mask(rows, labels, metric="euclidean", **options)
    assert verdict.must.tolist() == [False, False, False, True]

    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    verdict = literal_mask(corners, torch.tensor([0, 0, 1]), metric="euclidean", **options)
    assert (verdict.must[0], verdict.may[0]) == (False, True)  # two rows are as near
    twins = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    verdict = literal_mask(twins, torch.tensor([0, 0, 1]), metric="euclidean", **options)
    assert (verdict.must[0], verdict.may[0]) == (True, True)  # the first of equal ones


def test_ties_do_not_decide_how_many_are_chosen():
    one, two = (
        Answer("selection", torch.tensor([0, 0, 1]), torch.tensor(weights, dtype=torch.float64))
        for weights in ([0, 1, 0], [1, 1, 0])
    )
    assert not breaks_ties(SELECTED, one, two, backwards=False)
    three = two._replace(weights=one.weights.roll(-1))
    assert breaks_ties(SELECTED, one, three, backwards=False)


def test_more_than_16_samples_may_be_equal_and_of_one_class():
    def crowded(drawn):
        counts = drawn[0].probs.unique(dim=0, return_counts=True)[1]
        return counts.max() > 16 and len(drawn[0].probs.argmax(-1).unique()) > 1

    rule = LabelingRule(function=len, kind="selection")
    quick = settings(max_examples=300, derandomize=True, database=None)
    find(tied_samples(rule, Domain({2: 1, 3: 1}, (2, 2), None)), crowded, settings=quick)
    for size in (1, 5, 20):
        drawn = find(
            tied_samples(rule, Domain({2: 1}, (2, 2), size)),
            lambda drawn, size=size: drawn[0].num_samples >= size,
            settings=quick,
        )
        assert drawn[0].num_samples == size


@pytest.mark.parametrize("backwards", [False, True])
def test_of_equal_samples_the_promised_one_is_first(backwards):
    case = Case(2, probs=torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.75, 0.25]]))
    for chosen, wrong in (([1, 0, 0], backwards), ([0, 0, 1], not backwards), ([1, 1, 1], False)):
        rule = LabelingRule(
            function=select([0, 1, 0], [float(x) for x in chosen]), kind="selection"
        )
        answer = rule(case)
        if wrong:
            with pytest.raises(LawViolation, match="samples 0 and 2 are equal"):
                equal_samples_in_order(rule, case, answer, backwards)
        else:
            equal_samples_in_order(rule, case, answer, backwards)


def test_many_equal_neighbours_may_carry_different_labels():
    def divided(drawn):
        _, places, counts = drawn[0].features.unique(dim=0, return_inverse=True, return_counts=True)
        kinds = [len(drawn[0].labels[places == place].unique()) for place in range(len(counts))]
        return counts.max() > 16 and len(kinds) > 2 and set(kinds) == {3}

    rule = LabelingRule(function=len, kind="mask", k=3, threshold=0.5)
    edge = at_the_edge(rule, Domain({2: 4}, (2, 2), None))
    assert find(
        edge, divided, settings=settings(max_examples=2000, derandomize=True, database=None)
    )


@settings(max_examples=400)
@given(
    at_the_edge(
        LabelingRule(function=len, kind="selection", threshold=0.9), Domain({3: 4}, (2, 2), None)
    )
)
def test_at_the_edge_of_a_threshold_lie_probabilities(drawn):
    probs = drawn[0].probs.double()
    assert ((probs >= 0) & (probs <= 1)).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(len(probs)).double(), atol=1e-3, rtol=0)


def test_some_of_many_samples_are_unlabelled():
    rule = LabelingRule(function=len, kind="mask", k=3, threshold=0.5)
    found = find(
        at_the_edge(rule, Domain({3: 4}, (2, 2), None)),
        lambda drawn: drawn[0].num_samples > 100,
        settings=settings(max_examples=300, derandomize=True, database=None),
    )
    assert set(found[0].labels.tolist()) == {-1, 0, 1}


@pytest.mark.parametrize("length", [2.0**-12, 1.0, 3000.0])
def test_offsets_are_as_long_as_the_shortest_row_or_some_hundred_times(length):
    """Longer ones, and float32 would lose the rows; shorter ones, and nothing would move."""
    features = length * torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    case, rule = Case(2, features=features), LabelingRule(function=len, kind="labels")

    @settings(max_examples=200, derandomize=True, database=None)
    @given(st.composite(lambda draw: an_offset(draw, rule, case))())
    def bounded(drawn):
        (offset,) = drawn
        steps = torch.tensor(offset, dtype=torch.float64).abs()
        least = steps[steps > 0].min() if steps.any() else length
        assert length / 2 < least
        assert steps.max() <= 500 * length

    bounded()


@settings(max_examples=20)
@given(many_samples(LabelingRule(function=len, kind="selection"), Domain({200: 1}, (2, 2), None)))
def test_shares_of_many_classes_make_no_large_case(drawn):
    assert drawn[0].num_samples <= 600


@given(probabilities(4, 1, styles=["near_ties"]))
def test_no_probability_is_above_1(probs):
    assert (probs <= 1).all()


@settings(max_examples=60)
@given(
    st.integers(2, 5).flatmap(
        lambda most: st.tuples(st.just(most), cases("labels", {2: 2}, largest=most))
    )
)
def test_no_case_is_larger_than_the_rule_takes(drawn):
    most, case = drawn
    assert 2 <= case.num_samples <= most
