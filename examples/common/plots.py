"""The pictures that a person looks at first."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from sklearn.manifold import TSNE
from torch import Tensor
from torch.nn.functional import normalize

from common.evaluation import Snapshot

MAPPED = 10_000  # images in a map at most, evenly spaced
UNRELIABLE = "#b9b9b9"
RELIABLE = "#1b6ca8"


def cluster_name(cluster: int, members: Tensor) -> str:
    """What a row of a picture is called; members are positions of images, -1 for none."""
    return f"{cluster}" if (members >= 0).any() else f"{cluster} (empty)"


def prototype_images(images: Tensor, members: Tensor) -> Figure:
    """One row a cluster: its images closest to its prototype, the closest first.

    Args:
        images: uint8 ``(N, C, H, W)``.
        members: int64 ``(K, columns)`` positions of images; -1 for none.
    """
    rows, columns = members.shape
    figure = Figure(figsize=(0.55 * columns + 1.7, 0.55 * rows + 0.7), layout="constrained")
    axis = figure.subplots()
    for row, column in (members >= 0).nonzero().tolist():
        frame = (column, column + 0.92, row + 0.92, row)
        shown = picture(images[members[row, column]])
        axis.imshow(shown, cmap="gray_r", vmin=0, vmax=255, extent=frame)
    axis.set(
        title="The final clusters: images closest to the prototype of each",
        ylabel="cluster",
        xlim=(-0.05, columns),
        ylim=(rows, -0.05),
        xticks=[],
        yticks=np.arange(rows) + 0.46,
        yticklabels=[cluster_name(cluster, row) for cluster, row in enumerate(members)],
    )
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def embedding_map(
    features: Tensor,
    labels: Tensor,
    reliable: Tensor,
    images: Tensor,
    members: Tensor,
    *,
    seed: int,
) -> Figure:
    """A 2-D map (t-SNE) of the embeddings, by cluster and by reliability.

    Args:
        features: ``(N, D)``, compared by their cosine.
        labels: int64 ``(N,)`` clusters.
        reliable: bool ``(N,)``.
        images: uint8 ``(N, C, H, W)``.
        members: int64 ``(K, columns)``: the first image of each row marks its cluster.
        seed: Of the map.
    """
    total, step = len(features), -(-len(features) // MAPPED)
    features, labels, reliable = features[::step], labels[::step], reliable[::step]
    rows = normalize(features, dim=1).numpy()
    places = _tsne(rows, seed)
    # The panels are as flat as the map is: nothing but points takes up room.
    width, height = np.ptp(places, axis=0)
    shape = float(np.clip(height / max(width, 1e-9), 0.3, 1.3))
    figure = Figure(figsize=(12, 5.8 * shape + 1.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis in (left, right):
        axis.set(xticks=[], yticks=[], aspect="equal")
        axis.spines[:].set_visible(False)

    colours, steps = _colours(len(members))
    side = 28 * min(1, 10 / len(members)) ** 0.5  # many would cover the points
    for cluster, row in enumerate(members):
        mine = places[(labels == cluster).numpy()]
        colour = colours((cluster + 0.5) / steps)
        _scatter(left, mine, colour)
        if len(mine):
            _thumbnail(left, np.median(mine, axis=0), images[row[0]], colour, side=side)
    left.set_title("by cluster of stage 2, each with the image closest to its prototype")

    kept = reliable.numpy()
    _scatter(right, places[kept], RELIABLE, f"reliable ({kept.sum()})")
    _scatter(right, places[~kept], UNRELIABLE, f"not reliable ({(~kept).sum()})")
    right.set_title("by reliability of the labels of stage 2")
    right.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, frameon=False, markerscale=3)
    shown = f"{len(places):,}" if len(places) == total else f"{len(places):,} of {total:,}"
    figure.suptitle(f"t-SNE map of the learned embeddings of {shown} images", fontsize=14)
    return figure


def ratio_histogram(ratio: Tensor, reliable: Tensor) -> Figure:
    """How many neighbours agree with a sample's label, over all samples.

    Args:
        ratio: ``(N,)`` in [0, 1].
        reliable: bool ``(N,)``, by the ratio and whatever else is asked of a label.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    values, places, counts = ratio.unique(return_inverse=True, return_counts=True)
    kept = places[reliable].bincount(minlength=len(values)).numpy()
    values, counts = values.numpy(), counts.numpy()
    width = 0.8 * np.diff(values).min(initial=0.05)
    axis.bar(values, counts, width, color=UNRELIABLE, label="not reliable")
    axis.bar(values, kept, width, color=RELIABLE, label="reliable")
    axis.set(
        title=f"{kept.sum():,} of {counts.sum():,} labels of stage 2 are reliable",
        xlabel="reliability ratio: share of the nearest neighbours that carry the sample's label",
        ylabel="samples (log scale)",
        yscale="log",
        xlim=(-width, 1 + width),
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper left", frameon=False)
    return figure


def training_maps(history: list[Snapshot], head: int, *, seed: int) -> Figure:
    """Maps (t-SNE) of what one head says, at four times of its training (RPSC's Fig. 3).

    Args:
        history: At least two evaluations.
        head: Its index.
        seed: Of the maps.
    """
    shown = sorted({round(x) for x in np.linspace(0, len(history) - 1, 4)})
    figure = Figure(figsize=(3.6 * len(shown), 4), layout="constrained")
    for axis, index in zip(figure.subplots(1, len(shown)), shown, strict=True):
        moment = history[index]
        logits = moment.sample[head]
        places = _tsne(logits.softmax(-1).numpy(), seed)
        clusters = logits.argmax(-1).numpy()
        colours, steps = _colours(logits.shape[1])
        axis.scatter(*places.T, s=4, color=colours((clusters + 0.5) / steps))
        axis.set(title=f"after {moment.after} rounds", xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.suptitle("t-SNE maps of the selected head's predictions, coloured by cluster")
    return figure


def _tsne(rows: np.ndarray, seed: int) -> np.ndarray:
    if np.ptp(rows, axis=0).max() < 1e-6:  # of one point there is no map
        return np.zeros((len(rows), 2), np.float32)
    tsne = TSNE(init="pca", perplexity=min(30, len(rows) / 4), random_state=seed)
    return tsne.fit_transform(rows)


def _colours(num_clusters: int) -> tuple[Colormap, int]:
    """Cluster c of K is of the colour at (c + 0.5) / steps, the same in all maps."""
    if num_clusters <= 10:
        return mpl.colormaps["tab10"], 10
    return mpl.colormaps["turbo"], num_clusters


def picture(image: Tensor) -> np.ndarray:
    """``(H, W)`` of a grey image, ``(H, W, 3)`` of a colour one."""
    return image.permute(1, 2, 0).squeeze(-1).cpu().numpy()


def _scatter(axis: Axes, places: np.ndarray, colour: object, label: str | None = None) -> None:
    axis.scatter(*places.T, s=7, color=colour, linewidths=0, alpha=0.8, label=label)


def _thumbnail(
    axis: Axes, place: np.ndarray, image: Tensor, colour: object, *, side: float
) -> None:
    small = OffsetImage(picture(image), zoom=side / image.shape[-1], cmap="gray_r")
    frame = {"edgecolor": colour, "linewidth": 2, "boxstyle": "round,pad=0.1"}
    axis.add_artist(AnnotationBbox(small, place, pad=0.1, bboxprops=frame))
