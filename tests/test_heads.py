"""Batched heads against their plain copies, and the choice of one."""

import copy
import math

import oracles_losses as oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, gaussian
from torch import nn
from torch.testing import assert_close

from pseudolabel import ClusterHeads, select_head

CLOSE = {"rtol": 1e-10, "atol": 1e-12}

both_norms = pytest.mark.parametrize("norm", [None, "batch"])
both_modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def make_heads(norm=None, num_heads=3, in_features=5, num_classes=4, hidden_features=6, steps=2):
    """Float64 heads with true float64 weights that have seen a few batches."""
    torch.manual_seed(0)
    heads = ClusterHeads(
        num_heads, in_features, num_classes, hidden_features=hidden_features, norm=norm
    ).double()
    with torch.no_grad():
        for seed, parameter in enumerate(heads.parameters()):
            parameter.add_(gaussian(100 + seed, *parameter.shape), alpha=0.1)
    for seed in range(steps):
        heads(3 * gaussian(seed, 7, in_features) + 1)
    return heads


@both_norms
@both_modes
@pytest.mark.parametrize("shape", [(8, 5), (3, 8, 5), (2, 5)], ids=["shared", "each", "few"])
def test_batched_heads_equal_their_plain_copies(norm, training, shape):
    heads = make_heads(norm).train(training)
    copies = [heads.head(i).train(training) for i in range(3)]
    inputs = gaussian(10, *shape)
    logits = heads(inputs)
    assert logits.shape == (3, shape[-2], 4)
    for i, plain in enumerate(copies):
        assert_close(logits[i], plain(inputs if len(shape) == 2 else inputs[i]), **CLOSE)


def test_running_statistics_follow_those_of_the_plain_copies():
    heads = make_heads("batch")
    copies = [heads.head(i).train() for i in range(3)]
    for seed in range(4):
        inputs = 2 * gaussian(20 + seed, 3, 6, 5) - seed
        heads(inputs)
        for i, plain in enumerate(copies):
            plain(inputs[i])
    heads.eval()
    inputs = gaussian(30, 8, 5)
    for i, plain in enumerate(copies):
        assert_close(heads(inputs)[i], plain.eval()(inputs), **CLOSE)


def test_eval_mode_leaves_the_running_statistics():
    heads = make_heads("batch").eval()
    before = copy.deepcopy(heads.state_dict())
    heads(gaussian(31, 8, 5))
    assert_close(heads.state_dict(), before, rtol=0, atol=0)


@both_norms
def test_new_weights_are_those_of_new_heads(norm):
    heads = make_heads(norm).float()
    torch.manual_seed(3)
    heads.reset_parameters()
    torch.manual_seed(3)
    new = ClusterHeads(3, 5, 4, hidden_features=6, norm=norm)
    assert_close(heads.state_dict(), new.state_dict(), rtol=0, atol=0)


@both_norms
@both_modes
def test_a_head_learns_from_its_own_loss_alone(norm, training):
    heads = make_heads(norm).train(training)
    plain = heads.head(1).train(training)
    inputs = gaussian(11, 3, 8, 5)
    heads(inputs)[1].square().sum().backward()
    plain(inputs[1]).square().sum().backward()
    # Each head has its share of every parameter, head after head.
    gradients = [parameter.grad.reshape(3, -1) for parameter in heads.parameters()]
    assert all(gradient[[0, 2]].eq(0).all() for gradient in gradients)
    total = sum(gradient[1].square().sum() for gradient in gradients)
    assert_close(total, sum(p.grad.square().sum() for p in plain.parameters()), **CLOSE)


@both_norms
def test_one_step_of_descent_on_all_heads_is_one_step_on_each(norm):
    heads = make_heads(norm)
    copies = [heads.head(i).train() for i in range(3)]
    inputs = gaussian(12, 8, 5)
    for modules in ([heads], copies):
        parameters = [p for module in modules for p in module.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        logits = heads(inputs) if modules == [heads] else torch.stack([m(inputs) for m in copies])
        logits.logsumexp(-1).sum().backward()
        optimizer.step()
    heads.eval()
    for i, plain in enumerate(copies):
        assert_close(heads(inputs)[i], plain.eval()(inputs), **CLOSE)


@both_norms
def test_a_head_is_a_copy(norm):
    heads = make_heads(norm).eval()
    inputs = gaussian(13, 8, 5)
    before = heads(inputs).detach().clone()
    plain = heads.head(1)
    with torch.no_grad():
        for tensor in plain.state_dict().values():
            tensor.zero_()
    assert torch.equal(heads(inputs), before)
    again = heads.head(1).eval()
    with torch.no_grad():
        for tensor in heads.state_dict().values():
            tensor.zero_()
    assert_close(again(inputs), before[1], **CLOSE)


@both_norms
def test_a_head_is_a_plain_sequential(norm):
    plain = make_heads(norm).head(0)
    layers = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    if norm is None:
        layers.remove(nn.BatchNorm1d)
    assert type(plain) is nn.Sequential
    assert [type(layer) for layer in plain] == layers
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in plain.parameters())
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float64}


@both_norms
def test_copying_a_head_draws_no_random_number(norm):
    heads = make_heads(norm)
    before = torch.get_rng_state()
    heads.head(0)
    assert torch.equal(torch.get_rng_state(), before)


@both_norms
@both_modes
def test_a_copy_keeps_the_mode(norm, training):
    assert make_heads(norm).train(training).head(2).training is training


