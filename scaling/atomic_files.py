"""Atomic writes: a reader sees the old file, the new file or none, never a part of one."""

import errno
import fcntl
import glob
import json
import math
import os
import secrets
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scaling.errors import StorageError, UserError

__all__ = [
    "append_line",
    "atomic_folder",
    "atomic_path",
    "json_values",
    "sync_names",
    "to_json",
    "write_json",
    "write_lines",
    "write_new",
    "write_new_text",
    "write_text",
]


@contextmanager
def atomic_path(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`.

    Without `sync`, the old file may be back after a power failure. A killed process does no harm.

    Raises:
        StorageError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if sync:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        if sync:
            sync_names(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success it is renamed to `path`.

    Temporary folders of the same `path` that killed processes left behind are removed first.

    Raises:
        UserError: `path` exists.
        StorageError: it cannot be written, or the disk is full; nothing is left behind.
    """
    if path.exists():
        raise UserError(f"{path}: already exists; choose another folder or remove this one first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, lock = _temporary_folder(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    try:
        yield temporary
        temporary.rename(path)
        sync_names(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def sync_names(folder: Path) -> None:
    """Bring the names in a folder to the disk, where its file system can; a rename or a link is lost otherwise."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _temporary_folder(path: Path) -> tuple[Path, int | None]:
    """Return a new locked folder beside `path` and its lock; remove those of dead processes."""
    # under the parent's lock, no other process can see the new folder before it is locked
    parent = _lock(path.parent, wait=True)
    try:
        for folder in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
            # the system releases the lock of a process, however that ended
            lock = None if parent is None else _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
        # not by tempfile, which makes it private
        new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        new.mkdir()
        return new, _lock(new)
    finally:
        if parent is not None:
            os.close(parent)


def _lock(folder: Path, *, wait: bool = False) -> int | None:
    """Return the descriptor that holds the folder's lock; None if it is taken or cannot be had here."""
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with atomic_path(path, sync=sync) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: Any, *, sync: bool = True) -> None:
    """Write `document` to `path` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, to_json(document), sync=sync)


def write_lines(path: Path, documents: Iterable[Any]) -> None:
    """Write one JSON document per line to `path` atomically."""
    write_text(path, "".join(json.dumps(document) + "\n" for document in documents), sync=False)


def append_line(path: Path, document: Any) -> None:
    """Append one JSON document to a file that `write_lines` wrote.

    Raises:
        StorageError: the line cannot be written, or only a part of it.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(document) + "\n")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error


def write_new(path: Path, document: Any) -> bool:
    """Write `document` as `write_json` does unless `path` exists, as `write_new_text` does."""
    return write_new_text(path, to_json(document))


def write_new_text(path: Path, text: str) -> bool:
    """Write `text` (UTF-8) unless `path` exists; return whether it was written.

    Of several writers exactly one gets True, even on different hosts of a network file system: there,
    creating a link is atomic, but checking for a file and then creating it is not.

    Raises:
        StorageError: the file cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            # if the reply was lost, the client tries again and finds its own link
            return temporary.stat().st_nlink > 1
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                raise
            return _create(path, text)  # a file system without links
        sync_names(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return True


def _create(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    return True


def to_json(document: Any) -> str:
    """Return the text of a JSON file: indented, without NaN and infinity."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def json_values(value: Any) -> Any:
    """Return a document as JSON can hold it: NaN and infinity become null, NumPy values plain ones.

    Args:
        value: mappings (keys become text), lists, tuples, NumPy arrays and scalars, plain values.
    """
    if isinstance(value, Mapping):
        return {str(key): json_values(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy, which is not imported here
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
