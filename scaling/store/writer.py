"""`StoreWriter`: the files of a new store, written piece by piece, so that memory does not grow with the rows.

`scaling.store.from_arrays` writes arrays from memory with it, `scaling.importers.pipeline` a sorted stream.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from scaling.arrays import Array
from scaling.atomic_files import write_json
from scaling.store.format import SCHEMA_VERSION, ArraySpec, Schema
from scaling.store.manifest import document_fingerprint

__all__ = [
    "HistoryLengths",
    "StoreDescription",
    "StoreWriter",
    "write_document",
    "write_header",
]


QUANTILES = {"min": 0.0, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "max": 1.0}


@dataclass(frozen=True)
class StoreDescription:
    """What `dataset.json` states beside the arrays and their row counts.

    Attributes:
        split: how the parts were made (`kind`, and `boundary` in seconds for a split by time), and `n_train`.
        history_quantiles: quantiles of the history lengths, see `HistoryLengths`.
        source: where the log comes from.
        utc_offset_seconds: seconds from UTC in the log's own time zone.
        truth: limits that follow from the true click probabilities; None unless the log was generated.
    """

    schema: Schema
    n_users: int
    n_requests: int
    split: Mapping[str, Any]
    history_quantiles: Mapping[str, float]
    source: Mapping[str, Any]
    utc_offset_seconds: int
    truth: Mapping[str, float] | None = None


class StoreWriter:
    """Writes the arrays of `table` into `folder`; leave the `with` block before calling `finish`.

    Writing is not atomic: `folder` must be a temporary one (`scaling.atomic_files.atomic_folder`).
    """

    def __init__(self, folder: Path, table: Mapping[str, ArraySpec]) -> None:
        self._folder, self._table = folder, table
        self._streams: dict[str, BinaryIO] = {}
        self._digests = {name: hashlib.sha256() for name in table}
        self._rows = dict.fromkeys(table, 0)

    def __enter__(self) -> Self:
        """Create the file of each array, with its header."""
        with ExitStack() as stack:
            for name, spec in self._table.items():
                file = self._folder / f"{name}.npy"
                file.parent.mkdir(exist_ok=True)
                stream = self._streams[name] = stack.enter_context(file.open("wb"))
                write_header(stream, spec)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Flush every file to disk and close it."""
        with self._stack:
            if error is None:
                for stream in self._streams.values():
                    stream.flush()
                    os.fsync(stream.fileno())

    def append(self, name: str, values: Array) -> None:
        """Append rows to one array; they are cast to its type."""
        array = np.ascontiguousarray(values, dtype=self._table[name].dtype)
        # np.save and tofile would raise an OSError without a reason if the disk is full.
        self._streams[name].write(array.data)
        self._digests[name].update(array.data)
        self._rows[name] += len(array)

    def finish(self, described: StoreDescription) -> None:
        """Write `dataset.json`, which makes the folder a store."""
        for name, spec in self._table.items():
            assert self._rows[name] == spec.rows, f"{name}: {self._rows[name]} of {spec.rows} rows"
        digests = {name: digest.hexdigest() for name, digest in self._digests.items()}
        write_document(self._folder, self._table, digests, described)


def write_document(
    folder: Path,
    table: Mapping[str, ArraySpec],
    digests: Mapping[str, str],
    described: StoreDescription,
) -> None:
    """Write `dataset.json` of a store whose arrays lie in `folder`; `digests` are the sha256 of their bytes."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": "",
        "schema": described.schema.to_json(),
        "split": dict(described.split),
        "utc_offset_seconds": described.utc_offset_seconds,
        "counts": {
            "users": described.n_users,
            "events": table["behaviours/time"].rows,
            "impressions": table["impressions/time"].rows,
            "requests": described.n_requests,
        },
        "history_quantiles": dict(described.history_quantiles),
        "truth": None if described.truth is None else dict(described.truth),
        "source": dict(described.source),
        "arrays": {
            name: {"dtype": spec.dtype.str, "rows": spec.rows, "sha256": digests[name]}
            for name, spec in table.items()
        },
    }
    document["fingerprint"] = document_fingerprint(document)
    write_json(folder / "dataset.json", document)


def write_header(stream: BinaryIO, spec: ArraySpec) -> None:
    """Write the header of an array's file."""
    header = {"descr": spec.dtype.str, "fortran_order": False, "shape": (spec.rows,)}
    np.lib.format.write_array_header_1_0(stream, header)


class HistoryLengths:
    """Counts of impressions by history length, for exact quantiles without storing every length."""

    def __init__(self) -> None:
        self._counts = np.zeros(1, dtype=np.int64)

    def add(self, lengths: Array) -> None:
        """Count the histories of more impressions; `lengths` is an integer array of any length."""
        self.add_counts(np.bincount(lengths))

    def add_counts(self, counts: Array) -> None:
        """Add the numbers of impressions by the length of their history, int64 [longest + 1]."""
        longer, shorter = sorted((self._counts, counts), key=len, reverse=True)
        self._counts = longer.copy()
        self._counts[: len(shorter)] += shorter

    def quantiles(self) -> dict[str, float]:
        """Return the quantiles for `dataset.json`, interpolated linearly."""
        below = np.cumsum(self._counts)
        result = {}
        for name, q in QUANTILES.items():
            at = q * (below[-1] - 1)
            low, high = np.searchsorted(below, [np.floor(at), np.ceil(at)], side="right")
            result[name] = float(low + (high - low) * (at % 1))
        return result
