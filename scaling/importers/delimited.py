"""Raw text files of separated fields, plain or gzipped, into columns; errors name file and line."""

import csv
import gzip
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from scaling.errors import UserError

__all__ = ["find_file", "read_bytes", "read_columns", "require"]

Array = NDArray[Any]
FIELD = b"\x1f"  # ASCII unit separator: a single byte, which keeps pandas on its C parser


def find_file(folder: Path, name: str) -> Path:
    """Return `folder / name`, or the same with `.gz`.

    Raises:
        UserError: neither exists.
    """
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise UserError(f"{folder / name}: missing, and so is {name}.gz")


def read_bytes(file: Path) -> bytes:
    """Return the contents of `file`, unpacked if its name ends in `.gz`.

    Raises:
        UserError: unreadable, a damaged or cut gzip file, or nothing in it.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{file}: damaged or cut gzip file: {error}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    if not content.strip():
        raise UserError(f"{file}: is empty")
    return content


def read_columns(
    file: Path, content: bytes, separator: str, columns: Mapping[str, type]
) -> dict[str, Array]:
    """Return the columns of `content` (latin-1 text, no header, no quoting): int64 for int, str objects.

    Raises:
        UserError: a line with another number of fields, or a field that is no whole number.
    """
    import pandas as pd

    text = content.replace(b"\r\n", b"\n").replace(separator.encode(), FIELD)
    n_lines = text.count(b"\n") + (not text.endswith(b"\n"))
    if text.count(FIELD) != n_lines * (len(columns) - 1):
        _raise_first_bad_line(file, text, separator, columns)
    try:
        frame = pd.read_csv(
            io.BytesIO(text),
            sep=FIELD.decode(),
            header=None,
            names=list(columns),
            dtype={name: np.int64 if kind is int else str for name, kind in columns.items()},
            quoting=csv.QUOTE_NONE,
            na_filter=False,
            skip_blank_lines=False,
            encoding="latin-1",
        )
    except (ValueError, OverflowError):
        _raise_first_bad_line(file, text, separator, columns)
    if len(frame) != n_lines or not isinstance(frame.index, pd.RangeIndex):
        _raise_first_bad_line(file, text, separator, columns)
    return {name: frame[name].to_numpy() for name in columns}


def require(file: Path, column: str, values: Array, good: Array, expected: str) -> None:
    """Raise with the first line whose value is not `good`."""
    if not good.all():
        row = int(np.argmin(good))
        raise UserError(f"{file}: line {row + 1:,}: {column} is {values[row]}, expected {expected}")


def _raise_first_bad_line(
    file: Path, text: bytes, separator: str, columns: Mapping[str, type]
) -> NoReturn:
    for number, line in enumerate(text.removesuffix(b"\n").split(b"\n"), start=1):
        fields = line.decode("latin-1").split(FIELD.decode())
        if len(fields) != len(columns):
            raise UserError(
                f"{file}: line {number:,}: {len(fields)} field(s), expected {len(columns)} separated by "
                f"{separator!r}: {', '.join(columns)}"
            )
        for (name, kind), field in zip(columns.items(), fields, strict=True):
            if kind is int and not _is_int64(field):
                raise UserError(
                    f"{file}: line {number:,}: {name} is {field!r}, expected a whole number"
                )
    raise UserError(f"{file}: cannot be read as {len(columns)} columns separated by {separator!r}")


def _is_int64(field: str) -> bool:
    try:
        return -(2**63) <= int(field) < 2**63
    except ValueError:
        return False
