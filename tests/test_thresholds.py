"""FixMatch's fixed and FreeMatch's self-adaptive threshold: rules, boundaries, state, ranks."""

import copy
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles_losses as oracle
import pytest
import threshold_ranks
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, gaussian, probabilities, seeds
from threshold_ranks import STEPS, step_rows, threshold
from torch import nn
from torch.testing import assert_close

import pseudolabel
from pseudolabel import FixedThreshold, Selection, SelfAdaptiveThreshold

COMPARED_IN = {torch.float64: torch.float64}  # every other dtype is compared in float32

both_rules = pytest.mark.parametrize(
    "make",
    [FixedThreshold, lambda **options: SelfAdaptiveThreshold(3, **options)],
    ids=["fixed", "adaptive"],
)


def softmax_rows(seed, batch=6, classes=3, dtype=torch.float64):
    return (2 * gaussian(seed, batch, classes)).softmax(-1).to(dtype)


def at(threshold, dtype):
    """A threshold as the operator sees it beside probabilities of this dtype."""
    return torch.tensor(threshold, dtype=COMPARED_IN.get(dtype, torch.float32)).item()


def check_selection(selection, expected, dtype):
    targets, kept = expected
    assert isinstance(selection, Selection)
    assert selection.targets.dtype == torch.int64
    assert selection.targets.tolist() == targets
    assert selection.weights.dtype == dtype
    assert selection.weights.tolist() == [float(k) for k in kept]


def adaptive(mean_confidence, mean_probs, **options):
    """A self-adaptive threshold in eval mode with the statistics given."""
    module = SelfAdaptiveThreshold(len(mean_probs), **options).eval()
    module.mean_confidence.fill_(mean_confidence)
    module.mean_probs.copy_(torch.tensor(mean_probs))
    return module


# --- FixMatch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
def test_fixed_threshold_equals_the_reference(dtype, data):
    batch, classes = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 4))
    probs = data.draw(probabilities(batch, classes)).to(dtype)
    threshold = data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.7, 0.95, 1.0]))
    strict = data.draw(st.booleans())
    expected = oracle.fixed_threshold(probs.tolist(), at(threshold, dtype), strict=strict)
    check_selection(FixedThreshold(threshold, strict=strict)(probs), expected, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.95, 0.9, 0.29, 0.7, 1 / 3, 0.0, 1.0])
def test_a_probability_exactly_at_the_threshold(threshold, dtype):
    top = torch.tensor(threshold, dtype=dtype)
    above, below = torch.nextafter(top, top + 1), torch.nextafter(top, top - 1)
    probs = torch.stack([below, top, above]).clamp(0, 1)[:, None]
    loose = FixedThreshold(threshold)(probs).weights
    strict = FixedThreshold(threshold, strict=True)(probs).weights
    assert loose.tolist() == (probs[:, 0] >= top).to(dtype).tolist()
    assert strict.tolist() == (probs[:, 0] > top).to(dtype).tolist()
    assert loose[1] == 1
    assert strict[1] == 0


def test_half_precision_probabilities_are_compared_as_they_are():
    # The bfloat16 nearest to 0.95 lies below it, the float16 nearest to it above.
    for dtype, passes in [(torch.bfloat16, 0.0), (torch.float16, 1.0)]:
        probs = torch.tensor([[0.95, 0.05]]).to(dtype)
        assert FixedThreshold(0.95)(probs).weights.item() == passes
        assert FixedThreshold(0.95, strict=True)(probs).weights.item() == passes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_float32_threshold_is_read_as_the_decimal_it_was_written_as(dtype):
    probs = torch.tensor([[0.95]], dtype=dtype)
    rounded = float(np.float32(0.95))
    assert rounded != 0.95
    assert FixedThreshold(rounded)(probs).weights.item() == 1
    assert FixedThreshold(rounded, strict=True)(probs).weights.item() == 0


@pytest.mark.parametrize("threshold", [1e-7, 6e-7, 0.123456789, 1 / 3, 1.0])
def test_a_threshold_is_the_number_itself(threshold):
    assert FixedThreshold(threshold).threshold == threshold


