"""Which run a folder holds: its settings and its images, so that no other one goes on in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from common.data import ImageData
from common.run_folder import RunFolder
from common.settings import RunSettings

RUN = "run.json"
IMAGES_DIGESTED = 1000
FREE = {"out", "overwrite", "resume", "checkpoint_every", "pictures"}
"""Settings that change nothing that a stage comes to."""


def identity(settings: RunSettings, data: ImageData) -> dict[str, Any]:
    """What tells the run from another, as JSON has it."""
    some = data.images[:: -(-len(data.images) // IMAGES_DIGESTED)].contiguous()
    digest = hashlib.sha256(some.cpu().numpy()).hexdigest()
    images = {"shape": list(data.images.shape), "digest": digest}
    chosen = {name: value for name, value in asdict(settings).items() if name not in FREE}
    return json.loads(json.dumps({"settings": chosen, "images": images}, default=str))


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
        raise ValueError("resume, overwrite: expected one of them, got both")
    asked = {settings.resume: "keep", settings.overwrite: "overwrite"}
    folder = RunFolder(settings.out, existing=asked.get(True, "refuse"))
    # A file that begins with a dot is what a write that was killed has left.
    if settings.resume and any(not file.name.startswith(".") for file in folder.path.iterdir()):
        _check_same(folder, run)
    else:
        folder.write_json(RUN, run)
    return folder


def _check_same(folder: RunFolder, run: dict[str, Any]) -> None:
    try:
        before = json.loads((folder.path / RUN).read_text())
    except (FileNotFoundError, ValueError):
        raise ValueError(
            f"{folder.path}: expected a run to go on with, got a folder without a {RUN}"
        ) from None
    was, is_now = dict(_leaves(before)), dict(_leaves(run))
    differing = [
        f"{name.removeprefix('settings.')} was {was.get(name)!r} and is {is_now.get(name)!r}"
        for name in {**was, **is_now}
        if was.get(name) != is_now.get(name)
    ]
    if differing:
        raise ValueError(f"{folder.path}: expected the run that is there, but {differing[0]}")


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
