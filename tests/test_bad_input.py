"""Every public operator called wrongly, one row a mistake.

A row starts from a valid call and replaces some arguments. The error must have the right type and
read ``<argument>: expected <what>, got <what came>``, where what came is recognisable. All messages
are in bad_input.txt, word for word, to be read in one go; as a script this file prints them anew.
"""

import inspect
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import pseudolabel as pl
from pseudolabel import distributed

M, K, D, H, B = 8, 3, 4, 2, 6

generator = torch.Generator().manual_seed(0)
FEATURES = torch.randn(M, D, generator=generator)
PROBS = torch.rand(H, M, K, generator=generator)
PROTOTYPES = torch.randn(H, K, D, generator=generator)
LOGITS = torch.randn(H, B, K, generator=generator)
LABELS = torch.tensor([[0, 1, 2, -1, 0, 1], [2, 2, 1, 0, -1, 0]])
WEIGHTS = torch.rand(H, B, generator=generator)
GRAPH = torch.tensor([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4], [7, 0], [6, 0]])
CLUSTERS = torch.tensor([0, 0, 0, 1, 1, 1, 2, -1])
ENTRIES = pl.assign_labels(FEATURES, PROTOTYPES, 2)

VALID: dict[str, tuple[Any, dict[str, Any]]] = {
    "select_confident": (pl.select_confident, {"probs": PROBS, "count": 2}),
    "class_prototypes": (
        pl.class_prototypes,
        {"features": FEATURES, "indices": torch.tensor([[[0, 1], [2, -1], [7, 3]]])},
    ),
    "assign_labels": (
        pl.assign_labels,
        {"features": FEATURES, "prototypes": PROTOTYPES, "count": 2},
    ),
    "prototype_labels": (pl.prototype_labels, {"features": FEATURES, "probs": PROBS}),
    "nearest_prototype": (
        pl.nearest_prototype,
        {"features": FEATURES, "prototypes": PROTOTYPES},
    ),
    "label_confidence": (pl.label_confidence, {"pseudo_labels": ENTRIES}),
    "PseudoLabels.dense": (ENTRIES.dense, {"num_samples": M}),
    "PseudoLabels.multi_hot": (ENTRIES.multi_hot, {"num_samples": M}),
    "nearest_neighbors": (pl.nearest_neighbors, {"features": FEATURES, "k": 3}),
    "reliability_ratio": (pl.reliability_ratio, {"labels": CLUSTERS, "neighbors": GRAPH}),
    "reliable_mask": (pl.reliable_mask, {"features": FEATURES, "labels": CLUSTERS, "k": 3}),
    "reliable_labels": (
        pl.reliable_labels,
        {"features": FEATURES, "labels": CLUSTERS, "k": 3, "probs": PROBS[0]},
    ),
    "double_softmax_cross_entropy": (
        pl.double_softmax_cross_entropy,
        {"logits": LOGITS, "labels": LABELS},
    ),
    "soft_contrastive_loss": (
        pl.soft_contrastive_loss,
        {"predictions": LOGITS.softmax(-1), "labels": LABELS, "confidence": WEIGHTS},
    ),
    "consistency_loss": (
        pl.consistency_loss,
        {"logits": LOGITS, "targets": LABELS, "weights": WEIGHTS},
    ),
    "entropy_regularizer": (pl.entropy_regularizer, {"probs": PROBS}),
    "FixedThreshold": (pl.FixedThreshold, {"threshold": 0.9}),
    "FixedThreshold.forward": (pl.FixedThreshold(), {"probs": PROBS[0]}),
    "SelfAdaptiveThreshold": (pl.SelfAdaptiveThreshold, {"num_classes": K}),
    "SelfAdaptiveThreshold.forward": (pl.SelfAdaptiveThreshold(K), {"probs": PROBS[0]}),
    "ClusterHeads": (
        pl.ClusterHeads,
        {"num_heads": H, "in_features": D, "num_classes": K, "hidden_features": 5},
    ),
    "ClusterHeads.forward": (pl.ClusterHeads(H, D, K), {"features": FEATURES}),
    "ClusterHeads.head": (pl.ClusterHeads(H, D, K).head, {"index": 1}),
    "select_head": (pl.select_head, {"losses": torch.tensor([2.0, 1.0])}),
    "clustering_accuracy": (
        pl.clustering_accuracy,
        {"predicted": CLUSTERS, "target": CLUSTERS},
    ),
    "balanced_clustering_accuracy": (
        pl.balanced_clustering_accuracy,
        {"predicted": CLUSTERS, "target": CLUSTERS},
    ),
    "normalized_mutual_info": (
        pl.normalized_mutual_info,
        {"predicted": CLUSTERS, "target": CLUSTERS},
    ),
    "adjusted_rand_index": (
        pl.adjusted_rand_index,
        {"predicted": CLUSTERS, "target": CLUSTERS},
    ),
    "InvertedLists": (pl.InvertedLists, {"recall": 0.9, "lists": 3, "seed": 0}),
    "check_values": (pl.check_values, {"enabled": None}),
}


