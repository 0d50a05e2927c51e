"""Rules as other code bases have them, written afresh, with what their papers promise.

Run as a script it prints the table of docs/laws.md.
"""

import torch
from torch.nn.functional import normalize

from pseudolabel.testing import examine_labeling_rule

K, THRESHOLD = 4, 0.5


def dense_consistency(features, labels):
    """All similarities at once; the sample is one of its own neighbours, and >= passes."""
    rows = normalize(features, dim=-1)
    if len(rows) <= K:
        raise ValueError("fewer samples than neighbours")
    nearest = (rows @ rows.T).topk(K).indices
    agree = (labels[nearest] == labels[nearest[:, :1]]).sum(1)
    return agree >= K * THRESHOLD


def without_column_zero(features, labels):
    """The first neighbour found is taken to be the sample itself."""
    rows = normalize(features, dim=-1)
    if len(rows) <= K:
        raise ValueError("fewer samples than neighbours")
    nearest = (rows @ rows.T).topk(K + 1).indices[:, 1:]
    return ((labels[nearest] == labels[:, None]).sum(1) > K * THRESHOLD) & (labels >= 0)


def centres_of(features, scores):
    share = len(scores) // scores.shape[1]
    if share == 0:
        raise ValueError("fewer samples than clusters")
    best = scores.topk(max(1, share // 2), dim=0).indices
    return features[best].mean(0), share


def exclusive_in_index_order(features, scores):
    """Each cluster in turn takes its nearest samples among those that are left."""
    centres, share = centres_of(features, scores)
    labels = torch.full((len(features),), -1)
    for cluster, centre in enumerate(centres):
        free = (labels < 0).nonzero()[:, 0]
        labels[free[(features[free] @ centre).topk(share).indices]] = cluster
    return labels


def overlap_by_topk(features, scores):
    """Most confident and nearest samples by `topk`, whose order among equals is its own."""
    centres, share = centres_of(features, scores)
    taken = (features @ centres.T).topk(share, dim=0).indices
    return torch.zeros(scores.shape, dtype=torch.bool).scatter(0, taken, True)


PAPER = {"metric": "cosine", "k": K, "threshold": THRESHOLD, "strict": True}
QUOTA = {"metric": "dot", "count": lambda num_samples, num_classes: num_samples // num_classes}
RULES = {
    "local consistency, dense, `>=`, self included": (dense_consistency, "mask", PAPER),
    "neighbours without column 0": (without_column_zero, "mask", {**PAPER, "ties": "any"}),
    "exclusive assignment in index order": (
        exclusive_in_index_order,
        "labels",
        {**QUOTA, "exclusive": True, "ties": "any"},
    ),
    "overlap assignment by `topk`": (overlap_by_topk, "labels", QUOTA),
}
FOUND = {
    "local consistency, dense, `>=`, self included": ("ignored", "literal"),
    "neighbours without column 0": ("literal",),
    "exclusive assignment in index order": ("class_permutation",),
    "overlap assignment by `topk`": ("ties",),
}


def examine(name, max_examples=50):
    rule, kind, promises = RULES[name]
    return examine_labeling_rule(rule, kind=kind, max_examples=max_examples, **promises)


def row(name, report):
    """One line of the table."""
    broken = [f for f in report.findings if f.violation is not None]
    words = [f"{f.law} ({f.violation.case.num_samples} samples)" for f in broken]
    kept = ", ".join(f.law for f in report.findings if f.outcome == "holds")
    return f"| {name} | {', '.join(words)} | {kept} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = [row(name, examine(name)) for name in RULES]
    print("\n".join(["| rule | breaks | obeys |", "|---|---|---|", *rows]))  # noqa: T201
