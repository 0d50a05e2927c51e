"""The scikit-learn estimator: its contract, its promises, its errors."""

import pickle
import subprocess
import sys
from itertools import groupby, permutations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.datasets import load_digits, make_blobs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from pseudolabel import clustering_accuracy
from pseudolabel.estimator import PrototypeClustering, _training, clustering

FITTED = [
    "labels_",
    "reliable_",
    "reliability_",
    "cluster_prototypes_",
    "losses_",
    "loss_curve_",
    "best_head_",
    "n_iter_",
]


def small(n_clusters=3, **options):
    return PrototypeClustering(
        n_clusters, **{"n_heads": 2, "max_iter": 3, "random_state": 0, **options}
    )


def blobs(sizes=(30, 30, 30), num_features=4, seed=1, spread=1.0):
    points, labels = make_blobs(
        list(sizes), num_features, cluster_std=spread, center_box=(-20, 20), random_state=seed
    )
    return points, labels.astype(np.int64)


def assert_equal_fits(first, second):
    for name in FITTED:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


@pytest.mark.parametrize("loss", ["double_softmax_cross_entropy", "soft_contrastive_loss"])
def test_losses_see_every_head_its_own_samples(monkeypatch, loss):
    seen, samples = [], []

    def spy(outputs, labels, *more, **options):
        seen.append((outputs.detach(), labels, *more))
        samples.append(options.get("sample_ids"))
        return plain(outputs, labels, *more, **options)

    plain = getattr(_training, loss)
    monkeypatch.setattr(_training, loss, spy)
    points, _ = blobs()
    name = "double_softmax" if "softmax" in loss else "soft_contrastive"
    small(loss=name, batch_size=20, max_iter=1).fit(points)
    assert seen
    for outputs, labels, *confidence in seen:
        assert outputs.shape == (2, labels.shape[1], 3)
        assert labels.shape[1] <= 20
        if confidence:
            torch.testing.assert_close(outputs.sum(-1), torch.ones(labels.shape))
            assert confidence[0].shape == labels.shape
        else:
            assert not torch.allclose(outputs.sum(-1), torch.ones(labels.shape))
    if loss == "soft_contrastive_loss":  # a sample of two labels is not its own negative
        for (_, labels, _), ids in zip(seen, samples, strict=True):
            assert ids.shape == labels.shape
            assert ((ids == -1) == (labels == -1)).all()


# --- scikit-learn's contract ---------------------------------------------------------------------


