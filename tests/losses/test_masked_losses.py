"""The laws that every loss over labelled entries obeys, in every mode."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_cases import LOSSES, Problem, make_problem, problems
from strategies import DTYPES, HEADS
from torch.testing import assert_close

import pseudolabel as pl

REDUCTIONS = ("none", "mean", "sum")
TIGHT = {"rtol": 1e-10, "atol": 1e-12}

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def value_and_gradient(loss, problem, **options):
    """The loss, reduced, and the gradient of its total with respect to the inputs."""
    leaf = problem.leaf()
    value = loss(leaf, **options)
    value.sum().backward()
    return value.detach(), leaf.inputs.grad


def joined(first, second):
    """Two problems as one batch."""
    inputs = torch.cat([first.inputs, second.inputs], -2)
    return Problem(
        inputs, *(torch.cat(pair, -1) for pair in zip(first[1:], second[1:], strict=True))
    )


# --- values --------------------------------------------------------------------------------------


@every_loss
@given(st.data())
def test_every_reduction_equals_the_reference(loss, data):
    problem = data.draw(problems(loss))
    expected = loss.expected(problem)
    assert_close(loss(problem, reduction="none"), expected, **TIGHT)
    assert_close(loss(problem, reduction="sum"), expected.sum(-1), **TIGHT)
    mean = expected.sum(-1) / loss.divisor(problem)
    assert_close(loss(problem, reduction="mean"), mean, **TIGHT)


@every_loss
def test_mean_is_the_default(loss):
    problem = make_problem(loss, 0, (2,))
    assert torch.equal(loss(problem), loss(problem, reduction="mean"))


@every_loss
@pytest.mark.parametrize("heads", HEADS)
def test_shapes_keep_the_heads(loss, heads):
    problem = make_problem(loss, 1, heads, batch=5)
    assert loss(problem, reduction="none").shape == (*heads, 5)
    assert loss(problem, reduction="mean").shape == heads
    assert loss(problem, reduction="sum").shape == heads


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
def test_half_precision_in_float32_inside(loss, dtype):
    accuracy = torch.finfo(dtype).eps if dtype.itemsize < 4 else 1e-5
    for heads in HEADS:
        problem = make_problem(loss, 2, heads, batch=9, dtype=dtype)
        expected = loss.expected(problem)
        for reduction, reference in [
            ("none", expected),
            ("sum", expected.sum(-1)),
            ("mean", expected.sum(-1) / loss.divisor(problem)),
        ]:
            value = loss(problem, reduction=reduction)
            assert value.dtype == dtype
            assert_close(value.double(), reference, rtol=accuracy, atol=2e-6)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_do_not_drift(loss, dtype):
    problem = make_problem(loss, 3, batch=1500, classes=3, ignored=0.0, dtype=dtype)
    value = loss(problem, reduction="mean").double()
    exact = loss(problem.to(torch.float64), reduction="mean")
    assert_close(value, exact, rtol=torch.finfo(dtype).eps, atol=2e-6)


@every_loss
def test_constants_may_have_another_precision(loss):
    problem = make_problem(loss, 4, (2,), dtype=torch.bfloat16)
    mixed = problem._replace(constants=problem.constants.float())
    value = loss(mixed, reduction="none")
    assert value.dtype == torch.bfloat16
    assert_close(value.double(), loss.expected(mixed), rtol=2**-7, atol=2e-6)


# --- masks ---------------------------------------------------------------------------------------


@every_loss
@given(st.data())
def test_masked_loss_is_the_loss_of_the_kept_subset(loss, data):
    problem = data.draw(problems(loss, heads=st.just(())))
    kept = problem.entries(problem.labels >= 0)
    value, gradient = value_and_gradient(loss, problem, reduction="sum")
    value_kept, gradient_kept = value_and_gradient(loss, kept, reduction="sum")
    assert_close(value, value_kept, **TIGHT)
    assert_close(gradient[problem.labels >= 0], gradient_kept, **TIGHT)
    assert gradient[problem.labels < 0].eq(0).all()


@every_loss
@every_reduction
@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_an_extra_ignored_row_may_hold_anything(loss, reduction, junk):
    problem = make_problem(loss, 5, (2,), batch=6)
    row = Problem(
        torch.full((2, 1, 4), junk, dtype=torch.float64),
        torch.full((2, 1), -1),
        torch.full((2, 1), junk, dtype=torch.float64),
        problem.sample_ids[:, :1],
    )
    value, gradient = value_and_gradient(loss, problem, reduction=reduction)
    longer, longer_gradient = value_and_gradient(loss, joined(problem, row), reduction=reduction)
    share = 6 / 7 if loss.whole_batch and reduction == "mean" else 1.0
    if reduction == "none":
        assert longer[:, 6].eq(0).all()
        longer = longer[:, :6]
    assert_close(longer, share * value, **TIGHT)
    assert_close(longer_gradient[:, :6], share * gradient, **TIGHT)
    assert longer_gradient[:, 6].eq(0).all()


@every_loss
@every_reduction
@pytest.mark.parametrize("junk", [None, torch.nan])
def test_nothing_to_learn_from_is_exactly_zero_with_a_live_graph(loss, reduction, junk):
    for heads in HEADS:
        problem = make_problem(loss, 6, heads, ignored=1.1)
        if junk is not None:
            problem.inputs.fill_(junk)
        leaf = problem.leaf()
        value = loss(leaf, reduction=reduction)
        assert value.requires_grad
        assert value.eq(0).all()
        value.sum().backward()
        assert leaf.inputs.grad.eq(0).all()


@every_loss
@every_reduction
@pytest.mark.parametrize("heads", HEADS)
def test_an_empty_batch_is_zero_with_a_live_graph(loss, reduction, heads):
    for dtype in DTYPES:
        leaf = make_problem(loss, 7, heads, batch=0, dtype=dtype).leaf()
        value = loss(leaf, reduction=reduction)
        assert value.shape == ((*heads, 0) if reduction == "none" else heads)
        assert value.dtype == dtype
        assert value.eq(0).all()
        value.sum().backward()
        assert leaf.inputs.grad.shape == leaf.inputs.shape


@every_loss
def test_one_head_without_labels_leaves_the_others_alone(loss):
    problem = make_problem(loss, 8, (3,), ignored=0.0)
    problem.labels[1] = -1
    value, gradient = value_and_gradient(loss, problem)
    assert value[1] == 0
    assert gradient[1].eq(0).all()
    for head in (0, 2):
        alone, alone_gradient = value_and_gradient(loss, problem.head(head))
        assert_close(value[head], alone, **TIGHT)
        assert_close(gradient[head], alone_gradient, **TIGHT)


@every_loss
@every_reduction
@pytest.mark.parametrize("ignore_index", [2, 0, -100, 99])
def test_ignore_index_is_honoured_besides_minus_one(loss, reduction, ignore_index):
    problem = make_problem(loss, 9, (2,), batch=12)
    problem.labels[:, :2] = ignore_index
    assert (problem.labels == -1).any()
    unlabelled = torch.where(problem.labels == ignore_index, -1, problem.labels)
    value, gradient = value_and_gradient(
        loss, problem, reduction=reduction, ignore_index=ignore_index
    )
    expected, expected_gradient = value_and_gradient(
        loss, problem._replace(labels=unlabelled), reduction=reduction
    )
    assert_close(value, expected, **TIGHT)
    assert_close(gradient, expected_gradient, **TIGHT)


# --- symmetries ----------------------------------------------------------------------------------


@every_loss
@given(st.data(), st.sampled_from(REDUCTIONS))
def test_heads_together_are_heads_apart(loss, data, reduction):
    problem = data.draw(problems(loss, heads=st.just((2, 2)), min_batch=1))
    value, gradient = value_and_gradient(loss, problem, reduction=reduction)
    for head in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        alone, alone_gradient = value_and_gradient(loss, problem.head(head), reduction=reduction)
        assert_close(value[head], alone, **TIGHT)
        assert_close(gradient[head], alone_gradient, **TIGHT)


@every_loss
@given(st.data())
def test_the_order_of_the_batch_does_not_matter(loss, data):
    problem = data.draw(problems(loss))
    order = torch.tensor(data.draw(st.permutations(range(problem.labels.shape[-1]))), dtype=int)
    shuffled = problem.entries(order)
    assert_close(
        loss(shuffled, reduction="none"), loss(problem, reduction="none")[..., order], **TIGHT
    )
    assert_close(loss(shuffled), loss(problem), **TIGHT)


@every_loss
@given(st.data())
def test_the_names_of_the_classes_do_not_matter(loss, data):
    problem = data.draw(problems(loss))
    names = torch.tensor(data.draw(st.permutations(range(problem.inputs.shape[-1]))))
    renamed = problem._replace(
        inputs=problem.inputs[..., names.argsort()],
        labels=torch.where(problem.labels < 0, -1, names[problem.labels]),
    )
    assert_close(loss(renamed, reduction="none"), loss(problem, reduction="none"), **TIGHT)


@every_loss
def test_memory_layout_does_not_matter(loss):
    problem = make_problem(loss, 10, (3,), batch=6)
    strided = Problem(
        problem.inputs.transpose(0, 2).contiguous().transpose(0, 2),
        *(x.T.contiguous().T for x in problem[1:]),
    )
    assert not strided.inputs.is_contiguous()
    assert_close(loss(strided, reduction="none"), loss(problem, reduction="none"), **TIGHT)


@every_loss
def test_expanded_inputs_are_taken(loss):
    problem = make_problem(loss, 11, batch=6)
    expanded = Problem(problem.inputs.expand(3, 6, 4), *(x.expand(3, 6) for x in problem[1:]))
    assert_close(loss(expanded), loss(problem).expand(3), **TIGHT)


# --- gradients -----------------------------------------------------------------------------------


@every_loss
@every_reduction
@pytest.mark.parametrize("heads", [(), (2,)])
def test_gradient_is_the_slope(loss, reduction, heads):
    problem = make_problem(loss, 12, heads, batch=5, classes=3)
    assert (problem.labels >= 0).any()
    leaf = problem.leaf()
    assert torch.autograd.gradcheck(
        lambda inputs: loss(leaf._replace(inputs=inputs), reduction=reduction), leaf.inputs
    )


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
def test_predictions_get_a_gradient_and_constants_do_not(loss, dtype):
    problem = make_problem(loss, 13, (2,), ignored=0.0, dtype=dtype).leaf()
    problem.constants.requires_grad_()
    loss(problem).sum().backward()
    assert problem.inputs.grad.dtype == dtype
    assert problem.inputs.grad.ne(0).any()
    assert problem.constants.grad is None


@every_loss
def test_no_graph_without_a_leaf(loss):
    assert not loss(make_problem(loss, 14)).requires_grad


@every_loss
def test_arguments_are_left_as_they_were(loss):
    problem = make_problem(loss, 15, (2,))
    copies = [x.clone() for x in problem]
    value_and_gradient(loss, problem)
    assert all(torch.equal(x, copy) for x, copy in zip(problem, copies, strict=True))


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_inputs_stay_finite(loss, dtype):
    classes = 5
    eye = torch.eye(classes, dtype=dtype)
    # Sure and right, sure and wrong, opposite signs, all equal.
    inputs = eye.repeat(3, 1) if loss.takes_probs else torch.cat([1e4 * eye, -1e4 * eye, 0 * eye])
    labels = torch.cat([torch.arange(classes), torch.arange(classes), torch.zeros(classes)]).long()
    constants = torch.linspace(0, 1, 15, dtype=dtype)
    problem = Problem(inputs, labels, constants, torch.arange(15))
    for reduction in REDUCTIONS:
        value, gradient = value_and_gradient(loss, problem, reduction=reduction)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
    assert_close(
        loss(problem, reduction="none").double(),
        loss.expected(problem),
        rtol=max(torch.finfo(dtype).eps, 1e-5),
        atol=2e-6,
    )


@every_loss
def test_one_class_is_finite(loss):
    problem = make_problem(loss, 16, classes=1, ignored=0.0)
    value, gradient = value_and_gradient(loss, problem, reduction="none")
    assert_close(value, loss.expected(problem), **TIGHT)
    assert gradient.isfinite().all()


# --- contexts ------------------------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(loss, dtype):
    problem = make_problem(loss, 17, (2,), batch=16, dtype=dtype)
    value, gradient = value_and_gradient(loss, problem, reduction="none")
    leaf = problem.leaf()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(leaf, reduction="none")
    inside.sum().backward()
    assert inside.dtype == value.dtype
    assert_close(inside, value, rtol=1e-6, atol=1e-6)
    assert_close(leaf.inputs.grad, gradient, rtol=1e-6, atol=1e-6)


@every_loss
def test_compiled_in_one_graph_equals_eager(loss):
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    problem = make_problem(loss, 18, (2,), dtype=torch.float32)
    problem.inputs[problem.labels < 0] = torch.nan
    leaf, eager_leaf = problem.leaf(), problem.leaf()
    value, eager = compiled(leaf), loss(eager_leaf)
    assert_close(value, eager, rtol=1e-6, atol=1e-6)
    value.sum().backward()
    eager.sum().backward()
    assert_close(leaf.inputs.grad, eager_leaf.inputs.grad, rtol=1e-5, atol=1e-6)


COMPILED_TWICE = [
    loss for loss in LOSSES if loss.name.endswith(("softmax", "weights", "everything"))
]


@pytest.mark.parametrize("loss", COMPILED_TWICE, ids=lambda loss: loss.name)
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_compiled_for_any_batch_equals_eager(loss, reduction):
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (6, 9):
        problem = make_problem(loss, 19, batch=batch, dtype=torch.float32)
        value, eager = (call(problem, reduction=reduction) for call in (compiled, loss))
        assert_close(value, eager, rtol=1e-6, atol=1e-6)


def test_a_changed_temperature_is_compiled_again():
    torch.compiler.reset()
    compiled = torch.compile(pl.soft_contrastive_loss, fullgraph=True, backend="aot_eager")
    problem = make_problem(LOSSES[-1], 20, ignored=0.0, dtype=torch.float32)
    for temperature in (0.5, 0.25, 2.0):  # the second value is compiled as a symbol
        options = {"temperature": temperature}
        value, eager = (
            call(problem.inputs, problem.labels, **options)
            for call in (compiled, pl.soft_contrastive_loss)
        )
        assert_close(value, eager, rtol=1e-6, atol=1e-6)
