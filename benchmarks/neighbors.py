"""Exact neighbours and the reliable mask against faiss flat, scikit-learn and dense torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import torch
import tyro
from _harness import features, timed, write_result
from sklearn.neighbors import NearestNeighbors

from pseudolabel import nearest_neighbors, reliable_mask


@dataclass(frozen=True)
class Settings:
    """Exact neighbours against peers."""

    data: str = "fashion-mnist"
    """fashion-mnist, digits, isotropic, or an .npy file of features."""
    samples: int | None = None
    """Rows to take; None for all."""
    dimension: int = 512
    """Of isotropic rows."""
    k: int = 100
    repeats: int = 1
    seed: int = 0
    device: str = "cpu"
    slow_peers: bool = False
    """Also scikit-learn and dense torch, whose memory grows with the square of the rows."""
    out: Path = Path("benchmarks/results/neighbors.json")


def main(settings: Settings) -> None:
    """Measures and writes one result file."""
    rows = features(settings.data, settings.samples, settings.dimension, settings.seed)
    rows = rows.to(settings.device)
    unit = torch.nn.functional.normalize(rows, dim=-1)
    k, results = settings.k, {}

    def measure(name: str, function: Callable[[], object]) -> None:
        results[name] = timed(function, settings.repeats, settings.device)
        print(f"{name:28s} {results[name]['seconds']:9.3f} s", flush=True)

    def faiss_flat() -> None:
        index = faiss.IndexFlatIP(unit.shape[1])
        index.add(unit.cpu().numpy())
        index.search(unit.cpu().numpy(), k + 1)

    measure("faiss flat", faiss_flat)
    for backend in ("torch", "faiss"):
        measure(
            f"nearest_neighbors {backend}", lambda b=backend: nearest_neighbors(rows, k, backend=b)
        )
    labels = torch.randint(0, 10, (len(rows),), device=rows.device)
    measure("reliable_mask", lambda: reliable_mask(rows, labels, k=k))
    if settings.slow_peers:
        search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine")
        measure("scikit-learn brute", lambda: search.fit(rows.cpu()).kneighbors())
        measure("dense torch", lambda: (unit @ unit.T).topk(k + 1))

    peer = results["faiss flat"]["seconds"]
    for result in results.values():
        result["times_faiss_flat"] = result["seconds"] / peer
    shape = {"rows": len(rows), "columns": rows.shape[1], "threads": torch.get_num_threads()}
    write_result(settings.out, asdict(settings) | shape, results)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
