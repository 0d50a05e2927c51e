"""A checkpoint: nested state as a safetensors and a JSON file, whole or not there. No pickle.

The JSON file is written last and holds the digest of both: where it is there and right, all is.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

if TYPE_CHECKING:
    from common.run_folder import RunFolder

FORMAT = "pseudolabel checkpoint 1"


class DamagedCheckpoint(Exception):
    """What is wrong with a checkpoint, in words."""


def write_checkpoint(folder: RunFolder, name: str, state: object, *, run: str) -> None:
    """Writes ``name.safetensors`` and then ``name.json``.

    Args:
        folder: Where to.
        name: May lie in a folder below it.
        state: Tensors, numbers, strings and None in dicts (keys: int or str) and lists.
        run: Which run it belongs to.
    """
    tensors: dict[str, Tensor] = {}
    content = {"format": FORMAT, "run": run, "state": _pack(state, "state", tensors)}
    path = folder.write_tensors(f"{name}.safetensors", tensors)
    content["tensors"] = _digest(path.read_bytes())
    folder.write_json(f"{name}.json", {"content": content, "digest": digest_of(content)})


def read_checkpoint(path: Path, *, run: str) -> Any:  # noqa: ANN401 - whatever was written
    """Reads the state back, tensors on the CPU and tuples as lists.

    Args:
        path: Of the JSON file.
        run: Which run it has to belong to.

    Raises:
        DamagedCheckpoint: If a file is missing, truncated, changed, or of something else.
    """
    try:
        said = json.loads(path.read_text())
        content = said["content"]
        whole = said["digest"] == digest_of(content) and content["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise DamagedCheckpoint(f"{path}: is no checkpoint, or a damaged one")
    if content["run"] != run:
        raise DamagedCheckpoint(f"{path}: belongs to another run")
    file = path.with_suffix(".safetensors")
    try:
        raw = file.read_bytes()
        if _digest(raw) != content["tensors"]:
            raise DamagedCheckpoint(f"{file}: is truncated or changed")
        return _unpack(content["state"], load(raw))
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{file}: cannot be read: {error}") from None


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    """The value as JSON has it; tensors go where they are called by their path in the value."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        # Pairs, for the keys of an optimiser's state are integers, which JSON's are not.
        return {"dict": [[k, _pack(v, f"{name}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_pack(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name}: expected tensors, numbers and strings, got {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {key: _unpack(item, tensors) for key, item in value["dict"]}
    return value


def digest_of(content: object) -> str:
    """The digest of what JSON can hold."""
    return _digest(json.dumps(content, sort_keys=True).encode())


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
