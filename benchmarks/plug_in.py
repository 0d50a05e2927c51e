"""The loops of examples/plug_in before and after they use the library, and the page's table."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter

import torch
import tyro
from _harness import features, write_result

PLUG_IN = Path(__file__).parents[1] / "examples" / "plug_in"
sys.path.insert(0, str(PLUG_IN))

import embeddings_after  # noqa: E402
import embeddings_before  # noqa: E402
import fixmatch_after  # noqa: E402
import fixmatch_before  # noqa: E402
import scan_after  # noqa: E402
import scan_before  # noqa: E402
from given import digits, write_embeddings  # noqa: E402

Loop = Callable[[int], dict[str, float]]


@dataclass(frozen=True)
class Settings:
    """Every loop on every seed."""

    seeds: int = 5
    first_seed: int = 100
    """The settings of the loops were chosen on other seeds."""
    fashion: int = 5_000
    """Rows of Fashion-MNIST whose embeddings are clustered."""
    out: Path = Path("benchmarks/results/plug-in.json")


class KeepAll(fixmatch_before.FixMatch):
    """FixMatch without a threshold, to tell what the thresholds are worth."""

    def set_hooks(self) -> None:
        """The hooks of FixMatch, but every label counts."""
        super().set_hooks()
        self.register_hook(fixmatch_before.FixedThresholdingHook(cutoff=0.0), "MaskingHook")


def loops(folder: Path, fashion: int) -> dict[str, dict[str, Loop]]:
    """What is measured: by integration, then by loop."""
    write_embeddings(folder / "digits.npz", *(tensor.numpy() for tensor in digits()))
    rows = features("fashion-mnist", fashion, 784, seed=0)
    write_embeddings(folder / "fashion-mnist.npz", *(tensor.numpy() for tensor in rows))
    fixmatch = {"before": fixmatch_before, "after": fixmatch_after}
    measured: dict[str, dict[str, Loop]] = {
        "SCAN, digits": {"before": scan_before.main, "after": scan_after.main},
    }
    for labelled in (2, 4):
        measured[f"semilearn, digits, {labelled} labels a class"] = {
            **{
                name: lambda seed, module=module, labelled=labelled: module.main(
                    seed, labelled=labelled
                )
                for name, module in fixmatch.items()
            },
            "no threshold": lambda seed, labelled=labelled: fixmatch_before.main(
                seed, labelled=labelled, algorithm=KeepAll
            ),
        }
    for data in ("digits", "fashion-mnist"):
        measured[f"embeddings, {data}"] = {
            name: lambda seed, module=module, data=data: module.main(folder / f"{data}.npz", seed)
            for name, module in (("before", embeddings_before), ("after", embeddings_after))
        }
    return measured


def table(results: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """A Markdown table: a row a loop and score, mean and deviation over the seeds."""
    lines = ["| integration | score | before | after | no threshold |", "|---|---|---|---|---|"]
    for integration, measured in results.items():
        for score in measured["before"]:
            if score != "seconds":
                cells = [
                    f"{mean(measured[name][score]):.3f} ± {stdev(measured[name][score]):.3f}"
                    if name in measured
                    else ""
                    for name in ("before", "after", "no threshold")
                ]
                lines.append("| " + " | ".join([integration, score, *cells]) + " |")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Measures, prints the table and writes one result file."""
    torch.set_num_threads(1)
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for integration, measured in loops(Path(folder), settings.fashion).items():
            for name, loop in measured.items():
                found: dict[str, list[float]] = {}
                for seed in range(settings.first_seed, settings.first_seed + settings.seeds):
                    start = perf_counter()
                    scores = loop(seed)
                    for score, value in {**scores, "seconds": perf_counter() - start}.items():
                        found.setdefault(score, []).append(round(value, 4))
                results.setdefault(integration, {})[name] = found
                print(integration, name, found, flush=True)
            write_result(settings.out, asdict(settings), results)
    print(table(results))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
