"""Known label flips found again: the ranking of `pseudolabel audit` against plain baselines."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
import tyro
from _harness import FASHION_MNIST, write_result
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pseudolabel import nearest_neighbors, reliability_ratio
from pseudolabel.report import find_doubtful


@dataclass(frozen=True)
class Settings:
    """Known flips, found by the neighbours."""

    samples: int = 10_000
    """Rows of Fashion-MNIST, from its training images."""
    k: int = 20
    """Neighbours: what `pseudolabel audit` takes."""
    seeds: int = 3
    """Each draws the flips anew."""
    first_seed: int = 100
    out: Path = Path("benchmarks/results/audit.json")


def anywhere(share: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Flips a share of all rows, each to any other class."""

    def flip(truth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        labels, classes = truth.copy(), truth.max() + 1
        rows = generator.choice(len(truth), int(share * len(truth)), replace=False)
        labels[rows] = (truth[rows] + generator.integers(1, classes, len(rows))) % classes
        return labels

    return flip


def to_the_next_class(truth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Flips 30 % of every second class, always to the class after it."""
    labels = truth.copy()
    for c in range(0, truth.max(), 2):
        rows = generator.permutation(np.flatnonzero(truth == c))
        labels[rows[: int(0.3 * len(rows))]] = c + 1
    return labels


FLIPS = {
    "5 % anywhere": anywhere(0.05),
    "20 % anywhere": anywhere(0.2),
    "30 % of every second class, to the next": to_the_next_class,
}


def data(samples: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels and true labels, which only make and score the flips."""
    digits = load_digits()
    raw = {}
    for part, header in (("images-idx3", 16), ("labels-idx1", 8)):
        with gzip.open(FASHION_MNIST / f"train-{part}-ubyte.gz") as file:
            raw[part] = np.frombuffer(file.read(), dtype=np.uint8, offset=header)
    images = raw["images-idx3"].reshape(-1, 784)[:samples].astype(np.float32)
    return {
        "digits": (digits.data.astype(np.float32), digits.target.astype(np.int64)),
        "fashion-mnist": (images, raw["labels-idx1"][:samples].astype(np.int64)),
    }


def self_confidence(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Minus the probability of the given label, by a logistic regression on the other folds."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100))
    probs = cross_val_predict(model, rows, labels, cv=5, method="predict_proba")
    return -probs[np.arange(len(labels)), labels]


def main(settings: Settings) -> None:
    """Measures and writes one result file."""
    results: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = {}
    for name, (rows, truth) in data(settings.samples).items():
        graphs = {
            k: nearest_neighbors(torch.from_numpy(rows), k).indices
            for k in sorted({settings.k, 100})
        }
        for kind, flip in FLIPS.items():
            scores: dict[str, dict[str, list[float]]] = {}
            for seed in range(settings.first_seed, settings.first_seed + settings.seeds):
                labels = flip(truth, np.random.default_rng(seed))
                rules = {
                    f"find_doubtful, k={settings.k}": (
                        lambda y=labels, g=graphs[settings.k]: find_doubtful(y, g).doubt
                    ),
                    "logistic regression, 5 folds, low self-confidence": (
                        lambda y=labels, x=rows: self_confidence(x, y)
                    ),
                }
                for k, graph in graphs.items():
                    rules[f"neighbours that disagree, k={k}"] = lambda y=labels, g=graph: (
                        -reliability_ratio(y, g).numpy()
                    )
                for rule, score in rules.items():
                    start = perf_counter()
                    suspicion = score()
                    found = scores.setdefault(rule, {"ap": [], "precision": [], "seconds": []})
                    found["seconds"].append(round(perf_counter() - start, 4))
                    wrong = labels != truth
                    first = np.argsort(-suspicion, kind="stable")[: wrong.sum()]
                    found["ap"].append(round(average_precision_score(wrong, suspicion), 4))
                    found["precision"].append(round(wrong[first].mean(), 4))
            results.setdefault(name, {})[kind] = scores
            for rule, found in scores.items():
                means = "  ".join(f"{key} {np.mean(found[key]):.3f}" for key in found)
                print(f"{name}, {kind}: {rule}: {means}", flush=True)
    write_result(settings.out, asdict(settings), results)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
