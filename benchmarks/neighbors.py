"""Neighbours and the reliable mask against faiss, scikit-learn, torch and PyNNDescent.

    python benchmarks/neighbors.py cpu      # real and isotropic rows, over N, D and k
    python benchmarks/neighbors.py lists    # approximate search of the largest of these
    python benchmarks/neighbors.py memory   # 100,000 to 1,000,000 x 256 float16 from a memory map
    python benchmarks/neighbors.py cuda     # 60,000 and 1,000,000 x 512 on a GPU
    python benchmarks/neighbors.py plot     # the picture and the tables of docs/neighbors.md

Every contender runs in a process of its own, after a small warm-up. Time is that of one call, an
index built included; memory is what the call takes at most beyond its input, anonymous pages on
the host, allocated bytes on a GPU. Recall is the share of the exact neighbours that were found.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from _harness import features, provenance, write_json
from torch import Tensor
from torch.nn.functional import normalize

from pseudolabel import InvertedLists, nearest_neighbors, reliable_mask

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "neighbors.md"
MARKS = ("<!-- measured -->", "<!-- /measured -->")
IMAGE = Path(__file__).parent.parent / "docs" / "images" / "neighbors.png"


class Case(NamedTuple):
    """What is searched."""

    data: str
    rows: int
    columns: int
    k: int

    def __str__(self) -> str:
        return f"{self.data} {self.rows:,} x {self.columns}, k = {self.k}"


CPU_CASES = [
    Case("fashion-mnist", 70_000, 784, 100),
    Case("fashion-mnist", 20_000, 784, 100),
    Case("fashion-mnist", 20_000, 784, 10),
    Case("isotropic", 20_000, 512, 100),
    Case("isotropic", 20_000, 64, 100),
]
CUDA_CASES = [Case("isotropic", 60_000, 512, 100), Case("isotropic", 1_000_000, 512, 100)]
MEMORY_CASES = [Case("clusters", rows, 256, 100) for rows in (100_000, 1_000_000)]


@dataclass(frozen=True)
class Settings:
    """Neighbours against peers."""

    suite: tyro.conf.Positional[Literal["cpu", "lists", "memory", "cuda", "plot"]]
    """Which cases."""
    threads: int = os.cpu_count() or 1
    """Of torch and of faiss."""
    seed: int = 0
    """Of isotropic rows and labels."""
    memory_limit: int = 2**31
    """Of the memory suite, in bytes."""
    out: Path | None = None
    """Result file; benchmarks/results/neighbors-SUITE.json by default."""


# --- the contenders: features and k in; indices (without the sample itself), a mask, or none -----


def ours(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """Exact, float32 similarities included."""
    return nearest_neighbors(x, k, memory_limit=2**33 if x.is_cuda else 2**31).indices


def ours_mask(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """The mask alone."""
    return reliable_mask(x, labels, k=k, memory_limit=2**33 if x.is_cuda else 2**31)


def ours_through_faiss(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """Candidates from faiss flat, ordered by us."""
    return nearest_neighbors(x, k, backend="faiss").indices


def lists(recall: float) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Approximate, by a recall."""
    return lambda x, labels, k: nearest_neighbors(x, k, backend=InvertedLists(recall)).indices


def lists_mask(recall: float) -> Callable[[Tensor, Tensor, int], Tensor]:
    """The mask by approximate neighbours."""
    return lambda x, labels, k: reliable_mask(x, labels, k=k, backend=InvertedLists(recall))


