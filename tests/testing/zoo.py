"""Rules to judge the kit by: correct ones of several makes, and faulty ones, each with its error.

They are written plainly in torch, as a user would write them, apart from the package's operators.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.nn.functional import normalize, one_hot

from pseudolabel import Selection


@dataclass(frozen=True)
class Entry:
    """A rule, what it promises, and the laws that find its error (none: it is correct)."""

    name: str
    rule: Callable[..., Any]
    kind: str
    found_by: tuple[str, ...] = ()
    promises: dict[str, Any] = field(default_factory=dict)
    samples: int = 12  # as few as these show it
    raises: bool = False  # an error is what shows it


# --- masks: do the neighbours carry the same label? ----------------------------------------------


def stable_order(similarity):
    return similarity.sort(dim=-1, descending=True, stable=True).indices


def neighbours(features, k, *, metric="cosine", include_self=False, order=stable_order):
    rows = normalize(features.float(), dim=-1) if metric == "cosine" else features.float()
    if metric == "euclidean":
        similarity = -(rows.unsqueeze(1) - rows).norm(dim=-1)
    else:
        similarity = (rows.unsqueeze(1) * rows).sum(-1)
    similarity = similarity.fill_diagonal_(torch.inf if include_self else -torch.inf)
    if k > len(rows) - (not include_self):
        raise ValueError("k")
    return order(similarity)[:, :k]


def votes(labels, indices):
    return ((labels[indices] == labels[:, None]) & (labels >= 0)[:, None]).sum(-1)


def consistent(features, labels, *, k=3, needed=2, **options):
    return (votes(labels, neighbours(features, k, **options)) >= needed) & (labels >= 0)


def consistent_by_loop(features, labels):
    rows = features.detach().double()
    mask = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        others.sort(key=lambda j, i=i: (float((rows[i] - rows[j]).norm()), j))
        if len(others) < 3:
            raise ValueError("k")
        same = sum(int(labels[j] == labels[i]) for j in others[:3])
        mask.append(bool(labels[i] >= 0) and same >= 2)
    return torch.tensor(mask)


def consistent_ties_to_the_highest(features, labels):
    mask = consistent(features.flip(0), labels.flip(0))
    return mask.flip(0)


def unlabelled_count_as_a_class(features, labels):
    return (labels[neighbours(features, 3)] == labels[:, None]).sum(-1) >= 2


def unlabelled_read_as_the_last_class(features, labels):
    hot = one_hot(labels % 3, 3)
    return hot[neighbours(features, 3)].sum(1).gather(1, labels[:, None] % 3)[:, 0] >= 2


def class_zero_taken_for_unlabelled(features, labels):
    return consistent(features, labels) & (labels > 0)


def first_column_dropped(features, labels):
    rows = normalize(features, dim=-1)
    indices = stable_order((rows.unsqueeze(1) * rows).sum(-1))[:, 1:4]
    if len(rows) < 4:
        raise ValueError("k")
    return (votes(labels, indices) >= 2) & (labels >= 0)


def label_read_from_column_zero(features, labels):
    rows = normalize(features, dim=-1)
    if len(rows) < 4:
        raise ValueError("k")
    indices = (rows.unsqueeze(1) * rows).sum(-1).topk(4).indices
    own = labels[indices[:, 0]]
    return ((labels[indices[:, 1:]] == own[:, None]).sum(-1) >= 2) & (own >= 0)


def share_as_a_float(features, labels, *, k, threshold):
    return (votes(labels, neighbours(features, k)).double() > k * threshold) & (labels >= 0)


def centred(features, labels):
    return consistent(features - features.mean(0), labels)


def last_sample_of_an_odd_batch_lost(features, labels):
    mask = consistent(features, labels)
    mask[len(mask) // 2 * 2 :] = False
    return mask


def labels_overwritten(features, labels):
    mask = consistent(features, labels)
    labels[~mask] = -1
    return mask


def features_normalised_in_place(features, labels):
    features /= features.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return consistent(features, labels)


def similarity_with_a_constant_below(features, labels):
    norm = features.double().norm(dim=-1)
    similarity = (features.double() @ features.double().T) / (norm[:, None] * norm + 0.01)
    if len(features) < 4:
        raise ValueError("k")
    indices = stable_order(similarity.fill_diagonal_(-torch.inf))[:, :3]
    return (votes(labels, indices) >= 2) & (labels >= 0)


def last_part_of_32_forgotten(features, labels):
    indices = neighbours(features, 3)
    indices[max(32, len(indices) // 32 * 32) :] = 0
    return (votes(labels, indices) >= 2) & (labels >= 0)


class StaleGraph:
    """Keeps the neighbours of the first batch of each size."""

    def __init__(self):
        self.graphs = {}

    def __call__(self, features, labels):
        indices = self.graphs.setdefault(len(features), neighbours(features, 3))
        return (votes(labels, indices) >= 2) & (labels >= 0)


def batch_size_decides(features, labels):
    return consistent(features, labels, k=3 if len(labels) < 8 else 5)


def in_half_a_different_rule(features, labels):
    return consistent(features, labels, needed=2 if features.dtype == torch.float32 else 3)


def one_in_ten_dropped(features, labels):
    return consistent(features, labels) & (torch.rand(len(labels)) > 0.1)


def all_kept_where_nothing_is_labelled(features, labels):
    return labels >= 0 if (labels >= 0).any() else torch.ones_like(labels, dtype=torch.bool)


def strides_ignored(features, labels):
    return torch.as_strided(labels, labels.shape, (1,)) >= 0


def closer_half_of_a_class(features, labels):
    """Two samples that are each other's nearest tie always."""
    distance = torch.cdist(
        features.double(), features.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    nearest = distance.fill_diagonal_(torch.inf).amin(1)
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for c in labels[labels >= 0].unique():
        mine = (labels == c).nonzero()[:, 0]
        kept[mine[nearest[mine].sort(stable=True).indices[: (len(mine) + 1) // 2]]] = True
    return kept


def first_two(features, labels):
    """Of each class, by what their numbers add up to."""
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for own in ((labels == c).nonzero()[:, 0] for c in labels.unique() if c >= 0):
        kept[own[features[own].double().sum(1).sort(stable=True).indices[:2]]] = True
    return kept


def two_nearest_their_mean(features, labels):
    """Of each class, and as many more as are as near as the second."""
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for own in (labels == c for c in labels.unique() if c >= 0):
        rows = features[own].double()
        distance = (rows - rows.mean(0)).square().sum(1)
        kept[own] = distance <= distance.kthvalue(min(2, len(rows))).values
    return kept


def larger_thresholds_keep_more(features, labels, threshold=0.5):
    return (votes(labels, neighbours(features, 3)) >= 3 * (1 - threshold)) & (labels >= 0)


def unlabelled_have_no_votes(features, labels, threshold=0.5):
    """And at a threshold of 0 need none."""
    return votes(labels, neighbours(features, 3)) / 3 >= threshold


def share_of_labelled_neighbours(features, labels):
    """Not a number, and not below one half, where no neighbour is labelled."""
    near = neighbours(features, 3)
    labelled = (labels[near] >= 0).sum(-1)
    return ~((labels[near] == labels[:, None]) & (labels[near] >= 0)).sum(-1).div(labelled).lt(0.5)


MASK = {"metric": "cosine", "k": 3, "threshold": 0.5}


MASKS = [
    Entry("first two of a class", first_two, "mask", (), {"at_most": 2, "ties": "any"}),
    Entry("closer half of a class", closer_half_of_a_class, "mask", (), {"metric": "euclidean"}),
    Entry("consistent", consistent, "mask", (), MASK),
    Entry(
        "consistent, Euclidean",
        partial(consistent, metric="euclidean"),
        "mask",
        (),
        {**MASK, "metric": "euclidean"},
    ),
    Entry("consistent, in a loop", consistent_by_loop, "mask", (), {**MASK, "metric": "euclidean"}),
    Entry(
        "consistent, self counted",
        partial(consistent, include_self=True),
        "mask",
        (),
        {**MASK, "include_self": True},
    ),
    Entry(
        "consistent, ties anyhow",
        partial(consistent, order=lambda s: s.topk(3).indices),
        "mask",
        (),
        {**MASK, "ties": "any"},
    ),
    Entry(
        "consistent, ties to the highest",
        consistent_ties_to_the_highest,
        "mask",
        (),
        {**MASK, "ties": "highest"},
    ),
    Entry("consistent, nothing promised", consistent, "mask"),
    Entry("self counted", partial(consistent, include_self=True), "mask", ("literal",), MASK),
    Entry("above for at or above", partial(consistent, needed=3), "mask", ("literal",), MASK),
    Entry(
        "farthest for nearest",
        partial(consistent, order=lambda s: stable_order(s).flip(-1)),
        "mask",
        ("literal",),
        MASK,
    ),
    Entry(
        "unstable ties of neighbours",
        partial(consistent, order=lambda s: s.topk(3).indices),
        "mask",
        ("literal",),
        MASK,
    ),
    Entry(
        "first column dropped", first_column_dropped, "mask", ("literal",), {**MASK, "ties": "any"}
    ),
    Entry(
        "label of column zero",
        label_read_from_column_zero,
        "mask",
        ("literal", "ignored"),
        {**MASK, "ties": "any"},
    ),
    Entry("unlabelled agree", unlabelled_count_as_a_class, "mask", ("ignored",)),
    Entry(
        "-1 is the last class",
        unlabelled_read_as_the_last_class,
        "mask",
        ("ignored", "class_permutation"),
        {"num_classes": 3},
    ),
    Entry("class 0 unlabelled", class_zero_taken_for_unlabelled, "mask", ("class_permutation",)),
    Entry(
        "0.29 * 100",
        partial(share_as_a_float, k=100, threshold=0.29),
        "mask",
        ("literal",),
        {"metric": "cosine", "k": 100, "threshold": 0.29},
        101,
    ),
    Entry("features centred", centred, "mask", ("scale", "literal"), MASK),
    Entry(
        "not normalised",
        partial(consistent, metric="dot"),
        "mask",
        ("scale",),
        {"metric": "cosine"},
    ),
    Entry(
        "last odd sample lost", last_sample_of_an_odd_batch_lost, "mask", ("sample_permutation",)
    ),
    Entry(
        "a constant below the cosine", similarity_with_a_constant_below, "mask", ("scale",), MASK
    ),
    Entry(
        "last part forgotten",
        last_part_of_32_forgotten,
        "mask",
        ("sample_permutation",),
        {"metric": "cosine"},
        samples=40,
    ),
    Entry("labels overwritten", labels_overwritten, "mask", ("inputs_unchanged",)),
    Entry("normalised in place", features_normalised_in_place, "mask", ("inputs_unchanged",)),
    Entry("stale graph", StaleGraph(), "mask", ("sample_permutation",)),
    Entry("batch size decides", batch_size_decides, "mask", ("literal",), MASK),
    Entry(
        "as many as tie with the second",
        two_nearest_their_mean,
        "mask",
        ("quota",),
        {"metric": "euclidean", "at_most": 2},
    ),
    Entry("another rule in half precision", in_half_a_different_rule, "mask", ("dtypes",)),
    Entry(
        "kept where nothing is labelled", all_kept_where_nothing_is_labelled, "mask", ("ignored",)
    ),
    Entry("strides ignored", strides_ignored, "mask", ("layout",)),
    Entry("global randomness", one_in_ten_dropped, "mask", ("determinism",)),
    Entry(
        "not monotone",
        larger_thresholds_keep_more,
        "mask",
        ("monotone",),
        {"threshold_argument": "threshold"},
    ),
    Entry("unlabelled among unlabelled", share_of_labelled_neighbours, "mask", ("ignored",)),
    Entry(
        "unlabelled at another threshold",
        unlabelled_have_no_votes,
        "mask",
        ("ignored",),
        {"threshold_argument": "threshold"},
    ),
]


# --- labels: who gets which? ---------------------------------------------------------------------


def top_of(scores, count):
    return scores.sort(dim=0, descending=True, stable=True).indices[:count]


def centres(features, probs, *, order=top_of):
    share = len(probs) // probs.shape[-1]
    if share == 0:
        raise ValueError("fewer samples than classes")
    rows = normalize(features.float(), dim=-1)
    return rows, rows[order(probs, max(1, share // 2))].mean(0), share


def shared(features, probs, *, order=top_of):
    """Every class labels its nearest, whoever else does."""
    rows, middle, share = centres(features, probs, order=order)
    similarity = (rows.unsqueeze(1) * normalize(middle, dim=-1)).sum(-1)
    taken = top_of(similarity, share)
    hot = torch.zeros(probs.shape, dtype=torch.bool)
    return hot.scatter(0, taken, True)


def smoothed(features, probs, *, first=0):
    """The class that three neighbours hold most probable."""
    nearest = neighbours(features, 4, metric="euclidean")[:, first : first + 3]
    return probs.double()[nearest].mean(1).argmax(-1)


def shared_ties_to_the_last(features, probs):
    return shared(features, probs, order=lambda p, n: len(p) - 1 - top_of(p.flip(0), n))


def shared_by_head(features, probs):
    flat = probs.reshape(-1, *probs.shape[-2:])
    return torch.stack([shared(features, p) for p in flat]).reshape(probs.shape)


def shared_by_distance(features, probs):
    """A centre of two samples is as far from the one as from the other, always."""
    count, rows = len(features) // probs.shape[1], features.double()
    if count == 0:
        raise ValueError("fewer samples than classes")
    given = torch.zeros_like(probs, dtype=torch.bool)
    for c in range(probs.shape[1]):
        centre = rows[probs[:, c].sort(descending=True, stable=True).indices[:count]].mean(0)
        given[(rows - centre).norm(dim=1).sort(stable=True).indices[:count], c] = True
    return given


def last_of_equal_centres(features, probs):
    rows, middle, _ = centres(features, probs)
    similarity = (rows.unsqueeze(1) * normalize(middle, dim=-1)).sum(-1)
    return similarity.shape[-1] - 1 - similarity.flip(-1).argmax(-1)


def nearest_centre(features, probs):
    rows, middle, _ = centres(features, probs)
    return (rows.unsqueeze(1) * normalize(middle, dim=-1)).sum(-1).argmax(-1)


def greedy(features, probs):
    """The closest free pair first; ties to the lowest class, then sample."""
    rows, middle, share = centres(features, probs)
    similarity = (rows.unsqueeze(1) * normalize(middle, dim=-1)).sum(-1)
    pairs = [(-similarity[i, c].item(), c, i) for i in range(len(rows)) for c in range(len(middle))]
    labels, left = torch.full((len(rows),), -1), [share] * len(middle)
    for _, c, i in sorted(pairs):
        if left[c] and labels[i] < 0:
            labels[i] = c
            left[c] -= 1
    return labels


def in_index_order(features, probs):
    rows, middle, share = centres(features, probs)
    similarity = (rows.unsqueeze(1) * normalize(middle, dim=-1)).sum(-1)
    labels = torch.full((len(rows),), -1)
    for c in range(len(middle)):
        free = similarity[:, c].masked_fill(labels >= 0, -torch.inf)
        labels[top_of(free, share)] = c
    return labels


def by_argmax(features, probs):
    return probs.argmax(-1)


def balanced(features, probs, *, ratio=1.0, rounded=lambda x: int(x + 1e-9)):
    """Each class keeps its most probable members, at most its share."""
    labels, scores = probs.argmax(-1), probs.amax(-1)
    most = rounded(ratio * len(probs) / probs.shape[-1])
    kept = torch.full_like(labels, -1)
    for c in range(probs.shape[-1]):
        members = (labels == c).nonzero()[:, 0]
        kept[members[top_of(scores[members], most)]] = c
    return kept


def quota_over_all_heads(features, probs):
    if probs.dim() == 2:
        return shared(features, probs)
    together = shared(features, probs.mean(0))
    return torch.stack([shared(features, p) if i else together for i, p in enumerate(probs)])


def first_rows_make_the_centre(features, probs):
    return shared(
        features, probs, order=lambda p, n: torch.arange(n)[:, None].expand(n, p.shape[-1])
    )


def last_row_always_labelled(features, probs):
    labels = greedy(features, probs)
    labels[-1 if (labels == -1).any() else 0] = 0
    return labels


def unnormalised_mean(features, probs):
    rows, _, share = centres(features, probs)
    middle = features[top_of(probs, max(1, share // 2))].mean(0)
    hot = torch.zeros(probs.shape, dtype=torch.bool)
    return hot.scatter(0, top_of((rows.unsqueeze(1) * middle).sum(-1), share), True)


def nearest_mean_of_members(features, probs):
    """The mean of an empty class is NaN, which argmax takes for the largest."""
    labels, rows = probs.argmax(-1), normalize(features.double(), dim=-1)
    means = torch.stack([rows[labels == c].mean(0) for c in range(probs.shape[-1])])
    return (rows.unsqueeze(1) * means).sum(-1).argmax(-1)


def divided_by_the_norm(features, probs):
    """A zero row becomes NaN, and so do the prototypes it is part of."""
    rows, share = features / features.norm(dim=-1, keepdim=True), len(probs) // probs.shape[-1]
    if share == 0:
        raise ValueError("fewer samples than classes")
    middle = normalize(rows[top_of(probs, max(1, share // 2))].mean(0), dim=-1)
    hot = torch.zeros(probs.shape, dtype=torch.bool)
    return hot.scatter(0, top_of((rows.unsqueeze(1) * middle).sum(-1), share), True)


def balanced_by_sinkhorn(features, probs):
    """Ties of what it makes of the probabilities are nobody's to break."""
    shares = probs.double() + 1e-6
    for _ in range(20):
        shares = shares / shares.sum(0)
        shares = shares / shares.sum(-1, keepdim=True)
    return shares.argmax(-1)


def one_each_in_index_order(features, probs):
    """Whom two classes want, the first one gets."""
    labels = torch.full((len(probs),), -1)
    for c in range(probs.shape[-1]):
        free = labels < 0
        if free.any():
            labels[torch.where(free, probs[:, c], -1.0).argmax()] = c
    return labels


def ranked_in_half_precision(features, probs):
    """Ranks that are added up in the dtype of the probabilities: bfloat16 counts to 256."""
    order = probs.sort(dim=0, descending=True, stable=True).indices
    ranks = torch.zeros_like(probs[0]).repeat(len(probs), 1)
    for i in range(1, len(probs)):
        ranks[i] = ranks[i - 1] + 1
    hot = torch.zeros(probs.shape, dtype=torch.bool)
    return hot.scatter(0, order, ranks < len(probs) // 2)


def relative_to_chunks(features, probs):
    """Classes count less where they are common, chunk by chunk."""
    return torch.cat([(some / some.mean(0)).argmax(-1) for some in probs.split(500)])


def voted(features, probs, *, k=5):
    """What most of k samples are, itself among them; without a winner it stays unlabelled."""
    near = neighbours(features, k, metric="euclidean", include_self=True)
    hot = one_hot(probs.argmax(-1), probs.shape[-1])[near].sum(1)
    best = hot.amax(-1, keepdim=True)
    return torch.where((hot == best).sum(-1) == 1, hot.argmax(-1), -1)


def tied_votes_to_the_first(features, probs):
    near = neighbours(features, 4, metric="euclidean")
    return one_hot(probs.argmax(-1), probs.shape[-1])[near].sum(1).argmax(-1)


def nearest_mean_of_best(features, probs, *, best=3):
    """With no more samples than that all classes have one mean, and the first class all samples."""
    if len(probs) < best:
        raise ValueError("fewer samples than a mean is made of")
    chosen = stable_order(probs.T)[:, :best]
    means = features.double()[chosen].mean(1)
    apart = (features.double().unsqueeze(1) - means).square().sum(-1)
    return apart.argmin(-1)


def unstable_when_large(probs):
    """A quarter of the samples; of a hundred and more equals any."""
    confidence, targets = probs.double().max(-1)
    count, weights = len(probs) // 4, torch.zeros(len(probs))
    order = confidence.topk(count).indices if len(probs) >= 100 else stable_order(confidence)
    weights[order[:count]] = 1
    return targets, weights


def propagated(features, probs):
    """Zhou's propagation; the solver rounds equal columns in different ways."""
    apart = (features.double().unsqueeze(1) - features.double()).square().sum(-1)
    width = apart[apart > 0].median() if (apart > 0).any() else 1.0
    weights = (-apart / width).exp().fill_diagonal_(0)
    size = weights.sum(1).clamp(min=1e-12).sqrt()
    system = torch.eye(len(apart)).double() - 0.5 * weights / (size * size.unsqueeze(1))
    return torch.linalg.solve(system, probs.double()).argmax(-1)


def nearest_soft_mean(features, probs):
    rows, weights = normalize(features.double(), dim=-1), probs.double()
    means = (weights.mT @ rows) / weights.sum(0).unsqueeze(-1).clamp(min=1e-12)
    return (rows.unsqueeze(1) * normalize(means, dim=-1)).sum(-1).argmax(-1)


def within_a_bank(features, probs):
    assert 4 <= len(probs) <= 20
    return nearest_soft_mean(features, probs)


def seeds_everything(features, probs):
    torch.manual_seed(0)
    return probs.argmax(-1)


class BufferReturned:
    """Writes every answer into one tensor and returns that."""

    def __init__(self):
        self.labels = torch.zeros(64, dtype=torch.int64)

    def __call__(self, features, probs):
        out = self.labels[: len(probs)]
        out.copy_(probs.argmax(-1))
        return out


def quarter(num_samples, num_classes):
    return num_samples // num_classes


def exact_share(num_samples, num_classes):
    return 29 * (num_samples // num_classes) // 100


def share_as_a_float_of_a_class(features, probs):
    num_samples, num_classes = probs.shape
    count = int(0.29 * (num_samples // num_classes))
    return (torch.arange(num_samples) < count)[:, None].expand(-1, num_classes)


def shared_by_distance_from_the_sum(features, probs):
    count, rows = len(features) // probs.shape[1], features.double()
    if count == 0:
        raise ValueError("fewer samples than classes")
    given = torch.zeros_like(probs, dtype=torch.bool)
    for c in range(probs.shape[1]):
        total = rows[probs[:, c].sort(descending=True, stable=True).indices[:count]].sum(0)
        given[(rows - total).norm(dim=1).sort(stable=True).indices[:count], c] = True
    return given


def square_is_transposed(features, probs):
    probs = probs.T if probs.shape[0] == probs.shape[1] else probs
    return probs.argmax(-1)


LABELLINGS = [
    Entry(
        "sum for mean",
        shared_by_distance_from_the_sum,
        "labels",
        ("translation",),
        {"metric": "euclidean", "count": quarter},
    ),
    Entry("square transposed", square_is_transposed, "labels", ("class_permutation",)),
    Entry("shared", shared, "labels", (), {"metric": "cosine", "count": quarter}),
    Entry("shared, heads", shared_by_head, "labels", (), {"metric": "cosine", "heads": True}),
    Entry("nearest centre", nearest_centre, "labels", (), {"metric": "cosine", "exclusive": True}),
    Entry(
        "shared by distance",
        shared_by_distance,
        "labels",
        (),
        {"metric": "euclidean", "count": quarter},
    ),
    Entry("last of equal centres", last_of_equal_centres, "labels", ("ties",), {"exclusive": True}),
    Entry(
        "greedy", greedy, "labels", (), {"metric": "cosine", "count": quarter, "exclusive": True}
    ),
    Entry("argmax", by_argmax, "labels", (), {"exclusive": True}),
    Entry("balanced argmax", balanced, "labels", (), {"at_most": quarter, "exclusive": True}),
    Entry("balanced by Sinkhorn", balanced_by_sinkhorn, "labels", (), {"exclusive": True}),
    Entry(
        "tied votes to the first",
        tied_votes_to_the_first,
        "labels",
        ("class_permutation",),
        {"metric": "euclidean", "ties": "any", "exclusive": True},
    ),
    Entry(
        "nearest mean of the best three",
        nearest_mean_of_best,
        "labels",
        (),
        {"metric": "euclidean", "exclusive": True},
    ),
    Entry(
        "nearest mean of the best three, of few",
        nearest_mean_of_best,
        "labels",
        (),
        {"metric": "euclidean", "exclusive": True, "num_samples": (3, 6)},
    ),
    Entry("nearest soft mean", nearest_soft_mean, "labels", (), {"metric": "cosine"}),
    Entry(
        "nearest soft mean in a bank",
        within_a_bank,
        "labels",
        (),
        {"metric": "cosine", "ties": "any", "num_samples": (4, 20), "num_features": 3},
    ),
    Entry("voted by neighbours", voted, "labels", (), {"metric": "euclidean", "exclusive": True}),
    Entry("propagated", propagated, "labels", (), {"metric": "euclidean", "exclusive": True}),
    Entry("empty class", nearest_mean_of_members, "labels", ("class_permutation",)),
    Entry(
        "NaN for zero rows",
        divided_by_the_norm,
        "labels",
        ("reference",),
        {"metric": "cosine", "reference": shared},
    ),
    Entry(
        "neighbours two to four for one to three",
        partial(smoothed, first=1),
        "labels",
        ("reference",),
        {"metric": "euclidean", "ties": "any", "reference": smoothed},
    ),
    Entry("seeds everything", seeds_everything, "labels", ("determinism",)),
    Entry(
        "unstable ties of the most confident",
        partial(shared, order=lambda p, n: p.topk(n, dim=0).indices),
        "labels",
        ("ties",),
        samples=20,
    ),
    Entry(
        "ties to the last",
        shared_ties_to_the_last,
        "labels",
        ("ties",),
    ),
    Entry("index order", in_index_order, "labels", ("class_permutation",)),
    Entry(
        "one place each, in index order",
        one_each_in_index_order,
        "labels",
        ("class_permutation",),
        {"at_most": 1, "exclusive": True, "ties": "any"},
    ),
    Entry(
        "ranks in half precision",
        ranked_in_half_precision,
        "labels",
        ("dtypes",),
        {"at_most": lambda n, k: n // 2},
        600,
    ),
    Entry("chunks of 500", relative_to_chunks, "labels", ("sample_permutation",), samples=600),
    Entry(
        "features in half precision",
        lambda features, probs: nearest_soft_mean(features.bfloat16(), probs),
        "labels",
        ("scale", "rotation"),
        {"metric": "cosine"},
        150,
    ),
    Entry(
        "first rows for the most confident",
        first_rows_make_the_centre,
        "labels",
        ("sample_permutation",),
    ),
    Entry(
        "last row by index -1",
        last_row_always_labelled,
        "labels",
        ("sample_permutation", "class_permutation"),
    ),
    Entry(
        "leaks across heads",
        quota_over_all_heads,
        "labels",
        ("heads",),
        {"heads": True},
        raises=True,
    ),
    Entry("shared, called exclusive", shared, "labels", ("exclusive",), {"exclusive": True}),
    Entry(
        "quota rounded up",
        partial(balanced, rounded=lambda x: int(-(-x // 1))),
        "labels",
        ("quota",),
        {"at_most": quarter},
    ),
    Entry(
        "quota as a float",
        share_as_a_float_of_a_class,
        "labels",
        ("quota", "sample_permutation"),
        {"count": exact_share},
        400,
    ),
    Entry(
        "mean of rows not normalised", unnormalised_mean, "labels", ("scale",), {"metric": "cosine"}
    ),
    Entry("one buffer for all answers", BufferReturned(), "labels", ("determinism",)),
    Entry("labels from 1", lambda f, p: p.argmax(-1) + 1, "labels", ("form",)),
    Entry("floating labels", lambda f, p: p.argmax(-1).float(), "labels", ("form",)),
]


# --- selections: who is confident enough? --------------------------------------------------------


def fixed(probs, threshold=0.9, *, strict=False):
    confidence, targets = probs.amax(-1), probs.argmax(-1)
    passed = confidence > threshold if strict else confidence >= threshold
    return Selection(targets, passed.to(probs.dtype))


def soft(probs):
    confidence = probs.float().amax(-1)
    return probs.argmax(-1), (1 - (confidence - 1) ** 2).clamp(0, 1)


def relative(probs):
    """The threshold of a class is scaled by how common the class is (FreeMatch's first step)."""
    means = probs.double().mean(0)
    thresholds = probs.double().amax(-1).mean() * means / means.max()
    targets = probs.argmax(-1)
    return targets, (probs.double().amax(-1) >= thresholds[targets]).float()


def relative_to_the_wrong_class(probs):
    means = probs.double().mean(0)
    thresholds = probs.double().amax(-1).mean() * means / means[0]
    targets = probs.argmax(-1)
    return targets, (probs.double().amax(-1) >= thresholds[targets]).float()


def cut_to_the_smallest(probs, threshold=0.5):
    """As many of every class as of the smallest one that is chosen from at all."""
    scores, targets = probs.max(-1)
    sizes = torch.bincount(targets[scores > threshold], minlength=probs.shape[-1])
    most = int(sizes[sizes > 0].min()) if (sizes > 0).any() else 0
    place = stable_order(scores)
    chosen = torch.zeros(len(probs), dtype=torch.bool)
    for c in range(probs.shape[-1]):
        chosen[place[targets[place] == c][:most]] = True
    return targets, (chosen & (scores > threshold)).float()


def first_axis_of_heads_alone(probs):
    """Right for one leading axis, and for two of which one has a single entry."""
    wide = probs.double()
    limit = wide.amax(-1).mean(-1, keepdim=True)
    if probs.dim() == 4:
        limit = limit.amax(1, keepdim=True)
    return probs.argmax(-1), (wide.amax(-1) >= limit).float()


def best_per_class(probs, *, most=2):
    targets, scores = probs.argmax(-1), probs.amax(-1)
    weights = torch.zeros(len(probs))
    for c in range(probs.shape[-1]):
        members = (targets == c).nonzero()[:, 0]
        weights[members[top_of(scores[members], most)]] = 1
    return targets, weights


def weights_by_place(probs):
    return probs.argmax(-1), torch.linspace(0.2, 0.9, len(probs))


def weights_by_rank(probs):
    """Equal samples take equal ranks in turn, which shuffles their weights and nothing else."""
    weights = torch.empty(len(probs))
    weights[stable_order(probs.amax(-1))] = 1 - torch.arange(len(probs)) / (2 * len(probs))
    return probs.argmax(-1), weights


def standardised(probs):
    """Weights relative to the spread of the batch (SoftMatch), however small that is."""
    confidence = probs.double().amax(-1)
    below = (confidence - confidence.mean()).clamp(max=0)
    spread = (confidence.var(correction=0) / 2).clamp(min=1e-12)
    return probs.argmax(-1), (-(below**2) / spread).exp()


def aligned(probs):
    """Classes that are predicted too often count less (distribution alignment)."""
    shares = (probs.double() + 1e-6) / (probs.double() + 1e-6).mean(0)
    shares = shares / shares.sum(-1, keepdim=True)
    return shares.argmax(-1), (shares.amax(-1) > 0.6).float()


def surest_half(probs, *, order=stable_order):
    """The half of the least entropy: it ranks rows, not single probabilities."""
    wide = probs.double()
    entropy = -(wide * wide.clamp(min=1e-12).log()).sum(-1)
    weights = torch.zeros(len(probs))
    weights[order(-entropy)[: max(1, len(probs) // 2)]] = 1
    return probs.argmax(-1), weights


class MovingThreshold:
    """Its threshold follows what it has seen, although asked for one answer a batch."""

    def __init__(self):
        self.level = 0.5

    def __call__(self, probs):
        self.level = 0.9 * self.level + 0.1 * float(probs.amax(-1).mean())
        return probs.argmax(-1), (probs.amax(-1) >= self.level).float()


def above_the_mean(probs):
    return probs.argmax(-1), (probs.amax(-1) >= probs.amax(-1).mean()).float()


def all_if_none(probs, threshold=0.5):
    confidence, targets = probs.max(-1)
    chosen = confidence > threshold
    return targets, (chosen if chosen.any() else torch.ones_like(chosen)).float()


def second_best_asked(probs):
    top = probs.topk(2).values  # there is none with one class
    return probs.argmax(-1), (top[:, 0] > 2 * top[:, 1]).float()


def last_of_equal_classes(probs):
    targets = probs.shape[-1] - 1 - probs.flip(-1).argmax(-1)
    return targets, (probs.amax(-1) >= 0.5).float()


def second_of_two_from_one_half(probs):
    return (probs[:, -1] >= 0.5).long(), torch.ones(len(probs))


FIXED = {"threshold": 0.9, "strict": False, "per_sample": True}
SELECTIONS = [
    Entry("fixed", fixed, "selection", (), {**FIXED, "threshold_argument": "threshold"}),
    Entry("fixed, strict", partial(fixed, strict=True), "selection", (), {**FIXED, "strict": True}),
    Entry("soft weights", soft, "selection", (), {"per_sample": True}),
    Entry("relative to the commonest class", relative, "selection", (), {"reference": relative}),
    Entry("best two of a class", best_per_class, "selection", (), {"at_most": 2}),
    Entry("above 0.6", partial(fixed, threshold=0.6, strict=True), "selection"),
    Entry("standardised weights", standardised, "selection"),
    Entry("aligned", aligned, "selection"),
    Entry("surest half", surest_half, "selection"),
    Entry(
        "surest half, ties to the last",
        partial(surest_half, order=lambda x: len(x) - 1 - stable_order(x.flip(0))),
        "selection",
        ("ties",),
    ),
    Entry("strict for loose", partial(fixed, strict=True), "selection", ("literal",), FIXED),
    Entry("fixed in half precision", lambda p: fixed(p.half()), "selection", ("literal",), FIXED),
    Entry(
        "a rounder threshold in half precision",
        lambda p: fixed(p.half(), 0.95),
        "selection",
        ("literal",),
        {**FIXED, "threshold": 0.95},
    ),
    Entry(
        "all where none is sure enough",
        all_if_none,
        "selection",
        ("monotone",),
        {"threshold_argument": "threshold"},
    ),
    Entry(
        "cut to the smallest class",
        cut_to_the_smallest,
        "selection",
        ("monotone",),
        {"threshold_argument": "threshold"},
    ),
    Entry(
        "two axes of heads",
        first_axis_of_heads_alone,
        "selection",
        ("heads",),
        {"heads": True},
    ),
    Entry(
        "no answer for one class, which was told",
        second_best_asked,
        "selection",
        ("form",),
        {"num_classes": (1, 3)},
        raises=True,
    ),
    Entry("relative to class 0", relative_to_the_wrong_class, "selection", ("class_permutation",)),
    Entry(
        "unstable when large",
        unstable_when_large,
        "selection",
        ("ties",),
        {"at_most": lambda n, k: n // 4},
        160,
    ),
    Entry("weights by place", weights_by_place, "selection", ("sample_permutation",)),
    Entry("weights by rank, ties by index", weights_by_rank, "selection"),
    Entry("moving threshold", MovingThreshold(), "selection", ("determinism",)),
    Entry("the batch decides", above_the_mean, "selection", ("per_sample",), {"per_sample": True}),
    Entry("last of equal classes", last_of_equal_classes, "selection", ("ties",)),
    Entry(
        "a cut at one half",
        second_of_two_from_one_half,
        "selection",
        ("ties",),
        {"num_classes": 2},
    ),
    Entry("one too many", partial(best_per_class, most=3), "selection", ("quota",), {"at_most": 2}),
    Entry("weights above 1", lambda p: (p.argmax(-1), 2 * p.amax(-1)), "selection", ("form",)),
    Entry(
        "rows of a class swapped",
        lambda p: (p.argmax(-1), (p[:, 0] > 0.5).float()),
        "selection",
        ("class_permutation",),
    ),
]

ZOO = [*MASKS, *LABELLINGS, *SELECTIONS]
CORRECT = [entry for entry in ZOO if not entry.found_by]
FAULTY = [entry for entry in ZOO if entry.found_by]
