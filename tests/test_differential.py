"""Our operators against other people's implementations of the same thing, at realistic sizes.

The small cases, with ties and every option, are compared with the scalar oracles elsewhere.
"""

import importlib.util
import math
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, confusion_matrix, normalized_mutual_info_score
from sklearn.metrics.pairwise import cosine_similarity, pairwise_distances_argmin
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid, NearestNeighbors
from strategies import gaussian
from torch.nn.functional import cross_entropy, normalize
from torch.testing import assert_close

from pseudolabel import (
    SelfAdaptiveThreshold,
    adjusted_rand_index,
    assign_labels,
    class_prototypes,
    clustering_accuracy,
    consistency_loss,
    double_softmax_cross_entropy,
    entropy_regularizer,
    nearest_neighbors,
    nearest_prototype,
    normalized_mutual_info,
    reliability_ratio,
    reliable_mask,
    soft_contrastive_loss,
)

EXACT = {"rtol": 1e-12, "atol": 1e-12}
both_metrics = pytest.mark.parametrize("metric", ["cosine", "euclidean"])


# --- scikit-learn: neighbours and what is made of them -------------------------------------------


@both_metrics
@pytest.mark.parametrize("queries", [None, gaussian(1, 150, 16)], ids=["itself", "queries"])
def test_neighbours_are_those_of_scikit_learn(metric, queries):
    features = gaussian(0, 700, 16)
    theirs = NearestNeighbors(n_neighbors=20, metric=metric, algorithm="brute").fit(features)
    distance, indices = theirs.kneighbors(queries)
    ours = nearest_neighbors(features, 20, queries=queries, metric=metric)
    assert ours.indices.tolist() == indices.tolist()
    similarity = 1 - distance if metric == "cosine" else -distance
    assert_close(ours.similarity, torch.from_numpy(similarity), **EXACT)


@both_metrics
def test_neighbours_of_real_images_are_as_near_as_those_of_scikit_learn(metric):
    images = load_digits().data[:600]  # small integers: many distances tie
    distance, _ = NearestNeighbors(n_neighbors=10, metric=metric).fit(images).kneighbors()
    ours = nearest_neighbors(images, 10, metric=metric).similarity
    theirs = torch.from_numpy(1 - distance if metric == "cosine" else -distance)
    assert_close(ours.double(), theirs, rtol=1e-6, atol=1e-6)


def test_the_reliability_ratio_is_the_vote_of_a_neighbour_classifier():
    features, labels = gaussian(0, 500, 8), torch.arange(500) % 4
    features[:, 0] += labels
    voter = KNeighborsClassifier(n_neighbors=10, algorithm="brute").fit(features, labels)
    votes = torch.from_numpy(voter.predict_proba(None)).gather(1, labels[:, None])[:, 0]
    ours = reliability_ratio(labels, nearest_neighbors(features, 10, metric="euclidean"))
    assert_close(ours, votes, **EXACT)
    mask = reliable_mask(features, labels, k=10, threshold=0.5, metric="euclidean")
    assert mask.tolist() == (10 * votes).round().gt(5).tolist()
    assert 0 < mask.sum() < 500


def test_the_nearest_prototype_is_that_of_nearest_centroid():
    features, labels = gaussian(0, 400, 6), torch.arange(400) % 5
    members = torch.stack([(labels == c).nonzero()[:, 0] for c in range(5)])
    prototypes = class_prototypes(features, members)
    theirs = NearestCentroid().fit(features, labels)
    assert_close(prototypes, torch.from_numpy(theirs.centroids_), **EXACT)
    ours = nearest_prototype(features, prototypes, metric="euclidean")
    assert ours.tolist() == theirs.predict(features).tolist()
    cosine = pairwise_distances_argmin(features, prototypes, metric="cosine")
    assert nearest_prototype(features, prototypes).tolist() == cosine.tolist()


# --- SciPy: assignments --------------------------------------------------------------------------