def test_the_hidden_width_defaults_to_the_input_width():
    layers = ClusterHeads(2, 7, 3).head(0)
    assert layers[0].weight.shape == (7, 7)
    assert layers[-1].weight.shape == (3, 7)
    layers = ClusterHeads(2, 7, 3, hidden_features=11).head(1)
    assert layers[0].weight.shape == (11, 7)
    assert layers[-1].weight.shape == (3, 11)


@both_norms
def test_init_is_that_of_a_linear_layer(norm):
    torch.manual_seed(1)
    heads = ClusterHeads(2, 400, 300, hidden_features=200, norm=norm)
    for i in range(2):
        for layer in (heads.head(i)[0], heads.head(i)[-1]):
            bound = 1 / math.sqrt(layer.in_features)
            for parameter in (layer.weight, layer.bias):
                assert parameter.abs().max() <= bound
                assert parameter.abs().max() > 0.95 * bound
                assert parameter.mean().abs() < 0.15 * bound
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_heads_start_apart():
    heads = ClusterHeads(4, 5, 3)
    first = [heads.head(i)[0].weight for i in range(4)]
    assert all(not torch.equal(first[i], first[j]) for i in range(4) for j in range(i))


def test_a_seed_decides_the_init():
    def state(seed):
        torch.manual_seed(seed)
        return ClusterHeads(2, 5, 3, norm="batch").state_dict()

    assert_close(state(3), state(3), rtol=0, atol=0)
    assert not torch.equal(*(next(iter(state(seed).values())) for seed in (3, 4)))


@both_norms
def test_state_round_trip(norm):
    heads = make_heads(norm).eval()
    other = make_heads(norm, steps=0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(heads.state_dict())
    inputs = gaussian(14, 8, 5)
    assert torch.equal(other.eval()(inputs), heads(inputs))
    assert torch.equal(copy.deepcopy(heads)(inputs), heads(inputs))


@both_norms
@pytest.mark.parametrize("dtype", DTYPES)
def test_precision_is_that_of_the_module(norm, dtype):
    heads = make_heads(norm).eval()
    expected = heads(gaussian(15, 8, 5))
    logits = heads.to(dtype)(gaussian(15, 8, 5, dtype=dtype))
    assert logits.dtype == dtype
    tolerance = {torch.bfloat16: 0.05, torch.float16: 0.01}.get(dtype, 1e-5)
    assert_close(logits.double(), expected, rtol=tolerance, atol=tolerance)


@both_norms
def test_inputs_get_a_gradient(norm):
    heads = make_heads(norm, num_heads=2, in_features=3, num_classes=2, hidden_features=4)
    heads.eval()  # batch statistics would move while the gradient is checked
    inputs = gaussian(16, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(heads, inputs)


@both_norms
def test_an_empty_batch_gives_no_logits(norm):
    heads = make_heads(norm).eval()
    assert heads(torch.zeros(0, 5, dtype=torch.float64)).shape == (3, 0, 4)
    assert heads(torch.zeros(3, 0, 5, dtype=torch.float64)).shape == (3, 0, 4)


def test_one_row_cannot_be_normalised_in_training():
    heads = make_heads("batch")
    for rows in (0, 1):
        with pytest.raises(ValueError, match=rf"^features: .*got .*\({rows}, 5\)"):
            heads.train()(gaussian(18, rows, 5))
    assert heads.eval()(gaussian(18, 1, 5)).shape == (3, 1, 4)


@both_norms
@both_modes
def test_compiled_in_one_graph_equals_eager(norm, training):
    torch.compiler.reset()
    heads = make_heads(norm).float().train(training)
    eager = copy.deepcopy(heads)
    compiled = torch.compile(heads, fullgraph=True, backend="aot_eager")
    for shape in [(6, 5), (3, 9, 5)]:
        inputs = gaussian(17, *shape, dtype=torch.float32)
        assert_close(compiled(inputs), eager(inputs), rtol=1e-5, atol=1e-5)
    assert_close(heads.state_dict(), eager.state_dict(), rtol=1e-5, atol=1e-6)


# --- the choice of a head ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ([3.0, 1.0, 2.0], 1),
        ([7.0], 0),
        ([2.0, 1.0, 1.0, 3.0], 1),
        ([1.0] * 40, 0),
        ([math.nan, 2.0, 1.0], 2),
        ([1.0, math.nan, 2.0], 0),
        ([math.nan, math.inf], 1),
        ([math.inf, 5.0], 1),
        ([math.inf, math.inf], 0),
        ([0.0, -math.inf, math.nan], 1),
        ([-0.0, 0.0], 0),
        ([0.0, -0.0], 0),
        ([-2.0, -1.0, 0.0], 0),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_smallest_loss_wins(losses, chosen, dtype):
    assert oracle.select_head(losses) == chosen
    head = select_head(torch.tensor(losses, dtype=dtype))
    assert type(head) is int
    assert head == chosen


FEW_LOSSES = st.sampled_from([0.0, 0.5, 1.0, -1.0, math.inf, -math.inf, math.nan])


@given(st.lists(FEW_LOSSES, min_size=1, max_size=8))
def test_the_choice_equals_the_reference(losses):
    if all(math.isnan(loss) for loss in losses):
        with pytest.raises(ValueError, match=r"^losses: "):
            select_head(torch.tensor(losses))
    else:
        assert select_head(torch.tensor(losses)) == oracle.select_head(losses)


def test_losses_that_carry_a_graph_can_be_compared():
    assert select_head(torch.tensor([2.0, 1.0], requires_grad=True)) == 1


def test_a_module_prints_its_sizes():
    heads = ClusterHeads(2, 3, 4, hidden_features=5)
    shown = "ClusterHeads(num_heads=2, in_features=3, num_classes=4, hidden_features=5)"
    assert repr(heads) == shown