class Row(NamedTuple):
    """One mistake."""

    operator: str
    argument: str  # the name the message starts with; "a|b" where either argument may be blamed
    error: type[Exception]
    shown: str  # what the message says came
    overrides: dict[str, Any]

    def __str__(self):
        return f"{self.operator}-{self.argument}-{self.shown}"


def row(operator: str, argument: str, error: type[Exception], shown: object, **overrides) -> Row:
    """A mistake in the argument named, whose new value is `overrides` or else `shown` itself."""
    return Row(operator, argument, error, str(shown), overrides or {argument: shown})


# --- rows that many operators share --------------------------------------------------------------


def changed(x, value):
    """A copy with another first element."""
    x = x.clone()
    x[(0,) * x.dim()] = value
    return x


def kinds(operator: str, *arguments: str, arrays: bool = False) -> Iterator[Row]:
    """A list where a tensor belongs, and a NumPy array where only tensors are taken."""
    for argument in arguments:
        value = VALID[operator][1][argument]
        yield row(operator, argument, TypeError, "list", **{argument: value.tolist()})
        yield row(operator, argument, TypeError, "None", **{argument: None})
        if not arrays:
            yield row(operator, argument, TypeError, "array", **{argument: value.numpy()})


def floats(operator: str, *arguments: str, arrays: bool = False) -> Iterator[Row]:
    """Integers, complex numbers, NaN and infinity where floats belong."""
    for argument in arguments:
        value = VALID[operator][1][argument]
        for dtype in (torch.int64, torch.bool, torch.complex64):
            shown = str(dtype).removeprefix("torch.")
            yield row(operator, argument, TypeError, shown, **{argument: value.to(dtype)})
            if arrays:
                array = value.to(dtype).numpy()
                yield row(operator, argument, TypeError, shown, **{argument: array})
        for bad in (math.nan, math.inf, -math.inf):
            yield row(operator, argument, ValueError, bad, **{argument: changed(value, bad)})
            if arrays:
                array = changed(value, bad).numpy()
                yield row(operator, argument, ValueError, bad, **{argument: array})


def integers(operator: str, *arguments: str, arrays: bool = False) -> Iterator[Row]:
    """Floats, bools and complex numbers where labels or indices belong."""
    for argument in arguments:
        value = VALID[operator][1][argument]
        for dtype in (torch.float32, torch.bool, torch.complex64):
            shown = str(dtype).removeprefix("torch.")
            yield row(operator, argument, TypeError, shown, **{argument: value.to(dtype)})
            if arrays:
                array = value.to(dtype).numpy()
                yield row(operator, argument, TypeError, shown, **{argument: array})
        # NumPy has no bfloat16, so a conversion to an array must not come before the check.
        yield row(operator, argument, TypeError, "bfloat16", **{argument: value.bfloat16()})


def probabilities(operator: str, argument: str = "probs") -> Iterator[Row]:
    """Probabilities outside [0, 1]."""
    value = VALID[operator][1][argument]
    for bad in (-0.25, 1.25):
        yield row(operator, argument, ValueError, bad, **{argument: changed(value, bad)})


