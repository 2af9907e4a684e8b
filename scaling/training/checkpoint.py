"""Checkpoints: the state of a training, without pickle; an incomplete file is never used.

A file is in the safetensors format; its name holds the step and a digest of its bytes, so that a torn or
damaged one is recognised and the one before it is used. Only tensors and JSON values are accepted.

If several ranks divide the feature table, each writes its rows to a file of its own (`.rows`) before rank 0 writes the
rest, which names these files. A checkpoint is whole if all of them are. Any number of ranks can read it.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from scaling.atomic_files import sync_names
from scaling.batches import Share
from scaling.documents import open_regular
from scaling.errors import StorageError

__all__ = [
    "Checkpoint",
    "flatten",
    "has_rows",
    "read_checkpoints",
    "read_rows",
    "save_checkpoint",
    "save_rows",
    "unflatten",
]


_DIGITS = 16
_KEPT = 2
# Rows that are read at once.
_CHUNK = 2**18


@dataclass(frozen=True)
class Checkpoint:
    """A training's whole state before step `step`.

    Attributes:
        label: name of the training that it belongs to, if a folder holds several.
        step: optimiser steps done.
        tensors: by name, on the CPU.
        facts: everything that is not a tensor, as plain JSON; `row_files` are the names of the files with divided tensors,
            those of share 0 first.
        rows: this rank's rows of divided tensors, every R-th.
    """

    label: str
    step: int
    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]
    rows: dict[str, torch.Tensor] = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and remove the older ones of its label, except for the latest of them.

    Raises:
        StorageError: it cannot be written; those before it are untouched.
    """
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()
    }
    facts = {"facts": json.dumps(checkpoint.facts, allow_nan=False)}
    stem = f"{checkpoint.label}-{checkpoint.step:010d}"
    path = _write(folder, f".{checkpoint.label}", stem, ".safetensors", tensors, facts)
    try:
        # a later checkpoint may be damaged, which is why this training repeats the step
        reached = [p for p in _paths(folder, checkpoint.label) if _step(p) <= checkpoint.step]
        kept = sorted({_step(p) for p in reached}, reverse=True)[:_KEPT]
        for old in reached:
            if _step(old) not in kept:
                old.unlink(missing_ok=True)
        for rows in folder.glob(f"{checkpoint.label}-*.rows"):
            step = int(rows.stem.split("-")[-3])
            if step <= checkpoint.step and step not in kept:
                rows.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return path


def save_rows(folder: Path, checkpoint: Checkpoint, share: Share) -> str:
    """Write this rank's rows of divided tensors before the checkpoint itself; return the file's name.

    Raises:
        StorageError: it cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.rows.items()}
    stem = f"{checkpoint.label}-{checkpoint.step:010d}-{share.number}of{share.count}"
    return _write(folder, f".{stem}", stem, ".rows", tensors, {}).name


def has_rows(folder: Path, checkpoint: Checkpoint, share: Share) -> bool:
    """Whether the checkpoint's files with divided tensors are there, and those of `share` are undamaged."""
    names = checkpoint.facts.get("row_files", [])
    try:
        return all((folder / name).exists() for name in names) and all(
            _is_whole(folder / name) for name in share.of(names)
        )
    except OSError:
        return False


def read_rows(folder: Path, checkpoint: Checkpoint, share: Share) -> dict[str, torch.Tensor]:
    """Return a share of the rows of a checkpoint's divided tensors, whatever number of ranks wrote them.

    Raises:
        StorageError: a file is missing or cannot be read.
    """
    names = checkpoint.facts.get("row_files", [])
    found: dict[str, torch.Tensor] = {}
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(safe_open(folder / name, "pt")) for name in names]
            for name in files[0].keys() if files else ():
                parts = [file.get_slice(name) for file in files]
                shapes = [part.get_shape() for part in parts]
                n_rows = sum(shape[0] for shape in shapes)
                own = torch.empty(len(range(share.number, n_rows, share.count)), *shapes[0][1:])
                for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
                    for start in range(0, shape[0], _CHUNK):
                        rows = part[start : start + _CHUNK]
                        places = number + len(files) * torch.arange(start, start + len(rows))
                        mine = places % share.count == share.number
                        own[places[mine] // share.count] = rows[mine]
                found[name] = own
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{folder}: a checkpoint cannot be read: {error}") from error
    return found


def read_checkpoints(folder: Path, label: str) -> Iterator[Checkpoint]:
    """Yield the label's checkpoints that are whole, the latest first."""
    for path in _paths(folder, label):
        try:
            if not _is_whole(path):
                continue
            with safe_open(path, "pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                facts = json.loads(opened.metadata()["facts"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
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


def _write(
    folder: Path,
    temporary_name: str,
    stem: str,
    suffix: str,
    tensors: dict[str, torch.Tensor],
    metadata: dict[str, str],
) -> Path:
    """Write a file whose name ends with the digest of its bytes.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = folder / f"{temporary_name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata)
        with temporary.open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
            os.fsync(file.fileno())
        path = folder / f"{stem}-{digest}{suffix}"
        temporary.replace(path)
        sync_names(folder)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise StorageError(f"{folder}: cannot be written: {reason or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def _is_whole(path: Path) -> bool:
    """Whether a file's bytes are those that its name says.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    return path.stem.endswith(f"-{digest}")


def _paths(folder: Path, label: str) -> list[Path]:
    """The label's files, the latest first."""
    return sorted(folder.glob(f"{label}-*-*.safetensors"), key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.stem.split("-")[-2])