def test_fixed_threshold_defaults():
    probs = torch.tensor([[0.9499], [0.95], [0.951]])
    assert FixedThreshold()(probs).weights.tolist() == [0, 1, 1]


def test_fixed_threshold_has_nothing_to_learn():
    module = FixedThreshold()
    probs = softmax_rows(0)
    for training in (True, False):
        check_selection(
            module.train(training)(probs), oracle.fixed_threshold(probs.tolist()), probs.dtype
        )
    assert not list(module.parameters())


# --- FreeMatch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("strict", [False, True])
@given(st.data())
def test_adaptive_threshold_equals_the_reference(strict, data):
    classes = data.draw(st.integers(1, 4))
    momentum = data.draw(st.sampled_from([0.0, 0.5, 0.9, 0.999]))
    module = SelfAdaptiveThreshold(classes, momentum=momentum, strict=strict)
    reference = oracle.SelfAdaptiveThreshold(classes, momentum, strict=strict)
    for training in data.draw(st.lists(st.booleans(), min_size=1, max_size=5)):
        probs = softmax_rows(data.draw(seeds), data.draw(st.integers(0, 5)), classes)
        selection = module.train(training)(probs)
        targets, kept = reference(probs.tolist(), training=training)
        assert_close(module.mean_confidence.item(), reference.mean_confidence, rtol=1e-6, atol=0)
        assert_close(module.mean_probs.tolist(), reference.mean_probs, rtol=1e-6, atol=1e-7)
        assert_close(module.thresholds.tolist(), reference.thresholds, rtol=2e-6, atol=1e-7)
        # Float32 statistics decide as float64 ones do, but for a probability at its threshold.
        bars = torch.tensor(reference.thresholds, dtype=torch.float64)[selection.targets]
        clear = (probs.amax(-1) - bars).abs() > 1e-5
        assert selection.targets.tolist() == targets
        kept = torch.tensor(kept, dtype=torch.float64)
        assert torch.equal(selection.weights[clear], kept[clear])


def test_statistics_start_at_one_over_the_number_of_classes():
    module = SelfAdaptiveThreshold(8)
    assert module.mean_confidence.shape == ()
    assert module.mean_confidence.item() == 0.125
    assert module.mean_probs.tolist() == [0.125] * 8
    assert module.thresholds.tolist() == [0.125] * 8
    assert module.mean_confidence.dtype == module.mean_probs.dtype == torch.float32


