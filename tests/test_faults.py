"""What happens when something around an operator goes wrong or is unusual: each has its answer."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import torch
from strategies import gaussian
from torch.testing import assert_close

import pseudolabel
from pseudolabel import (
    ClusterHeads,
    FixedThreshold,
    SelfAdaptiveThreshold,
    adjusted_rand_index,
    assign_labels,
    balanced_clustering_accuracy,
    class_prototypes,
    clustering_accuracy,
    consistency_loss,
    double_softmax_cross_entropy,
    entropy_regularizer,
    label_confidence,
    nearest_neighbors,
    nearest_prototype,
    normalized_mutual_info,
    prototype_labels,
    reliability_ratio,
    reliable_labels,
    reliable_mask,
    select_confident,
    select_head,
    soft_contrastive_loss,
)


def assert_identical(actual, expected):
    """Equal values, dtypes and devices, in tuples and dicts too."""
    assert_close(actual, expected, rtol=0, atol=0)


# --- every public operator, on one small problem --------------------------------------------------


class Problem(NamedTuple):
    """Inputs of every kind that an operator takes."""

    features: torch.Tensor
    logits: torch.Tensor
    probs: torch.Tensor
    labels: torch.Tensor
    graph: torch.Tensor


def problem(seed=0):
    features, logits = (
        gaussian(seed + i, 40, size, dtype=torch.float32) for i, size in enumerate([8, 3])
    )
    graph = (torch.arange(40)[:, None] + torch.arange(1, 6)) % 40
    probs = logits.mul(3).softmax(-1)
    return Problem(
        features, logits, probs, probs.argmax(-1) - (torch.arange(40) % 9 == 0).long(), graph
    )


def prototypes(p):
    return class_prototypes(p.features, select_confident(p.probs, 5))


def assigned(rule):
    return lambda p: tuple(assign_labels(p.features, prototypes(p), 5, assignment=rule)[:4])


def adaptive(p):
    with p.probs.device:
        return SelfAdaptiveThreshold(3)


# For every operator: a call, and its shape on meta (or the argument whose values it needs).
OPERATORS = {
    "select_confident": (lambda p: select_confident(p.probs, 5), (3, 5)),
    "select_confident, counts": (lambda p: select_confident(p.probs, [5, 3, 1]), (3, 5)),
    "class_prototypes": (prototypes, (3, 8)),
    "assign_labels": (lambda p: assign_labels(p.features, prototypes(p), 5).indices, (15,)),
    "assign_labels, greedy": (assigned("greedy"), "features"),
    "assign_labels, optimal": (assigned("optimal"), "features"),
    "assign_labels, sequential": (lambda p: assigned("sequential")(p)[0], (15,)),
    "assign_labels, nearest": (lambda p: assigned("nearest")(p)[0], (15,)),
    "prototype_labels": (lambda p: prototype_labels(p.features, p.probs).similarity, (39,)),
    "PseudoLabels.dense": (lambda p: prototype_labels(p.features, p.probs).dense(40), (40,)),
    "PseudoLabels.multi_hot": (
        lambda p: prototype_labels(p.features, p.probs).multi_hot(40),
        (40, 3),
    ),
    "label_confidence": (
        lambda p: label_confidence(prototype_labels(p.features, p.probs)),
        (39,),
    ),
    "nearest_prototype": (lambda p: nearest_prototype(p.features, prototypes(p)), (40,)),
    "nearest_neighbors": (lambda p: tuple(nearest_neighbors(p.features, 5)), "features"),
    "reliability_ratio": (lambda p: reliability_ratio(p.labels, p.graph), (40,)),
    "reliable_mask": (
        lambda p: reliable_mask(p.features, p.labels, neighbors=p.graph, threshold=0.5),
        (40,),
    ),
    "reliable_mask, searched": (
        lambda p: reliable_mask(p.features, p.labels, k=5, threshold=0.3),
        "features",
    ),
    "reliable_labels": (
        lambda p: reliable_labels(p.features, p.labels, neighbors=p.graph, threshold=0.3).labels,
        "labels",
    ),
    "double_softmax_cross_entropy": (
        lambda p: double_softmax_cross_entropy(p.logits, p.labels),
        (),
    ),
    "soft_contrastive_loss": (
        lambda p: soft_contrastive_loss(p.probs, p.labels, p.probs.amax(-1)),
        (),
    ),
    "consistency_loss": (lambda p: consistency_loss(p.logits, p.labels, p.probs.amax(-1)), ()),
    "entropy_regularizer": (lambda p: entropy_regularizer(p.probs), ()),
    "FixedThreshold": (lambda p: FixedThreshold(0.8)(p.probs).weights, (40,)),
    "SelfAdaptiveThreshold": (lambda p: adaptive(p)(p.probs).weights, (40,)),
    "select_head": (lambda p: select_head(p.logits[:, 0]), "losses"),
    "clustering_accuracy": (
        lambda p: clustering_accuracy(p.labels, p.probs.argmax(-1)),
        "predicted",
    ),
    "normalized_mutual_info": (
        lambda p: normalized_mutual_info(p.labels, p.probs.argmax(-1)),
        "predicted",
    ),
    "balanced_clustering_accuracy": (
        lambda p: balanced_clustering_accuracy(p.labels, p.probs.argmax(-1)),
        "predicted",
    ),
    "adjusted_rand_index": (
        lambda p: adjusted_rand_index(p.labels, p.probs.argmax(-1)),
        "predicted",
    ),
}
every_operator = pytest.mark.parametrize("name", OPERATORS)


def asked(name, seed=0):
    return OPERATORS[name][0](problem(seed))


def test_no_operator_is_forgotten():
    types = {"Neighbors", "PseudoLabels", "ReliableLabels", "Selection"}
    reports = {"RecallReport", "ReliabilityReport"}
    elsewhere = {"ClusterHeads", "InvertedLists", "NeighborBackend", "check_values"}  # below
    assert set(pseudolabel.__all__) - types - reports - elsewhere <= set(OPERATORS)


MODULES = {
    "threshold": lambda: SelfAdaptiveThreshold(3, momentum=0.5),
    "heads": lambda: ClusterHeads(2, 4, 3),
    "normalised heads": lambda: ClusterHeads(2, 4, 3, norm="batch"),
}
INPUTS = {"threshold": (9, 3), "heads": (9, 4), "normalised heads": (9, 4)}
OLD_TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 13)
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
@pytest.mark.parametrize("more", [(2,), (2, 2)])
def test_a_wrong_shape_is_named_and_changes_nothing_of_that_entry(name, key, more):
    module, state = used(name), used(name).state_dict()
    if state[key].dim() == 0 and more == (2,) and OLD_TORCH:
        pytest.skip("older torch takes the first of a list for a scalar")
    before = module.state_dict()[key].clone()
    state[key] = torch.zeros(*state[key].shape, *more)
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


@every_module
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_on_another_device_is_an_error_that_changes_nothing(name, training):
    for here, there in (("cpu", "meta"), ("meta", "cpu")):
        module = used(name).to(here).train(training)
        before = copy.deepcopy(module.state_dict())
        with pytest.raises(ValueError, match=f"expected a tensor on {here}, got one on {there}"):
            module(inputs(name).to(there))
        if here == "cpu":
            assert_identical(dict(module.state_dict()), dict(before))


@every_module
def test_a_state_without_values_is_an_error_that_changes_nothing(name):
    module, state = used(name), used(name).state_dict()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(RuntimeError, match="Cannot copy out of meta tensor"):
        module.load_state_dict({key: x.to("meta") for key, x in state.items()})
    assert_identical(dict(module.state_dict()), dict(before))


@every_operator
def test_a_meta_tensor_gives_the_shape_or_names_whose_values_are_needed(name):
    call, expected = OPERATORS[name]
    inputs = Problem(*(x.to("meta") for x in problem()))
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=f"^{expected}: .* got one on the meta device"):
            call(inputs)
    else:
        result = call(inputs)
        assert result.is_meta
        assert result.shape == expected


@every_operator
def test_the_default_device_is_not_asked(name):
    call, expected = OPERATORS[name][0], asked(name)
    inputs = problem()
    with torch.device("meta"):  # whatever is made there by mistake has no values
        found = call(inputs)
    assert_identical(found, expected)


def test_heads_on_meta_give_the_shape():
    for module in (ClusterHeads(2, 4, 3), ClusterHeads(2, 4, 3, norm="batch")):
        result = module.to("meta")(torch.empty(9, 4, device="meta"))
        assert result.is_meta
        assert result.shape == (2, 9, 3)


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
    features, probs = problem().features, problem().probs
    labels = prototype_labels(features, probs)
    twin = copied(labels)
    assert type(twin) is type(labels)
    assert_identical(tuple(twin[:4]), tuple(labels[:4]))
    assert twin.metric == labels.metric
    assert_identical(label_confidence(twin), label_confidence(labels))
    for result in (nearest_neighbors(features, 5), FixedThreshold()(probs)):
        assert type(copied(result)) is type(result)
        assert_identical(tuple(copied(result)), tuple(result))
    reliable = reliable_labels(features, labels.dense(len(features)), k=5, threshold=0.5)
    assert str(copied(reliable).report()) == str(reliable.report())


# --- many at once --------------------------------------------------------------------------------


@every_operator
def test_threads_do_not_disturb_each_other(name):
    alone = [asked(name, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: asked(name, seed % 4), range(12)))
    for seed, result in enumerate(together):
        assert_identical(result, alone[seed % 4])


def test_threads_may_share_a_threshold_that_only_selects():
    module = used("threshold").eval()
    alone = [tuple(answer(module, "threshold", seed)) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda seed: tuple(answer(module, "threshold", seed)), range(8))
        for ours, theirs in zip(together, alone, strict=True):
            assert_identical(ours, theirs)


def all_answers():
    return {name: asked(name) for name in OPERATORS}


def in_a_worker(pipe, module):
    torch.set_num_threads(1)
    results = {**all_answers(), "shared": tuple(module(problem().probs))}
    torch.save(results, pipe)


def test_a_spawned_worker_answers_the_same(tmp_path):
    module = used("threshold").eval()
    worker = multiprocessing.get_context("spawn").Process(
        target=in_a_worker, args=(tmp_path / "answers.pt", module)
    )
    worker.start()
    worker.join(120)
    assert worker.exitcode == 0
    remote = torch.load(tmp_path / "answers.pt", weights_only=True)
    assert_identical(remote, {**all_answers(), "shared": tuple(module(problem().probs))})


# --- regions -------------------------------------------------------------------------------------


@every_operator
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_changes_no_answer(name, dtype):
    expected = asked(name)
    with torch.autocast("cpu", dtype=dtype):
        assert_identical(asked(name), expected)


def test_autocast_is_for_heads_as_for_any_linear_layer():
    module = used("heads")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = answer(module, "heads")
        # There the region decides the dtype, not the caller.
        assert module(torch.zeros(2, module.in_features, dtype=torch.bfloat16)).shape[1] == 2
    assert_close(half.float(), answer(module, "heads"), rtol=0.05, atol=0.05)


@every_operator
def test_inference_mode_changes_no_answer(name):
    expected, inputs = asked(name), problem()
    with torch.inference_mode():
        assert_identical(asked(name), expected)  # inputs made inside
        assert_identical(OPERATORS[name][0](inputs), expected)  # and outside
        inside = problem()
    assert_identical(OPERATORS[name][0](inside), expected)


def test_inputs_made_in_inference_mode_are_taken_outside_it():
    with torch.inference_mode():
        features, probs = problem().features, problem().probs
    labels = prototype_labels(features, probs)
    assert not labels.similarity.requires_grad
    module = used("threshold")
    module(probs)
    before = module.mean_probs.clone()
    module(probs)
    assert not torch.equal(module.mean_probs, before)
    assert not module.mean_probs.is_inference()