@parametrize_with_checks([PrototypeClustering(n_heads=2, hidden_features=16, max_iter=3)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_clones_and_sets_parameters():
    estimator = small(class_prior=[1, 2, 3], loss="soft_contrastive")
    copied = clone(estimator.set_params(n_heads=4))
    assert copied.get_params() == estimator.get_params()
    assert copied.n_heads == 4


def test_works_in_a_pipeline():
    points, _ = blobs()
    pipeline = make_pipeline(StandardScaler(), small())
    labels = pipeline.fit_predict(points)
    np.testing.assert_array_equal(pipeline.predict(points), labels)


def test_importing_the_package_leaves_scikit_learn_alone():
    code = "import sys, pseudolabel; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- what a fit gives ----------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["double_softmax", "soft_contrastive"])
@pytest.mark.parametrize("assignment", ["overlap", "greedy", "optimal", "sequential", "nearest"])
def test_separated_clusters_are_found_by_every_rule(loss, assignment):
    points, truth = blobs()
    fitted = small(loss=loss, assignment=assignment, n_heads=5).fit(points)
    assert clustering_accuracy(fitted.labels_, truth) == 1
    assert fitted.reliable_.all()


def test_shapes_and_kinds():
    points, _ = blobs()
    fitted = small().fit(points)
    assert (fitted.labels_.dtype, fitted.labels_.shape) == (np.int64, (90,))
    assert (fitted.reliable_.dtype, fitted.reliable_.shape) == (bool, (90,))
    assert (fitted.reliability_.dtype, fitted.reliability_.shape) == (np.float64, (90,))
    assert fitted.cluster_prototypes_.shape == (3, 4)
    assert fitted.losses_.shape == (2,)
    assert fitted.loss_curve_.shape == (fitted.n_iter_, 2)
    assert fitted.best_head_ == fitted.losses_.argmin()
    assert fitted.n_features_in_ == 4


def test_labels_predictions_and_probabilities_agree():
    points, _ = blobs(spread=6.0)
    fitted = small().fit(points)
    probs = fitted.predict_proba(points)
    np.testing.assert_allclose(probs.sum(1), 1)
    np.testing.assert_array_equal(probs.argmax(1), fitted.labels_)
    np.testing.assert_array_equal(fitted.predict(points), fitted.labels_)
    np.testing.assert_array_equal(small().fit_predict(points), fitted.labels_)


def test_prototypes_lie_in_their_clusters_in_the_units_of_the_input():
    points, _ = blobs()
    points = points * 1000 + 5e5
    fitted = small().fit(points)
    centres = np.stack([points[fitted.labels_ == c].mean(0) for c in range(3)])
    assert np.abs(fitted.cluster_prototypes_ - centres).max() < 1000
    np.testing.assert_array_equal(fitted.predict(fitted.cluster_prototypes_), range(3))


def test_reliability_is_the_share_of_neighbours_in_the_cluster():
    points, _ = blobs(spread=6.0)
    fitted = small(n_neighbors=7, reliability_threshold=0.8).fit(points)
    shares = fitted.reliability_ * 7
    np.testing.assert_allclose(shares, shares.round())
    assert 0 < fitted.reliable_.sum() < 90
    np.testing.assert_array_equal(fitted.reliable_, fitted.reliability_ > 0.8)
    # All neighbours are of the cluster: at a threshold, and not above it.
    assert not small(n_neighbors=7, reliability_threshold=1.0).fit(points).reliable_.any()


def test_no_more_than_100_neighbours_vote_unless_told():
    points, _ = blobs((700, 700, 700), spread=20.0)
    shares = small(max_iter=1).fit(points).reliability_ * 100
    assert len(np.unique(shares)) > 10
    np.testing.assert_allclose(shares, shares.round(), atol=1e-9)


def test_scale_and_offset_do_not_matter():
    points, _ = blobs(spread=6.0)
    fitted = small().fit(points)
    np.testing.assert_array_equal(small().fit_predict(points * 2.0**60), fitted.labels_)
    np.testing.assert_array_equal(small().fit_predict(points * 2.0**-60), fitted.labels_)
    assert clustering_accuracy(small().fit_predict(points + 100), fitted.labels_) > 0.97


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_extreme_values_stay_finite(scale):
    points, truth = blobs()
    fitted = small(n_heads=5).fit(points * scale)
    assert clustering_accuracy(fitted.labels_, truth) == 1
    assert np.isfinite(fitted.cluster_prototypes_).all()


# --- randomness ----------------------------------------------------------------------------------


def test_a_seed_gives_one_answer_whatever_torch_was_doing():
    points, _ = blobs(spread=6.0)
    first = small().fit(points)
    torch.manual_seed(123)
    np.random.seed(5)  # noqa: NPY002 - the point
    second = small(random_state=np.random.RandomState(0)).fit(points)
    assert_equal_fits(first, second)
    assert not np.array_equal(small(random_state=1).fit(points).losses_, first.losses_)


def test_the_global_generators_stay_where_they_are():
    points, _ = blobs()
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    small().fit(points).predict(points)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], before_numpy)  # noqa: NPY002


def test_labels_given_change_nothing():
    points, truth = blobs(spread=6.0)
    assert_equal_fits(small().fit(points), small().fit(points, truth))


def test_pickle_keeps_everything():
    points, _ = blobs(spread=6.0)
    fitted = small().fit(points)
    restored = pickle.loads(pickle.dumps(fitted))
    assert_equal_fits(restored, fitted)
    np.testing.assert_array_equal(restored.predict_proba(points), fitted.predict_proba(points))


