"""Raw files outside the engine: finding them, reading a header, and locating the first broken record.

The engine reads the rows. This slow reader is used only for headers, and to find the line of an error after the
engine has refused a file.
"""

import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scaling.errors import UserError, nearest
from scaling.importers.declaration import Table
from scaling.importers.sql import text

__all__ = [
    "column_names",
    "field_positions",
    "find_files",
    "is_parquet",
    "line_of_record",
    "parquet_relation",
    "parquet_types",
    "raise_first_broken",
    "read_through",
]


PACKED = (".gz", ".zst")
CHUNK = 1 << 20


def find_files(raw: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the files of a table in `raw`, sorted within each name.

    A name matches the file itself, else `NAME.gz`, else `NAME.zst`; a folder matches all files in it.

    Raises:
        UserError: a name or a glob matches nothing.
    """
    found: list[Path] = []
    for name in names:
        if (raw / name).is_dir():
            # Other engines write marker files such as _SUCCESS and .crc.
            inside = (raw / name).rglob("*")
            matches = sorted(f for f in inside if f.is_file() and not _is_marker(f, raw / name))
        elif any(character in name for character in "*?["):
            # Path.glob refuses absolute patterns, so they start from the root.
            start, pattern = (Path("/"), name.lstrip("/")) if name[0] == "/" else (raw, name)
            matches = sorted(f for f in start.glob(pattern) if f.is_file())
        else:
            matches = [f for end in ("", *PACKED) if (f := raw / f"{name}{end}").is_file()][:1]
        if not matches:
            raise UserError(f"{raw / name}: missing, and so are {name}.gz and {name}.zst")
        found += [file for file in matches if file not in found]
    return found


def _is_marker(file: Path, folder: Path) -> bool:
    return any(part[0] in "._" for part in file.relative_to(folder).parts)


def is_parquet(file: Path) -> bool:
    """Whether `file` is read as Parquet, by its suffix."""
    return file.suffix in (".parquet", ".pq")


def read_through(file: Path) -> None:
    """Check that a file can be read and is not empty; a compressed file is read to its end.

    Raises:
        UserError: the file is unreadable, empty, damaged or cut.
    """
    with _opened(file) as stream:
        empty = not stream.read(1)
        if file.suffix == ".gz":
            while stream.read(CHUNK):
                pass
    if file.suffix == ".zst":
        _check_frames(file)
    if empty:
        raise UserError(f"{file}: is empty")


def _check_frames(file: Path) -> None:
    # Neither the engine nor zstandard's reader reports a truncated frame.
    import zstandard

    frame = zstandard.ZstdDecompressor().decompressobj()
    with file.open("rb") as stream:
        while piece := stream.read(CHUNK):
            while piece:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                frame.decompress(piece)
                piece = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise UserError(f"{file}: damaged or cut .zst file: its last frame has no end")


def column_names(file: Path, table: Table) -> list[str]:
    """Return the column names of a Parquet file, or the header of a text file without spaces around the names.

    Raises:
        UserError: the file is empty or unreadable.
    """
    if is_parquet(file):
        return list(parquet_types(file))
    _, first = next(_records(file, table), (0, []))
    if not first:
        read_through(file)  # raises another error if the file is damaged
        raise UserError(f"{file}: is empty")
    return [name.strip() for name in first]


def parquet_relation(file: Path) -> str:
    """Return SQL that reads a Parquet file; `key=value` folders on its path become columns."""
    return f"read_parquet({text(file)}, hive_partitioning = true)"


def parquet_types(file: Path) -> dict[str, str]:
    """Return the columns of a Parquet file and their types, as the engine names them.

    Raises:
        UserError: the file cannot be read as Parquet.
    """
    import duckdb

    try:
        with duckdb.connect() as connection:
            described = connection.execute(f"DESCRIBE SELECT * FROM {parquet_relation(file)}")
            return {name: kind for name, kind, *_ in described.fetchall()}
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{file}: cannot be read as Parquet, is it complete? {first}") from error


def field_positions(file: Path, table: Table) -> tuple[int, dict[str, int]]:
    """Return the number of fields per record, and the position of each column of the table.

    Raises:
        UserError: the file has no header, or the header lacks a column of the table.
    """
    own = [column for column, kind in table.columns.items() if kind != "file"]
    if not table.header:
        return len(own), {name: i for i, name in enumerate(own)}
    names = column_names(file, table)
    for column in own:
        if column not in names:
            if len(names) == 1:
                raise UserError(
                    f"{file}: line 1: only one field; are the columns really separated by {table.separator!r}?"
                )
            raise UserError(f"{file}: line 1: no column {column!r}{nearest(column, names)}")
    return len(names), {column: names.index(column) for column in own}


def line_of_record(file: Path, table: Table, number: int) -> int:
    """Return the number of the line on which record `number` ends; record 1 is the first after a header."""
    last = number + table.header
    return next((line for i, (line, _) in enumerate(_records(file, table), 1) if i == last), last)


def raise_first_broken(file: Path, table: Table, n_fields: int) -> None:
    """Raise an error for the first broken record; return if there is none.

    Raises:
        UserError: a record is not text in the table's encoding, is badly quoted or does not have `n_fields`
            fields, or the lines do not all end alike.
    """
    for line, fields in _records(file, table):
        if len(fields) != n_fields:
            names = f": {', '.join(table.columns)}" if not table.header else ""
            raise UserError(
                f"{file}: line {line:,}: {len(fields)} field(s), expected {n_fields} separated by {table.separator!r}{names}"
            )
    with _opened(file) as stream:
        first = next(stream, b"").endswith(b"\r\n")
        for number, text_line in enumerate(stream, start=2):
            if text_line.endswith(b"\r\n") != first and text_line.endswith(b"\n"):
                raise UserError(
                    f"{file}: line {number:,}: ends in {'LF' if first else 'CRLF'}, the lines before in "
                    f"{'CRLF' if first else 'LF'}; use the same line ending in the whole file"
                )


def _records(file: Path, table: Table) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line and the fields of each record, with the header and without blank records."""
    with _opened(file) as stream:
        lines = _lines(file, stream, table)
        if len(table.separator) > 1 or not table.quote:
            for number, line in enumerate(lines, start=1):
                if line:
                    yield number, line.split(table.separator)
            return
        csv.field_size_limit(sys.maxsize)
        reader = csv.reader(
            lines, delimiter=table.separator, quotechar=table.quote, doublequote=True, strict=True
        )
        try:
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
        except csv.Error as error:
            raise UserError(f"{file}: line {reader.line_num:,}: bad quoting: {error}") from error


def _lines(file: Path, stream: IO[bytes], table: Table) -> Iterator[str]:
    names = [column for column, kind in table.columns.items() if kind != "file"]
    for number, line in enumerate(stream, start=1):
        raw = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        try:
            if table.encoding == "latin-1" and (control := re.search(rb"[\x80-\x9f]", raw)):
                # The engine refuses these control characters too: they indicate another encoding.
                raise UnicodeDecodeError("latin-1", raw, control.start(), control.end(), "control")
            decoded = raw.decode(table.encoding).rstrip("\r\n")
        except UnicodeDecodeError as error:
            before = raw[: error.start].decode("latin-1").count(table.separator)
            name = names[before] if before < len(names) else f"{before + 1}"
            raise UserError(
                f"{file}: line {number:,}: column {name}: byte 0x{raw[error.start]:02x} is not "
                f"{table.encoding.upper()} text"
            ) from error
        if number == 1 and table.header:
            names = decoded.split(table.separator)
        yield decoded


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a plain or compressed file for reading, with errors as UserError."""
    import zstandard

    try:
        if file.suffix == ".gz":
            with gzip.open(file, "rb") as stream:
                yield stream  # type: ignore[misc]
        elif file.suffix == ".zst":
            with zstandard.open(file, "rb") as raw, io.BufferedReader(raw) as stream:
                yield stream
        else:
            with file.open("rb") as stream:
                yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise UserError(f"{file}: damaged or cut {file.suffix} file: {error}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
