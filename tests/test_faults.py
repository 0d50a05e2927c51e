"""What happens when something around an operator goes wrong or is unusual: each has its answer."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from strategies import gaussian
from torch.testing import assert_close

from pseudolabel import (
    ClusterHeads,
    FixedThreshold,
    SelfAdaptiveThreshold,
    consistency_loss,
    double_softmax_cross_entropy,
    entropy_regularizer,
    label_confidence,
    nearest_prototype,
    prototype_labels,
    reliable_labels,
    reliable_mask,
    select_confident,
    soft_contrastive_loss,
)


def assert_identical(actual, expected):
    """Equal values, dtypes and devices, in tuples and dicts too."""
    assert_close(actual, expected, rtol=0, atol=0)


MODULES = {
    "threshold": lambda: SelfAdaptiveThreshold(3, momentum=0.5),
    "heads": lambda: ClusterHeads(2, 4, 3),
    "normalised heads": lambda: ClusterHeads(2, 4, 3, norm="batch"),
}
INPUTS = {"threshold": (9, 3), "heads": (9, 4), "normalised heads": (9, 4)}
every_module = pytest.mark.parametrize("name", MODULES)


def used(name):
    """A module that has seen a batch, so that its state is not the one it starts with."""
    torch.manual_seed(0)
    module = MODULES[name]()
    module(inputs(name))
    return module


def inputs(name, seed=0):
    x = gaussian(seed, *INPUTS[name], dtype=torch.float32)
    return x.softmax(-1) if name == "threshold" else x


def answer(module, name, seed=1):
    return module(inputs(name, seed))


# --- state dicts ---------------------------------------------------------------------------------


def keys(name):
    return [key for key in MODULES[name]().state_dict() if "num_batches" not in key]


ENTRIES = [(name, key) for name in MODULES for key in keys(name)]
every_entry = pytest.mark.parametrize(("name", "key"), ENTRIES, ids=lambda x: x)


@every_entry
def test_a_missing_entry_is_named(name, key):
    module, state = used(name), used(name).state_dict()
    del state[key]
    with pytest.raises(RuntimeError, match=rf'Missing key.*"{key}"'):
        module.load_state_dict(state)


@every_module
def test_an_entry_too_many_is_named(name):
    state = {**used(name).state_dict(), "more": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"more"'):
        MODULES[name]().load_state_dict(state)


@every_entry
def test_a_wrong_shape_is_named_and_changes_nothing_of_that_entry(name, key):
    module, state = used(name), used(name).state_dict()
    before = module.state_dict()[key].clone()
    state[key] = torch.zeros(*state[key].shape, 2)
    with pytest.raises(RuntimeError, match=f"size mismatch for {key}"):
        module.load_state_dict(state)
    assert_identical(module.state_dict()[key], before)


@every_module
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_another_dtype_is_converted_to_that_of_the_module(name, dtype):
    module, state = MODULES[name](), used(name).state_dict()
    module.load_state_dict(
        {k: x.to(dtype) if x.is_floating_point() else x for k, x in state.items()}
    )
    for key, x in module.state_dict().items():
        assert x.dtype == state[key].dtype
        assert_close(x, state[key], rtol=1e-2, atol=1e-2)


def test_another_number_of_classes_is_an_error():
    with pytest.raises(RuntimeError, match="size mismatch for mean_probs"):
        SelfAdaptiveThreshold(4).load_state_dict(used("threshold").state_dict())


def test_a_fixed_threshold_has_no_state_to_corrupt():
    assert not FixedThreshold().state_dict()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        FixedThreshold().load_state_dict({"threshold": torch.tensor(0.5)})


# --- devices -------------------------------------------------------------------------------------


@every_module
def test_state_moves_to_meta_and_is_filled_again(name):
    trained = used(name)
    module = MODULES[name]().to("meta").to_empty(device="cpu")
    module.load_state_dict(trained.state_dict())
    assert_identical(answer(module.eval(), name), answer(trained.eval(), name))


@every_module
def test_state_is_assigned_to_a_module_built_on_meta(name):
    with torch.device("meta"):
        module = MODULES[name]()
    assert all(x.is_meta for x in module.state_dict().values())
    trained = used(name)
    module.load_state_dict(trained.state_dict(), assign=True)
    assert_identical(answer(module.eval(), name), answer(trained.eval(), name))


@every_module
def test_saved_state_is_loaded_onto_a_named_device(name, tmp_path, device):
    torch.save(used(name).state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", map_location=device, weights_only=True)
    module = MODULES[name]().to(device)
    module.load_state_dict(state)
    assert {x.device.type for x in module.state_dict().values()} == {device.type}


def meta(*shape):
    return torch.empty(*shape, device="meta")


META = {
    "select_confident": (lambda: select_confident(meta(9, 3), 2), (3, 2)),
    "nearest_prototype": (lambda: nearest_prototype(meta(9, 4), meta(3, 4)), (9,)),
    "prototype_labels": (lambda: prototype_labels(meta(9, 4), meta(9, 3)).indices, (9,)),
    "entropy_regularizer": (lambda: entropy_regularizer(meta(9, 3)), ()),
    "FixedThreshold": (lambda: FixedThreshold()(meta(9, 3)).weights, (9,)),
    "SelfAdaptiveThreshold": (
        lambda: SelfAdaptiveThreshold(3).to("meta").eval()(meta(9, 3)).targets,
        (9,),
    ),
    "ClusterHeads": (lambda: ClusterHeads(2, 4, 3).to("meta")(meta(9, 4)), (2, 9, 3)),
}


@pytest.mark.parametrize("name", META)
def test_a_meta_tensor_gives_the_shape(name):
    call, shape = META[name]
    result = call()
    assert result.is_meta
    assert result.shape == shape


@pytest.mark.parametrize("assignment", ["optimal"])
def test_a_search_over_values_cannot_run_on_meta(assignment):
    with pytest.raises((RuntimeError, NotImplementedError)):
        prototype_labels(meta(9, 4), meta(9, 3), assignment=assignment)


# --- copies --------------------------------------------------------------------------------------


@every_module
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_shares_nothing(name, copied):
    module = used(name)
    clone = copied(module)
    before = copy.deepcopy(dict(clone.state_dict()))
    with torch.no_grad():
        for x in module.state_dict().values():
            x.add_(1)
    assert_identical(dict(clone.state_dict()), before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_results_can_be_copied(copied):
    features, probs = problem()
    labels = prototype_labels(features, probs)
    twin = copied(labels)
    assert type(twin) is type(labels)
    assert_identical(tuple(twin[:4]), tuple(labels[:4]))
    assert twin.metric == labels.metric
    assert_identical(label_confidence(twin), label_confidence(labels))
    reliable = reliable_labels(features, labels.dense(len(features)), k=5, threshold=0.5)
    assert str(copied(reliable).report()) == str(reliable.report())


# --- many at once --------------------------------------------------------------------------------


def problem(seed=0):
    features = gaussian(seed, 40, 8, dtype=torch.float32)
    return features, gaussian(seed + 1, 40, 3, dtype=torch.float32).mul(3).softmax(-1)


def all_at_once(seed):
    """Everything that has no state, on one problem."""
    features, probs = problem(seed)
    labels = prototype_labels(features, probs, assignment="greedy")
    dense = labels.dense(len(features))
    mask = reliable_mask(features, dense, k=5, threshold=0.5)
    return labels.indices, dense, mask, tuple(FixedThreshold(0.8)(probs))


def test_threads_do_not_disturb_each_other():
    alone = [all_at_once(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(all_at_once, [*range(8)] * 3))
    for seed, result in enumerate(together):
        assert_identical(result, alone[seed % 8])


def test_threads_may_share_a_threshold_that_only_selects():
    module = used("threshold").eval()
    alone = [tuple(answer(module, "threshold", seed)) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda seed: tuple(answer(module, "threshold", seed)), range(8))
        for ours, theirs in zip(together, alone, strict=True):
            assert_identical(ours, theirs)


def in_a_worker(pipe, module):
    torch.set_num_threads(1)
    features = torch.arange(24.0).reshape(8, 3).sin()
    probs = torch.arange(24.0).reshape(8, 3).cos().softmax(-1)
    labels = prototype_labels(features, probs).dense(8).tolist()
    pipe.send((labels, [x.tolist() for x in module(probs)]))
    pipe.close()


def test_a_spawned_worker_answers_the_same():
    module = used("threshold").eval()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=in_a_worker, args=(theirs, module))
    worker.start()
    theirs.close()
    remote = ours.recv()
    worker.join(60)
    assert worker.exitcode == 0

    class Here:
        def send(self, result):
            self.result = result

        def close(self):
            pass

    here = Here()
    in_a_worker(here, module)
    assert remote == here.result


# --- regions -------------------------------------------------------------------------------------


def losses():
    logits = gaussian(2, 12, 3, dtype=torch.float32)
    labels = torch.arange(12) % 3
    return torch.stack(
        [
            double_softmax_cross_entropy(logits, labels),
            soft_contrastive_loss(logits.softmax(-1), labels),
            consistency_loss(logits, labels),
            entropy_regularizer(logits.softmax(-1)),
        ]
    )


def test_autocast_changes_no_answer():
    expected = (*all_at_once(0), losses())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_identical((*all_at_once(0), losses()), expected)


def test_autocast_is_for_heads_as_for_any_linear_layer():
    module = used("heads")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = answer(module, "heads")
    assert_close(half.float(), answer(module, "heads"), rtol=0.05, atol=0.05)


def test_inference_mode_changes_no_answer():
    expected = (*all_at_once(0), losses())
    with torch.inference_mode():
        result = (*all_at_once(0), losses())
    assert_identical(result, expected)


def test_inputs_made_in_inference_mode_are_taken_outside_it():
    with torch.inference_mode():
        features, probs = problem()
    labels = prototype_labels(features, probs)
    assert not labels.similarity.requires_grad
    module = used("threshold")
    module(probs)
    before = module.mean_probs.clone()
    module(probs)
    assert not torch.equal(module.mean_probs, before)
    assert not module.mean_probs.is_inference()
