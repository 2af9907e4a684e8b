"""The event store: every user's behaviours once, impressions that point into them; never copies a history.

A store is a folder of plain `.npy` arrays and `dataset.json` (layout: docs/file-formats.md). Opening maps
the arrays read-only, so a sequence of any length L is a view of the last L rows before `history_end`.
The format itself is in `scaling.store.format`; `scaling.store.constraints` looks at the contents.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scaling.arrays import Array
from scaling.errors import UserError
from scaling.store.format import (
    ArraySpec,
    Schema,
    array_table,
)
from scaling.store.manifest import read_document

__all__ = ["EventStore", "chunks", "map_array", "open_store"]


FACTS = (
    "fingerprint",
    "utc_offset_seconds",
    "source",
    "split",
    "truth",
    "history_quantiles",
)


@dataclass(frozen=True)
class EventStore:
    """An opened store; the arrays are mapped from disk and read-only.

    User u's events are rows `offsets[u]:offsets[u + 1]`, sorted by time. The history of impression i is
    rows `offsets[user[i]]:history_end[i]`: events strictly before the impression's second. Impressions
    `[0, n_train)` are the training part, `[n_train, n_impressions)` the test part; each part is sorted by
    (time, user), and impressions of one user at one second share a `request`.
    """

    path: Path
    schema: Schema
    fingerprint: str
    utc_offset_seconds: int
    source: dict[str, Any]
    split: dict[str, Any]
    truth: dict[str, float] | None
    history_quantiles: dict[str, float]
    offsets: Array
    event_time: Array
    behaviours: dict[str, Array]
    user: Array
    time: Array
    history_end: Array
    request: Array
    candidates: dict[str, Array]
    contexts: dict[str, Array]
    numerics: dict[str, Array]
    profiles: dict[str, Array]
    label: Array
    probability: Array | None

    @property
    def n_users(self) -> int:
        """Users, with or without events."""
        return len(self.offsets) - 1

    @property
    def n_events(self) -> int:
        """Behaviours of all users."""
        return len(self.event_time)

    @property
    def n_impressions(self) -> int:
        """Impressions of both parts."""
        return len(self.label)

    @cached_property
    def base_rate(self) -> dict[str, float]:
        """Share of clicks by part; from the labels, which the fingerprint covers."""
        n = self.n_train
        return {"train": float(self.label[:n].mean()), "test": float(self.label[n:].mean())}

    @property
    def n_train(self) -> int:
        """Impressions of the training part."""
        return int(self.split["n_train"])

    @property
    def n_test(self) -> int:
        """Impressions of the test part."""
        return self.n_impressions - self.n_train


def open_store(path: Path | str, *, verify: bool = False) -> EventStore:
    """Open the store at `path`; with `verify`, read all of it and check the contents too.

    Raises:
        UserError: not a store, a key of `dataset.json` missing or wrong, an array missing, truncated or
            of another type than it says; with `verify` also contents that break the format or the fingerprint.
    """
    path = Path(path)
    document, checked = read_document(path)
    counts = checked.counts
    table = array_table(
        checked.schema,
        counts.users,
        counts.events,
        counts.impressions,
        "impressions/probability" in checked.arrays,
    )
    for name in table:
        if name not in checked.arrays:
            raise UserError(f"{path / 'dataset.json'}: arrays: no entry {name!r}")
    arrays = {name: map_array(path / f"{name}.npy", spec) for name, spec in table.items()}

    def group(prefix: str) -> dict[str, Array]:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    store = EventStore(
        path=path,
        schema=checked.schema,
        **{key: document[key] for key in FACTS},
        offsets=arrays["behaviours/offsets"],
        event_time=arrays["behaviours/time"],
        behaviours=group("behaviours/feature."),
        user=arrays["impressions/user"],
        time=arrays["impressions/time"],
        history_end=arrays["impressions/history_end"],
        request=arrays["impressions/request"],
        candidates=group("impressions/candidate."),
        contexts=group("impressions/context."),
        numerics=group("impressions/numeric."),
        profiles=group("profile/feature."),
        label=arrays["impressions/label"],
        probability=arrays.get("impressions/probability"),
    )
    if verify:
        from scaling.store.constraints import find_breaches

        for breach in find_breaches(store, document, arrays):
            raise UserError(breach)
    return store


def map_array(file: Path, spec: ArraySpec) -> Array:
    """Map one array of a store read-only.

    Raises:
        UserError: missing, not a `.npy` file, or of another type or length than `spec` says.
    """
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
            shape, _, dtype = (read or np.lib.format.read_array_header_2_0)(stream)
            start = stream.tell()
        n_bytes = file.stat().st_size - start
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing; expected {spec.rows:,} rows of {spec.dtype}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a .npy array: {error}") from error
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
            raise UserError(f"{file}: row {gaps[0]:,} is nan, expected {spec.dtype} without gaps")
        raise UserError(f"{file}: type is {dtype}, expected {spec.dtype}")
    # The base class, because each small slice of a memmap costs a Python call.
    array: Array = np.load(file, mmap_mode="r").view(np.ndarray)
    return array


CHUNK = 1 << 20  # rows looked at together


def chunks(rows: int) -> Iterator[slice]:
    """Cut `range(rows)` into slices that fit in memory."""
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))