def shapes(operator: str, argument: str, *values: Any) -> Iterator[Row]:
    """Tensors of a wrong shape, which the message shows."""
    for value in values:
        yield row(operator, argument, ValueError, tuple(value.shape), **{first(argument): value})


def first(argument: str) -> str:
    """The argument that is replaced, of those that may be blamed."""
    return argument.split("|")[0]


def elsewhere(operator: str, *arguments: str) -> Iterator[Row]:
    """Tensors on two devices: the others stay on the CPU."""
    names = [name for name, x in VALID[operator][1].items() if isinstance(x, torch.Tensor)]
    for argument in arguments:
        moved = VALID[operator][1][argument].to("meta")
        yield row(operator, "|".join(names), ValueError, "meta|cpu", **{argument: moved})


def options(operator: str, **choices: str) -> Iterator[Row]:
    """An option that does not exist, and no option at all."""
    for argument, unknown in choices.items():
        yield row(operator, argument, ValueError, repr(unknown), **{argument: unknown})
        yield row(operator, argument, (ValueError, TypeError), "None", **{argument: None})
        yield row(operator, argument, (ValueError, TypeError), "list", **{argument: [unknown]})


def flags(operator: str, *arguments: str) -> Iterator[Row]:
    """Something truthy where True or False belongs."""
    for argument in arguments:
        yield row(operator, argument, TypeError, "'no'", **{argument: "no"})
        yield row(operator, argument, TypeError, "1", **{argument: 1})


def reals(operator: str, argument: str, *outside: float) -> Iterator[Row]:
    """Numbers out of range, and what is no number."""
    for bad in (*outside, math.nan, math.inf):
        yield row(operator, argument, ValueError, bad, **{argument: bad})
    for bad in (True, "0.5", [0.5]):
        shown = "list" if isinstance(bad, list) else repr(bad)
        yield row(operator, argument, TypeError, shown, **{argument: bad})


def ints(operator: str, argument: str, *outside: int) -> Iterator[Row]:
    """Integers out of range, and what is no integer."""
    for bad in outside:
        yield row(operator, argument, ValueError, bad, **{argument: bad})
    for bad in (True, 2.0, "2"):
        yield row(operator, argument, TypeError, repr(bad), **{argument: bad})


def counts(operator: str) -> Iterator[Row]:
    """Numbers of samples per cluster."""
    yield from ints(operator, "count", 0, -1, M + 1)
    yield row(operator, "count", TypeError, None)
    for bad, shown in [
        ([1, 2], "2"),
        ([1, 2, 3, 1], "4"),
        ([1, 0, 1], "0"),
        ([1, M + 1, 1], M + 1),
    ]:
        yield row(operator, "count", ValueError, shown, count=bad)
    yield row(operator, "count", ValueError, "-2", count=torch.tensor([1, 2, -2]))
    yield row(operator, "count", ValueError, "(1, 3)", count=torch.tensor([[1, 2, 1]]))
    yield row(operator, "count", TypeError, "2.5", count=[1, 2.5, 1])
    yield row(operator, "count", TypeError, "True", count=[1, True, 1])
    yield row(operator, "count", TypeError, "1.0", count=torch.tensor([1.0, 2.0, 1.0]))


# --- the table -----------------------------------------------------------------------------------