# --- input ---------------------------------------------------------------------------------------


def test_tensors_are_arrays():
    points, _ = blobs(spread=6.0)
    tensor = torch.from_numpy(points).requires_grad_()
    fitted = small().fit(tensor)
    assert_equal_fits(fitted, small().fit(points))
    assert isinstance(fitted.predict(tensor), np.ndarray)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_every_dtype_is_read_by_its_values(dtype):
    points = torch.from_numpy(blobs()[0]).to(dtype)
    fitted = small().fit(points)
    assert_equal_fits(fitted, small().fit(points.double().numpy()))


def test_trains_where_it_is_told(device):
    points, truth = blobs()
    fitted = small(device=device).fit(torch.from_numpy(points).to(device))
    assert clustering_accuracy(fitted.predict(points), truth) == 1


def test_one_sample_one_cluster():
    fitted = small(1).fit([[3.0, 4.0]])
    assert fitted.labels_.tolist() == [0]
    assert (fitted.reliability_.tolist(), fitted.reliable_.tolist()) == ([0.0], [False])
    assert fitted.reliable_.dtype == bool
    np.testing.assert_allclose(fitted.cluster_prototypes_, [[3.0, 4.0]])


@pytest.mark.parametrize("num_features", [1, 3])
def test_equal_rows_and_as_many_clusters_as_samples(num_features):
    for points in (np.ones((4, num_features)), np.zeros((4, num_features))):
        fitted = small(4).fit(points)
        assert len(set(fitted.labels_)) == 1
        assert np.isfinite(fitted.cluster_prototypes_).all()


def test_one_feature():
    points = np.array([0.0, 0.1, 0.2, 0.3, 5.0, 5.1, 5.2, 5.3, 9.0, 9.1, 9.2, 9.3])[:, None]
    labels = small(n_heads=10).fit_predict(points)
    assert clustering_accuracy(labels, np.repeat(np.arange(3), 4)) == 1


# --- training ------------------------------------------------------------------------------------


def test_early_stopping_stops_and_can_be_left_out():
    points, _ = blobs()
    stopped = small(max_iter=12, n_iter_no_change=2).fit(points)
    assert 2 < stopped.n_iter_ < 12
    assert small(max_iter=12, early_stopping=False).fit(points).n_iter_ == 12
    assert small(max_iter=12, n_iter_no_change=2, tol=100.0).fit(points).n_iter_ == 3


@pytest.mark.parametrize("patience", [1, 2])
def test_training_stops_where_no_head_has_improved(patience):
    """Worked out from the curve of a training that does not stop."""
    points, _ = blobs()
    options = {"n_heads": 4, "max_iter": 12, "tol": 1e-4}
    curve = small(early_stopping=False, **options).fit(points).loss_curve_
    lowest = np.minimum.accumulate(np.vstack([np.full(4, np.inf), curve]))
    improved = curve < lowest[:-1] - 1e-4
    assert (improved.any(1) & ~improved.all(1)).any()  # heads stall at different times
    rounds = np.arange(len(curve))
    idle = rounds - np.maximum.accumulate(np.where(improved.any(1), rounds, 0))
    stopped = small(n_iter_no_change=patience, **options).fit(points)
    assert stopped.n_iter_ == np.flatnonzero(idle == patience)[0] + 1


def test_the_head_of_the_smallest_final_loss_is_kept(monkeypatch):
    def swapped(*arguments):  # which is not that of the last round
        trained = plain(*arguments)
        return trained._replace(losses=-trained.curve[-1])

    plain = clustering.train_heads
    monkeypatch.setattr(clustering, "train_heads", swapped)
    fitted = small(n_heads=4).fit(blobs()[0])
    assert fitted.best_head_ == fitted.losses_.argmin() == fitted.loss_curve_[-1].argmax()


