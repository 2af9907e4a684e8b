"""The last jobs of a sharded import: each range of rows is sorted, and each array is put together and hashed.

Each function makes one piece: it writes into a folder, and returns what the piece states.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from scaling.arrays import Array
from scaling.importers.pipeline.cell_ranks import expanding
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.sharded.id_pieces import ranked_cells, schema_of_job
from scaling.importers.pipeline.sharded.work_folder import ShardedImport, parquet, part_files
from scaling.importers.pipeline.sorted_output import (
    append_events,
    append_impressions,
    append_profiles,
)
from scaling.store import OFFSETS, ArraySpec, array_table, write_header

__all__ = ["arrays_of", "join_array", "sort_range"]


_OFFSETS = "behaviours/offsets"
_CHUNK = 1 << 22


def arrays_of(job: ShardedImport) -> dict[str, ArraySpec]:
    """Return the type and length of every array of the store, when the rows are encoded."""
    n_events = sum(one["n_events"] for one in job.documents("values"))
    n = sum(one["sizes"][0] for one in job.documents("encode"))
    n_values: dict[str, int] = {}
    for one in job.documents("encode"):
        for path, n_ids in one["n_values"].items():
            n_values[path] = n_values.get(path, 0) + n_ids
    n_users = job.document("users")["n_users"]
    return array_table(schema_of_job(job), n_users, n_events, n, False, n_values=n_values)


class _Slices:
    """The rows of one range, in a file for each array."""

    def __init__(self, folder: Path, arrays: dict[str, ArraySpec]) -> None:
        self._folder, self._arrays = folder, arrays
        self._streams: dict[str, BinaryIO] = {}

    def append(self, name: str, values: Array) -> None:
        if name not in self._streams:
            self._streams[name] = (self._folder / _file_of(name)).open("wb")
        array = np.ascontiguousarray(values, dtype=self._arrays[name].dtype)
        self._streams[name].write(array.data)

    def close(self) -> None:
        for stream in self._streams.values():
            stream.close()


def sort_range(job: ShardedImport, engine: Engine, number: int, folder: Path) -> dict[str, Any]:
    """Sort a range of impressions, or, for the second half of the numbers, the events and profiles of a range of users."""
    slices = _Slices(folder, arrays_of(job))
    schema = schema_of_job(job)
    append = expanding(schema, ranked_cells(job), slices.append)
    try:
        if number < job.n_shards:
            first = sum(
                n_requests
                for one in job.documents("encode")
                for before, n_requests in one["requests"].items()
                if int(before) < number
            )
            rows = f"SELECT * FROM {parquet(_of_range(job, 'impressions', number))}"
            for piece, _ in append_impressions(engine, schema, append, rows, first):
                slices.append("impressions/history_end", piece["history_end"])
        else:
            number -= job.n_shards
            rows = f"SELECT * FROM {parquet(_of_range(job, 'events', number))}"
            for _ in append_events(engine, schema, append, rows):
                pass
            if schema.profile:
                rows = f"SELECT * FROM {parquet(_of_range(job, 'profiles', number))}"
                append_profiles(engine, schema, append, rows)
    finally:
        slices.close()
    return {}


def join_array(job: ShardedImport, _: Engine, number: int, folder: Path) -> dict[str, Any]:
    """Put the ranges of an array together, in a file as the store has it, and hash its rows."""
    name, spec = list(arrays_of(job).items())[number]
    parts = [job.piece("sort", place) / _file_of(name) for place in range(2 * job.n_shards)]
    if name == _OFFSETS:
        parts = [job.piece("ids", 1) / "offsets.bin"]
    digest, n_bytes = hashlib.sha256(), 0
    with (folder / "array.npy").open("wb") as out:
        write_header(out, spec)
        of_lists = name.endswith(OFFSETS)
        for chunk in _offsets(parts) if of_lists else _chunks(parts):
            out.write(chunk)
            digest.update(chunk)
            n_bytes += len(chunk)
    assert n_bytes == spec.rows * spec.dtype.itemsize, f"{name}: {n_bytes} bytes of {spec}"
    return {"name": name, "sha256": digest.hexdigest()}


def _chunks(parts: list[Path]) -> Iterator[bytes]:
    for part in parts:
        if part.exists():
            with part.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk


def _offsets(parts: list[Path]) -> Iterator[bytes]:
    """Yield the offsets of lists: those of each range begin with 0, and count from its first value."""
    yield np.zeros(1, dtype=np.int64).tobytes()
    before = 0
    for part in parts:
        last = 0
        with part.open("rb") as stream:
            stream.seek(np.dtype(np.int64).itemsize)
            while chunk := stream.read(_CHUNK):
                ends = np.frombuffer(chunk, dtype=np.int64)
                last = int(ends[-1])
                yield (ends + before).tobytes()
        before += last


def _file_of(array: str) -> str:
    return array.replace("/", ".") + ".bin"


def _of_range(job: ShardedImport, name: str, number: int) -> list[Path]:
    """The files of a range, of all shards."""
    return [
        file
        for shard in range(job.n_shards)
        for file in part_files(job.piece("encode", shard) / name, number)
    ]
