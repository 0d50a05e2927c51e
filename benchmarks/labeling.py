"""One labelling step of ten heads, against a loop over heads as research code has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from _harness import timed, write_result
from torch import Tensor

from pseudolabel import prototype_labels


@dataclass(frozen=True)
class Settings:
    """One E-step."""

    samples: int = 5000
    dimension: int = 512
    classes: int = 10
    heads: int = 10
    repeats: int = 7
    seed: int = 0
    device: str = "cpu"
    out: Path = Path("benchmarks/results/labeling.json")


def loop_over_heads(features: Tensor, probs: Tensor) -> list[Tensor]:
    """SPICE Eq. 2-4 head by head in float32, two full sorts a head; ties as they fall."""
    share = probs.shape[1] // probs.shape[2]
    labelled = []
    for scores in probs:
        confident = scores.sort(dim=0, descending=True).indices[: share // 2]
        centres = features[confident].mean(0)
        nearest = (centres @ features.T).argsort(dim=1, descending=True)[:, :share]
        labelled.append(nearest.flatten())
    return labelled


def main(settings: Settings) -> None:
    """Measures and writes one result file."""
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (settings.heads, settings.samples, settings.classes)
    features = torch.randn(settings.samples, settings.dimension, generator=generator)
    features = torch.nn.functional.normalize(features, dim=-1).to(settings.device)
    probs = torch.randn(shape, generator=generator).mul(3).softmax(-1).to(settings.device)
    results = {"loop over heads": timed(lambda: loop_over_heads(features, probs), settings.repeats)}
    for rule in ("overlap", "nearest", "greedy", "sequential", "optimal"):
        results[f"prototype_labels {rule}"] = timed(
            lambda rule=rule: prototype_labels(features, probs, assignment=rule),
            settings.repeats,
            settings.device,
        )
    for name, result in results.items():
        result["times_loop"] = result["seconds"] / results["loop over heads"]["seconds"]
        print(f"{name:28s} {result['seconds'] * 1000:9.1f} ms  {result['times_loop']:6.2f} x loop")
    write_result(settings.out, asdict(settings), results)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
