"""Long-tailed sets clustered with uniform quotas and with priors, true, wrong and estimated."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import tyro
from _harness import features, write_result
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from pseudolabel import balanced_clustering_accuracy, clustering_accuracy
from pseudolabel.estimator import PrototypeClustering

CLASSES = 10


@dataclass(frozen=True)
class Settings:
    """Ten classes whose sizes fall geometrically."""

    ratios: tuple[int, ...] = (1, 10, 100)
    """Of the largest class to the smallest."""
    largest: int = 500
    """Rows of the largest class; fewer where a set has fewer."""
    seeds: int = 5
    """Each draws the rows, and which class is how large."""
    out: Path = Path("benchmarks/results/imbalance.json")


def data() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels of digits, 50 principal components of Fashion-MNIST, and the classes."""
    digits = load_digits()
    pixels, truth = (tensor.numpy() for tensor in features("fashion-mnist", 20_000, 784, seed=0))
    return {
        "digits": (digits.data, digits.target.astype(np.int64)),
        "fashion-mnist": (PCA(50, random_state=0).fit_transform(pixels), truth),
    }


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


def main(settings: Settings) -> None:
    """Measures and writes one result file."""
    results: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = {}
    for name, (rows, truth) in data().items():
        for ratio in settings.ratios:
            scores: dict[str, dict[str, list[float]]] = {}

            def score(rule: str, labels: np.ndarray, target: np.ndarray, start: float) -> None:
                seconds = perf_counter() - start
                found = scores.setdefault(rule, {"acc": [], "balanced": [], "seconds": []})  # noqa: B023
                found["acc"].append(round(clustering_accuracy(labels, target), 4))
                found["balanced"].append(round(balanced_clustering_accuracy(labels, target), 4))
                found["seconds"].append(round(seconds, 2))

            for seed in range(settings.seeds):
                generator = np.random.default_rng(seed)
                part, sizes = tail(truth, ratio, settings.largest, generator)
                x, target, start = rows[part], truth[part], perf_counter()
                means = KMeans(CLASSES, n_init=20, random_state=seed).fit_predict(x).astype(int)
                score("k-means, 20 restarts", means, target, start)
                for rule, prior in priors(sizes, target, means, generator).items():
                    start = perf_counter()
                    clusters = PrototypeClustering(CLASSES, class_prior=prior, random_state=seed)
                    score(rule, clusters.fit_predict(x), target, start)
            results.setdefault(name, {})[str(ratio)] = scores
            for rule, found in scores.items():
                means_of = "  ".join(f"{key} {np.mean(found[key]):.3f}" for key in found)
                print(f"{name}, ratio {ratio}: {rule}: {means_of}", flush=True)
            write_result(settings.out, asdict(settings), results)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