def test_seeds_label_the_first_round_and_the_heads_every_later_one(monkeypatch):
    drawn = []

    def counted(*arguments, **options):
        drawn.append(arguments)
        return kmeans_plusplus(*arguments, **options)

    monkeypatch.setattr("pseudolabel.estimator._training.kmeans_plusplus", counted)
    small(n_heads=2, max_iter=3, early_stopping=False).fit(blobs()[0])
    assert len(drawn) == 2


def test_the_first_round_alone_is_five_times_as_long(monkeypatch):
    passes, losses = [], _training._losses

    def counted(heads, sample, pseudo, *others):
        passes.append(pseudo)
        return losses(heads, sample, pseudo, *others)

    monkeypatch.setattr(_training, "_losses", counted)
    small(max_iter=3, early_stopping=False).fit(blobs()[0])
    lengths = [len(list(same)) for _, same in groupby(passes, key=id)]
    assert lengths[0] == 5 * lengths[1]
    assert lengths[1:] == [lengths[1], lengths[1], 1]  # and once more, to judge the heads


@pytest.mark.parametrize("rows", [1, 7, 8, 15, 90])
def test_rows_are_answered_in_blocks_of_any_number(monkeypatch, rows):
    points, _ = blobs()
    fitted = small().fit(points)
    whole = fitted.predict_proba(points)
    monkeypatch.setattr("pseudolabel.estimator.clustering._ROWS_AT_A_TIME", 7)
    blocks = fitted.predict_proba(points[:rows])
    np.testing.assert_allclose(blocks, whole[:rows], rtol=1e-9, atol=1e-12)
    assert fitted.predict(points[:rows]).tolist() == fitted.labels_[:rows].tolist()


def test_samples_can_be_drawn_anew_every_round():
    points, truth = blobs((200, 200, 200))
    fitted = small(samples_per_iter=60, n_heads=5).fit(points)
    assert clustering_accuracy(fitted.labels_, truth) == 1


def test_a_prior_gives_every_cluster_its_own_size():
    sizes = (160, 20, 60)
    points, truth = blobs(sizes, seed=3)
    prior = np.array([0.25, 2.0 / 3, 1.0 / 12])
    fitted = small(class_prior=prior, n_heads=5, max_iter=6).fit(points)
    assert np.bincount(fitted.labels_).tolist() == [60, 160, 20]
    assert clustering_accuracy(fitted.labels_, truth) == 1


@pytest.mark.parametrize("prior", list(permutations([0.1, 0.3, 0.6])))
def test_a_larger_cluster_begins_at_a_seed_of_more_samples(monkeypatch, prior):
    first = []

    def spy(features, probs, **options):
        first.append(probs)
        return plain(features, probs, **options)

    plain = _training.prototype_labels
    monkeypatch.setattr(_training, "prototype_labels", spy)
    points, _ = blobs((20, 60, 120), seed=3)
    small(class_prior=prior, max_iter=1).fit(points)
    for probs in first[0]:
        sizes = np.bincount(probs.argmax(-1).numpy(), minlength=3)
        assert np.argsort(sizes).tolist() == np.argsort(prior).tolist()


def test_many_small_clusters():
    centres = np.random.RandomState(0).normal(0, 10, (50, 16))
    noise = np.random.RandomState(1).normal(0, 1, (50, 50, 16))
    points = (centres[:, None] + noise).reshape(-1, 16)
    labels = PrototypeClustering(50, n_heads=5, max_iter=8, random_state=0).fit_predict(points)
    assert clustering_accuracy(labels, np.repeat(np.arange(50), 50)) > 0.95


def test_digits_are_clustered_as_well_as_by_k_means():
    points, truth = load_digits(return_X_y=True)
    truth = truth.astype(np.int64)
    fitted = PrototypeClustering(10, n_heads=4, max_iter=8, random_state=0).fit(points)
    right = fitted.labels_ == _matched(fitted.labels_, truth)
    assert right[fitted.reliable_].mean() > right.mean() + 0.1
    means = KMeans(10, n_init=4, random_state=0).fit(points).labels_.astype(np.int64)
    assert clustering_accuracy(fitted.labels_, truth) > clustering_accuracy(means, truth) - 0.05


