"""What the benchmarks share: timing, data, and a result file that says where it came from."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

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


def features(name: str, samples: int, dimension: int, seed: int) -> tuple[Tensor, Tensor]:
    """Float32 rows in random order, and labels: a data set's, or the nearest of ten directions."""
    generator = torch.Generator().manual_seed(seed)
    if name == "isotropic":
        rows = torch.randn(samples, dimension, generator=generator)
        return rows, (rows @ torch.randn(dimension, 10, generator=generator)).argmax(1)
    images, classes = [], []
    for split in ("train", "t10k"):
        images.append(_idx(f"{split}-images-idx3-ubyte.gz", 16).reshape(-1, 784))
        classes.append(_idx(f"{split}-labels-idx1-ubyte.gz", 8))
    order = torch.randperm(70_000, generator=generator)[:samples]
    rows = torch.from_numpy(np.concatenate(images)).float()[order]
    return rows, torch.from_numpy(np.concatenate(classes)).long()[order]


def _idx(file: str, header: int) -> np.ndarray:
    with gzip.open(FASHION_MNIST / file) as opened:
        return np.frombuffer(opened.read(), dtype=np.uint8, offset=header)


def provenance(*packages: str) -> dict[str, Any]:
    """Machine and versions, those of some more packages too."""
    names = ["torch", "numpy", "faiss", "scikit-learn", *packages]
    distributions = {"faiss": "faiss-cpu"}
    return {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "load_before": os.getloadavg()[2],
        },
        "versions": {
            "python": platform.python_version(),
            **{name: _version(distributions.get(name, name)) for name in names},
        },
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_result(path: Path, settings: dict[str, Any], results: dict[str, Any]) -> None:
    """Writes a result with its provenance."""
    write_json(path, {"settings": settings, "results": results, **provenance()})


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(record, indent=2, default=str) + "\n")
    aside.replace(path)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table of cells, the line below the titles included."""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def processor() -> str:
    """The model's name where Linux tells it."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
