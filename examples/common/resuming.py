"""Which run a folder holds: its settings and its images, so that no other one goes on in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from common.data import ImageData
from common.run_folder import CHECKPOINT, RunFolder
from common.settings import RunSettings

RUN = "run.json"
FREE = {"out", "overwrite", "resume", "checkpoint_every", "pictures"}
"""Settings that change nothing that a stage comes to."""
FREE_OF_DATA = {"on_device", "cache"}
"""The same among those of the data."""


def identity(settings: RunSettings, data: ImageData) -> dict[str, Any]:
    """What tells the run from another, as JSON has it.

    A run that goes on has the paths as its folder has them, where they lead to the same place.
    """
    held_out = None if data.held_out is None else data.held_out.images
    parts = {"images": data.images, "held_out": held_out, "unlabelled": data.unlabelled}
    digests = {name: _digest(part) for name, part in parts.items() if part is not None}
    chosen = {name: value for name, value in asdict(settings).items() if name not in FREE}
    chosen["data"] = {k: value for k, value in chosen["data"].items() if k not in FREE_OF_DATA}
    before = _written(settings.out) if settings.resume else None
    chosen = _spelt(chosen, (before or {}).get("settings"))
    return json.loads(json.dumps({"settings": chosen, **digests}))


def _digest(images: Tensor) -> dict[str, Any]:
    digest = hashlib.sha256()
    for part in images.split(1024):  # they need not fit in memory
        digest.update(part.cpu().contiguous().numpy())
    return {"shape": list(images.shape), "digest": digest.hexdigest()}


def open_folder(settings: RunSettings, run: dict[str, Any]) -> RunFolder:
    """The folder of a run that starts or goes on.

    Args:
        settings: Say which folder, and what becomes of one that holds files.
        run: Its identity.

    Raises:
        FileExistsError: If the folder holds files, and nothing was said of them.
        ValueError: If the run is to go on, and the folder holds none or another.
    """
    if settings.resume and settings.overwrite:
        raise ValueError("--resume, --overwrite: expected one of them, got both")
    asked = {settings.resume: "keep", settings.overwrite: "overwrite"}
    folder = RunFolder(settings.out, existing=asked.get(True, "refuse"))
    # A file that begins with a dot is what a write that was killed has left.
    if settings.resume and any(not file.name.startswith(".") for file in folder.path.iterdir()):
        _check_same(folder, run)
    else:
        folder.write_json(RUN, run)
    return folder


def _check_same(folder: RunFolder, run: dict[str, Any]) -> None:
    before = _written(folder.path)
    if before is None:
        raise ValueError(
            f"{folder.path}: expected a run to go on with, got a folder without a {RUN}"
        )
    was, is_now = dict(_leaves(before)), dict(_leaves(run))
    differing = [
        f"{name.removeprefix('settings.')} was {was.get(name)!r} and is {is_now.get(name)!r}"
        for name in {**was, **is_now}
        if was.get(name) != is_now.get(name)
    ]
    if differing:
        way_out = "; a run in another folder can begin with its stage 1: --encoder-from"
        encoder = f"{way_out} {folder.path}" if (folder.path / CHECKPOINT).exists() else ""
        raise ValueError(
            f"{folder.path}: expected the run that is there, but {differing[0]}{encoder}"
        )


def _written(folder: Path) -> dict[str, Any] | None:
    """The identity that a folder holds, if any."""
    try:
        said = json.loads((folder / RUN).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _spelt(settings: dict[str, Any], before: object) -> dict[str, Any]:
    """Settings whose paths are strings: those from before that mean the same, else absolute."""
    spelt = {}
    for name, value in settings.items():
        was = before.get(name) if isinstance(before, dict) else None
        if isinstance(value, dict):
            spelt[name] = _spelt(value, was)
        elif isinstance(value, Path):
            same = isinstance(was, str) and Path(was).resolve() == value.resolve()
            spelt[name] = was if same else str(value.absolute())
        else:
            spelt[name] = value
    return spelt


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
