"""Compiled in one graph, every operator but the two exclusive searches answers the same."""

import pytest
import torch
from comparisons import assert_identical
from strategies import METRICS, gaussian

from pseudolabel import (
    assign_labels,
    class_prototypes,
    label_confidence,
    nearest_prototype,
    prototype_labels,
    select_confident,
)

COMPILED_RULES = ("overlap", "sequential", "nearest")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def problem(dtype=torch.float32, heads=(2,), dim=17):
    """Rows in blocks of equals and saturated probabilities."""
    kinds = torch.arange(60) * 7 % 11
    features = gaussian(0, 11, dim, dtype=dtype)[kinds]
    probs = gaussian(1, *heads, 60, 3).mul(50).softmax(-1).to(dtype)
    return features, probs


def check(function, *inputs, backend="aot_eager"):
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    assert_identical(compiled(*inputs), function(*inputs))


@pytest.mark.parametrize("heads", [(), (2, 2)], ids=str)
def test_the_three_steps(heads):
    features, probs = problem(heads=heads)
    check(lambda p: select_confident(p, 5), probs)
    check(lambda p: select_confident(p, [5, 60, 1]), probs)
    indices = select_confident(probs, [5, 9, 1])
    check(class_prototypes, features, indices)
    prototypes = class_prototypes(features, indices)
    for metric in METRICS:
        check(lambda f, p, m=metric: nearest_prototype(f, p, metric=m), features, prototypes)


@pytest.mark.parametrize("rule", COMPILED_RULES)
@pytest.mark.parametrize("metric", METRICS)
def test_assign_labels(rule, metric):
    features, probs = problem()
    prototypes = class_prototypes(features, select_confident(probs, 5))

    def assign(f, p):
        return assign_labels(f, p, [9, 20, 4], assignment=rule, metric=metric)

    check(assign, features, prototypes)


@pytest.mark.parametrize(
    ("rule", "dtype"),
    [
        ("overlap", torch.float64),
        ("sequential", torch.float32),
        ("nearest", torch.bfloat16),
    ],
)
def test_prototype_labels(rule, dtype):
    def label(f, p):
        return prototype_labels(f, p, assignment=rule, prototype_ratio=0.29)

    check(label, *problem(dtype))


def test_a_prior_is_planned_before_the_graph():
    prior = [0.5, 0.3, 0.2]
    check(lambda f, p: prototype_labels(f, p, prior=prior, label_ratio=1 / 3), *problem())


def test_from_embeddings_to_confidences_in_one_graph():
    def pipeline(f, p):
        pseudo = prototype_labels(f, p, assignment="nearest")
        return (
            pseudo.dense(60),
            pseudo.multi_hot(60),
            label_confidence(pseudo),
            label_confidence(pseudo, kind="paper"),
            label_confidence(pseudo, kind="none"),
        )

    inputs = problem()
    compiled = torch.compile(pipeline, fullgraph=True, backend="aot_eager")
    for ours, expected in zip(compiled(*inputs), pipeline(*inputs), strict=True):
        assert torch.equal(ours, expected)


def test_another_size_is_not_the_first_one():
    """Counts follow the shapes: a second call with another M must not reuse the first plan."""
    compiled = torch.compile(
        lambda f, p: prototype_labels(f, p).indices, fullgraph=True, backend="aot_eager"
    )
    features, probs = problem()
    for size in (60, 41):
        part = features[:size], probs[:, :size]
        assert torch.equal(compiled(*part), prototype_labels(*part).indices)


def test_inductor_agrees_on_labels_and_ties():
    """Fused kernels may round prototypes differently, never tie differently."""
    features, probs = problem(heads=(2,), dim=33)

    def label(f, p):
        return prototype_labels(f, p, assignment="nearest")

    actual = torch.compile(label, fullgraph=True)(features, probs)
    expected = label(features, probs)
    assert torch.equal(actual.indices, expected.indices)
    assert torch.equal(actual.labels, expected.labels)
    torch.testing.assert_close(actual.similarity, expected.similarity)
    torch.testing.assert_close(actual.prototypes, expected.prototypes)