@both_metrics
def test_the_optimal_assignment_is_that_of_scipy(metric):
    features, prototypes = gaussian(0, 400, 8), gaussian(1, 2, 6, 8)
    counts = [40, 1, 90, 60, 25, 70]
    ours = assign_labels(features, prototypes, counts, assignment="optimal", metric=metric)
    owners = np.repeat(np.arange(6), counts)
    for head in range(2):
        if metric == "cosine":
            table = cosine_similarity(prototypes[head], features)
        else:
            table = -torch.cdist(prototypes[head], features).numpy()
        rows, samples = linear_sum_assignment(table[owners], maximize=True)
        expected = np.full(400, -1)
        expected[samples] = owners[rows]
        assert ours.dense(400)[head].tolist() == expected.tolist()
        total = math.fsum(ours.similarity[head].tolist())
        assert total == pytest.approx(table[owners][rows, samples].sum(), rel=1e-12)


# --- scikit-learn and SciPy: metrics -------------------------------------------------------------


@pytest.mark.parametrize(("clusters", "classes"), [(10, 10), (40, 25), (7, 60)])
def test_metrics_of_many_samples_are_those_of_others(clusters, classes):
    rng = np.random.default_rng(0)
    target = rng.integers(0, classes, 5000)
    predicted = np.where(rng.random(5000) < 0.6, target, rng.integers(0, clusters, 5000)) % clusters
    table = confusion_matrix(target, predicted)
    rows, columns = linear_sum_assignment(table, maximize=True)
    assert clustering_accuracy(predicted, target) == table[rows, columns].sum() / 5000
    information = normalized_mutual_info_score(target, predicted)
    assert normalized_mutual_info(predicted, target) == pytest.approx(information, abs=1e-12)
    rand = adjusted_rand_score(target, predicted)
    assert adjusted_rand_index(predicted, target) == pytest.approx(rand, abs=1e-12)


# --- torch: losses -------------------------------------------------------------------------------


def loss_inputs(*heads, size=64, classes=7):
    logits = gaussian(0, *heads, size, classes).mul(4).requires_grad_()
    rng = np.random.default_rng(1)
    return logits, torch.from_numpy(rng.integers(-1, classes, (*heads, size)))


def assert_same_loss(ours, theirs, logits):
    """Equal values, and equal gradients of their sums."""
    assert_close(ours, theirs, **EXACT)
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, theirs)]
    assert_close(*gradients, **EXACT)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_double_softmax_is_cross_entropy_of_a_softmax(reduction):
    logits, labels = loss_inputs()
    theirs = cross_entropy(logits.softmax(-1), labels, ignore_index=-1, reduction=reduction)
    ours = double_softmax_cross_entropy(logits, labels, reduction=reduction)
    assert_same_loss(ours, theirs, logits)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_consistency_is_weighted_cross_entropy_over_the_whole_batch(reduction):
    logits, labels = loss_inputs(3)
    weights = gaussian(2, 3, 64).sigmoid()
    each = cross_entropy(logits.movedim(-1, 1), labels, ignore_index=-1, reduction="none") * weights
    theirs = {"none": each, "sum": each.sum(-1), "mean": each.sum(-1) / 64}[reduction]
    ours = consistency_loss(logits, labels, weights, reduction=reduction)
    assert_same_loss(ours, theirs, logits)


def test_the_contrastive_loss_is_cross_entropy_of_the_pair_among_its_negatives():
    logits, labels = loss_inputs()
    units = normalize(logits.softmax(-1), dim=-1)
    own = units.gather(1, labels.clamp(min=0)[:, None])
    allowed = (labels[:, None] != labels) & (labels >= 0) & (labels >= 0)[:, None]
    scores = torch.cat([own, (units @ units.T).masked_fill(~allowed, -torch.inf)], 1) / 0.2
    kept = labels >= 0
    theirs = cross_entropy(scores[kept], torch.zeros(int(kept.sum()), dtype=torch.int64))
    ours = soft_contrastive_loss(logits.softmax(-1), labels, temperature=0.2, include_positive=True)
    assert_same_loss(ours, theirs, logits)


