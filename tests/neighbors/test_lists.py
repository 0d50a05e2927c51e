"""Approximate search: as good as it says, and an answer like any other."""

import sys

import pytest
import torch
from comparisons import assert_identical
from strategies import METRICS, gaussian

from pseudolabel import InvertedLists, nearest_neighbors, reliable_labels, reliable_mask

pytest.importorskip("faiss")
both_metrics = pytest.mark.parametrize("metric", METRICS)


def blobs(size, dim=16, *, spread=0.5):
    return (gaussian(0, 30, dim)[torch.arange(size) % 30] + spread * gaussian(1, size, dim)).float()


def recall(found, exact):
    pairs = zip(found.indices.tolist(), exact.indices.tolist(), strict=True)
    return sum(len({*a} & {*b}) for a, b in pairs) / exact.indices.numel()


@both_metrics
@pytest.mark.parametrize("target", [0.5, 0.9, 0.99])
def test_the_recall_asked_for_is_measured_and_reached(metric, target):
    features = blobs(6000)
    exact = nearest_neighbors(features, 10, metric=metric)
    backend = InvertedLists(target)
    found = nearest_neighbors(features, 10, metric=metric, backend=backend)
    report = backend.report
    assert report.recall >= target == report.target
    assert abs(recall(found, exact) - report.recall) < 0.03
    assert report.queries >= 500
    if target < 0.9:
        assert report.compared < 0.5


def test_more_recall_takes_more_probes():
    features, reports = blobs(5000), []
    for target in (0.5, 0.9, 0.99, 1.0):
        backend = InvertedLists(target)
        nearest_neighbors(features, 10, backend=backend)
        reports.append(backend.report)
    assert [r.probes for r in reports] == sorted(r.probes for r in reports)
    assert reports[0].compared < reports[-1].compared


@both_metrics
@pytest.mark.parametrize("include_self", [False, True])
def test_what_is_found_is_ranked_like_the_exact_answer(metric, include_self):
    """Similarities fall, ties rise, and are those of the pairs; the sample itself as asked."""
    features = blobs(3000)
    features[::50] = features[0]
    options = {"metric": metric, "include_self": include_self}
    found = nearest_neighbors(features, 8, backend=InvertedLists(0.9), **options)
    own = torch.arange(3000).unsqueeze(1)
    assert (found.indices == own).sum().item() == 3000 * include_self
    assert (found.similarity.diff(dim=1) <= 0).all()
    tied = found.similarity.diff(dim=1) == 0
    assert (found.indices.diff(dim=1) > 0)[tied].all()
    exact = nearest_neighbors(features, 2999, metric=metric)
    for row in (1, 50, 2999):
        similarity = dict(
            zip(exact.indices[row].tolist(), exact.similarity[row].tolist(), strict=True)
        )
        for index, value in zip(
            found.indices[row].tolist(), found.similarity[row].tolist(), strict=True
        ):
            assert index == row or similarity[index] == value


@both_metrics
def test_the_default_device_is_not_asked(metric):
    features = blobs(2500)
    expected = nearest_neighbors(features, 5, metric=metric, backend=InvertedLists(0.8))
    with torch.device("meta"):
        found = nearest_neighbors(features, 5, metric=metric, backend=InvertedLists(0.8))
    assert_identical(found, expected)


def test_all_lists_are_the_exact_answer():
    features = blobs(2500)
    features[::40] = features[7]
    expected = nearest_neighbors(features, 12)
    assert_identical(nearest_neighbors(features, 12, backend=InvertedLists(1.0, lists=1)), expected)


def test_what_is_compared_is_what_lies_in_the_lists_probed():
    centres = torch.tensor([[100.0], [-100.0]]).repeat_interleave(1200, 0)
    features = centres + gaussian(2, 2400, 6, dtype=torch.float32)
    backend = InvertedLists(0.5, lists=2)
    nearest_neighbors(features, 5, metric="euclidean", backend=backend)
    report = backend.report
    assert (report.lists, report.probes, report.compared) == (2, 1, 0.5)


def test_queries_of_their_own():
    features, queries = blobs(3000), blobs(700, spread=0.7)
    exact = nearest_neighbors(features, 10, queries=queries)
    found = nearest_neighbors(features, 10, queries=queries, backend=InvertedLists(0.95))
    assert recall(found, exact) > 0.9


def test_few_samples_and_many_neighbours_are_no_special_case():
    for size, k in ((2, 1), (5, 4), (60, 59), (300, 200)):
        features = blobs(size)
        found = nearest_neighbors(features, k, backend=InvertedLists(0.999999))
        assert recall(found, nearest_neighbors(features, k)) > 0.99


def test_masks_and_ratios_agree_with_the_graph():
    features, labels = blobs(4000), torch.arange(4000) % 30
    labels[::7] = 3
    backend = InvertedLists(0.95)
    graph = nearest_neighbors(features, 20, backend=backend)
    options = {"k": 20, "threshold": 0.8}
    expected = reliable_mask(features, labels, neighbors=graph, **options)
    assert 0 < expected.sum() < 4000
    assert torch.equal(reliable_mask(features, labels, backend=backend, **options), expected)
    given = reliable_labels(features, labels, backend=backend, **options)
    assert_identical(given, reliable_labels(features, labels, neighbors=graph, **options))


def test_the_same_seed_finds_the_same():
    features = blobs(3000)
    first = nearest_neighbors(features, 5, backend=InvertedLists(0.6, seed=3))
    assert_identical(nearest_neighbors(features, 5, backend=InvertedLists(0.6, seed=3)), first)


@pytest.mark.parametrize(
    ("error", "argument", "options"),
    [
        (ValueError, "recall", {"recall": 0.0}),
        (ValueError, "recall", {"recall": 1.1}),
        (TypeError, "recall", {"recall": "high"}),
        (ValueError, "lists", {"lists": 0}),
        (TypeError, "lists", {"lists": 2.0}),
        (ValueError, "seed", {"seed": -1}),
    ],
)
def test_wrong_arguments_are_named(error, argument, options):
    with pytest.raises(error, match=f"^{argument}: expected"):
        InvertedLists(**options)


def test_without_faiss_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="faiss-cpu"):
        InvertedLists()


def test_a_backend_prints_its_options():
    assert repr(InvertedLists(0.5, lists=7)) == "InvertedLists(recall=0.5, lists=7, seed=0)"