def prototype_rows() -> Iterator[Row]:
    name = "select_confident"
    yield from kinds(name, "probs")
    yield from floats(name, "probs")
    yield from probabilities(name)
    yield from shapes(name, "probs", torch.rand(M), torch.tensor(0.5))
    yield from counts(name)

    name = "class_prototypes"
    indices = VALID[name][1]["indices"]
    yield from kinds(name, "features", "indices")
    yield from floats(name, "features")
    yield from integers(name, "indices")
    yield row(name, "indices", TypeError, "int32", indices=indices.int())
    yield from shapes(name, "features", FEATURES[0], FEATURES[None])
    yield from shapes(name, "indices", indices[0, 0])
    yield row(name, "indices", ValueError, M, indices=changed(indices, M))
    yield row(name, "indices", ValueError, -2, indices=changed(indices, -2))
    yield from elsewhere(name, "features", "indices")

    name = "assign_labels"
    yield from kinds(name, "features", "prototypes")
    yield from floats(name, "features", "prototypes")
    yield from shapes(name, "features", FEATURES[0], FEATURES[None])
    yield from shapes(name, "prototypes", PROTOTYPES[0, 0])
    yield from shapes(name, "prototypes|features", PROTOTYPES[..., 1:])
    yield from elsewhere(name, "features", "prototypes")
    yield from counts(name)
    yield from options(name, assignment="best", metric="dot")
    for assignment in ("greedy", "optimal", "sequential"):
        for count in (M // K + 1, [1, 1, M - 1]):
            yield row(name, "count", ValueError, "", count=count, assignment=assignment)

    name = "prototype_labels"
    yield from kinds(name, "features", "probs")
    yield from floats(name, "features", "probs")
    yield from probabilities(name)
    yield from shapes(name, "features", FEATURES[0], FEATURES[None])
    yield from shapes(name, "probs", torch.rand(M))
    yield from shapes(name, "probs|features", PROBS[:, 1:])
    yield row(
        name, "probs|features", ValueError, "", features=FEATURES[: K - 1], probs=PROBS[:, : K - 1]
    )
    yield from elsewhere(name, "features", "probs")
    yield from reals(name, "prototype_ratio", 0.0, -0.5, 1.5)
    yield from reals(name, "label_ratio", 0.0, -0.5, 1.5)
    yield from options(name, assignment="best", metric="dot")
    for bad in (0.0, -1.0, math.nan, math.inf):
        yield row(name, "prior", ValueError, bad, prior=[1.0, bad, 1.0])
        yield row(name, "prior", ValueError, bad, prior=torch.tensor([1.0, bad, 1.0]))
    yield row(name, "prior", ValueError, 2, prior=[0.5, 0.5])
    yield row(name, "prior", ValueError, 4, prior=np.ones(4))
    yield row(name, "prior", ValueError, (1, 3), prior=torch.ones(1, 3))
    yield row(name, "prior", TypeError, "'a'", prior=["a", "b", "c"])
    yield row(name, "prior", TypeError, 0.5)
    yield row(name, "prior", TypeError, "complex", prior=torch.ones(3, dtype=torch.complex64))

    name = "nearest_prototype"
    yield from kinds(name, "features", "prototypes")
    yield from floats(name, "features", "prototypes")
    yield from shapes(name, "features", FEATURES[0], FEATURES[None])
    yield from shapes(name, "prototypes", PROTOTYPES[0, 0], PROTOTYPES[:, :0])
    yield from shapes(name, "prototypes|features", PROTOTYPES[..., 1:])
    yield from elsewhere(name, "features", "prototypes")
    yield from options(name, metric="dot")

    name = "label_confidence"
    yield row(name, "pseudo_labels", TypeError, "tensor", pseudo_labels=ENTRIES.labels)
    yield row(name, "pseudo_labels", TypeError, "tuple", pseudo_labels=tuple(ENTRIES))
    yield from options(name, kind="distance")

    for name in ("PseudoLabels.dense", "PseudoLabels.multi_hot"):
        yield from ints(name, "num_samples", 0, -1, int(ENTRIES.indices.max()))


def reliability_rows() -> Iterator[Row]:
    yield row("InvertedLists", "recall", ValueError, 0.0)
    yield row("InvertedLists", "recall", ValueError, 1.5)
    yield row("InvertedLists", "recall", TypeError, "'high'", recall="high")
    yield from ints("InvertedLists", "lists", 0, -1)
    yield from ints("InvertedLists", "seed", -1)
    name = "nearest_neighbors"
    yield from kinds(name, "features", arrays=True)
    yield from floats(name, "features", arrays=True)
    yield from shapes(name, "features", FEATURES[0], FEATURES[None], FEATURES.numpy()[0])
    yield from ints(name, "k", 0, -1, M, M + 1)
    yield row(name, "k", TypeError, None)
    yield row(name, "k", ValueError, M + 1, k=M + 1, include_self=True)
    yield row(name, "k", ValueError, M + 1, k=M + 1, queries=FEATURES[:2])
    yield from options(name, metric="dot", backend="annoy")
    yield from flags(name, "include_self")
    yield row(name, "backend", TypeError, "object", backend=object())
    yield from ints(name, "memory_limit", 0, -1, 1000)
    yield from flags(name, "progress")
    yield row(name, "out", TypeError, "3", out=3)
    for queries in (FEATURES[0], FEATURES[:2, 1:]):
        yield row(name, "queries", ValueError, tuple(queries.shape), queries=queries)
    yield row(name, "queries", TypeError, "list", queries=FEATURES[:2].tolist())
    yield row(name, "queries", TypeError, "int64", queries=FEATURES[:2].long())
    yield row(name, "queries", ValueError, "nan", queries=changed(FEATURES, math.nan))
    yield row(name, "queries|features", ValueError, "meta", queries=FEATURES.to("meta"))
    yield row(name, "include_self|queries", ValueError, "", queries=FEATURES[:2], include_self=True)

    name = "reliability_ratio"
    yield from kinds(name, "labels", "neighbors", arrays=True)
    yield from integers(name, "labels", arrays=True)
    yield from integers(name, "neighbors")
    yield row(name, "labels", ValueError, -2, labels=changed(CLUSTERS, -2))
    yield from shapes(name, "labels", torch.tensor(0))
    yield from shapes(name, "neighbors|labels", GRAPH[1:])
    yield row(name, "labels", ValueError, "(0,)", labels=CLUSTERS[:0], neighbors=GRAPH[:0])
    yield from shapes(name, "neighbors", GRAPH[0], GRAPH[:, :0])
    for bad in (-1, M):
        yield row(name, "neighbors", ValueError, bad, neighbors=changed(GRAPH, bad))
    yield from elsewhere(name, "labels", "neighbors")

    for name in ("reliable_mask", "reliable_labels"):
        yield from kinds(name, "features", "labels", arrays=True)
        yield from floats(name, "features", arrays=True)
        yield from integers(name, "labels", arrays=True)
        yield from shapes(name, "features", FEATURES[0], FEATURES[None])
        yield from shapes(name, "labels", torch.tensor(0))
        yield from shapes(name, "labels|features", CLUSTERS[1:])
        yield row(name, "labels", ValueError, -2, labels=changed(CLUSTERS, -2))
        yield from ints(name, "k", 0, -1, M, M + 1)
        yield from reals(name, "threshold", -0.1, 1.1)
        yield from flags(name, "strict", "include_self", "progress")
        yield from ints(name, "memory_limit", 0, 1000)
        yield from options(name, metric="dot", backend="annoy")
        yield row(name, "backend", TypeError, "object", backend=object())
        yield from shapes(name, "neighbors", GRAPH[0], GRAPH[1:], GRAPH[:, :0])
        yield row(name, "neighbors", TypeError, "float32", neighbors=GRAPH.float())
        yield row(name, "neighbors", TypeError, "list", neighbors=GRAPH.tolist())
        for bad in (-1, M):
            yield row(name, "neighbors", ValueError, bad, neighbors=changed(GRAPH, bad))
        yield row(name, "labels|features", ValueError, "meta", labels=CLUSTERS.to("meta"))

    name = "reliable_labels"
    yield from shapes(name, "labels", CLUSTERS.expand(2, M))
    yield from floats(name, "probs")
    yield from probabilities(name)
    yield row(name, "probs", TypeError, "list", probs=PROBS[0].tolist())
    yield from shapes(name, "probs", PROBS[0, 0], PROBS)
    yield from shapes(name, "probs|features", PROBS[0, 1:])
    yield row(name, "labels", ValueError, K, labels=changed(CLUSTERS, K))
    yield from reals(name, "min_confidence", -0.1, 1.1)
    yield row(name, "probs|min_confidence", ValueError, "", probs=None, min_confidence=0.99)
    yield from flags(name, "balance")
    yield row(name, "generator", TypeError, "0", balance=True, generator=0)


def loss_rows() -> Iterator[Row]:
    for name, scores, labels in [
        ("double_softmax_cross_entropy", "logits", "labels"),
        ("soft_contrastive_loss", "predictions", "labels"),
        ("consistency_loss", "logits", "targets"),
    ]:
        value = VALID[name][1][scores]
        yield from kinds(name, scores, labels)
        yield from floats(name, scores)
        yield from integers(name, labels)
        yield row(name, labels, TypeError, "int32", **{labels: LABELS.int()})
        yield from shapes(name, scores, value[0, 0], torch.tensor(1.0))
        yield from shapes(name, f"{labels}|{scores}", LABELS[:, 1:], LABELS[0], LABELS[..., None])
        for bad in (-2, K, K + 7):
            yield row(name, labels, ValueError, bad, **{labels: changed(LABELS, bad)})
        yield row(name, labels, ValueError, -100, **{labels: changed(LABELS, -100)})
        yield from elsewhere(name, scores, labels)
        yield from options(name, reduction="average")
        for bad in (0.5, True, None, "0"):
            yield row(name, "ignore_index", TypeError, repr(bad), ignore_index=bad)

    name = "soft_contrastive_loss"
    yield from probabilities(name, "predictions")
    yield from floats(name, "confidence")
    yield from probabilities(name, "confidence")
    yield row(name, "confidence", TypeError, "list", confidence=WEIGHTS.tolist())
    yield row(name, "confidence", TypeError, "array", confidence=WEIGHTS.numpy())
    yield from shapes(name, "confidence", WEIGHTS[0], WEIGHTS[:, 1:], WEIGHTS[..., None])
    yield from elsewhere(name, "confidence")
    yield from reals(name, "temperature", 0.0, -0.5)
    yield from options(name, confidence_mode="power")
    yield from flags(name, "negatives", "include_positive")
    ids = torch.arange(B)
    yield from shapes(name, "sample_ids", ids[1:], ids.expand(3, B), torch.tensor(0))
    yield row(name, "sample_ids", TypeError, "float32", sample_ids=ids.float())
    yield row(name, "sample_ids", TypeError, "list", sample_ids=ids.tolist())
    yield row(name, "sample_ids", TypeError, "array", sample_ids=ids.numpy())
    yield row(name, "sample_ids", ValueError, "meta", sample_ids=ids.to("meta"))

    name = "consistency_loss"
    yield from floats(name, "weights")
    yield row(name, "weights", TypeError, "list", weights=WEIGHTS.tolist())
    yield row(name, "weights", TypeError, "array", weights=WEIGHTS.numpy())
    yield row(name, "weights", ValueError, -0.5, weights=changed(WEIGHTS, -0.5))
    yield from shapes(name, "weights", WEIGHTS[0], WEIGHTS[:, 1:], WEIGHTS[..., None])
    yield from elsewhere(name, "weights")

    name = "entropy_regularizer"
    yield from kinds(name, "probs")
    yield from floats(name, "probs")
    yield from probabilities(name)
    yield from shapes(name, "probs", PROBS[0, 0], torch.tensor(0.5))


def module_rows() -> Iterator[Row]:
    name = "FixedThreshold"
    yield from reals(name, "threshold", -0.1, 1.1)
    yield row(name, "threshold", TypeError, None)
    yield from flags(name, "strict")

    name = "SelfAdaptiveThreshold"
    yield from ints(name, "num_classes", 0, -1)
    yield from reals(name, "momentum", -0.1, 1.1)
    yield from flags(name, "strict")

    for name in ("FixedThreshold.forward", "SelfAdaptiveThreshold.forward"):
        yield from kinds(name, "probs")
        yield from floats(name, "probs")
        yield from probabilities(name)
        yield from shapes(name, "probs", PROBS, PROBS[0, 0])
    yield from shapes("SelfAdaptiveThreshold.forward", "probs", PROBS[0, :, 1:])

    name = "ClusterHeads"
    for argument in ("num_heads", "in_features", "num_classes", "hidden_features"):
        yield from ints(name, argument, 0, -1)
    yield row(name, "norm", ValueError, "'layer'", norm="layer")

    name = "ClusterHeads.forward"
    yield from kinds(name, "features")
    yield row(name, "features", TypeError, "int64", features=FEATURES.long())
    yield row(name, "features", TypeError, "float64", features=FEATURES.double())
    yield from shapes(
        name,
        "features",
        FEATURES[0],
        FEATURES[:, 1:],
        FEATURES.expand(H + 1, M, D),
        FEATURES.expand(1, H, M, D),
    )
    yield from ints("ClusterHeads.head", "index", H, -H - 1)

    name = "select_head"
    yield from kinds(name, "losses")
    yield row(name, "losses", TypeError, "int64", losses=torch.tensor([2, 1]))
    yield from shapes(name, "losses", torch.rand(2, 2), torch.tensor(1.0), torch.rand(0))
    yield row(name, "losses", ValueError, "", losses=torch.tensor([math.nan, math.nan]))


def metric_rows() -> Iterator[Row]:
    accuracies = ("clustering_accuracy", "balanced_clustering_accuracy")
    for name in (*accuracies, "normalized_mutual_info", "adjusted_rand_index"):
        for argument, other in [("predicted", "target"), ("target", "predicted")]:
            yield from kinds(name, argument, arrays=True)
            yield from integers(name, argument, arrays=True)
            yield row(name, argument, ValueError, -2, **{argument: changed(CLUSTERS, -2)})
            huge = np.full(M, 2**64 - 1, dtype=np.uint64)
            yield row(name, argument, ValueError, 2**64 - 1, **{argument: huge})
            yield row(name, argument, ValueError, "(1, 8)", **{argument: CLUSTERS[None]})
            yield from shapes(name, f"{argument}|{other}", CLUSTERS[1:])
    for bad in ("yes", 1):
        yield row("check_values", "enabled", TypeError, repr(bad), enabled=bad)


def empty_rows() -> Iterator[Row]:
    """No class, no row or no dimension at all."""
    labels = torch.full((B,), -1)
    yield from shapes("select_confident", "probs", torch.rand(M, 0))
    yield from shapes("class_prototypes", "features", FEATURES[:, :0], FEATURES[:0])
    yield from shapes("entropy_regularizer", "probs", torch.rand(B, 0))
    yield from shapes("FixedThreshold.forward", "probs", torch.rand(B, 0))
    none = torch.rand(B, 0)
    name = "double_softmax_cross_entropy"
    yield row(name, "logits", ValueError, (B, 0), logits=none, labels=labels)
    name, options = "soft_contrastive_loss", {"labels": labels, "confidence": None}
    yield row(name, "predictions", ValueError, (B, 0), predictions=none, **options)
    name, options = "consistency_loss", {"targets": labels, "weights": None}
    yield row(name, "logits", ValueError, (B, 0), logits=none, **options)


ROWS = [
    *prototype_rows(),
    *reliability_rows(),
    *loss_rows(),
    *module_rows(),
    *metric_rows(),
    *empty_rows(),
]


MESSAGES = Path(__file__).with_name("bad_input.txt").read_text().splitlines()


def complaint(mistake: Row) -> re.Pattern[str]:
    """The form every message has; where either argument may be blamed, either may be shown."""
    what = "(meta|cpu)" if mistake.shown == "meta|cpu" else re.escape(mistake.shown)
    either = "|" in mistake.argument
    said = rf"expected (?=.*{what}).+, got .+" if either else rf"expected .+, got .*{what}"
    return re.compile(rf"^({mistake.argument}): {said}", re.DOTALL)


def said_of(mistake: Row) -> str:
    function, arguments = VALID[mistake.operator]
    with pytest.raises(mistake.error) as caught:
        function(**{**arguments, **mistake.overrides})
    return str(caught.value)


@pytest.mark.parametrize("mistake", ROWS, ids=str)
def test_a_mistake_is_named(mistake):
    message = said_of(mistake)
    assert complaint(mistake).search(message), message
    assert f"{mistake.operator}: {message}" in MESSAGES


def test_every_message_on_file_is_still_given():
    assert sorted({f"{row.operator}: {said_of(row)}" for row in ROWS}) == MESSAGES


@pytest.mark.parametrize("name", VALID)
def test_the_call_without_a_mistake_passes(name):
    function, arguments = VALID[name]
    function(**arguments)


@pytest.mark.parametrize("name", VALID)
def test_the_table_covers_the_operator(name):
    assert any(mistake.operator == name for mistake in ROWS)


def test_the_table_covers_every_public_operator():
    results = {"Neighbors", "RecallReport", "ReliabilityReport", "ReliableLabels", "Selection"}
    protocols = {"NeighborBackend"}
    assert {name.partition(".")[0] for name in VALID} == set(pl.__all__) - results - protocols


def test_the_table_covers_every_option():
    """Each parameter of each operator is the argument of at least one row."""
    named = {
        (mistake.operator, argument) for mistake in ROWS for argument in mistake.argument.split("|")
    }
    unchecked = {("SelfAdaptiveThreshold", "process_group")}
    for name, (function, _) in VALID.items():
        called = function.forward if isinstance(function, torch.nn.Module) else function
        for parameter in inspect.signature(called).parameters:
            assert (name, parameter) in named | unchecked, f"no row for {name}({parameter})"


def sharded(mistake):
    """The call over shards that makes the same mistake; None where there is none."""
    if mistake.operator not in distributed.__all__:
        return None
    call = getattr(distributed, mistake.operator)
    arguments = {**VALID[mistake.operator][1], **mistake.overrides}
    takes = arguments.keys() <= inspect.signature(call).parameters.keys()
    arrays = any(isinstance(value, np.ndarray) for value in arguments.values())
    return partial(call, **arguments) if takes and not arrays else None


@pytest.mark.parametrize("mistake", list(filter(sharded, ROWS)), ids=str)
def test_a_mistake_is_named_over_shards_too(mistake):
    with pytest.raises(mistake.error, match=complaint(mistake)):
        sharded(mistake)()


def test_values_outside_their_range_pass_when_they_are_not_checked():
    probs = torch.tensor([[2.0, -1.0], [0.5, 0.5]])
    with pl.check_values(False):
        assert pl.select_confident(probs, 1).tolist() == [[0], [1]]
        with pytest.raises(ValueError, match=r"^count: "):
            pl.select_confident(probs, 3)  # shapes and counts are checked all the same
    with pytest.raises(ValueError, match=r"^probs: "):
        pl.select_confident(probs, 1)


@pytest.mark.parametrize("name", [name for name in VALID if inspect.isfunction(VALID[name][0])])
def test_checks_of_values_change_no_answer(name):
    function, arguments = VALID[name]
    with pl.check_values(False):
        unchecked = function(**arguments)
    assert repr(unchecked) == repr(function(**arguments))


def test_the_setting_of_value_checks_nests_and_comes_back_after_an_error():
    bad = torch.tensor([[2.0]])
    with pl.check_values(False):
        with pl.check_values(True), pytest.raises(ValueError, match=r"^probs: "):
            pl.select_confident(bad, 1)
        with pytest.raises(RuntimeError, match="inside"), pl.check_values(None):
            raise RuntimeError("inside")
        pl.select_confident(bad, 1)
    with pytest.raises(ValueError, match=r"^probs: "):
        pl.select_confident(bad, 1)


def test_a_setting_of_value_checks_can_be_used_again():
    bad = torch.tensor([[2.0]])
    try:
        unchecked = pl.check_values(False)
        for _ in range(2):
            pl.check_values(True)
            with unchecked:
                pl.select_confident(bad, 1)
    finally:
        pl.check_values(None)


def test_the_setting_of_value_checks_can_stay():
    bad = torch.tensor([[2.0]])
    try:
        pl.check_values(False)
        pl.select_confident(bad, 1)
    finally:
        pl.check_values(None)
    with pytest.raises(ValueError, match=r"^probs: "):
        pl.select_confident(bad, 1)


if __name__ == "__main__":
    print(*sorted({f"{row.operator}: {said_of(row)}" for row in ROWS}), sep="\n")  # noqa: T201
