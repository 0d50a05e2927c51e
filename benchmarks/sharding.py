"""What sharding costs: seconds and bytes moved of every operator against the number of ranks.

Ranks are processes of this machine with one thread each, which talk through gloo; where they are
more than its cores, or others work on it, the seconds of a processor that a rank used say what it
would take on a machine of its own. Every answer is compared with that of one process, bit for bit.
"""

from __future__ import annotations

import json
import resource
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import tyro
from _harness import features, write_result
from torch import Tensor

import pseudolabel as pl
from pseudolabel import distributed

CLASSES = 10
OPERATORS = ("prototype_labels", "nearest_neighbors", "reliable_mask, given neighbours")


@dataclass(frozen=True)
class Settings:
    """Operators over shards of real rows."""

    data: str = "fashion-mnist"
    """fashion-mnist, pixels; or isotropic."""
    samples: int = 20_000
    dimension: int = 128
    """Of isotropic rows; pixels have 784."""
    k: int = 20
    heads: int = 10
    ranks: tuple[int, ...] = (1, 2, 3)
    repeats: int = 3
    seed: int = 0
    out: Path = Path("benchmarks/results/sharding.json")


class Meter:
    """Counts the bytes that this rank sends; the few hundred of every agreement are left out."""

    def __init__(self) -> None:
        self.sent = 0
        send, gather = dist.P2POp, dist.all_gather

        def counted_send(
            act: Callable[..., Any], tensor: Tensor, peer: int, group: dist.ProcessGroup | None
        ) -> dist.P2POp:
            self.sent += tensor.nbytes if act is dist.isend else 0
            return send(act, tensor, peer, group)

        def counted_gather(parts: list[Tensor], own: Tensor, **options: object) -> object:
            self.sent += own.nbytes * (len(parts) - 1)
            return gather(parts, own, **options)

        dist.P2POp, dist.all_gather = counted_send, counted_gather


def problem(settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, probabilities of several heads, and labels with some of them wrong."""
    rows, classes = features(settings.data, settings.samples, settings.dimension, settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    logits = torch.randn(settings.heads, len(rows), CLASSES, generator=generator)
    logits += 3 * torch.nn.functional.one_hot(classes, CLASSES)
    return rows, logits.softmax(-1), logits[0].argmax(-1)


def calls(
    where: ModuleType, settings: Settings, rows: Tensor, probs: Tensor, labels: Tensor
) -> dict[str, Callable[[], Any]]:
    """The operators by name, of the package or over shards."""
    graph: list[pl.Neighbors] = []

    def neighbors() -> pl.Neighbors:
        graph[:] = [where.nearest_neighbors(rows, settings.k)]
        return graph[0]

    return {
        "prototype_labels": lambda: where.prototype_labels(rows, probs),
        "nearest_neighbors": neighbors,
        "reliable_mask, given neighbours": lambda: where.reliable_mask(
            rows, labels, neighbors=graph[0]
        ),
    }


def measure(
    call: Callable[[], Any], repeats: int, barrier: Callable[[], Any]
) -> tuple[Any, dict[str, float]]:
    """The answer, and the least time of some runs: whatever else the machine does only adds."""
    wall, processor = [], []
    for _ in range(repeats):
        barrier()
        start, used = time.perf_counter(), time.process_time()
        answer = call()
        processor.append(time.process_time() - used)
        barrier()
        wall.append(time.perf_counter() - start)
    return answer, {"seconds": min(wall), "processor_seconds": min(processor)}


def on_rank(rank: int, world: int, port: int, settings: Settings, folder: str) -> None:
    """Every operator over a rank's shard."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    rows, probs, labels = problem(settings)
    start, end = (len(rows) * r // world for r in (rank, rank + 1))
    whole = {name: call() for name, call in calls(pl, settings, rows, probs, labels).items()}
    own = slice(start, end)
    meter, found = Meter(), {}
    shard = rows[own].clone(), probs[:, own].clone(), labels[own].clone()
    for name, call in calls(distributed, settings, *shard).items():
        meter.sent = 0
        answer, times = measure(call, settings.repeats, dist.barrier)
        expected = whole[name]
        if name == "nearest_neighbors":
            expected = pl.Neighbors(*(part[own] for part in expected))
        elif name != "prototype_labels":
            expected = expected[own]
        found[name] = {
            **times,
            "bytes_sent": meter.sent // settings.repeats,
            "equal": same(answer, expected),
        }
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (Path(folder) / str(rank)).write_text(json.dumps(found))
    dist.destroy_process_group()


def same(answer: object, expected: object) -> bool:
    """Whether two answers are the same bit for bit."""
    if isinstance(answer, tuple) and isinstance(expected, tuple):
        return all(same(a, b) for a, b in zip(answer, expected, strict=True))
    return torch.equal(answer, expected) if isinstance(expected, Tensor) else answer == expected


def across(world: int, settings: Settings) -> dict[str, Any]:
    """The slowest rank's seconds, the busiest one's bytes, and whether all were right."""
    with socket.socket() as server, tempfile.TemporaryDirectory() as folder:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.close()
        mp.spawn(on_rank, (world, port, settings, folder), nprocs=world)
        ranks = [json.loads((Path(folder) / str(rank)).read_text()) for rank in range(world)]
    return {
        name: {
            **{
                cost: max(rank[name][cost] for rank in ranks)
                for cost in ("seconds", "processor_seconds", "bytes_sent")
            },
            "equal": all(rank[name]["equal"] for rank in ranks),
        }
        for name in OPERATORS
    }


def main(settings: Settings) -> None:
    """One process without any of this, then the ranks."""
    torch.set_num_threads(1)
    alone = {
        name: measure(call, settings.repeats, lambda: None)[1]
        for name, call in calls(pl, settings, *problem(settings)).items()
    }
    results: dict[str, Any] = {"one process": alone}
    for world in settings.ranks:
        results[f"{world} ranks"] = across(world, settings)
    write_result(settings.out, asdict(settings), results)
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """What is in a result file, as Markdown."""
    alone = results["one process"]
    lines = [
        "| operator | ranks | seconds | of a processor | MiB sent by a rank | same answer |",
        "|---|---|---|---|---|---|",
    ]
    for name in OPERATORS:
        for case, operators in results.items():
            record = operators[name]
            ratio = record["processor_seconds"] / alone[name]["processor_seconds"]
            sent = f"{record['bytes_sent'] / 2**20:.1f}" if "bytes_sent" in record else ""
            same = {True: "yes", False: "no", None: ""}[record.get("equal")]
            cells = [name, case, f"{record['seconds']:.3f}", f"{record['processor_seconds']:.3f}"]
            cells[-1] += f", x {ratio:.2f}"
            lines.append("| " + " | ".join([*cells, sent, same]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
