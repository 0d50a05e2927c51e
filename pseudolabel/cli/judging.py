"""What both commands do once there are labels: judge them, and write all that was found."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import scipy
import sklearn
import torch
from torch import Tensor

from pseudolabel import __version__
from pseudolabel.cli.folder import OutputFolder
from pseudolabel.cli.progress import Stages
from pseudolabel.neighbors import nearest_neighbors
from pseudolabel.reliability import ReliableLabels, reliable_labels
from pseudolabel.report import Doubt, find_doubtful, render_report
from pseudolabel.report.space import MapKind
from pseudolabel.types import Neighbors

if TYPE_CHECKING:
    from PIL.Image import Image


class Subject(NamedTuple):
    """What is judged, and how.

    Attributes:
        features: ``(N, D)``.
        title: The report's heading.
        metric: Of the neighbours.
        threshold: Of the ratio.
        map_kind: The report's map.
        seed: Of the map.
        device: Where to search for neighbours.
        pictures: A file for each row, or None.
        neighbors: k.
        labels: int64 ``(N,)`` positions in ``names``; -1 for none.
        given: ``(N,)``, the labels as the user knows them.
        names: Of the classes.
        confidence: ``(N,)``, or None where nobody knows it.
        noun: What a class is called.
    """

    features: np.ndarray
    title: str
    metric: Literal["cosine", "euclidean"]
    threshold: float
    map_kind: MapKind
    seed: int
    device: str
    pictures: Sequence[Path] | None
    neighbors: int = 1
    labels: np.ndarray = np.empty(0, dtype=np.int64)
    given: np.ndarray = np.empty(0, dtype=np.int64)
    names: Sequence[str] = ()
    confidence: np.ndarray | None = None
    noun: str = "cluster"


def write_results(
    out: OutputFolder, subject: Subject, settings: dict[str, object], stages: Stages
) -> str:
    """Judges the labels and fills the folder.

    Args:
        out: Where to.
        subject: What is judged.
        settings: What the command ran with.
        stages: Told of neighbours, judging and report.

    Returns:
        What came out, in a line.
    """
    with stages("neighbours"):
        features: np.ndarray | Tensor = subject.features
        if torch.device(subject.device).type != "cpu":  # cuda
            features = torch.from_numpy(np.array(features)).to(subject.device)
        found = nearest_neighbors(features, subject.neighbors, metric=subject.metric)
        neighbors = Neighbors(found.indices.cpu(), found.similarity.cpu())
    with stages("judging"):
        reliable = reliable_labels(
            subject.features, subject.labels, threshold=subject.threshold, neighbors=neighbors
        )
        reliable = reliable._replace(num_classes=len(subject.names))
        doubt = find_doubtful(subject.labels, neighbors, num_classes=len(subject.names))
    settings = {**settings, "neighbors": subject.neighbors}
    with stages("report"):
        page = render_report(
            subject.features,
            reliable,
            neighbors,
            title=subject.title,
            noun=subject.noun,
            metric=subject.metric,
            class_names=subject.names,
            row_names=None if subject.pictures is None else [p.name for p in subject.pictures],
            confidence=subject.confidence,
            doubt=doubt,
            picture=None if subject.pictures is None else _Opener(subject.pictures),
            map_kind=subject.map_kind,
            seed=subject.seed,
            settings=settings
            | {f"seconds: {name}": spent for name, spent in stages.seconds.items()}
            | {f"version: {name}": version for name, version in _versions().items()},
        )
        out.write_text("report.html", page)
    _write_labels(out, subject, reliable, doubt)
    out.write_json("summary.json", _summary(subject, reliable, doubt, settings, stages))
    kept, given = int(reliable.mask.sum()), int((reliable.given >= 0).sum())
    classes = f"{len(subject.names):,} {'classes' if subject.noun == 'class' else 'clusters'}"
    return (
        f"{len(subject.features):,} rows, {classes}; {kept:,} of {given:,} labels are reliable, "
        f"{len(doubt.order):,} rows are doubtful"
    )


class _Opener:
    """Opens the picture of a row."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __call__(self, row: int) -> Image:
        from PIL import Image

        with Image.open(self._paths[row]) as image:
            return image.convert("RGBA" if "transparency" in image.info else image.mode)


def _write_labels(
    out: OutputFolder, subject: Subject, reliable: ReliableLabels, doubt: Doubt
) -> None:
    given, names = subject.given, subject.names
    suggested = [names[code] if code >= 0 else "" for code in doubt.suggested.tolist()]
    ratio = [f"{x:.6f}" for x in reliable.ratio.tolist()]
    unsure = [f"{x:.6f}" for x in doubt.doubt.tolist()]
    sure = [""] * len(given)
    if subject.confidence is not None:
        sure = [f"{x:.6f}" for x in subject.confidence.tolist()]
    mask = reliable.mask.int().tolist()
    columns = (range(len(given)), given.tolist(), sure, ratio, mask, suggested, unsure)
    header = ["row", "label", "confidence", "reliability", "reliable", "suggested", "doubt"]
    out.write_table("labels.csv", header, zip(*columns, strict=True))

    files = ["file"] if subject.pictures is not None else []
    rows = (
        [place, row, *_file(subject, row), given[row], suggested[row], ratio[row], unsure[row]]
        for place, row in enumerate(doubt.order.tolist(), 1)
    )
    header = ["rank", "row", *files, "label", "suggested", "reliability", "doubt"]
    out.write_table("doubtful.csv", header, rows)

    out.write_array("labels.npy", given)
    nothing = "" if given.dtype.kind == "U" else -1
    out.write_array("reliable_labels.npy", np.where(reliable.mask.numpy(), given, nothing))


def _file(subject: Subject, row: int) -> list[str]:
    return [] if subject.pictures is None else [subject.pictures[row].name]


def _summary(
    subject: Subject,
    reliable: ReliableLabels,
    doubt: Doubt,
    settings: dict[str, object],
    stages: Stages,
) -> dict[str, object]:
    report = reliable.report()
    columns = (
        subject.names,
        report.samples.tolist(),
        report.reliable.tolist(),
        report.median_ratio.tolist(),
        report.best_ratio.tolist(),
        report.reasons,
    )
    return {
        "result": {
            "rows": len(subject.features),
            "columns": subject.features.shape[1],
            "classes": len(subject.names),
            "labelled": int((reliable.given >= 0).sum()),
            "reliable": int(reliable.mask.sum()),
            "doubtful_rows": len(doubt.order),
        },
        "classes": [
            {
                "name": name,
                "samples": samples,
                "reliable": kept,
                "median_ratio": None if math.isnan(median) else median,
                "best_ratio": None if math.isnan(best) else best,
                "why_empty": reason or None,
            }
            for name, samples, kept, median, best, reason in zip(*columns, strict=True)
        ],
        "settings": settings,
        "seconds": dict(stages.seconds),
        "versions": dict(_versions()),
    }


def _versions() -> dict[str, str]:
    return {
        "pseudolabel": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
    }
