"""What the benchmarks share: timing, data, and a result file that says where it came from."""

from __future__ import annotations

import gzip
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist


def timed(function: Callable[[], Any], repeats: int, device: str = "cpu") -> dict[str, Any]:
    """Seconds of each repeat, after one call that is not counted when there are several."""
    runs = []
    for repeat in range(repeats + (repeats > 1)):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        if repeat or repeats == 1:
            runs.append(time.perf_counter() - start)
    return {"seconds": statistics.median(runs), "runs": runs}


def features(name: str, samples: int | None, dimension: int, seed: int) -> torch.Tensor:
    """Float32 rows of a data set, or isotropic ones, in random order."""
    generator = torch.Generator().manual_seed(seed)
    if name == "isotropic":
        return torch.randn(samples or 10_000, dimension, generator=generator)
    if name == "digits":
        from sklearn.datasets import load_digits

        rows = torch.from_numpy(load_digits().data).float()
    elif name == "fashion-mnist":
        parts = []
        for split in ("train", "t10k"):
            with gzip.open(FASHION_MNIST / f"{split}-images-idx3-ubyte.gz") as file:
                parts.append(np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 784))
        rows = torch.from_numpy(np.concatenate(parts)).float()
    else:
        rows = torch.from_numpy(np.load(name)).float()
    return rows[torch.randperm(len(rows), generator=generator)[:samples]]


def write_result(path: Path, settings: dict[str, Any], results: dict[str, Any]) -> None:
    """Writes a result with its provenance, whole or not at all."""
    import faiss
    import sklearn

    record = {
        "settings": settings,
        "results": results,
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "load_before": os.getloadavg()[2],
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "faiss": faiss.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(record, indent=2, default=str) + "\n")
    aside.replace(path)


def _processor() -> str:
    """The model's name where Linux tells it."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
