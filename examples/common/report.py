"""Everything that a run leaves behind, written to its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from common.attention import attention_maps
from common.augmentation import View
from common.clustering import TrainedHead
from common.curves import accuracy_curves, confusion_matrix, head_curves, joint_curve, purity_curve
from common.evaluation import Scoreboard
from common.measures import Findings
from common.network import Architecture, save_parts
from common.plots import embedding_map, picture, prototype_images, ratio_histogram, training_maps
from common.run_folder import RunFolder
from common.settings import RunSettings
from pseudolabel import Neighbors, ReliableLabels, prototype_labels, reliable_labels
from pseudolabel.report import Table, render_report

IMAGES_A_CLUSTER = 14
STAGES = (
    "Scores, where there are any, compare with labels that no stage has seen. The rest of this "
    "page is about the labels of the last stage, judged by neighbours among the features of "
    "stage 1."
)


class Outcome(NamedTuple):
    """What a run found, on any device.

    Attributes:
        images: uint8 ``(N, C, H, W)``.
        embeddings: ``(N, D)``, those that the reliability was judged by.
        trained: The head that stage 2 selected.
        reliable: The labels that were judged, those of stage 2.
        neighbors: ``(N, k)``, by which they were.
        probs: ``(N, K)`` of the last stage, which give the final labels.
        held_out: The same of images that were not trained on, or None.
        modules: The trained networks by name; ``"network"`` is the last stage's.
        architecture: Of that network.
        clean: The view that it predicts on.
    """

    images: Tensor
    embeddings: Tensor
    trained: TrainedHead
    reliable: ReliableLabels
    neighbors: Neighbors
    probs: Tensor
    held_out: Tensor | None
    modules: dict[str, nn.Module]
    architecture: Architecture
    clean: View


def write_outcome(
    folder: RunFolder,
    outcome: Outcome,
    board: Scoreboard,
    settings: RunSettings,
    files: Sequence[Path] = (),
    class_names: Sequence[str] = (),
    held_out_files: Sequence[Path] = (),
) -> None:
    """Writes labels, report, checkpoint and, last, the metrics: who finds them finds it all.

    Args:
        folder: Of the run.
        outcome: What the run found.
        board: Its scores.
        settings: What it ran with; paths become strings.
        files: Of the images, where each has its own; they name the rows.
        class_names: Of the truth, where it has names.
        held_out_files: As ``files``, of the held-out images.
    """
    plain = json.loads(json.dumps(asdict(settings), default=str))
    outcome = outcome._replace(embeddings=outcome.embeddings.cpu(), probs=outcome.probs.cpu())
    given, ratio = outcome.reliable.given.cpu(), outcome.reliable.ratio.cpu()
    probs = outcome.trained.probs.cpu()
    final = outcome.probs.argmax(-1)
    findings = board.find(outcome.embeddings, probs, given, ratio, final)
    _write_labels(folder, outcome, files)
    if outcome.held_out is not None:
        _write_table(folder, "held_out_labels.csv", _predicted(outcome.held_out), held_out_files)
    _write_checkpoint(folder, outcome, plain)
    _write_report(folder, outcome, board, settings, files)
    if settings.pictures:
        _write_pictures(folder, outcome, board, findings, class_names, settings.seed)
    scores = [score._asdict() for score in board.scores]
    content = {"scores": scores, "findings": findings._asdict(), "settings": plain}
    folder.write_json("metrics.json", content)


def _write_labels(folder: RunFolder, outcome: Outcome, files: Sequence[Path]) -> None:
    reliable = outcome.reliable
    judged = {
        "stage2_label": reliable.given.tolist(),
        "reliability": [f"{x:.6f}" for x in reliable.ratio.tolist()],
        "reliable": reliable.mask.int().tolist(),
    }
    _write_table(folder, "labels.csv", _predicted(outcome.probs) | judged, files)


def _predicted(probs: Tensor) -> dict[str, list[Any]]:
    confidence, labels = probs.max(-1)
    return {
        "label": labels.tolist(),
        "confidence": [f"{x:.6f}" for x in confidence.tolist()],
    }


def _write_table(
    folder: RunFolder, name: str, columns: dict[str, list[Any]], files: Sequence[Path]
) -> None:
    """One row an image, in the order of the files where each has its own."""
    columns = ({"file": list(map(str, files))} if files else {}) | columns
    rows = [[i, *row] for i, row in enumerate(zip(*columns.values(), strict=True))]
    if files:
        rows.sort(key=lambda row: row[1])
    folder.write_table(name, ["index", *columns], rows)


def _write_checkpoint(folder: RunFolder, outcome: Outcome, settings: dict[str, Any]) -> None:
    save_parts(folder, outcome.modules)
    content = {
        "modules": list(outcome.modules),
        "architecture": asdict(outcome.architecture),
        "image_shape": list(outcome.images.shape[1:]),
        "selected_head": outcome.trained.index,
        "torch": torch.__version__,
        "settings": settings,
    }
    folder.write_json("checkpoint.json", content)


def _write_report(
    folder: RunFolder,
    outcome: Outcome,
    board: Scoreboard,
    settings: RunSettings,
    files: Sequence[Path],
) -> None:
    """The page about the final labels, judged as stage 2's were, by the same neighbours."""
    rule, labels = settings.reliability, outcome.probs.argmax(-1)
    final = reliable_labels(
        outcome.embeddings,
        labels,
        threshold=rule.above,
        strict=rule.strict,
        neighbors=Neighbors(*(part.cpu() for part in outcome.neighbors)),
        probs=outcome.probs,
        min_confidence=rule.min_confidence,
    )
    header, *rows = board.table()
    page = render_report(
        outcome.embeddings,
        final,
        outcome.neighbors,
        title=f"{len(labels):,} images of {settings.data.name}",
        row_names=names_below(files) or None,
        confidence=outcome.probs.amax(-1),
        picture=lambda row: Image.fromarray(picture(outcome.images[row])),
        map_kind="auto" if settings.pictures else "pca",
        seed=settings.seed,
        tables=[Table("Stages", header, rows, STAGES)],
        settings=_flat(json.loads(json.dumps(asdict(settings), default=str))),
    )
    folder.write("report.html", lambda path: path.write_text(page, encoding="utf-8"))


