"""The folder that a run leaves behind. Every file in it is whole: written aside, then renamed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor


class RunFolder:
    """A new folder, or one that may be overwritten.

    Args:
        path: Made with its parents where it is missing.
        overwrite: Whether files that a run left there may be replaced.

    Raises:
        FileExistsError: If the folder is not empty and ``overwrite`` is False.
        NotADirectoryError: If the path is a file.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(f"{path}: expected a folder for the run, got a file")
        if path.is_dir() and any(path.iterdir()) and not overwrite:
            raise FileExistsError(
                f"{path}: expected an empty or new folder, got one that holds files; "
                "choose another with --out, or pass --overwrite to replace them"
            )
        path.mkdir(parents=True, exist_ok=True)
        self.path = path

    def write(self, name: str, write_to: Callable[[Path], object]) -> None:
        """Writes one file whole or not at all.

        Args:
            name: Its name in the folder.
            write_to: Writes the content to the path that it is given.
        """
        target = self.path / name
        aside = self.path / f".{name}.part{target.suffix}"
        try:
            write_to(aside)
            with aside.open("rb") as written:
                os.fsync(written.fileno())
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    def write_json(self, name: str, content: object) -> None:
        """Writes what JSON can hold."""
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        self.write(name, lambda path: path.write_text(text))

    def write_table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Writes a CSV file."""

        def write_to(path: Path) -> None:
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([header, *rows])

        self.write(name, write_to)

    def write_tensors(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Writes a safetensors file; tensors that share memory are written once each."""
        on_host = {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in tensors.items()
        }
        self.write(name, lambda path: path.write_bytes(save(on_host)))
