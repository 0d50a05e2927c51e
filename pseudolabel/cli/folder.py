"""The folder of results: all of them appear at the end, whole, or none does."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from pseudolabel.cli.reading import InputError

LAST = "summary.json"  # who finds it finds everything
FILES = ("labels.csv", "doubtful.csv", "labels.npy", "reliable_labels.npy", "report.html", LAST)


class OutputFolder:
    """Collects files aside and moves them into place when the block ends without an error.

    Args:
        path: Made with its parents where it is missing.
        overwrite: Whether the files of an earlier run may be replaced.
        inputs: Files that must not be replaced.

    Raises:
        InputError: If the path is a file, the folder is not empty and ``overwrite`` is False, an
            input would be replaced, or the folder cannot be made.
    """

    def __init__(self, path: Path, *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
        if path.exists() and not path.is_dir():
            raise InputError(f"--out: expected a folder, got the file {path}")
        if path.is_dir() and any(path.iterdir()) and not overwrite:
            raise InputError(
                f"--out: expected an empty or new folder, got {path}, which holds files; choose "
                "another, or pass --overwrite to replace them"
            )
        outputs = {(path / name).resolve() for name in FILES}
        for taken in inputs:
            if taken.resolve() in outputs:
                raise InputError(f"--out: expected a folder where {taken} is not replaced")
        self.path = path
        self._made: list[Path] = []

    def __enter__(self) -> OutputFolder:
        try:
            for folder in [*reversed(self.path.parents), self.path]:
                if not folder.exists():
                    folder.mkdir()
                    self._made.append(folder)
            self._aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.path))
        except OSError as error:
            raise InputError(f"--out: expected a folder to write to, got {error}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                # An old summary must not stand beside new labels, not even for a moment.
                (self.path / LAST).unlink(missing_ok=True)
                for name in FILES:
                    (self._aside / name).replace(self.path / name)
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)
            for folder in reversed(self._made):
                if not any(folder.iterdir()):
                    folder.rmdir()

    def write_text(self, name: str, text: str) -> None:
        """Writes text as UTF-8; what that cannot hold is written with backslashes."""
        self._sync(name, text.encode("utf-8", "backslashreplace"))

    def write_json(self, name: str, content: object) -> None:
        """Writes what JSON can hold."""
        self.write_text(name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def write_table(
        self, name: str, header: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> None:
        """Writes a CSV file."""
        path = self._aside / name
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())

    def write_array(self, name: str, array: np.ndarray) -> None:
        """Writes a .npy file."""
        with (self._aside / name).open("wb") as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())

    def _sync(self, name: str, data: bytes) -> None:
        with (self._aside / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
