"""Neighbours in files: written group by group, taken up again after an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from pseudolabel._checks import wrong_type, wrong_value
from pseudolabel.types import Neighbors

_FIELDS = ("indices", "similarity")


class NeighborFiles:
    """A folder of ``indices.npy`` and ``similarity.npy``, which appear when they are complete.

    Until then they are called ``*.partial.npy``, and ``search.json`` says of which search they are
    and how many rows are done.

    Args:
        folder: New, empty, or of the same search: then it is gone on with.
        search: What the answer depends on, as JSON can hold it.
        shape: ``(Q, k)``.
        dtype: Of the similarities.
    """

    def __init__(
        self, folder: str | Path, search: dict[str, object], shape: tuple[int, int], dtype: str
    ) -> None:
        if not isinstance(folder, (str, Path)):
            wrong_type("out", "the path of a folder", folder)
        self.folder, self.search = Path(folder), search
        self.folder.mkdir(parents=True, exist_ok=True)
        self._unfinished: list[np.memmap] = []
        self.done = self._read_progress()
        self.finished = self.done == shape[0]
        """Whether all rows are done; `finish` gives their files the names that they lack."""
        if self.done == 0:
            # Before the files, which nobody could tell from others without it.
            self._write_progress()
            for field, kind in zip(_FIELDS, ("int64", dtype), strict=True):
                np.lib.format.open_memmap(self._partial(field), "w+", kind, shape)

    def partial(self) -> Neighbors:
        """Tensors over the unfinished files: what is written to them is written to disk."""
        self._unfinished = [np.lib.format.open_memmap(self._partial(f), "r+") for f in _FIELDS]
        return Neighbors(*map(torch.from_numpy, self._unfinished))

    def commit(self, done: int) -> None:
        """Notes that the first ``done`` rows are complete, once they are on the disk."""
        for rows in self._unfinished:
            rows.flush()
        self.done = done
        self._write_progress()

    def finish(self) -> Neighbors:
        """Gives the files their names; the tensors returned read from them."""
        for field in _FIELDS:
            if self._partial(field).exists():
                self._partial(field).replace(self.folder / f"{field}.npy")
        complete = (np.lib.format.open_memmap(self.folder / f"{f}.npy", "c") for f in _FIELDS)
        return Neighbors(*map(torch.from_numpy, complete))

    @property
    def _aside(self) -> Path:
        return self.folder / "search.json.partial"

    def _partial(self, field: str) -> Path:
        return self.folder / f"{field}.partial.npy"

    def _read_progress(self) -> int:
        path = self.folder / "search.json"
        if not path.exists():
            if any(path != self._aside for path in self.folder.iterdir()):
                wrong_value("out", "a new or empty folder, or one of this search", str(self.folder))
            return 0
        try:
            record = json.loads(path.read_text())
            done, search = int(record.pop("done")), record
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"out: expected a readable {path}, got {error}") from error
        differing = [key for key in self.search if search.get(key) != self.search[key]]
        if differing:
            was = ", ".join(f"{key} {search.get(key)!r}" for key in differing)
            wrong_value("out", "a folder of this very search", f"one of another, with {was}")
        for field in _FIELDS if done else ():
            if not self._partial(field).exists() and not (self.folder / f"{field}.npy").exists():
                raise ValueError(f"out: expected {self._partial(field)}, got no such file")
        return done

    def _write_progress(self) -> None:
        self._aside.write_text(json.dumps({**self.search, "done": self.done}, indent=1))
        self._aside.replace(self.folder / "search.json")