def test_one_update_worked_by_hand():
    module = SelfAdaptiveThreshold(2, momentum=0.5)
    module(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
    assert_close(module.mean_confidence, torch.tensor(0.65))
    assert_close(module.mean_probs, torch.tensor([0.55, 0.45]))
    assert_close(module.thresholds, torch.tensor([0.65, 0.65 * 9 / 11]))


def test_momentum_is_the_share_that_stays():
    module = SelfAdaptiveThreshold(2)
    module(torch.tensor([[1.0, 0.0]]))
    assert module.mean_confidence.item() == pytest.approx(0.5 + 0.001 * 0.5, rel=1e-6)
    assert module.mean_probs.tolist() == pytest.approx([0.5005, 0.4995], rel=1e-6)


def test_it_updates_before_it_selects():
    # At the start the threshold is 1/2 and 0.6 passes; this batch moves it above 0.6.
    module = SelfAdaptiveThreshold(2, momentum=0.0)
    probs = torch.tensor([[0.6, 0.4], [1.0, 0.0]])
    assert module(probs).weights.tolist() == [0, 1]
    assert SelfAdaptiveThreshold(2).eval()(probs).weights.tolist() == [1, 1]


def test_each_class_has_its_own_threshold():
    module = adaptive(0.8, [0.5, 0.25])
    probs = torch.tensor([[0.7, 0.3], [0.3, 0.7], [0.9, 0.1], [0.65, 0.35]])
    assert module(probs).weights.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_probability_exactly_at_its_adaptive_threshold(dtype):
    # Powers of two: the thresholds are 0.75 and 0.375 exactly.
    probs = torch.tensor([[0.75, 0.25], [0.25, 0.375], [0.74, 0.26], [0.24, 0.376]], dtype=dtype)
    loose = adaptive(0.75, [0.5, 0.25])
    strict = adaptive(0.75, [0.5, 0.25], strict=True)
    assert loose(probs).weights.tolist() == [1, 1, 0, 1]
    assert strict(probs).weights.tolist() == [0, 0, 0, 1]


def test_eval_mode_only_selects():
    module = SelfAdaptiveThreshold(3, momentum=0.5)
    module(softmax_rows(1))
    before = copy.deepcopy(module.state_dict())
    module.eval()(softmax_rows(2))
    assert_close(module.state_dict(), before, rtol=0, atol=0)


def test_an_empty_batch_changes_nothing():
    module = SelfAdaptiveThreshold(3, momentum=0.5)
    module(softmax_rows(3, dtype=torch.float32))
    before = copy.deepcopy(module.state_dict())
    selection = module(torch.zeros(0, 3))
    assert selection.targets.shape == selection.weights.shape == (0,)
    assert_close(module.state_dict(), before, rtol=0, atol=0)


def test_no_class_ever_predicted_is_still_finite():
    module = SelfAdaptiveThreshold(3, momentum=0.0)
    for _ in range(3):
        selection = module(torch.tensor([[1.0, 0.0, 0.0]]))
    assert module.thresholds.tolist() == [1, 0, 0]
    assert selection.weights.tolist() == [1]


def test_no_probability_at_all_is_a_threshold_of_zero():
    module = SelfAdaptiveThreshold(3, momentum=0.0)
    selection = module(torch.zeros(2, 3))  # rows need not sum to 1
    assert module.thresholds.tolist() == [0, 0, 0]
    assert selection.weights.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("convert", ["method", "to", "parent"])
def test_statistics_stay_float32_in_a_half_precision_model(dtype, convert):
    module = SelfAdaptiveThreshold(3)
    if convert == "to":
        module.to(dtype)
    elif convert == "method":
        module.bfloat16() if dtype == torch.bfloat16 else module.half()
    else:
        nn.Sequential(nn.Linear(2, 3), module).to(dtype)
    reference = oracle.SelfAdaptiveThreshold(3)
    for seed in range(20):
        probs = softmax_rows(seed, dtype=dtype)
        assert module(probs).weights.dtype == dtype
        reference(probs.tolist(), training=True)
    assert module.mean_confidence.dtype == module.mean_probs.dtype == torch.float32
    assert_close(module.mean_confidence.item(), reference.mean_confidence, rtol=1e-5, atol=0)
    assert_close(module.mean_probs.tolist(), reference.mean_probs, rtol=1e-5, atol=0)


def test_conversion_to_half_keeps_every_bit_of_the_statistics():
    module = SelfAdaptiveThreshold(3)
    module(softmax_rows(4, dtype=torch.float32))
    before = copy.deepcopy(module.state_dict())
    assert_close(module.bfloat16().state_dict(), before, rtol=0, atol=0)
    assert_close(module.half().state_dict(), before, rtol=0, atol=0)


# --- both ----------------------------------------------------------------------------------------


@both_rules
def test_ties_go_to_the_lowest_class(make):
    probs = torch.tensor([[0.2, 0.4, 0.4], [0.4, 0.4, 0.2], [0.4, 0.2, 0.4]] * 50)
    assert make()(probs).targets.tolist() == [1, 0, 0] * 50


@both_rules
def test_no_gradient_flows_through_a_selection(make):
    probs = softmax_rows(5).requires_grad_()
    module = make()
    selection = module(probs)
    assert not selection.weights.requires_grad
    assert not any(buffer.requires_grad for buffer in module.buffers())


@both_rules
@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "state_dict", "torch.save"])
def test_a_copy_goes_on_as_the_original(make, copied):
    module = make()
    module(softmax_rows(6))
    if copied == "deepcopy":
        clone = copy.deepcopy(module)
    elif copied == "pickle":
        clone = pickle.loads(pickle.dumps(module))
    else:
        state = module.state_dict()
        if copied == "torch.save":
            file = io.BytesIO()
            torch.save(state, file)
            file.seek(0)
            state = torch.load(file, weights_only=True)
        clone = make()
        clone.load_state_dict(state)
    probs = softmax_rows(7)
    assert_close(clone(probs), module(probs), rtol=0, atol=0)
    assert_close(clone.state_dict(), module.state_dict(), rtol=0, atol=0)