def test_the_entropy_is_that_of_a_categorical_distribution():
    logits, _ = loss_inputs(3)
    theirs = -torch.distributions.Categorical(probs=logits.softmax(-1).mean(-2)).entropy()
    assert_same_loss(entropy_regularizer(logits.softmax(-1)), theirs, logits)


# --- FreeMatch -----------------------------------------------------------------------------------


class FreeMatch:
    """The self-adaptive threshold of the paper in float64 NumPy, equation by equation."""

    def __init__(self, num_classes, momentum):
        self.momentum = momentum
        self.overall = 1 / num_classes
        self.local = np.full(num_classes, 1 / num_classes)

    def __call__(self, probs):
        keep = self.momentum
        self.overall = keep * self.overall + (1 - keep) * probs.max(1).mean()
        self.local = keep * self.local + (1 - keep) * probs.mean(0)
        thresholds = self.overall * self.local / self.local.max()
        targets = probs.argmax(1)
        return targets, probs.max(1) - thresholds[targets]


def batches(classes, steps=30):
    """Batches that grow surer, of classes that are not equally common."""
    for step in range(steps):
        favoured = torch.linspace(1, 0, classes, dtype=torch.float64)
        yield (gaussian(step, 48, classes) * (0.5 + step / 8) + favoured).softmax(-1)


@pytest.mark.parametrize(("classes", "momentum"), [(3, 0.9), (10, 0.9), (5, 0.0)])
def test_thresholds_follow_the_equations_of_freematch(classes, momentum):
    ours, theirs = SelfAdaptiveThreshold(classes, momentum=momentum), FreeMatch(classes, momentum)
    chosen = total = 0
    for probs in batches(classes):
        selection = ours(probs)
        targets, margin = theirs(probs.numpy())
        assert selection.targets.tolist() == targets.tolist()
        clear = np.abs(margin) > 1e-6  # our statistics are float32
        assert (selection.weights.numpy()[clear] == (margin > 0)[clear]).all()
        chosen, total = chosen + int(selection.weights.sum()), total + len(margin)
    assert 0 < chosen < total
    assert_close(ours.mean_confidence.item(), theirs.overall, rtol=1e-5, atol=1e-6)
    assert_close(ours.mean_probs.double(), torch.from_numpy(theirs.local), rtol=1e-5, atol=1e-6)


def semilearn_threshold(monkeypatch):
    """semilearn's hook, without all that its package imports beside it (torchvision, wandb...)."""
    package = importlib.util.find_spec("semilearn")
    if package is None:
        pytest.skip("needs semilearn (pip install --no-deps semilearn)")
    hooks, utils = (
        ModuleType("semilearn.algorithms.hooks"),
        ModuleType("semilearn.algorithms.utils"),
    )
    hooks.MaskingHook, utils.concat_all_gather = object, None
    for name in ("semilearn", "semilearn.algorithms"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for module in (hooks, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    path = f"{package.submodule_search_locations[0]}/algorithms/freematch/utils.py"
    spec = importlib.util.spec_from_file_location("semilearn_freematch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FreeMatchThresholdingHook


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_thresholds_are_those_of_semilearn(momentum, monkeypatch):
    hook = semilearn_threshold(monkeypatch)(5, momentum=momentum)
    asked = SimpleNamespace(distributed=False, use_quantile=False, clip_thresh=False)
    ours = SelfAdaptiveThreshold(5, momentum=momentum)
    for probs in batches(5):
        mask = hook.masking(asked, probs.float(), softmax_x_ulb=False)
        selection = ours(probs.float())
        clear = (probs.amax(-1) - ours.thresholds[selection.targets]).abs() > 1e-6
        assert selection.weights[clear].tolist() == mask[clear].tolist()
    assert_close(ours.mean_confidence, hook.time_p, rtol=1e-5, atol=1e-6)
    assert_close(ours.mean_probs, hook.p_model, rtol=1e-5, atol=1e-6)