def faiss_flat(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """The exact index."""
    import faiss

    rows = normalize(x).numpy()
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return torch.from_numpy(index.search(rows, k + 1)[1])


def faiss_lists(probes: int) -> Callable[[Tensor, Tensor, int], Tensor]:
    """256 inverted lists."""

    def search(x: Tensor, labels: Tensor, k: int) -> Tensor:
        import faiss

        rows = normalize(x).numpy()
        flat = faiss.IndexFlatIP(rows.shape[1])
        index = faiss.IndexIVFFlat(flat, rows.shape[1], 256, faiss.METRIC_INNER_PRODUCT)
        index.train(rows)
        index.add(rows)
        index.nprobe = probes
        return torch.from_numpy(index.search(rows, k + 1)[1])

    return search


def scikit_learn(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """Brute force, cosine."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(x.numpy())
    return torch.from_numpy(search.kneighbors(return_distance=False))


def dense_torch(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """The whole similarity matrix, as SPICE's published code builds it."""
    rows = normalize(x)
    return (rows @ rows.T).topk(k + 1).indices


def chunked_torch(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """1,024 rows of it at a time."""
    rows = normalize(x)
    found = [(some @ rows.T).topk(k + 1).indices for some in torch.split(rows, 1024)]
    return torch.cat(found)


def pynndescent(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """With its defaults; its compilation is warmed up."""
    from pynndescent import NNDescent

    index = NNDescent(x.numpy(), metric="cosine", n_neighbors=k + 1, random_state=0)
    return torch.from_numpy(index.neighbor_graph[0]).long()


CPU: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "nearest_neighbors": ours,
    "faiss flat": faiss_flat,
    "reliable_mask": ours_mask,
    "nearest_neighbors, faiss": ours_through_faiss,
    "nearest_neighbors, recall 0.9": lists(0.9),
    "nearest_neighbors, recall 0.98": lists(0.98),
    "reliable_mask, recall 0.9": lists_mask(0.9),
    "reliable_mask, recall 0.98": lists_mask(0.98),
    "faiss 256 lists, 4 probes": faiss_lists(4),
    "faiss 256 lists, 8 probes": faiss_lists(8),
    "torch mm + topk, chunks": chunked_torch,
    "torch mm + topk, dense": dense_torch,
    "scikit-learn brute": scikit_learn,
    "PyNNDescent": pynndescent,
}
SLOW = {"torch mm + topk, dense", "scikit-learn brute"}  # left out above 20,000 rows
APPROXIMATE = [name for name in CPU if "recall" in name or "lists" in name]
CUDA = {
    "nearest_neighbors": ours,
    "reliable_mask": ours_mask,
    "torch mm + topk, chunks": chunked_torch,
}


# --- measuring -----------------------------------------------------------------------------------


@contextmanager
def peak_memory(device: str) -> Any:  # noqa: ANN401
    """Yields a list that ends with the bytes taken at most."""
    peak = [0]
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        torch.cuda.synchronize()
        peak.append(torch.cuda.max_memory_allocated() - before)
        return
    before, done = _anonymous(), threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], _anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.append(peak[0])


def _anonymous() -> int:
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def contend(
    name: str,
    case: Case,
    settings: Settings,
    device: str,
    folder: str,
    queue: Any,  # noqa: ANN401
) -> None:
    """In a process of its own: one contender on one case."""
    torch.set_num_threads(settings.threads)
    contenders = CUDA if device == "cuda" else CPU
    rows = torch.from_numpy(np.load(f"{folder}/features.npy")).to(device)
    labels = torch.from_numpy(np.load(f"{folder}/labels.npy")).to(device)
    contenders[name](rows[:5000].contiguous(), labels[:5000], min(case.k, 20))  # warm-up
    with peak_memory(device) as peak:
        start = time.perf_counter()
        found = contenders[name](rows, labels, case.k)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    np.save(f"{folder}/{name}.npy", found.cpu().numpy())
    queue.put({"contender": name, "seconds": seconds, "peak_mib": round(peak[-1] / 2**20)})


def apart(target: Callable[..., None], *arguments: object) -> dict[str, Any] | None:
    """What a function puts into a queue, run in a new process; None if that dies."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=target, args=(*arguments, queue))
    process.start()
    while process.is_alive() and queue.empty():
        process.join(0.1)
    result = None if queue.empty() and process.exitcode else queue.get()
    process.join()
    return result


def compare(case: Case, contenders: list[str], settings: Settings, device: str) -> dict[str, Any]:
    """All contenders on one case, the first of which is exact."""
    print(f"\n{case}", flush=True)
    rows, labels = features(case.data, case.rows, case.columns, settings.seed)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/features.npy", rows.numpy())
        np.save(f"{folder}/labels.npy", labels.numpy())
        for name in contenders:
            result = apart(contend, name, case, settings, device, folder)
            if result is None:
                print(f"{name:32s} died", flush=True)
                continue
            found = np.load(f"{folder}/{name}.npy")
            exact = np.load(f"{folder}/{contenders[0]}.npy")
            if found.dtype == bool:
                expected = reliable_mask(rows, labels, neighbors=torch.from_numpy(exact)).numpy()
                result["same_decisions"] = float((found == expected).mean())
            else:
                result["recall"] = _recall(found, exact)
            results.append(result)
            share = result.get("recall", result.get("same_decisions"))
            print(
                f"{name:32s} {result['seconds']:8.2f} s  {result['peak_mib']:7,d} MiB  {share:.4f}",
                flush=True,
            )
    return {"case": case._asdict(), "results": results}


def _recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Of 2,000 samples; peers list the sample itself, which does not count."""
    some = np.linspace(0, len(exact) - 1, min(len(exact), 2000)).astype(int)
    hits = [len(np.intersect1d(found[row], exact[row])) for row in some]
    return float(np.mean(hits) / exact.shape[1])


def chip() -> dict[str, float]:
    """What a GPU reaches at best here: products in TFLOP/s by dtype, copies in GB/s."""

    def seconds(function: Callable[[], object]) -> float:
        function()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            function()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / 10

    rates = {}
    for dtype in (torch.float16, torch.float32):
        x = torch.randn(8192, 8192, device="cuda", dtype=dtype)
        rates[f"{str(dtype).removeprefix('torch.')} TFLOP/s"] = (
            2 * 8192**3 / 1e12 / seconds(lambda x=x: x @ x)
        )
    x = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    return {**rates, "copy GB/s": 2 * 2**30 / 1e9 / seconds(x.clone)}


# --- beyond memory -------------------------------------------------------------------------------


def search_map(path: str, case: Case, settings: Settings, queue: Any) -> None:  # noqa: ANN401
    """In a process of its own: neighbours of a memory map into files."""
    torch.set_num_threads(settings.threads)
    rows, backend = np.load(path, mmap_mode="r"), InvertedLists(0.95)
    nearest_neighbors(torch.randn(1000, case.columns), 5)
    with tempfile.TemporaryDirectory() as folder, peak_memory("cpu") as peak:
        start = time.perf_counter()
        limit = settings.memory_limit
        nearest_neighbors(
            rows, case.k, backend=backend, memory_limit=limit, out=folder, progress=True
        )
        seconds = time.perf_counter() - start
    report = backend.report._asdict()
    peak_mib = round(peak[-1] / 2**20)
    queue.put({"contender": "recall 0.95", "seconds": seconds, "peak_mib": peak_mib, **report})


def beyond_memory(case: Case, settings: Settings) -> dict[str, Any]:
    """Draws the rows block by block and searches them."""
    operations = 2.0 * case.rows**2 * case.columns
    print(f"\n{case}: exact would take {operations / 1e12:,.0f} TFLOP, half of it by symmetry:")
    print(f"{operations / 2 / 120e9 / 3600:.1f} h at the 120 GFLOP/s of two cores in float32")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/features.npy"
        random = np.random.default_rng(settings.seed)
        shape = (case.rows, case.columns)
        rows = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        centres = random.standard_normal((1000, case.columns), dtype=np.float32)
        for start in range(0, case.rows, 10_000):
            noise = random.standard_normal((10_000, case.columns), dtype=np.float32)
            rows[start : start + 10_000] = centres[random.integers(0, 1000, 10_000)] + noise
        rows.flush()
        del rows
        result = apart(search_map, path, case, settings)
    print(result, flush=True)
    return {"case": case._asdict(), "results": [result]}


# --- the picture ---------------------------------------------------------------------------------


def tables(folder: Path = RESULTS) -> str:
    """The results as Markdown, for docs/neighbors.md."""
    cpu = json.loads((folder / "neighbors-cpu.json").read_text())
    lists = json.loads((folder / "neighbors-lists.json").read_text())
    memory = json.loads((folder / "neighbors-memory.json").read_text())
    machine, versions = cpu["machine"], cpu["versions"]
    peers = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [f"{machine['processor']}, {machine['cores']} cores; {peers}; one run each, seed 0."]
    lines.append("Memory is beyond the input, the answer included.")
    for number, case in enumerate([*cpu["cases"], *lists["cases"]]):
        seconds = {r["contender"]: r["seconds"] for r in case["results"]}
        lines += [
            "",
            f"**{Case(**case['case'])}{', approximate' * (number >= len(cpu['cases']))}**",
            "",
            "| | seconds | times as fast as faiss flat | MiB | recall, or same decisions |",
            "|---|---|---|---|---|",
        ]
        for result in case["results"]:
            share = result.get("recall", result.get("same_decisions"))
            lines.append(
                f"| {result['contender']} | {result['seconds']:.2f} "
                f"| {seconds['faiss flat'] / result['seconds']:.2f} "
                f"| {result['peak_mib']:,} | {share:.4f} |"
            )
    lines += [
        "",
        "**Beyond memory**: a float16 memory map into files, `InvertedLists(0.95)`, k = 100,",
        f"`memory_limit` of {memory['settings']['memory_limit'] // 2**20:,} MiB.",
        "",
        "| rows | seconds | MiB | recall measured | share of pairs compared |",
        "|---|---|---|---|---|",
    ]
    for case in memory["cases"]:
        (result,) = case["results"]
        lines.append(
            f"| {case['case']['rows']:,} x {case['case']['columns']} | {result['seconds']:.0f} "
            f"| {result['peak_mib']:,} | {result['recall']:.4f} | {result['compared']:.4f} |"
        )
    return "\n".join(lines)


def write_tables() -> None:
    """Puts the tables between their marks on the page."""
    before, rest = PAGE.read_text().split(MARKS[0])
    _, after = rest.split(MARKS[1])
    PAGE.write_text(before + MARKS[0] + "\n" + tables() + "\n" + MARKS[1] + after)


def plot(record: dict[str, Any]) -> None:
    """Times faster than faiss flat against recall, for the largest case."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    case = record["cases"][0]
    seconds = {r["contender"]: r["seconds"] for r in case["results"]}
    figure, axes = plt.subplots(figsize=(8, 4.5), constrained_layout=True)
    for result in case["results"]:
        share = result.get("recall", result.get("same_decisions"))
        mine = result["contender"].startswith(("nearest", "reliable"))
        speed = seconds["faiss flat"] / result["seconds"]
        axes.plot(share, speed, "o" if mine else "x", color="C0" if mine else "C7")
        axes.annotate(
            result["contender"],
            (share, speed),
            xytext=(-6, 4),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    axes.axhline(1, color="C7", linewidth=0.5)
    axes.set_xlim(axes.get_xlim()[0] - 0.02, 1.005)
    axes.set_xlabel("recall of the exact neighbours; of masks, same decisions")
    axes.set_ylabel("times as fast as faiss flat")
    axes.set_title(str(Case(**case["case"])))
    figure.savefig(IMAGE, dpi=120)
    print(f"wrote {IMAGE}")


def main(settings: Settings) -> None:
    """Runs a suite and writes its result file after every case."""
    out = settings.out or RESULTS / f"neighbors-{settings.suite}.json"
    if settings.suite == "plot":
        plot(json.loads((RESULTS / "neighbors-lists.json").read_text()))
        write_tables()
        return
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    record = {
        "settings": {
            "suite": settings.suite,
            "threads": settings.threads,
            "seed": settings.seed,
            "memory_limit": settings.memory_limit,
        },
        **provenance("pynndescent"),
        "cases": [],
    }
    if settings.suite == "cuda":
        record["chip"] = chip()
    cases = {
        "cpu": CPU_CASES,
        "lists": CPU_CASES[:1],
        "memory": MEMORY_CASES,
        "cuda": CUDA_CASES,
    }[settings.suite]
    for case in cases:
        if settings.suite == "memory":
            record["cases"].append(beyond_memory(case, settings))
        elif settings.suite == "cuda":
            record["cases"].append(compare(case, list(CUDA), settings, "cuda"))
        else:
            names = [name for name in CPU if name not in APPROXIMATE]
            if case.rows > 20_000:
                names = [name for name in names if name not in SLOW]
            if settings.suite == "lists":
                names = ["nearest_neighbors", "faiss flat", *APPROXIMATE]
            record["cases"].append(compare(case, names, settings, "cpu"))
        write_json(out, record)
    print(f"\nwrote {out}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