def test_the_statistics_are_saved():
    module = SelfAdaptiveThreshold(3)
    assert set(module.state_dict()) == {"mean_confidence", "mean_probs"}


def test_an_update_writes_into_the_registered_buffers():
    module = SelfAdaptiveThreshold(3)
    buffers = dict(module.named_buffers())
    with torch.inference_mode():
        module(softmax_rows(8))
    module(softmax_rows(9))  # a buffer made in inference mode could not be updated here
    assert all(buffers[name] is buffer for name, buffer in module.named_buffers())


@both_rules
@pytest.mark.parametrize(("strict", "training"), [(False, True), (True, False)])
def test_compiled_in_one_graph_equals_eager(make, strict, training):
    torch.compiler.reset()
    module, eager = make(strict=strict).train(training), make(strict=strict).train(training)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for batch in (5, 8):
        probs = softmax_rows(10, batch, dtype=torch.float32)
        probs[0] = probs[1]
        assert_close(compiled(probs), eager(probs), rtol=0, atol=0)
    assert_close(module.state_dict(), eager.state_dict(), rtol=1e-6, atol=1e-7)


@both_rules
def test_autocast_changes_nothing(make):
    probs = softmax_rows(11, dtype=torch.float32)
    module, other = make(), make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = module(probs)
    assert_close(inside, other(probs), rtol=0, atol=0)
    assert_close(module.state_dict(), other.state_dict(), rtol=0, atol=0)


# --- ranks ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two gloo processes computed."""
    folder = tmp_path_factory.mktemp("ranks")
    outputs = [folder / f"rank{rank}.pt" for rank in range(2)]
    package = Path(pseudolabel.__file__).parent.parent
    processes = [
        subprocess.Popen(
            [sys.executable, threshold_ranks.__file__, str(rank), folder / "store", output],
            env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return [torch.load(output) for output in outputs]


def test_two_processes_agree_with_one_on_the_joint_batch(ranks):
    module = threshold()
    for step, sizes in enumerate(STEPS):
        joint = module(torch.cat([step_rows(step, rank) for rank in range(2)]))
        for rank, rows in enumerate([slice(None, sizes[0]), slice(sizes[0], None)]):
            selection, default, explicit = ranks[rank][0][step]
            assert_close(default, dict(module.state_dict()), rtol=1e-6, atol=1e-7)
            assert_close(explicit, default, rtol=0, atol=0)
            assert torch.equal(selection[0], joint.targets[rows])
            assert torch.equal(selection[1], joint.weights[rows])


def test_the_ranks_hold_the_same_bits(ranks):
    for (_, first, _), (_, second, _) in zip(ranks[0][0], ranks[1][0], strict=True):
        assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_group_of_one_rank_sees_only_its_own_batches(ranks, rank):
    module = threshold()
    for step in range(len(STEPS)):
        module(step_rows(step, rank))
    assert_close(ranks[rank][1], dict(module.state_dict()), rtol=1e-6, atol=1e-7)


def test_a_module_prints_its_options():
    shown = "FixedThreshold(threshold=0.95, strict=False)"
    assert repr(FixedThreshold()) == shown
    shown = "SelfAdaptiveThreshold(7, momentum=0.999, strict=True)"
    assert repr(SelfAdaptiveThreshold(7, strict=True)) == shown
