"""The folder that a run leaves behind. Every file in it is whole: written aside, then renamed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

METRICS = "metrics.json"
"""Written last: a run that has left it is finished."""
CHECKPOINTS = "checkpoints"
"""Folder of those that a run in progress goes on from."""
CHECKPOINT = "checkpoint.safetensors"
"""What it has trained; of a run in progress, its encoder."""
FILES_OF_A_RUN = (
    *(METRICS, "run.json", "checkpoint.json", CHECKPOINT, "labels.csv", "held_out_labels.csv"),
    "report.html",
    *("prototypes.png", "embeddings.png", "reliability.png", "attention.png", "training.png"),
    *("heads.png", "accuracy.png", "purity.png", "confusion.png", "joint.png"),
)
"""All that a run may leave, beside its checkpoints and TensorBoard's files."""


def is_finished(folder: Path) -> bool:
    """Whether a run has left all its files there."""
    return (folder / METRICS).is_file()


class RunFolder:
    """A new folder, one whose run is to go on, or one that may be overwritten.

    Args:
        path: Made with its parents where it is missing.
        existing: What becomes of a folder that holds files: it is refused, its files are kept, or
            those that an earlier run has left make way.

    Raises:
        FileExistsError: If the folder holds files and is to be refused.
        NotADirectoryError: If the path is a file.
    """

    def __init__(
        self, path: Path, *, existing: Literal["refuse", "keep", "overwrite"] = "refuse"
    ) -> None:
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"{path}: expected a folder for the run, got a file")
        self.path = path
        if path.is_dir() and any(path.iterdir()):
            if existing == "refuse":
                raise FileExistsError(
                    f"{path}: expected an empty or new folder, got one that holds files; choose "
                    "another with --out, or pass --resume to go on with the run in it, or "
                    "--overwrite to replace it"
                )
            if existing == "overwrite":
                # What is half of one run and half of another must never look like a run.
                for name in FILES_OF_A_RUN:
                    (path / name).unlink(missing_ok=True)
                    _aside(path / name).unlink(missing_ok=True)
                self._remove("tensorboard", "events.out.tfevents.*")
                self.remove_checkpoints()
        path.mkdir(parents=True, exist_ok=True)

    def remove_checkpoints(self) -> None:
        """Removes what `common.journal` has written, and nothing else."""
        self._remove(CHECKPOINTS, "*.json", "*.safetensors")

    def _remove(self, folder: str, *patterns: str) -> None:
        """Removes files of a folder below, and that as well if nothing else is in it."""
        below = self.path / folder
        for pattern in patterns:
            for file in below.glob(pattern):
                file.unlink()
        if below.is_dir() and not any(below.iterdir()):
            below.rmdir()

    def write(self, name: str, write_to: Callable[[Path], object]) -> Path:
        """Writes one file whole or not at all.

        Args:
            name: Its name in the folder, with the folders below it.
            write_to: Writes the content to the path that it is given.
        """
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = _aside(target)
        try:
            write_to(aside)
            with aside.open("rb") as written:
                os.fsync(written.fileno())
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
        return target

    def write_json(self, name: str, content: object) -> None:
        """Writes what JSON can hold."""
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        self.write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def write_table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Writes a CSV file."""

        def write_to(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([header, *rows])

        self.write(name, write_to)

    def write_tensors(self, name: str, tensors: dict[str, Tensor]) -> Path:
        """Writes a safetensors file; tensors that share memory are written once each."""
        on_host = {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in tensors.items()
        }
        return self.write(name, lambda path: path.write_bytes(save(on_host)))


def _aside(target: Path) -> Path:
    """Where a file is written before it gets its name."""
    return target.with_name(f".{target.name}.part{target.suffix}")