def _matched(labels, truth):
    """For every sample a cluster that holds mostly its class, or -1."""
    majority = np.array([np.bincount(truth[labels == c], minlength=10).argmax() for c in range(10)])
    return np.where(majority[labels] == truth, labels, -1)


# --- wrong calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"n_clusters": 91},
            ValueError,
            r"n_clusters: expected an int in \[1, 90\] \(n_samples=90",
        ),
        ({"n_clusters": 0}, ValueError, "n_clusters: expected an int in"),
        ({"n_clusters": 2.0}, TypeError, "n_clusters: expected an int"),
        ({"n_heads": 0}, ValueError, "n_heads: "),
        ({"hidden_features": 0}, ValueError, "hidden_features: "),
        ({"class_prior": [1, 2]}, ValueError, "class_prior: expected 3 positive numbers"),
        ({"class_prior": [1, 2, 0]}, ValueError, "class_prior: expected 3 positive numbers"),
        ({"class_prior": [1, 2, float("nan")]}, ValueError, "class_prior: "),
        (
            {"class_prior": "uniform"},
            TypeError,
            "class_prior: expected 3 positive numbers, got 'uniform'",
        ),
        ({"loss": "softmax"}, ValueError, "loss: expected one of 'double_softmax'"),
        ({"assignment": "best"}, ValueError, "assignment: expected one of"),
        ({"prototype_ratio": 0}, ValueError, "prototype_ratio: "),
        ({"label_ratio": 1.5}, ValueError, "label_ratio: "),
        ({"learning_rate": 0.0}, ValueError, "learning_rate: "),
        ({"batch_size": 0}, ValueError, "batch_size: "),
        ({"samples_per_iter": 2}, ValueError, r"samples_per_iter: expected an int in \[3, 90\]"),
        ({"max_iter": 0}, ValueError, "max_iter: "),
        ({"early_stopping": 1}, TypeError, "early_stopping: "),
        ({"tol": -1.0}, ValueError, "tol: "),
        ({"tol": float("inf")}, ValueError, "tol: "),
        ({"learning_rate": float("inf")}, ValueError, "learning_rate: "),
        ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change: "),
        ({"n_neighbors": 90}, ValueError, r"n_neighbors: expected an int in \[1, 89\]"),
        ({"reliability_threshold": 2}, ValueError, "reliability_threshold: "),
    ],
)
def test_a_wrong_option_is_named(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        small(**options).fit(blobs()[0])


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.full((9, 2), np.nan), "NaN"),
        (np.full((9, 2), np.inf), "infinity"),
        (np.ones(9), "2D array"),
        (np.ones((9, 0)), "0 feature"),
        (np.ones((0, 2)), "0 sample"),
        (torch.ones(9, 2, 2), "dim"),
    ],
)
def test_wrong_points_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        small().fit(points)


def test_other_features_than_fitted_are_refused():
    fitted = small().fit(blobs()[0])
    with pytest.raises(ValueError, match="expecting 4 features"):
        fitted.predict(np.ones((2, 3)))


def test_the_default_device_is_not_asked():
    points, _ = blobs()
    expected = small().fit(points)
    with torch.device("meta"):
        fitted = small().fit(points)
        probs = fitted.predict_proba(points)
    np.testing.assert_array_equal(fitted.labels_, expected.labels_)
    np.testing.assert_array_equal(probs, expected.predict_proba(points))


def test_by_default_half_a_cluster_is_asked():
    points, _ = blobs((20, 20, 20), num_features=2, spread=8.0)
    shares = small(max_iter=1).fit(points).reliability_  # N / (2 K) = 10 neighbours
    assert np.allclose(10 * shares, np.round(10 * shares))
    assert len(np.unique(shares)) > 2
    assert (np.round(10 * shares) % 2 == 1).any()
