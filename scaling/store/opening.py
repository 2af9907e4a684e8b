"""Opening a store: `dataset.json` is checked, the arrays are mapped read-only and not read."""

import hashlib
import mmap
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from scaling.arrays import Array
from scaling.atomic_files import write_text
from scaling.documents import open_regular
from scaling.errors import StorageError, UserError
from scaling.store.event_store import EventStore
from scaling.store.format import (
    COMPONENT_PREFIX,
    FEATURE_PATHS,
    OFFSETS,
    WEIGHTS,
    ArraySpec,
    array_table,
    content_digest,
    feature_arrays,
)
from scaling.store.manifest import StoreDocument, document_fingerprint, read_document
from scaling.store.validation_rules import find_breaches
from scaling.store.value_lists import ValueLists

__all__ = ["map_array", "open_store", "open_unchanged", "stated_arrays"]


# Keys of `dataset.json` that an opened store has unchanged.
FACTS = (
    "fingerprint",
    "utc_offset_seconds",
    "source",
    "split",
    "truth",
    "history_quantiles",
)


def open_store(path: Path | str, *, verify: bool = False) -> EventStore:
    """Open the store at `path`; with `verify`, also read all of it and check its contents.

    Raises:
        UserError: `path` is not a store, a key of `dataset.json` is missing or wrong, or an array is missing,
            truncated or of another type than `dataset.json` says. With `verify` also: the contents break a
            rule of the format or do not match the fingerprint.
    """
    path = Path(path)
    document, checked = read_document(path)
    counts, table = checked.counts, stated_arrays(checked)
    for name in table:
        if name not in checked.arrays:
            raise UserError(f"{path / 'dataset.json'}: arrays: no entry {name!r}")
    arrays = {name: map_array(path / f"{name}.npy", spec) for name, spec in table.items()}

    lists = {
        name: ValueLists(
            arrays[name],
            arrays.get(f"{name}{OFFSETS}"),
            arrays.get(f"{name}{WEIGHTS}"),
            feature.max_values,
        )
        for name, feature, _ in feature_arrays(
            checked.schema, counts.users, counts.events, counts.impressions
        )
        if not feature.is_plain
    }
    of_lists = {f"{name}{end}" for name in lists for end in ("", OFFSETS, WEIGHTS)}

    def group(prefix: str) -> dict[str, Array]:
        return {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix) and name not in of_lists
        }

    store = EventStore(
        path=path,
        schema=checked.schema,
        **{key: document[key] for key in FACTS},
        offsets=arrays["behaviours/offsets"],
        event_time=arrays["behaviours/time"],
        behaviours=group(FEATURE_PATHS["behaviour"]),
        user=arrays["impressions/user"],
        time=arrays["impressions/time"],
        history_end=arrays["impressions/history_end"],
        request=arrays["impressions/request"],
        candidates=group(FEATURE_PATHS["candidate"]),
        contexts=group(FEATURE_PATHS["context"]),
        numerics=group("impressions/numeric."),
        profiles=group(FEATURE_PATHS["profile"]),
        label=arrays["impressions/label"],
        probability=arrays.get("impressions/probability"),
        components=group(COMPONENT_PREFIX),
        lists=lists,
    )
    if verify:
        state = _state_of(path, checked)
        for breach in find_breaches(store, document, arrays):
            raise UserError(breach)
        _note_checked(path, checked, state)
    return store


def stated_arrays(checked: StoreDocument) -> dict[str, ArraySpec]:
    """Return the type and length of every array that the store has by its `dataset.json`."""
    counts = checked.counts
    return array_table(
        checked.schema,
        counts.users,
        counts.events,
        counts.impressions,
        "impressions/probability" in checked.arrays,
        components=[
            name.removeprefix(COMPONENT_PREFIX)
            for name in checked.arrays
            if name.startswith(COMPONENT_PREFIX)
        ],
        n_test=counts.impressions - checked.split.n_train,
        n_values={name: array.rows for name, array in checked.arrays.items()},
    )


