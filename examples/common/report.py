"""Everything that a run leaves behind, written to its folder."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.evaluation import Scoreboard
from common.plots import embedding_map, prototype_images, ratio_histogram
from common.run_folder import RunFolder
from pseudolabel import PseudoLabels, ReliableLabels, prototype_labels

IMAGES_A_CLUSTER = 14


class Outcome(NamedTuple):
    """What a run found, on any device.

    Attributes:
        images: uint8 ``(N, C, H, W)``.
        embeddings: ``(N, D)``, those that the reliability was judged by.
        reliable: The labels that were judged.
        probs: ``(N, K)`` of the last stage, which give the final labels.
        modules: The trained networks by name.
    """

    images: Tensor
    embeddings: Tensor
    reliable: ReliableLabels
    probs: Tensor
    modules: dict[str, nn.Module]


def write_outcome(
    folder: RunFolder, outcome: Outcome, board: Scoreboard, settings: dict[str, Any]
) -> None:
    """Writes labels, pictures, checkpoint and, last, the metrics: who finds them finds it all.

    Args:
        folder: Of the run.
        outcome: What the run found.
        board: Its scores.
        settings: What it ran with; paths become strings.
    """
    plain = json.loads(json.dumps(settings, default=str))
    _write_labels(folder, outcome)
    _write_checkpoint(folder, outcome.modules, plain)
    _write_pictures(folder, outcome, plain["seed"])
    scores = [score._asdict() for score in board.scores]
    folder.write_json("metrics.json", {"scores": scores, "settings": plain})


def _write_labels(folder: RunFolder, outcome: Outcome) -> None:
    confidence, labels = outcome.probs.cpu().max(-1)
    reliable = outcome.reliable
    columns = {
        "label": labels.tolist(),
        "confidence": [f"{x:.6f}" for x in confidence.tolist()],
        "stage2_label": reliable.given.tolist(),
        "reliability": [f"{x:.6f}" for x in reliable.ratio.tolist()],
        "reliable": reliable.mask.int().tolist(),
    }
    rows = enumerate(zip(*columns.values(), strict=True))
    folder.write_table("labels.csv", ["index", *columns], ([i, *row] for i, row in rows))


def _write_checkpoint(
    folder: RunFolder, modules: dict[str, nn.Module], settings: dict[str, Any]
) -> None:
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    folder.write_tensors("checkpoint.safetensors", tensors)
    content = {"modules": list(modules), "torch": torch.__version__, "settings": settings}
    folder.write_json("checkpoint.json", content)


def _write_pictures(folder: RunFolder, outcome: Outcome, seed: int) -> None:
    images, embeddings = outcome.images.cpu(), outcome.embeddings.cpu()
    given, mask = outcome.reliable.given.cpu(), outcome.reliable.mask.cpu()
    final = _closest(embeddings, outcome.probs.cpu())
    judged = _closest(embeddings, nn.functional.one_hot(given, final.shape[0]).float())
    pictures = {
        "prototypes.png": prototype_images(images, final),
        "embeddings.png": embedding_map(embeddings, given, mask, images, judged, seed=seed),
        "reliability.png": ratio_histogram(
            outcome.reliable.ratio.cpu(), outcome.reliable.threshold
        ),
    }
    for name, figure in pictures.items():
        folder.write(name, lambda path, figure=figure: figure.savefig(path, dpi=150))


def _closest(embeddings: Tensor, probs: Tensor) -> Tensor:
    """Positions ``(K, columns)`` of the samples closest to each cluster's prototype."""
    pseudo: PseudoLabels = prototype_labels(embeddings, probs)
    return pseudo.indices.view(probs.shape[-1], -1)[:, :IMAGES_A_CLUSTER]
