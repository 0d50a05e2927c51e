"""Embeddings clustered by `PrototypeClustering`, and by k-means with twenty restarts.

    python benchmarks/estimator.py --runs runs/spice-digits-0 runs/fashion

Pixels are always there; features are those of the stage 1 of finished runs of `examples/`, as rows
of length 1. Ground truth scores, and does nothing else. What is in the result file is not measured
again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
from _harness import features, write_result
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from torch.nn.functional import normalize

import pseudolabel as pl
from pseudolabel.estimator import PrototypeClustering

EXAMPLES = Path(__file__).parent.parent / "examples"


@dataclass(frozen=True)
class Settings:
    """Which embeddings, and how often."""

    runs: tuple[Path, ...] = ()
    """Folders of finished runs of `examples/`."""
    seeds: int = 5
    rows: int = 20_000
    """Of a data set that has more, as many are drawn."""
    large: int = 60_000
    """Rows of 512 for the one measurement that is of time alone; 0 for none."""
    threads: int = 2
    out: Path = Path("benchmarks/results/estimator.json")


class Case(NamedTuple):
    """Embeddings and what is to be found in them.

    Attributes:
        name: What they are.
        rows: float32 ``(N, D)``.
        truth: int64 ``(N,)``.
    """

    name: str
    rows: np.ndarray
    truth: np.ndarray


CLUSTERINGS: dict[str, Callable[[int, int], Any]] = {
    "k-means, 20 restarts": lambda k, seed: KMeans(k, n_init=20, random_state=seed),
    "PrototypeClustering": lambda k, seed: PrototypeClustering(k, random_state=seed),
    "PrototypeClustering, soft contrastive": lambda k, seed: PrototypeClustering(
        k, loss="soft_contrastive", random_state=seed
    ),
}


def cases(settings: Settings) -> Iterator[Case]:
    """One after the other, for some are large."""
    digits = load_digits()
    yield Case("digits, pixels", digits.data.astype(np.float32), digits.target)
    pixels, truth = features("fashion-mnist", settings.rows, 784, 0)
    yield Case(f"Fashion-MNIST, pixels of {settings.rows:,}", pixels.numpy(), truth.numpy())
    for run in settings.runs:
        yield of_run(run, settings.rows)
    for spread in (1.0, 2.0, 3.0):
        rows, truth = make_blobs(
            2500, 32, centers=50, cluster_std=spread, center_box=(-4, 4), random_state=0
        )
        name = f"50 Gaussians of 50 rows in 32 dimensions, spread {spread:g}"
        yield Case(name, rows.astype(np.float32), truth)


def of_run(run: Path, count: int) -> Case:
    """The features of a run's stage 1, of length 1, of at most ``count`` images."""
    sys.path.insert(0, str(EXAMPLES))
    from common.augmentation import views_for
    from common.data import load
    from common.network import Architecture, Encoder, load_part
    from common.training import in_eval_mode
    from lightning.fabric import Fabric

    said = json.loads((run / "checkpoint.json").read_text())
    chosen = {key: value for key, value in said["settings"]["data"].items() if key != "on_device"}
    data = load(chosen.pop("name"), **chosen)
    architecture = Architecture(**said["architecture"])
    encoder = Encoder(architecture.build_backbone(), architecture.projection).eval()
    load_part(encoder, run, "encoder")
    channels, _, width = said["image_shape"]
    view = views_for(data.name, size=width, channels=channels).clean
    drawn = np.random.default_rng(0).permutation(len(data.images))[:count]
    images, truth = data.images[drawn], data.truth[drawn]
    rows = normalize(in_eval_mode(Fabric(accelerator="cpu", devices=1), encoder, images, view))
    return Case(f"{data.name}, features of {len(rows):,}", rows.numpy(), truth.numpy())


def measure(case: Case, make: Callable[[int, int], Any], seeds: int) -> dict[str, list[float]]:
    """Scores and seconds of every seed."""
    truth, classes = torch.from_numpy(case.truth).long(), int(case.truth.max()) + 1
    found: dict[str, list[float]] = {"accuracy": [], "nmi": [], "seconds": []}
    for seed in range(seeds):
        start = perf_counter()
        labels = torch.from_numpy(make(classes, seed).fit(case.rows).labels_).long()
        found["seconds"].append(perf_counter() - start)
        found["accuracy"].append(float(pl.clustering_accuracy(labels, truth)))
        found["nmi"].append(float(pl.normalized_mutual_info(labels, truth)))
    return found


def large(rows: int) -> dict[str, Any]:
    """Seconds of a fit of ten heads on isotropic rows of 512, which no early stop shortens."""
    data, _ = features("isotropic", rows, 512, 0)
    start = perf_counter()
    fitted = PrototypeClustering(10, early_stopping=False, random_state=0).fit(data)
    return {"rows": rows, "columns": 512, "heads": 10, "rounds": fitted.n_iter_} | {
        "seconds": perf_counter() - start
    }


def table(results: dict[str, Any]) -> str:
    """What is in a result file, as Markdown: mean and deviation over the seeds."""
    lines = ["| embeddings | clustering | ACC | NMI | seconds |", "|---|---|---|---|---|"]
    for case, clusterings in results["cases"].items():
        for name, found in clusterings.items():
            scores = [f"{mean(found[x]):.3f} ± {stdev(found[x]):.3f}" for x in ("accuracy", "nmi")]
            cells = [case, name, *scores, f"{mean(found['seconds']):.1f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Measures and writes one result file."""
    torch.set_num_threads(settings.threads)
    results: dict[str, Any] = {"cases": {}}
    asked = {k: v for k, v in asdict(settings).items() if k != "out"} | {"runs": len(settings.runs)}
    if settings.out.exists():
        before = json.loads(settings.out.read_text())
        if before["settings"] != asked:
            raise SystemExit(f"error: {settings.out}: was measured with {before['settings']}")
        results = before["results"]
    if settings.large and "large" not in results:
        results["large"] = large(settings.large)
        print(results["large"], flush=True)
    for case in cases(settings):
        measured = results["cases"].setdefault(case.name, {})
        for name, make in CLUSTERINGS.items():
            if name not in measured:
                measured[name] = measure(case, make, settings.seeds)
                print(case.name, name, measured[name], flush=True)
        write_result(settings.out, asked, results)
    print(table(results))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
