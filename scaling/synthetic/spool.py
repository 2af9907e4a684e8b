"""Rows of a generated log on their way to the store: kept in files, so that memory does not grow with the log.

Events come in the store's order, user after user. Impressions come user by user, and the store has them by time:
they are put into files by time, each small enough to be sorted in memory.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from scaling.arrays import Array

__all__ = ["ColumnSpool", "TimeSpool"]


ROWS_IN_MEMORY = 500_000  # about, per file of a `TimeSpool` and per piece of a column


# A file with more times as many rows is divided.
_MOST_ROWS = 4


class ColumnSpool:
    """Columns of equal length, appended to and read again in the same order."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._types = folder, dict[str, np.dtype[np.generic]]()
        self.rows = 0

    def add(self, columns: Mapping[str, Array]) -> None:
        """Append rows; every call has the same columns and types."""
        for name, values in columns.items():
            self._types[name] = values.dtype
            with (self._folder / name).open("ab") as file:
                file.write(np.ascontiguousarray(values).data)
        self.rows += len(next(iter(columns.values())))

    def pieces(self, name: str) -> Iterator[Array]:
        """Yield the rows of one column in order, some at a time."""
        if not self.rows:
            return
        column = np.memmap(self._folder / name, dtype=self._types[name], mode="r")
        for start in range(0, self.rows, ROWS_IN_MEMORY):
            yield column[start : start + ROWS_IN_MEMORY]


class TimeSpool:
    """Rows with the fields `time` and `user`, read again in the order of `time`, `user`, then the other fields.

    Args:
        folder: an existing folder for the files.
        n_rows: expected number of rows.
        first: earliest time.
        span: time in which nearly all rows lie, in seconds; later ones share the last file, which is divided again if
            it is too large.
    """

    def __init__(self, folder: Path, n_rows: int, first: int, span: int) -> None:
        self._folder, self._first = folder, first
        self._n_files = 1 + n_rows // ROWS_IN_MEMORY
        self._seconds = -(-span // self._n_files)
        self._dtype: np.dtype[np.void] | None = None

    def add(self, rows: Array) -> None:
        """Append rows, a structured array [n]."""
        self._dtype = rows.dtype
        number = np.minimum((rows["time"] - self._first) // self._seconds, self._n_files - 1)
        for one in np.unique(number):
            with (self._folder / str(one)).open("ab") as file:
                file.write(rows[number == one].tobytes())

    def pieces(self) -> Iterator[Array]:
        """Yield all rows in order, one file at a time."""
        for one in range(self._n_files):
            file = self._folder / str(one)
            if not file.exists():
                continue
            if file.stat().st_size > _MOST_ROWS * ROWS_IN_MEMORY * np.dtype(self._dtype).itemsize:
                yield from self._divided(file)
                continue
            yield _in_order(np.fromfile(file, dtype=self._dtype))
            file.unlink()

    def _divided(self, file: Path) -> Iterator[Array]:
        """Yield the rows of a file that is too large to be sorted in memory."""
        assert self._dtype is not None
        rows: Array = np.memmap(file, dtype=self._dtype, mode="r")
        chunks = range(0, len(rows), ROWS_IN_MEMORY)
        times = [rows["time"][start : start + ROWS_IN_MEMORY] for start in chunks]
        first, last = min(int(t.min()) for t in times), max(int(t.max()) for t in times)
        if first == last:
            yield _in_order(np.asarray(rows))
            return
        folder = file.with_name(f"{file.name}-divided")
        folder.mkdir()
        parts = TimeSpool(folder, len(rows), first, last - first + 1)
        for start in chunks:
            parts.add(np.asarray(rows[start : start + ROWS_IN_MEMORY]))
        del rows, times
        file.unlink()
        yield from parts.pieces()


def _in_order(rows: Array) -> Array:
    """Sort by time, then user, then the other fields."""
    others = [name for name in rows.dtype.names or () if name not in ("time", "user")]
    return rows[np.lexsort([*(rows[n] for n in reversed(others)), rows["user"], rows["time"]])]
