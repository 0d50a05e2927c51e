"""All methods and all their ablations on a data set, seed by seed; goes on where it stopped.

    python benchmarks/pipelines.py --results mine.jsonl      # digits, five seeds: some five hours
    python benchmarks/pipelines.py --results mine.jsonl --only rpsc --seeds 5 6
    python benchmarks/pipelines.py --results mine.jsonl --data fashion-mnist --no-ablations
    python benchmarks/pipelines.py --results mine.jsonl --only rpsc --runs runs --passes 2
    python benchmarks/pipelines.py --dry-run                 # what the shipped results lack

Each run is the program in `examples/` with the options of its configuration, and one JSON line of
the results. Runs of one seed share stage 1, unless a configuration changes it; stages draw from
seeds of their own, so that nothing but the seconds differs.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from _harness import processor

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
METHODS = ("spice", "rpsc", "scan")
PACKAGES = ("torch", "kornia", "lightning", "numpy", "scikit-learn")
SOURCES = ("pseudolabel", "examples", "benchmarks/*.py")
STAGE_1 = ("--representation", "--backbone", "--data")


@dataclass(frozen=True)
class Settings:
    """Which runs, and where their results go."""

    data: str = "digits"
    """Preset of the methods."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of the runs."""
    only: str = ""
    """Configurations whose name contains this."""
    ablations: bool = True
    """Them too, not the methods alone."""
    results: Path | None = None
    """One JSON line a run; runs that have one are left out. None for the data set's file in
    benchmarks/results, which has those of the tables: to do them again, name another."""
    runs: Path | None = None
    """Where the folders of the runs are kept, from which runs go on; None for nowhere."""
    passes: int = 1
    """How often every configuration is run; from the second time on it begins with the encoder that
    stage 3 has left the time before. Needs --runs."""
    options: str = ""
    """Further options of every run, say --options="--joint.steps 10" for a trial."""
    dry_run: bool = False
    """Print what would run."""


class Configuration(NamedTuple):
    """One line of the tables: a method, the options that make it, and the method's presets."""

    name: str
    method: str
    options: str
    presets: frozenset[str]


def configurations(ablations: bool) -> Iterator[Configuration]:
    """The methods as they are, and then each with one thing changed."""
    sys.path.insert(0, str(EXAMPLES))
    modules = {method: import_module(method) for method in METHODS}
    presets = {method: frozenset(module.PRESETS) for method, module in modules.items()}
    for method in METHODS:
        yield Configuration(method, method, "", presets[method])
    for method, module in modules.items() if ablations else ():
        for name, options in module.ABLATIONS.items():
            yield Configuration(f"{method}: {name}", method, options, presets[method])


def passes(configuration: Configuration, count: int) -> Iterator[Configuration]:
    """A configuration, and those that begin where it has ended."""
    yield configuration
    for number in range(2, count + 1):
        yield configuration._replace(
            name=f"{configuration.name}, pass {number}",
            options=f"{configuration.options} --encoder-after 3".strip(),
        )


def read(path: Path) -> list[dict[str, Any]]:
    """The results so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def write(path: Path, records: list[dict[str, Any]]) -> None:
    """Writes all results, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text("".join(json.dumps(record) + "\n" for record in records))
    aside.replace(path)


def key(record: dict[str, Any]) -> tuple[str, str, str, int]:
    """What makes a run the same as another."""
    # Old records do not name the preset, which then was called like the data set.
    preset = record.get("preset") or record["settings"]["data"]["name"]
    return preset, record["configuration"], record["options"], record["seed"]


def run(
    data: str,
    configuration: Configuration,
    options: str,
    seed: int,
    folder: Path,
    encoder: Path | None,
) -> dict[str, Any]:
    """Runs one program and gives its record."""
    program = [sys.executable, str(EXAMPLES / f"{configuration.method}.py"), data]
    arguments = ["--seed", str(seed), "--out", str(folder), "--resume", "--no-pictures"]
    arguments += shlex.split(options)
    if encoder is not None:
        arguments += ["--encoder-from", str(encoder)]
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    subprocess.run([*program, *arguments], check=True, env={**os.environ, "PYTHONPATH": paths})
    metrics = json.loads((folder / "metrics.json").read_text())
    # Where a run was kept is of no interest to anyone else.
    settings = {k: v for k, v in metrics["settings"].items() if k not in ("out", "encoder_from")}
    return {
        "preset": data,
        "configuration": configuration.name,
        "method": configuration.method,
        "options": options,
        "seed": seed,
        "seconds": sum(score["seconds"] for score in metrics["scores"]),
        "shares_stage_1": encoder is not None,
        "scores": metrics["scores"],
        "findings": metrics["findings"],
        "settings": settings,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "load_after": os.getloadavg()[2],
        },
    }


def commit() -> str | None:
    """Of the sources, with a mark if they were changed; None where there is no repository."""
    git = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        head = git(["git", "rev-parse", "--short", "HEAD"])
        changed = git(["git", "diff", "--quiet", "HEAD", "--", *SOURCES]).returncode
    except FileNotFoundError:
        return None
    return f"{head.stdout.strip()}{'-dirty' if changed else ''}" if head.returncode == 0 else None


def folder_name(data: str, configuration: str, options: str, seed: int) -> str:
    """Of a run: the words of all that tells it from others."""
    return "-".join(re.findall(r"[\w.]+", f"{data} {configuration} {options} {seed}"))


def main(settings: Settings) -> None:
    """Runs what is not done."""
    known = [c for c in configurations(settings.ablations) if settings.data in c.presets]
    if not known:
        raise SystemExit(f"error: --data: expected a preset of a method, got {settings.data!r}")
    if settings.passes > 1 and settings.runs is None:
        raise SystemExit("error: --passes: expected --runs, where the passes before are kept")
    results = settings.results or ROOT / f"benchmarks/results/{settings.data}.jsonl"
    records, sources = read(results), commit()
    done = {key(record) for record in records}
    with tempfile.TemporaryDirectory() as temporary:
        runs = settings.runs or Path(temporary)
        for seed in settings.seeds:
            encoder: Path | None = None
            for configuration in known:
                if settings.only not in configuration.name:
                    continue
                shares = not any(option in configuration.options for option in STAGE_1)
                begin_with = encoder if shares else None
                for one in passes(configuration, settings.passes):
                    options = f"{one.options} {settings.options}".strip()
                    folder = runs / folder_name(settings.data, one.name, settings.options, seed)
                    later = one is not configuration
                    if (settings.data, one.name, options, seed) not in done:
                        print(f"seed {seed}, {one.name}: {options or 'as it is'}", flush=True)
                        if settings.dry_run:
                            continue
                        if later and not (begin_with and begin_with.is_dir()):
                            raise SystemExit(
                                f"error: {begin_with}: expected the pass before, which the results "
                                "have and this folder of --runs has not"
                            )
                        made = run(settings.data, one, options, seed, folder, begin_with)
                        records.append({**made, "commit": sources})
                        write(results, records)
                    # A run that is done already has a folder if folders are kept.
                    if encoder is None and shares and not later and folder.is_dir():
                        encoder = folder
                    begin_with = folder


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
