"""Slow, literal references for the losses, thresholds, heads and metrics.

Everything here is scalar Python over nested lists, written from the papers' equations and free of
the library. One call handles one head: a batch of rows, one label a row.

Equations: SPICE, Niu et al., IEEE TIP 2022 (double softmax, Eq. 8 and 9); RPSC, Liu et al., AAAI
2024 (soft contrastive loss, Eq. 4 and 5); FixMatch, Sohn et al., NeurIPS 2020; FreeMatch, Wang et
al., ICLR 2023 (self-adaptive thresholds).
"""

import itertools
import math
from collections import Counter

Row = list[float]


def softmax(row: Row) -> Row:
    """exp(z_j) / sum_k exp(z_k), shifted so that nothing overflows."""
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    total = math.fsum(powers)
    return [power / total for power in powers]


def log_sum_exp(values: Row) -> float:
    """log sum_k exp(v_k), shifted so that nothing overflows."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def cosine(a: Row, b: Row) -> float:
    """The cosine of the angle between two vectors; 0 where either is zero."""
    norms = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def reduced(values: Row, valid: list[bool], reduction: str, *, whole_batch: bool = False) -> float:
    """The sum of the entries, or their mean over the valid ones (or over the whole batch)."""
    total = math.fsum(values)
    if reduction == "sum":
        return total
    entries = len(values) if whole_batch else sum(valid)
    return total / entries if entries else 0.0


# --- losses: one number for each entry, 0 where the label is ignored -----------------------------


def double_softmax_cross_entropy(
    logits: list[Row], labels: list[int], *, ignored: tuple[int, ...] = (-1,)
) -> Row:
    """-log softmax(softmax(z))_y."""
    return [
        0.0 if label in ignored else log_sum_exp(softmax(row)) - softmax(row)[label]
        for row, label in zip(logits, labels, strict=True)
    ]


def double_softmax_gradient(row: Row, label: int) -> Row:
    """dL/dz_j = p_j (g_j - sum_k p_k g_k), with p = softmax(z) and g = softmax(p) - onehot(y)."""
    p = softmax(row)
    g = [q - (j == label) for j, q in enumerate(softmax(p))]
    shared = math.fsum(p_k * g_k for p_k, g_k in zip(p, g, strict=True))
    return [p_j * (g_j - shared) for p_j, g_j in zip(p, g, strict=True)]


def soft_contrastive_loss(
    predictions: list[Row],
    labels: list[int],
    confidence: Row | None = None,
    *,
    temperature: float = 0.5,
    confidence_mode: str = "scale",
    negatives: bool = True,
    include_positive: bool = False,
    sample_ids: list[int] | None = None,
    ignored: tuple[int, ...] = (-1,),
) -> Row:
    """RPSC Eq. 4: -log of exp(s(z_i, target_i) / tau) / sum_{y_k != y_i} exp(s(z_i, z_k) / tau).

    "scale" multiplies the numerator's cosine by d_i, "weight" multiplies the finished loss by it,
    "smooth" aims at d_i onehot + (1 - d_i) / K, and "literal" scales the target, which a cosine
    does not see. Without any negative the denominator is left out.
    """
    losses = []
    for i, (z_i, label_i) in enumerate(zip(predictions, labels, strict=True)):
        if label_i in ignored:
            losses.append(0.0)
            continue
        d_i = 1.0 if confidence is None else confidence[i]
        onehot = [float(c == label_i) for c in range(len(z_i))]
        if confidence_mode == "smooth":
            target = [d_i * hot + (1.0 - d_i) / len(z_i) for hot in onehot]
        else:
            target = onehot
        attraction = cosine(z_i, target) / temperature
        if confidence_mode == "scale":
            attraction *= d_i

        repulsions = [
            cosine(z_i, z_k) / temperature
            for k, (z_k, label_k) in enumerate(zip(predictions, labels, strict=True))
            if label_k not in ignored
            and label_k != label_i
            and (sample_ids is None or sample_ids[k] != sample_ids[i])
        ]
        loss = -attraction
        if negatives and repulsions:
            loss += log_sum_exp(repulsions + [attraction] * include_positive)
        losses.append(d_i * loss if confidence_mode == "weight" else loss)
    return losses


def consistency_loss(
    logits: list[Row],
    targets: list[int],
    weights: Row | None = None,
    *,
    ignored: tuple[int, ...] = (-1,),
) -> Row:
    """w_i * H(y_i, softmax(z_i)): the terms of SPICE Eq. 9 (second) and RPSC Eq. 8."""
    weights = [1.0] * len(targets) if weights is None else weights
    return [
        0.0 if target in ignored else weight * (log_sum_exp(row) - row[target])
        for row, target, weight in zip(logits, targets, weights, strict=True)
    ]


def entropy_regularizer(probs: list[Row]) -> float:
    """sum_c m_c log m_c with m the mean prediction; 0 log 0 = 0, and 0 for no row at all."""
    means = [math.fsum(column) / len(probs) for column in zip(*probs, strict=True)]
    return math.fsum(mean * math.log(mean) for mean in means if mean > 0.0)


# --- thresholds ----------------------------------------------------------------------------------


def argmax(row: Row) -> int:
    """The lowest index of the largest value."""
    return max(range(len(row)), key=lambda c: (row[c], -c))


def fixed_threshold(
    probs: list[Row], threshold: float = 0.95, *, strict: bool = False
) -> tuple[list[int], list[bool]]:
    """FixMatch: the argmax label, kept where its probability reaches the threshold."""
    targets = [argmax(row) for row in probs]
    tops = [row[target] for row, target in zip(probs, targets, strict=True)]
    return targets, [top > threshold if strict else top >= threshold for top in tops]


class SelfAdaptiveThreshold:
    """FreeMatch: a running global confidence, shared out by the running class means."""

    def __init__(self, num_classes: int, momentum: float = 0.999, *, strict: bool = False) -> None:
        self.momentum = momentum
        self.strict = strict
        self.mean_confidence = 1.0 / num_classes
        self.mean_probs = [1.0 / num_classes] * num_classes

    @property
    def thresholds(self) -> Row:
        """tau * p_c / max p."""
        return [self.mean_confidence * p / max(self.mean_probs) for p in self.mean_probs]

    def update(self, probs: list[Row]) -> None:
        """Moves both averages one step towards the batch; an empty batch moves nothing."""
        if not probs:
            return
        keep, take = self.momentum, 1.0 - self.momentum
        top = math.fsum(max(row) for row in probs) / len(probs)
        means = [math.fsum(column) / len(probs) for column in zip(*probs, strict=True)]
        self.mean_confidence = keep * self.mean_confidence + take * top
        self.mean_probs = [
            keep * p + take * mean for p, mean in zip(self.mean_probs, means, strict=True)
        ]

    def select(self, probs: list[Row]) -> tuple[list[int], list[bool]]:
        """The argmax labels, kept where they reach the threshold of their own class."""
        targets = [argmax(row) for row in probs]
        kept = []
        for row, target in zip(probs, targets, strict=True):
            bar = self.thresholds[target]
            kept.append(row[target] > bar if self.strict else row[target] >= bar)
        return targets, kept

    def __call__(self, probs: list[Row], *, training: bool) -> tuple[list[int], list[bool]]:
        """Update first, then select."""
        if training:
            self.update(probs)
        return self.select(probs)


# --- heads ---------------------------------------------------------------------------------------


def select_head(losses: Row) -> int:
    """The lowest index of the smallest loss that is a number."""
    candidates = [(loss, i) for i, loss in enumerate(losses) if not math.isnan(loss)]
    return min(candidates)[1]


# --- metrics -------------------------------------------------------------------------------------


def known(predicted: list[int], target: list[int]) -> list[tuple[int, int]]:
    """The (predicted, target) pairs whose target is known."""
    return [(p, t) for p, t in zip(predicted, target, strict=True) if t != -1]


def apart(pairs: list[tuple[int, int]]) -> list[tuple[object, int]]:
    """Every prediction of -1 in a cluster of its own; nothing at all where all are -1."""
    if all(p == -1 for p, _ in pairs):
        return []
    return [(("alone", i) if p == -1 else p, t) for i, (p, t) in enumerate(pairs)]


def clustering_accuracy(predicted: list[int], target: list[int]) -> float:
    """The largest share of right answers over all ways to name each cluster after one class.

    Brute force: no two clusters share a class, a cluster may go without, and -1 is no cluster.
    """
    pairs = Counter(known(predicted, target))
    total = sum(pairs.values())
    clusters = sorted({p for p, _ in pairs if p != -1})
    classes: list[int | None] = sorted({t for _, t in pairs})
    names = classes + [None] * len(clusters)
    best = 0
    for chosen in set(itertools.permutations(names, len(clusters))):
        best = max(best, sum(pairs[pair] for pair in zip(clusters, chosen, strict=True)))
    return best / total if total else 0.0


def balanced_clustering_accuracy(predicted: list[int], target: list[int]) -> float:
    """The mean recall under the naming of the most right answers, of several the largest.

    Brute force, as above; a class that no cluster is named after has a recall of 0.
    """
    pairs = known(predicted, target)
    clusters = sorted({p for p, _ in pairs if p != -1})
    classes: list[int | None] = sorted({t for _, t in pairs})
    found = [(0, 0.0)]
    for chosen in set(itertools.permutations(classes + [None] * len(clusters), len(clusters))):
        name = dict(zip(clusters, chosen, strict=True))
        right = {c: sum(t == c == name.get(p) for p, t in pairs) for c in classes}
        recalls = [right[c] / sum(t == c for _, t in pairs) for c in classes]
        found.append((sum(right.values()), math.fsum(recalls) / max(len(classes), 1)))
    return max(found)[1]


def entropy(counts: Counter) -> float:
    """-sum n/N log(n/N)."""
    total = sum(counts.values())
    return -math.fsum(n / total * math.log(n / total) for n in counts.values())


def normalized_mutual_info(predicted: list[int], target: list[int]) -> float:
    """I(P; T) over the mean of H(P) and H(T); one block on both sides agrees perfectly."""
    pairs = Counter(apart(known(predicted, target)))
    if not pairs:
        return 0.0
    rows, columns = Counter(), Counter()
    for (p, t), n in pairs.items():
        rows[p] += n
        columns[t] += n
    mean = (entropy(rows) + entropy(columns)) / 2
    if mean == 0.0:
        return 1.0
    total = sum(pairs.values())
    information = math.fsum(
        n / total * math.log(n * total / (rows[p] * columns[t])) for (p, t), n in pairs.items()
    )
    return max(information, 0.0) / mean


def adjusted_rand_index(predicted: list[int], target: list[int]) -> float:
    """Hubert and Arabie, by counting every pair of samples one at a time."""
    pairs = apart(known(predicted, target))
    if not pairs:
        return 0.0
    together_both = together_predicted = together_target = total = 0
    for (p_a, t_a), (p_b, t_b) in itertools.combinations(pairs, 2):
        total += 1
        together_predicted += p_a == p_b
        together_target += t_a == t_b
        together_both += p_a == p_b and t_a == t_b
    expected = together_predicted * together_target / total if total else 0.0
    largest = (together_predicted + together_target) / 2
    if largest == expected:
        return 1.0
    return (together_both - expected) / (largest - expected)
