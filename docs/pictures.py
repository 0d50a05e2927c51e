"""The pictures of the theory, each drawn by calling what it is about.

``python docs/pictures.py`` draws all of them into docs/images; a test holds the files to the code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pseudolabel import (
    FixedThreshold,
    SelfAdaptiveThreshold,
    assign_labels,
    clustering_accuracy,
    consistency_loss,
    double_softmax_cross_entropy,
    label_confidence,
    nearest_neighbors,
    prototype_labels,
    reliability_ratio,
    reliable_mask,
    soft_contrastive_loss,
)

FOLDER = Path(__file__).parent / "images"
BLUE, ORANGE, GREEN, RED, GREY = "#3f51b5", "#e0861a", "#2e8b57", "#c0392b", "#b0b0b0"
STYLE = {
    "svg.hashsalt": "pseudolabel",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
CLUSTER_COLOURS = (BLUE, ORANGE, GREEN)


def double_softmax() -> Figure:
    """Loss and gradient of one and of two softmaxes, K = 10, from sure and wrong to sure and right.

    One logit is against the other: all probability is on the label or on one wrong class.
    """
    classes, label, wrong = 10, 0, 1
    margin = torch.linspace(-12, 12, 241, dtype=torch.float64)
    logits = torch.full((len(margin), classes), -20.0, dtype=torch.float64)
    logits[:, label], logits[:, wrong] = margin / 2, -margin / 2
    logits.requires_grad_()
    labels = torch.full((len(margin),), label)
    figure = Figure(figsize=(7.2, 2.9))
    left, right = figure.subplots(1, 2)
    losses = {
        "one softmax": (cross_entropy(logits, labels, reduction="none"), GREY),
        "two softmaxes": (double_softmax_cross_entropy(logits, labels, reduction="none"), BLUE),
    }
    for name, (loss, colour) in losses.items():
        (gradient,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
        left.plot(margin, loss.detach(), color=colour, label=name)
        right.plot(margin, gradient.abs().sum(1), color=colour, label=name)
    floor, ceiling = math.log(1 + (classes - 1) / math.e), math.log(math.e + classes - 1)
    for height, name in ((floor, "floor"), (ceiling, "ceiling")):
        left.axhline(height, color=BLUE, linewidth=0.7, linestyle=":")
        left.text(-12, height + 0.06, f"{name} {height:.3f}", color=BLUE, fontsize=7.5)
    left.set(ylim=(-0.1, 4), ylabel="loss", xlabel="logit of the label minus a wrong class's")
    right.set(yscale="log", ylim=(1e-5, 4), ylabel="length of the gradient (sum of sizes)")
    right.set_xlabel("sure and wrong                    sure and right")
    left.legend(loc="upper right")
    return figure


def assignments() -> Figure:
    """Three clusters, two of which want the same samples, under three assignments."""
    generator = np.random.default_rng(3)
    middles = np.array([[0.0, 0.0], [1.5, 0.2], [4.6, 0.1]])
    rows = np.concatenate([m + 0.62 * generator.standard_normal((12, 2)) for m in middles])
    # Its own twelve samples make the third prototype, mostly shared ones the first two.
    prototypes = torch.tensor([[0.35, 0.0], [1.05, 0.1], [4.5, 0.1]])
    features = torch.from_numpy(rows)
    figure = Figure(figsize=(7.4, 1.9))
    for axes, assignment in zip(
        figure.subplots(1, 3, sharex=True, sharey=True),
        ("overlap", "greedy", "sequential"),
        strict=True,
    ):
        given = assign_labels(
            features, prototypes.double(), 12, assignment=assignment, metric="euclidean"
        )
        _draw_assignment(axes, rows, prototypes.numpy(), given.multi_hot(len(rows)))
        axes.set_title(assignment, fontsize=10)
    return figure


def _draw_assignment(axes: Axes, rows: np.ndarray, prototypes: np.ndarray, hot: Tensor) -> None:
    for row, labels in zip(rows, hot.tolist(), strict=True):
        colours = [colour for colour, has in zip(CLUSTER_COLOURS, labels, strict=True) if has]
        face, edge = (colours[0], colours[-1]) if colours else ("white", GREY)
        axes.plot(*row, "o", markersize=6, markerfacecolor=face, color=edge, markeredgewidth=2)
    for prototype, colour in zip(prototypes, CLUSTER_COLOURS, strict=True):
        axes.plot(*prototype, "X", markersize=10, markerfacecolor=colour, markeredgecolor="black")
    twice, none = int((hot.sum(-1) == 2).sum()), int((~hot.any(-1)).sum())
    axes.set_xlabel(f"two labels: {twice}   no label: {none}")
    axes.set(xticks=[], yticks=[], aspect="equal")


def reliability() -> Figure:
    """What passes 0.95 by the purity of a neighbourhood, and what a threshold does on digits."""
    figure = Figure(figsize=(7.2, 2.9))
    left, right = figure.subplots(1, 2)
    purity = np.linspace(0.7, 1, 121)
    for k, colour in ((10, GREY), (20, ORANGE), (100, BLUE), (500, GREEN)):
        passing = binom.sf(_passing(k, 0.95) - 1, k, purity)
        left.plot(purity, passing, color=colour, label=f"k = {k}")
    left.axvline(0.95, color="black", linewidth=0.7, linestyle=":")
    left.set(xlabel="chance that a neighbour carries the label", ylabel="chance of ratio > 0.95")
    left.legend(loc="upper left")

    digits = load_digits()
    labels = KMeans(10, n_init=3, random_state=0).fit_predict(digits.data)
    labels = torch.from_numpy(labels.astype(np.int64))
    ratio = reliability_ratio(labels, nearest_neighbors(digits.data, 50))
    thresholds = np.linspace(0, 0.98, 25)
    kept = [ratio > threshold for threshold in thresholds]
    right.plot(thresholds, [float(mask.double().mean()) for mask in kept], color=GREY, label="kept")
    accuracy = [clustering_accuracy(labels[mask], digits.target[mask]) for mask in kept]
    right.plot(thresholds, accuracy, color=BLUE, label="accuracy of the kept")
    right.set(xlabel="threshold (digits, k-means, k = 50)", ylim=(0, 1.02), ylabel="share")
    right.legend(loc="lower left")
    return figure


def _passing(k: int, threshold: float) -> int:
    """The least number of agreeing neighbours that is reliable, asked of `reliable_mask`."""
    agreeing = torch.arange(k + 1)  # a head for every number: its first so many neighbours agree
    labels = (torch.arange(k + 1) > agreeing.unsqueeze(1)).long()
    neighbors = torch.arange(1, k + 1).expand(k + 1, k)
    passes = reliable_mask(torch.zeros(k + 1, 1), labels, neighbors=neighbors, threshold=threshold)
    return int(passes[:, 0].nonzero()[0])


def soft_contrastive() -> Figure:
    """Confidence by distance (RPSC Eq. 3), and how it enters the loss (Eq. 4), mode by mode."""
    figure = Figure(figsize=(7.2, 2.9))
    left, right = figure.subplots(1, 2)
    angles = torch.linspace(0, 1.2, 25, dtype=torch.float64)
    features = torch.stack([angles.cos(), angles.sin()], 1)
    given = assign_labels(features, torch.tensor([[1.0, 0.0]], dtype=torch.float64), 25)
    distance = (2 - 2 * given.similarity).clamp(min=0).sqrt()
    for kind, colour, name in (
        ("one_minus", BLUE, "one_minus: 1 - d"),
        ("paper", GREY, "paper: d"),
        ("none", ORANGE, "none"),
    ):
        left.plot(distance, label_confidence(given, kind=kind), color=colour, label=name)
    left.set(xlabel="distance to the prototype", ylabel="confidence")
    left.legend()

    # One anchor and three negatives, again for every confidence: the leading axis is that of heads.
    confidence = torch.linspace(0.01, 1, 100, dtype=torch.float64).unsqueeze(1).expand(100, 4)
    batch = [[0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
    predictions = torch.tensor(batch, dtype=torch.float64).expand(100, 4, 3)
    labels = torch.tensor([0, 1, 1, 2]).expand(100, 4)
    modes = ("scale", "weight", "smooth", "literal")
    for mode, colour in zip(modes, (BLUE, GREEN, ORANGE, GREY), strict=True):
        losses = soft_contrastive_loss(
            predictions, labels, confidence, confidence_mode=mode, reduction="none"
        )
        right.plot(confidence[:, 0], losses[:, 0], color=colour, label=mode)
    right.set(xlabel="confidence of the label", ylabel="loss of one anchor")
    right.legend()
    return figure


def thresholds() -> Figure:
    """FixMatch's and FreeMatch's thresholds while a network learns the digits from 40 labels."""
    digits = load_digits()
    images, truth = torch.from_numpy(digits.data / 16), torch.from_numpy(digits.target)
    generator = torch.Generator().manual_seed(0)
    few = torch.cat([(truth == c).nonzero()[:4, 0] for c in range(10)])
    fixed, adaptive = FixedThreshold(0.95), SelfAdaptiveThreshold(10, momentum=0.97)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).double()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    history: list[list[float]] = []
    for _ in range(200):
        batch = images[torch.randint(len(images), (128,), generator=generator)]
        probs = network(batch).softmax(-1).detach()
        chosen, by_fixed = adaptive(probs), fixed(probs)
        strong = batch + 0.15 * torch.randn(batch.shape, generator=generator, dtype=batch.dtype)
        loss = cross_entropy(network(images[few]), truth[few])
        loss = loss + consistency_loss(network(strong), *chosen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shares = [float(by_fixed.weights.mean()), float(chosen.weights.mean())]
        history.append([*shares, *adaptive.thresholds.tolist()])
    recorded = np.array(history)
    figure = Figure(figsize=(7.2, 2.9))
    left, right = figure.subplots(1, 2, sharex=True)
    left.plot(recorded[:, 2:], color=BLUE, linewidth=0.8, alpha=0.6)
    left.axhline(0.95, color=ORANGE)
    left.text(0, 0.96, "FixMatch: 0.95", color=ORANGE, va="bottom")
    left.text(5, 0.62, "FreeMatch,\none per class", color=BLUE)
    left.set(xlabel="step", ylabel="threshold", ylim=(0, 1.08))
    for column, colour, name in ((1, BLUE, "FreeMatch"), (0, ORANGE, "FixMatch")):
        right.plot(recorded[:, column], color=colour, label=name)
    right.set(xlabel="step", ylabel="share of the batch that is selected", ylim=(0, 1.08))
    right.legend(loc="upper left", bbox_to_anchor=(0, 0.45))
    return figure


def prototypes() -> Figure:
    """One round of prototype labels on two features of a sample: confident, prototype, labelled."""
    generator = np.random.default_rng(0)
    middles = np.array([[0.0, 0.0], [2.4, 1.4], [2.6, -1.6]])
    rows = np.concatenate([m + 0.75 * generator.standard_normal((15, 2)) for m in middles])
    features = torch.from_numpy(rows)
    # A head that has begun to learn: right about the directions, not about the borders.
    aims = torch.tensor([[-0.6, 0.4], [2.6, 2.2], [3.4, -1.2]]).double()
    probs = (-torch.cdist(features, aims)).softmax(-1)
    given = prototype_labels(features, probs, metric="euclidean")
    figure = Figure(figsize=(7.4, 2.6))
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    titles = ("1. the most confident", "2. make a prototype", "3. which labels its nearest")
    confident = probs.topk(7, dim=0).indices.T
    for step, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        axes.plot(*rows.T, "o", color=GREY, markersize=4)
        for c, colour in enumerate(CLUSTER_COLOURS):
            members = confident[c] if step < 2 else given.indices[given.labels == c]
            size = 6 if step != 1 else 4
            axes.plot(*rows[members].T, "o", color=colour, markersize=size, alpha=0.8)
            if step:
                style = {"markerfacecolor": colour, "markeredgecolor": "black"}
                axes.plot(*given.prototypes[c], "X", markersize=10, **style)
        axes.set_title(title, fontsize=10)
        axes.set(xticks=[], yticks=[], aspect="equal")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "prototypes": prototypes,
    "assignments": assignments,
    "double-softmax": double_softmax,
    "reliability": reliability,
    "soft-contrastive": soft_contrastive,
    "thresholds": thresholds,
}


def draw(folder: Path) -> None:
    """Draws all pictures into a folder."""
    with mpl.rc_context(STYLE):
        for name, picture in PICTURES.items():
            picture().savefig(folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    draw(FOLDER)
