"""Checkpoints: the state of a training, without pickle; an incomplete file is never used.

A file is in the safetensors format; its name holds the step and a digest of its bytes, so that a torn or
damaged one is recognised and the one before it is used. Only tensors and JSON values are accepted.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from scaling.errors import StorageError

__all__ = ["Checkpoint", "flatten", "read_checkpoints", "save_checkpoint", "unflatten"]


_DIGITS = 16
_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A training's whole state before step `step`.

    Attributes:
        label: name of the training that it belongs to, if a folder holds several.
        step: optimiser steps done.
        tensors: by name, on the CPU.
        facts: everything that is not a tensor, as plain JSON.
    """

    label: str
    step: int
    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and remove the older ones of its label, except for the latest of them.

    Raises:
        StorageError: it cannot be written; those before it are untouched.
    """
    temporary = folder / f".{checkpoint.label}.{os.getpid()}.tmp"
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, {"facts": json.dumps(checkpoint.facts, allow_nan=False)})
        with temporary.open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
            os.fsync(file.fileno())
        path = folder / f"{checkpoint.label}-{checkpoint.step:010d}-{digest}.safetensors"
        temporary.replace(path)
        # a later checkpoint may be damaged, which is why this training repeats the step
        reached = [p for p in _paths(folder, checkpoint.label) if _step(p) <= checkpoint.step]
        for old in reached[_KEPT:]:
            old.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise StorageError(f"{folder}: cannot be written: {reason or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def read_checkpoints(folder: Path, label: str) -> Iterator[Checkpoint]:
    """Yield the label's checkpoints that are whole, the latest first."""
    for path in _paths(folder, label):
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
            if not path.stem.endswith(f"-{digest}"):
                continue
            with safe_open(path, "pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                facts = json.loads(opened.metadata()["facts"])
        except (OSError, SafetensorError):
            continue  # removed in the meantime, or unreadable: use the one before it
        yield Checkpoint(label, _step(path), tensors, facts)


def flatten(tree: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Move the tensors of a tree of dicts, lists and plain values into `tensors`; return what is left.

    Keys of dicts keep their types; tuples become lists.
    """
    if isinstance(tree, torch.Tensor):
        while name in tensors:  # of the keys 1 and "1"
            name += "'"
        tensors[name] = tree
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"items": [[k, flatten(v, f"{name}.{k}", tensors)] for k, v in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"list": [flatten(v, f"{name}.{i}", tensors) for i, v in enumerate(tree)]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"value": tree}
    raise TypeError(f"{name}: a {type(tree).__name__} is neither a tensor nor JSON")


def unflatten(rest: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Rebuild the tree; the inverse of `flatten`."""
    ((kind, content),) = rest.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "items":
        return {key: unflatten(value, tensors) for key, value in content}
    if kind == "list":
        return [unflatten(value, tensors) for value in content]
    return content


def _paths(folder: Path, label: str) -> list[Path]:
    """The label's files, the latest first."""
    return sorted(folder.glob(f"{label}-*-*.safetensors"), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.stem.split("-")[-2])
