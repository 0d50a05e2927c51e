"""SPICE Eq. 2-4 and RPSC Eq. 1-3 for one head, as literally as Python allows."""

import itertools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from oracles.similarity import as_written, similarity


class Entries(NamedTuple):
    """Pseudo-labels of one head: three flat lists, cluster by cluster; -1 and -inf where free."""

    indices: list[int]
    labels: list[int]
    similarity: list[float]


def _counts(count, num_clusters) -> list[int]:
    return [count] * num_clusters if isinstance(count, int) else list(count)


# Eq. 2: who is confident, and how many -----------------------------------------------------------


def select_confident(probs, count) -> list[list[int]]:
    """The `count` most probable samples of every cluster; ties: the lowest index."""
    num_clusters = len(probs[0])
    chosen = []
    for cluster, size in enumerate(_counts(count, num_clusters)):
        ranking = sorted(range(len(probs)), key=lambda i: (-float(probs[i][cluster]), i))
        chosen.append(ranking[:size])
    return chosen


def shares(num_samples, num_clusters, prior=None) -> list[int]:
    """n_c: M // K, or the floor of M times the prior, at least 1, cut back to M in all."""
    if prior is None:
        return [num_samples // num_clusters] * num_clusters
    prior = [as_written(p) for p in prior]
    sizes = [max(1, math.floor(num_samples * p / sum(prior))) for p in prior]
    while sum(sizes) > num_samples:
        sizes[sizes.index(max(sizes))] -= 1
    return sizes


def part(ratio, share) -> int:
    """max(1, floor(ratio * n_c)), exactly."""
    return max(1, math.floor(as_written(ratio) * Fraction(share)))


# Eq. 3: the prototypes ---------------------------------------------------------------------------


def unit_rows(features) -> np.ndarray:
    """Rows divided by their length; a zero row stays zero."""
    rows = np.asarray(features, dtype=np.float64)
    return np.array([row / (math.hypot(*row) or 1.0) for row in rows]).reshape(rows.shape)


def class_prototypes(features, chosen) -> list[list[float]]:
    """The plain mean of the chosen rows; -1 is skipped, nobody chosen gives zeros."""
    rows = np.asarray(features, dtype=np.float64)
    means = []
    for members in chosen:
        members = [i for i in members if i >= 0]
        sums = [math.fsum(rows[i][d] for i in members) for d in range(rows.shape[1])]
        means.append([total / max(len(members), 1) for total in sums])
    return means


# Eq. 4: who gets which label ---------------------------------------------------------------------


def _nearest_first(row, samples) -> list[int]:
    return sorted(samples, key=lambda i: (-row[i], i))


def _overlap(table, counts):
    return [_nearest_first(row, range(len(row)))[:n] for row, n in zip(table, counts, strict=True)]


def _greedy(table, counts):
    taken = [[] for _ in table]
    free = set(range(len(table[0])))
    for _ in range(sum(counts)):
        _, cluster, sample = min(
            (-table[c][i], c, i)
            for c in range(len(table))
            if len(taken[c]) < counts[c]
            for i in free
        )
        taken[cluster].append(sample)
        free.remove(sample)
    return taken


def _optimal(table, counts):
    owners = [c for c, n in enumerate(counts) for _ in range(n)]
    rows, columns = linear_sum_assignment(np.array([table[c] for c in owners]), maximize=True)
    taken = [[] for _ in table]
    for row, sample in zip(rows.tolist(), columns.tolist(), strict=True):
        taken[owners[row]].append(sample)
    return taken


def _sequential(table, counts):
    free = set(range(len(table[0])))
    taken = []
    for row, n in zip(table, counts, strict=True):
        taken.append(_nearest_first(row, free)[:n])
        free -= set(taken[-1])
    return taken


def _closest_keeps(table, counts):
    chosen = _overlap(table, counts)
    keep = [[] for _ in table]
    for sample in range(len(table[0])):
        claims = [c for c in range(len(table)) if sample in chosen[c]]
        if claims:
            keep[min(claims, key=lambda c: (-table[c][sample], c))].append(sample)
    return keep


_RULES = {
    "overlap": _overlap,
    "greedy": _greedy,
    "optimal": _optimal,
    "sequential": _sequential,
    "nearest": _closest_keeps,
}


def assign(table, count, rule) -> Entries:
    """The entries under a rule, from a K x M table of similarities."""
    table = [[float(x) for x in row] for row in table]
    counts = _counts(count, len(table))
    indices, labels, values = [], [], []
    for cluster, (taken, size) in enumerate(zip(_RULES[rule](table, counts), counts, strict=True)):
        taken = _nearest_first(table[cluster], taken)
        free = size - len(taken)
        indices += taken + [-1] * free
        labels += [cluster] * len(taken) + [-1] * free
        values += [table[cluster][i] for i in taken] + [-math.inf] * free
    return Entries(indices, labels, values)


def prototype_labels(
    features,
    probs,
    *,
    prototype_ratio=0.5,
    label_ratio=1.0,
    prior=None,
    assignment="overlap",
    metric="cosine",
):
    """The three steps in a row: (entries, prototypes, table of similarities, chosen)."""
    rows = np.asarray(features, dtype=np.float64)
    if metric == "cosine":
        rows = unit_rows(rows)
    sizes = shares(len(rows), len(probs[0]), prior)
    chosen = select_confident(probs, [part(prototype_ratio, n) for n in sizes])
    prototypes = class_prototypes(rows, chosen)
    table = [[similarity(metric, row, prototype) for row in rows] for prototype in prototypes]
    entries = assign(table, [part(label_ratio, n) for n in sizes], assignment)
    return entries, prototypes, table, chosen


def decided(table, rows, prototypes, tolerance) -> bool:
    """Whether no choice hangs on rounding: what is within `tolerance` comes from equal inputs.

    Only entries that compete matter: two samples of one cluster, two clusters of one sample.
    `rows` and `prototypes` name what is equal (any hashable keys).
    """

    def clear(values, names):
        order = sorted(zip(values, names, strict=True))
        return all(
            name_a == name_b or b - a > tolerance
            for (a, name_a), (b, name_b) in itertools.pairwise(order)
        )

    return all(clear(row, rows) for row in table) and all(
        clear(column, prototypes) for column in zip(*table, strict=True)
    )


# What the entries are turned into ----------------------------------------------------------------


def dense(entries, num_samples) -> list[int]:
    """One label a sample: of several the most similar, then the lowest; -1 for none."""
    best = {}
    for sample, label, value in zip(*entries, strict=True):
        if sample >= 0:
            best[sample] = min(best.get(sample, (math.inf, -1)), (-value, label))
    return [best[i][1] if i in best else -1 for i in range(num_samples)]


def multi_hot(entries, num_samples, num_clusters) -> list[list[bool]]:
    """Which labels every sample carries."""
    pairs = set(zip(entries.indices, entries.labels, strict=True))
    return [[(i, c) in pairs for c in range(num_clusters)] for i in range(num_samples)]


def nearest_prototype(table) -> list[int]:
    """RPSC Eq. 6: the most similar prototype of every sample; ties: the lowest cluster."""
    return [min(range(len(table)), key=lambda c: (-table[c][i], c)) for i in range(len(table[0]))]


def label_confidence(entries, metric, kind="one_minus") -> list[float]:
    """RPSC Eq. 3, from the similarities: distance over the largest distance of the cluster."""

    def distance(value):
        far = -value if metric == "euclidean" else math.sqrt(max(2 - 2 * value, 0.0))
        return 0.0 if far < 1e-6 else far

    confidences = []
    for label, value in zip(entries.labels, entries.similarity, strict=True):
        if label < 0:
            confidences.append(0.0)
            continue
        members = zip(entries.labels, entries.similarity, strict=True)
        largest = max(distance(v) for other, v in members if other == label)
        d = distance(value) / largest if largest > 0 else 0.0
        confidences.append({"one_minus": 1 - d, "paper": d, "none": 1.0}[kind])
    return confidences