def names_below(files: Sequence[Path]) -> list[str]:
    """Paths below the folder that holds them all: names alone come again in other folders."""
    top = os.path.commonpath([file.parent for file in files]) if files else ""
    return [file.relative_to(top).as_posix() for file in files]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Settings by the names that they have on the command line."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def _write_pictures(
    folder: RunFolder,
    outcome: Outcome,
    board: Scoreboard,
    findings: Findings,
    class_names: Sequence[str],
    seed: int,
) -> None:
    images, embeddings, reliable = outcome.images, outcome.embeddings, outcome.reliable
    given, mask = reliable.given.cpu(), reliable.mask.cpu()
    final = closest(embeddings, outcome.probs, outcome.probs.argmax(-1))
    judged = closest(embeddings, one_hot(given, len(final)).float(), given)
    pictures = {
        "prototypes.png": prototype_images(images, final),
        "embeddings.png": embedding_map(embeddings, given, mask, images, judged, seed=seed),
        "reliability.png": ratio_histogram(reliable.ratio.cpu(), mask),
        "attention.png": attention_maps(outcome.modules["network"], images, final, outcome.clean),
    }
    history = outcome.trained.history
    if len(history) > 1:
        pictures["training.png"] = training_maps(history, outcome.trained.index, seed=seed)
        pictures["heads.png"] = head_curves(board.scores)
    if findings.confusion is not None:
        pictures["accuracy.png"] = accuracy_curves(findings)
        pictures["purity.png"] = purity_curve(findings)
        pictures["confusion.png"] = confusion_matrix(
            findings.confusion, findings.clusters, class_names
        )
        if len(board.scores[-1].history or []) > 1:
            pictures["joint.png"] = joint_curve(board.scores[-1].history)
    for name, figure in pictures.items():
        folder.write(name, lambda path, figure=figure: figure.savefig(path, dpi=150))


def closest(embeddings: Tensor, probs: Tensor, labels: Tensor) -> Tensor:
    """Positions ``(K, columns)`` of the members closest to each prototype; -1 for none."""
    prototypes = prototype_labels(embeddings, probs).prototypes
    closeness = normalize(prototypes, dim=-1) @ normalize(embeddings, dim=-1).T
    members = labels == torch.arange(len(prototypes)).unsqueeze(1)
    closeness, indices = closeness.masked_fill(~members, -torch.inf).topk(
        min(IMAGES_A_CLUSTER, len(embeddings))
    )
    return indices.where(closeness > -torch.inf, -1)
