"""Pictures of what is measured against the ground truth, where there is any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.evaluation import Score
from common.measures import Findings

COLOURS = ("#1b6ca8", "#d1660f", "#3a8f4d", "#8b5fb0")


def accuracy_curves(findings: Findings) -> Figure:
    """What is lost and won by keeping the best labels only."""
    figure, axis = _figure(
        "Accuracy of the labels of stage 2 that are kept", "share of all labels kept", "accuracy"
    )
    if findings.consistent is not None and findings.confident is not None:
        axis.plot(
            findings.shares, findings.consistent, "o-", color=COLOURS[0], label="most consistent"
        )
        axis.plot(
            findings.shares, findings.confident, "s--", color=COLOURS[1], label="most confident"
        )
    axis.legend(frameon=False)
    return figure


def purity_curve(findings: Findings) -> Figure:
    """How often the samples nearest to a prototype are of one class (RPSC's Fig. 1)."""
    figure, axis = _figure(
        "Stage 2: samples nearest to a prototype that share its class",
        "samples taken, as a share of M / K",
        "share of the most frequent class",
    )
    axis.plot(findings.shares, findings.purity or [], "o-", color=COLOURS[0])
    return figure


def head_curves(scores: Sequence[Score]) -> Figure:
    """The accuracy of the selected head beside the best and worst one's (SPICE's Fig. 6).

    Without ground truth the losses of the heads are all there is to see.
    """
    history = next(
        score.history for score in scores if score.history and "losses" in score.history[0]
    )
    rounds = [moment["after"] for moment in history]
    losses = np.array([moment["losses"] for moment in history])
    known = "accuracies" in history[0]
    figure = Figure(figsize=(11 if known else 6, 4), layout="constrained")
    axes = figure.subplots(1, 2 if known else 1, squeeze=False)[0]
    chosen = losses.argmin(1)
    axes[0].plot(rounds, losses, color="#b9b9b9", linewidth=1)
    axes[0].plot(rounds, losses.min(1), "o-", color=COLOURS[0], label="selected head")
    _dress(axes[0], "Label-free loss of every head", "rounds of training", "loss")
    if known:
        accuracies = np.array([moment["accuracies"] for moment in history])
        lines = np.arange(len(rounds))
        axes[1].fill_between(
            rounds, accuracies.min(1), accuracies.max(1), color="#dddddd", label="worst to best"
        )
        axes[1].plot(
            rounds, accuracies[lines, chosen], "o-", color=COLOURS[0], label="selected head"
        )
        _dress(axes[1], "Accuracy of the heads", "rounds of training", "accuracy")
    for axis in axes:
        axis.legend(frameon=False)
        _tick_whole_numbers(axis)
    return figure


def joint_curve(history: Sequence[dict[str, Any]]) -> Figure:
    """The accuracy along stage 3 (RPSC's Fig. 4, where two runs are compared).

    Args:
        history: Of `common.evaluation.Score`, with accuracies.
    """
    figure, axis = _figure("Accuracy along the joint training", "steps of training", "accuracy")
    steps = [moment["after"] for moment in history]
    axis.plot(steps, [moment["accuracies"][0] for moment in history], "o-", color=COLOURS[0])
    _tick_whole_numbers(axis)
    return figure


def confusion_matrix(
    counts: Sequence[Sequence[int]], clusters: Sequence[int], class_names: Sequence[str] = ()
) -> Figure:
    """Classes against clusters, in the order that fits best.

    Args:
        counts: Samples, a row a class, a column a cluster.
        clusters: The numbers of the clusters, in the order of the columns.
        class_names: Of the rows; empty for their numbers.
    """
    table = np.array(counts)
    height, width = (min(10.0, 0.45 * size + 1.6) for size in table.shape)
    figure = Figure(figsize=(width + 1.6, height), layout="constrained")
    axis = figure.subplots()
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if max(table.shape) <= 20:
        for row, column in np.argwhere(table > 0):
            shade = "white" if shares[row, column] > 0.5 else "black"
            text = str(table[row, column])
            axis.text(column, row, text, ha="center", va="center", color=shade, fontsize=8)
    axis.set(
        title="Classes and final clusters",
        xlabel="cluster, in the order that fits best",
        ylabel="class",
    )
    if max(table.shape) <= 40:
        axis.set_xticks(range(len(clusters)), list(map(str, clusters)), fontsize=8)
        names = class_names or range(len(table))
        axis.set_yticks(range(len(table)), list(map(str, names)), fontsize=8)
    figure.colorbar(image, label="share of the class")
    return figure


def _tick_whole_numbers(axis: Axes) -> None:
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    _dress(axis, title, x, y)
    return figure, axis


def _dress(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#eeeeee")