def open_unchanged(path: Path | str) -> EventStore:
    """Open the store at `path` and check that its bytes are those that its fingerprint is of.

    The arrays are read once on each node: later calls find that their files have not changed since (inode, size, times).

    Raises:
        UserError: as `open_store`, or the contents have changed.
    """
    store, path = open_store(path), Path(path)
    document, checked = read_document(path)
    note, state = _note_of(path), _state_of(path, checked)
    with suppress(OSError):
        if _is_own(note.parent) and note.read_text(encoding="utf-8") == state:
            return store
    for name, array in checked.arrays.items():
        if content_digest(np.load(path / f"{name}.npy", mmap_mode="r")) != array.sha256:
            raise UserError(
                f"{path / name}.npy: contents differ from the sha256 in dataset.json: changed since the data set was made; "
                "make it again"
            )
    if document_fingerprint(document) != store.fingerprint:
        raise UserError(
            f"{path / 'dataset.json'}: fingerprint does not match the contents; make the data set again"
        )
    _note_checked(path, checked, state)
    return store


def _note_checked(path: Path, checked: StoreDocument, state: str) -> None:
    """Note that the store was read in a state, unless a file has changed since the reading began."""
    if state == _state_of(path, checked):
        _write_note(_note_of(path), state)


def _note_of(path: Path) -> Path:
    """Where this node notes that the store at `path` was read, for this user only."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"ctr-scaling-{os.getuid()}" / f"{name}.checked"


def _state_of(path: Path, checked: StoreDocument) -> str:
    """What changes if a file of the store is written: its inode, size, and times of change in ns."""
    files = [path / "dataset.json", *(path / f"{name}.npy" for name in sorted(checked.arrays))]
    stats = [file.stat() for file in files]
    return "".join(f"{s.st_dev} {s.st_ino} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}\n" for s in stats)  # fmt: skip


def _write_note(note: Path, state: str) -> None:
    """Write the note, if its folder is this user's own; without it, the next job reads the arrays again."""
    with suppress(OSError, StorageError):
        note.parent.mkdir(mode=0o700, exist_ok=True)
        if _is_own(note.parent):
            write_text(note, state, sync=False)


def _is_own(folder: Path) -> bool:
    """Whether this is a folder that no other user can write to."""
    found = folder.lstat()
    private = found.st_uid == os.getuid() and not found.st_mode & 0o022
    return private and stat.S_ISDIR(found.st_mode)


def map_array(file: Path, spec: ArraySpec) -> Array:
    """Map one array of a store read-only.

    Raises:
        UserError: the file is missing, is not a `.npy` file, or has another type or length than `spec` says.
    """
    try:
        with open_regular(file) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
            shape, _, dtype = (read or np.lib.format.read_array_header_2_0)(stream)
            start = stream.tell()
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        n_bytes = len(mapped) - start
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing; expected {spec.rows:,} rows of {spec.dtype}") from error
    except (
        Exception
    ) as error:  # numpy evaluates the header as Python, so a damaged one can raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file}: not a .npy array: {reason}") from error
    if len(shape) != 1:
        raise UserError(f"{file}: shape is {shape}, expected ({spec.rows},)")
    if dtype != spec.dtype and dtype.kind != "f":
        raise UserError(f"{file}: type is {dtype}, expected {spec.dtype}")
    found = min(n_bytes // dtype.itemsize, shape[0])
    if found != spec.rows or shape != (spec.rows,):
        raise UserError(
            f"{file}: {found:,} rows found, dataset.json says {spec.rows:,}; make the data set again"
        )
    if dtype != spec.dtype:
        gaps = np.flatnonzero(np.isnan(np.load(file)))
        if len(gaps):
            raise UserError(
                f"{file}: row {gaps[0]:,} is nan, expected {spec.dtype} without missing values"
            )
        raise UserError(f"{file}: type is {dtype}, expected {spec.dtype}")
    # np.ndarray instead of np.memmap, whose every small slice costs a Python call; no second reading of the header
    array: Array = np.ndarray(shape, dtype, mapped, start)
    return array
