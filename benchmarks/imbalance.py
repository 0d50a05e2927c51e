"""Long-tailed sets clustered with uniform quotas and with priors, true, wrong and estimated."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Literal

import numpy as np
import tyro
from _harness import features, markdown, write_result
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from pseudolabel import balanced_clustering_accuracy, clustering_accuracy
from pseudolabel.estimator import PrototypeClustering

CLASSES = 10


@dataclass(frozen=True)
class Settings:
    """Ten classes whose sizes fall geometrically."""

    data: Literal["digits", "fashion-mnist"] = "digits"
    ratios: tuple[int, ...] = (10, 100)
    """Of the largest class to the smallest."""
    largest: int = 300
    """Rows of the largest class; fewer where a set has fewer."""
    seeds: int = 5
    """Each draws the rows, and which class is how large."""
    out: Path = Path("benchmarks/results")
    """Folder of the file, imbalance-DATA.json."""


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of digits, or 50 principal components of Fashion-MNIST, and the classes."""
    if name == "digits":
        digits = load_digits()
        return digits.data, digits.target.astype(np.int64)
    pixels, truth = (tensor.numpy() for tensor in features(name, 20_000, 784, seed=0))
    return PCA(50, random_state=0).fit_transform(pixels), truth


def tail(
    truth: np.ndarray, ratio: int, largest: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a long-tailed part, and the sizes of its classes, largest first."""
    largest = min(largest, np.bincount(truth).min())
    sizes = np.rint(largest * ratio ** (-np.arange(CLASSES) / (CLASSES - 1))).astype(int)
    chosen = [
        generator.permutation(np.flatnonzero(truth == c))[:size]
        for c, size in zip(generator.permutation(CLASSES), sizes, strict=True)
    ]
    return generator.permutation(np.concatenate(chosen)), sizes


def priors(
    sizes: np.ndarray, truth: np.ndarray, means: np.ndarray, generator: np.random.Generator
) -> dict[str, np.ndarray | None]:
    """Expected sizes by where they come from; which class has which size is never told."""
    hundred = generator.choice(truth, 100, replace=False)
    return {
        "uniform": None,
        "true sizes": sizes,
        "too flat (roots of the sizes)": sizes**0.5,
        "too steep (sizes to the power 1.5)": sizes**1.5,
        "counts in 100 labelled rows, and 1": np.bincount(hundred, minlength=CLASSES) + 1,
        "sizes of the k-means clusters": np.bincount(means, minlength=CLASSES),
    }


def measure(
    rows: np.ndarray, truth: np.ndarray, ratio: int, settings: Settings
) -> dict[str, dict[str, list[float]]]:
    """Scores of every seed, by rule."""
    scores: dict[str, dict[str, list[float]]] = {}

    def score(rule: str, clusterer: KMeans | PrototypeClustering) -> np.ndarray:
        start = perf_counter()
        labels = clusterer.fit_predict(x).astype(np.int64)
        found = scores.setdefault(rule, {"acc": [], "balanced": [], "seconds": []})
        found["seconds"].append(round(perf_counter() - start, 2))
        found["acc"].append(round(clustering_accuracy(labels, target), 4))
        found["balanced"].append(round(balanced_clustering_accuracy(labels, target), 4))
        return labels

    for seed in range(settings.seeds):
        generator = np.random.default_rng(seed)
        part, sizes = tail(truth, ratio, settings.largest, generator)
        x, target = rows[part], truth[part]
        means = score("k-means, 20 restarts", KMeans(CLASSES, n_init=20, random_state=seed))
        for rule, prior in priors(sizes, target, means, generator).items():
            score(rule, PrototypeClustering(CLASSES, class_prior=prior, random_state=seed))
    return scores


def table(results: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """A Markdown table: a row a rule, ACC and balanced accuracy by ratio, means and deviations."""
    titles = ["prior", *(f"{m}, ratio {r}" for r in results for m in ("ACC", "balanced"))]
    lines = [titles, ["---"] * len(titles)]
    for rule in next(iter(results.values())):
        cells = [results[ratio][rule][key] for ratio in results for key in ("acc", "balanced")]
        lines.append([rule, *(f"{mean(cell):.3f} ± {stdev(cell):.3f}" for cell in cells)])
    return markdown(lines)


def main(settings: Settings) -> None:
    """Measures, prints the table and writes one result file."""
    rows, truth = data(settings.data)
    results = {str(ratio): measure(rows, truth, ratio, settings) for ratio in settings.ratios}
    write_result(settings.out / f"imbalance-{settings.data}.json", asdict(settings), results)
    print(table(results))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
