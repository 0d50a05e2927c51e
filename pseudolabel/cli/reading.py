"""Files from anywhere as checked arrays; what is wrong with one is said in one line."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

_MAPPED_FROM = 2**28  # bytes; smaller arrays are read whole
_BLOCK_VALUES = 2**24
_MOST_CLASSES = 5000
_LONGEST_LABEL = 1000  # characters; an array has room for the longest in every row
_PICTURES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
)
_WHOLE_NUMBER = re.compile(r"[+-]?\d{1,18}")
_NO_LABEL = ("", "-1")


class InputError(Exception):
    """Something that the user has to change; its text is one line."""


class Labels(NamedTuple):
    """Labels as they came and as class numbers.

    Attributes:
        given: ``(N,)``, int64 or strings; -1 or empty where there is none.
        codes: int64 ``(N,)``, positions in ``names``; -1 where there is none.
        names: The classes that occur, sorted.
    """

    given: np.ndarray
    codes: np.ndarray
    names: list[str]


def read_features(path: Path, key: str | None) -> np.ndarray:
    """Reads finite floats ``(N, D)``, memory-mapped if they come as a large .npy file."""
    array = _read_array(path, key, "--key")
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        _refuse(path, "shape (rows, columns) with two rows or more", f"shape {array.shape}")
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        _refuse(path, "numbers of at most 64 bits", f"dtype {array.dtype}")
    if array.dtype.kind in "iu":
        array = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    size = max(1, _BLOCK_VALUES // array.shape[1])
    for start in range(0, len(array), size):
        finite = np.isfinite(array[start : start + size])
        if not finite.all():
            row, column = np.argwhere(~finite)[0].tolist()
            place = f"row {start + row}, column {column}, counted from 0"
            _refuse(path, "finite numbers", f"{array[start + row, column]} in {place}")
    return array


def read_labels(path: Path, key: str | None, count: int) -> Labels:
    """Reads ``count`` integers or strings; -1 and the empty string mean unlabelled."""
    if path.suffix.lower() in (".txt", ".csv"):
        given = _from_text(path, key, "--label-key")
    else:
        given = _read_array(path, key, "--label-key")
    if given.ndim != 1:
        _refuse(path, "shape (rows,)", f"shape {given.shape}")
    if len(given) != count:
        _refuse(path, f"{count} labels, one a row of the features", str(len(given)))
    if given.dtype.kind in "iu":
        if given.dtype.kind == "u" and given.max(initial=0) > np.iinfo(np.int64).max:
            _refuse(path, "integers below 2**63", str(given.max()))
        given = given.astype(np.int64)
        if (given < -1).any():
            row = int(np.argmax(given < -1))
            _refuse(path, "classes from 0 on, or -1 for none", f"{given[row]} in row {row}")
        labelled = given >= 0
    elif given.dtype.kind in "US":
        given = np.char.strip(_as_text(path, given))
        labelled = ~np.isin(given, _NO_LABEL)
        given = np.where(labelled, given, "")
    else:
        _refuse(path, "integers or strings", f"dtype {given.dtype}")
    classes, found = np.unique(given[labelled], return_inverse=True)
    if len(classes) == 0:
        _refuse(path, "at least one labelled row", "none")
    if len(classes) > _MOST_CLASSES:
        _refuse(path, f"at most {_MOST_CLASSES} classes", f"{len(classes)}; are these identifiers?")
    codes = np.full(count, -1)
    codes[labelled] = found
    return Labels(given, codes, [str(name) for name in classes])


def list_pictures(folder: Path, count: int) -> list[Path]:
    """Finds ``count`` pictures in a folder and those below it, sorted by name, one for each row."""
    if not folder.is_dir():
        raise InputError(f"--images: expected a folder, got {folder}")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES]
    paths = sorted(
        (path for path in found if path.is_file()), key=lambda path: path.relative_to(folder).parts
    )
    if len(paths) != count:
        raise InputError(
            f"--images: expected {count} pictures, one a row, got {len(paths)} in {folder}"
        )
    return paths


def _read_array(path: Path, key: str | None, option: str) -> np.ndarray:
    """One array of a file, chosen by an option; a large .npy one is memory-mapped."""
    readers = {".npy": _from_npy, ".npz": _from_npz, ".safetensors": _from_safetensors}
    read = readers.get(path.suffix.lower())
    if read is None:
        _refuse(path, "a name that ends in " + ", ".join(readers), repr(path.suffix))
    if not path.is_file():
        _refuse(path, "a file", "a folder" if path.is_dir() else "nothing of that name")
    try:
        return read(path, key, option)
    except InputError:
        raise
    # Damaged files make the readers raise nearly anything.
    except Exception as error:
        reason = f"{error}" or type(error).__name__
        if "object" in reason.lower():
            reason = "objects, which would have to be unpickled; save numbers or fixed-width text"
        _refuse(path, f"a whole {path.suffix} file", reason)


def _from_npy(path: Path, key: str | None, option: str) -> np.ndarray:
    if key is not None:
        _refuse(path, f"no {option} for a .npy file", repr(key))
    mapped = np.lib.format.open_memmap(path, mode="r")
    return mapped if mapped.nbytes >= _MAPPED_FROM else np.array(mapped)


def _from_npz(path: Path, key: str | None, option: str) -> np.ndarray:
    if not zipfile.is_zipfile(path):
        raise ValueError("no zip archive")
    with np.load(path, allow_pickle=False) as arrays:
        array = arrays[_choose(path, key, option, arrays.files)]
    if not isinstance(array, np.ndarray):
        raise ValueError("an entry that is no array")
    return array


def _from_safetensors(path: Path, key: str | None, option: str) -> np.ndarray:
    import torch
    from safetensors import safe_open

    # Through torch, because NumPy has no bfloat16.
    with safe_open(path, framework="pt") as tensors:
        tensor = tensors.get_tensor(_choose(path, key, option, list(tensors.keys())))
    array: np.ndarray = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _choose(path: Path, key: str | None, option: str, keys: list[str]) -> str:
    if not keys:
        _refuse(path, "something in it", "an empty file")
    if key is None and len(keys) == 1:
        return keys[0]
    if key is None or key not in keys:
        names = ", ".join(map(repr, keys[:10])) + (", ..." if len(keys) > 10 else "")
        _refuse(path, f"{option} to be one of {names}", repr(key))
    return key


def _from_text(path: Path, key: str | None, option: str) -> np.ndarray:
    """A label a line, or a column of a table; whole numbers if all of them are."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".txt":
            labels = text.removesuffix("\n").split("\n")
        else:
            table = csv.reader(io.StringIO(text, newline=""), strict=True)
            titles = next(table, [])
            column = _choose(path, key or "label", option, titles)
            place, labels = titles.index(column), []
            for row in table:
                if not row and len(titles) > 1:
                    continue
                cells = row or [""]  # of a single column an empty line is an empty cell
                if place >= len(cells):
                    _refuse(path, f"a {column} in line {table.line_num}", "a line that ends before")
                labels.append(cells[place])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        _refuse(path, "text in UTF-8", str(error))
    labels = [label.strip() for label in labels]
    longest = max(map(len, labels), default=0)
    if longest > _LONGEST_LABEL:
        _refuse(path, f"labels of at most {_LONGEST_LABEL} characters", str(longest))
    if all(_WHOLE_NUMBER.fullmatch(label) for label in labels if label):
        return np.array([int(label or "-1") for label in labels], dtype=np.int64)
    return np.array(labels, dtype=np.str_)


def _as_text(path: Path, given: np.ndarray) -> np.ndarray:
    if given.dtype.kind == "U":
        return given
    try:
        return np.char.decode(given, "utf-8")
    except UnicodeDecodeError as error:
        _refuse(path, "text in UTF-8", str(error))


def _refuse(path: Path, expected: str, got: str) -> NoReturn:
    raise InputError(f"{path}: expected {expected}, got {got}")
