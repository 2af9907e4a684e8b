"""Raw files outside the engine: finding them, telling their format, reading a header, locating the first broken record.

The engine reads the rows. This slow reader is used only for headers, and to find the line of an error after the
engine has refused a file.
"""

import csv
import glob
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from scaling.errors import UserError, nearest
from scaling.importers.declaration import Table
from scaling.importers.sql import text

__all__ = [
    "RawFile",
    "column_names",
    "compression",
    "field_positions",
    "find_files",
    "is_parquet",
    "line_of_record",
    "parquet_columns",
    "raise_first_broken",
    "read_through",
]


# Kinds that stand for no column of the file.
NO_COLUMN = ("file", "row")
PACKED = (".gz", ".zst")
CHUNK = 1 << 20
# Formats that are not read, by their first bytes.
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"BZh": "packed by bzip2; unpack it, or pack it by gzip or zstd",
    b"\xfd7zXZ": "packed by xz; unpack it, or pack it by gzip or zstd",
    b"ORC": "an ORC file; write it as Parquet",
    b"Obj\x01": "an Avro file; write it as Parquet",
}
_ENDINGS = {"gzip": ".gz", "zstd": ".zst", "none": ""}
# How other engines write an empty value in the name of a partition folder.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class RawFile:
    """A file of a table.

    Attributes:
        path: of the file.
        partitions: values of the folders `key=value` between the raw folder and the file; None: no value.
        is_part: whether a folder or a glob named it, so that it may be empty, as other engines leave parts without rows.
    """

    path: Path
    partitions: Mapping[str, str | None] = field(default_factory=dict)
    is_part: bool = False


def find_files(raw: Path, names: tuple[str, ...], *, by_number: bool = False) -> list[RawFile]:
    """Return the files of a table in `raw`, sorted within each name; `by_number` sorts part-2 before part-10.

    A name matches the file itself, else `NAME.gz`, else `NAME.zst`; a folder matches all files in it. Symbolic links are
    followed.

    Raises:
        UserError: a name or a glob matches nothing.
    """
    found: dict[Path, RawFile] = {}
    order = _by_number if by_number else None
    for name in names:
        base = raw
        if (raw / name).is_dir():
            matches = sorted(_files_below(raw / name), key=order)
        elif glob.has_magic(name):
            # Path.glob follows no links behind **
            found_here = glob.glob(str(raw / name), recursive=True)  # noqa: PTH207
            matches = sorted((f for f in map(Path, found_here) if f.is_file()), key=order)
        else:
            matches = [f for end in ("", *PACKED) if (f := raw / f"{name}{end}").is_file()][:1]
        if not matches:
            raise UserError(f"{raw / name}: missing, and so are {name}.gz and {name}.zst")
        if Path(name).is_absolute():
            base = raw / _without_magic(name)
        for file in matches:
            is_part = file.name not in (
                Path(name).name,
                *(f"{Path(name).name}{end}" for end in PACKED),
            )
            found.setdefault(file, RawFile(file, _partitions(file, base), is_part))
    return list(found.values())


def _by_number(file: Path) -> tuple[list[list[str | int]], Path]:
    """The key that sorts the numbers in names as numbers."""
    parts = [re.split("([0-9]+)", part) for part in file.parts]
    return [[int(p) if i % 2 else p for i, p in enumerate(part)] for part in parts], file


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield all files, also behind links to folders, without the marker files of other engines (_SUCCESS, .crc)."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name[0] not in "._"]
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        for name in files:
            if name[0] not in "._" and (file := Path(place, name)).is_file():
                yield file


def _without_magic(name: str) -> Path:
    """The part of an absolute name before its first wildcard."""
    parts = Path(name).parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:fixed])


def _partitions(file: Path, base: Path) -> dict[str, str | None]:
    """The `key=value` folders between `base` and the file; those above are no part of the log."""
    values: dict[str, str | None] = {}
    if not file.is_relative_to(base):
        return values
    for part in file.relative_to(base).parts[:-1]:
        key, equals, value = part.partition("=")
        if key and equals:
            values[key] = None if value == _NO_VALUE else unquote(value)
    return values


def is_parquet(file: Path) -> bool:
    """Whether `file` is read as Parquet, by its suffix or its first bytes."""
    return file.suffix in (".parquet", ".pq") or _first_bytes(file)[:4] == b"PAR1"


def compression(file: Path) -> str:
    """Return how a text file is packed, by its suffix or its first bytes: gzip, zstd or none."""
    first = _first_bytes(file)
    if file.suffix == ".gz" or first.startswith(b"\x1f\x8b"):
        return "gzip"
    if file.suffix == ".zst" or first.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    return "none"


def _first_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error


def read_through(file: Path) -> bool:
    """Check that a file can be read, a compressed one to its end; return whether it has any content.

    Raises:
        UserError: the file is unreadable, damaged or cut, or of a format that is not read.
    """
    packed = compression(file)
    with _opened(file) as stream:
        first = stream.read(CHUNK)
        if packed == "gzip":
            while stream.read(CHUNK):
                pass
    if packed == "zstd":
        _check_frames(file)
    _refuse_other_formats(file)
    return bool(first)


def _refuse_other_formats(file: Path) -> None:
    """Refuse what is neither Parquet nor a text of columns.

    Raises:
        UserError: says what the file is.
    """
    if is_parquet(file):
        return
    with _opened(file) as stream:
        first = stream.read(4096)
    for magic, what in _OTHER_FORMATS.items():
        if first.startswith(magic):
            raise UserError(
                f"{file}: is {what}; read are CSV, also packed by gzip or zstd, and Parquet"
            )
    start = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb'\{\s*"|\{\s*\}|\[\s*[\{\[]', start):
        raise UserError(
            f"{file}: is JSON; read are CSV and Parquet. DuckDB converts it: COPY (FROM read_json_auto({text(file.name)})) "
            f"TO {text(file.stem + '.parquet')}"
        )


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
        return [name for name, _ in parquet_columns(file)]
    _refuse_other_formats(file)
    _, first = next(_records(file, table), (0, []))
    if not first:
        read_through(file)  # raises another error if the file is damaged
        raise UserError(f"{file}: is empty")
    return [name.strip() for name in first]


def parquet_columns(file: Path) -> list[tuple[str, str]]:
    """Return the columns of a Parquet file in their order: the names as they are in the file, and the engine's types.

    Raises:
        UserError: the file cannot be read as Parquet.
    """
    import duckdb

    try:
        with duckdb.connect() as connection:
            relation = f"read_parquet({text(file)}, hive_partitioning = false)"
            types = [row[1] for row in connection.execute(f"DESCRIBE FROM {relation}").fetchall()]
            schema = connection.execute(
                f"SELECT name, coalesce(num_children, 0) FROM parquet_schema({text(file)})"
            ).fetchall()
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{file}: cannot be read as Parquet, is it complete? {first}") from error
    # the schema lists each column before its children, and the root first; the engine renames repeated names
    names, place = [], 1
    while place < len(schema):
        names.append(schema[place][0])
        left = 1
        while left:
            left += schema[place][1] - 1
            place += 1
    return list(zip(names, types, strict=True))


def field_positions(
    file: Path, table: Table, elsewhere: Collection[str] = ()
) -> tuple[int, dict[str, int]]:
    """Return the number of fields per record, and the position of each column of the table that the file has.

    Args:
        file: the file.
        table: the table.
        elsewhere: columns that the file need not have.

    Raises:
        UserError: the file has no header, lacks a column of the table, or has one twice.
    """
    own = _own_columns(table)
    if not table.header and not is_parquet(file):
        own = [column for column in own if column not in elsewhere]
        return len(own), {name: i for i, name in enumerate(own)}
    names = column_names(file, table)
    where = f"{file}: " if is_parquet(file) else f"{file}: line 1: "
    for column in own:
        if names.count(column) > 1:
            raise UserError(
                f"{where}column {column!r} stands {names.count(column)} times; rename or remove all but one"
            )
        if column not in names and not (table.absent_are_empty or column in elsewhere):
            if len(names) == 1 and not is_parquet(file):
                raise UserError(
                    f"{where}only one field; are the columns really separated by {table.separator!r}?"
                )
            raise UserError(f"{where}no column {column!r}{nearest(column, names)}")
    return len(names), {column: names.index(column) for column in own if column in names}


def _own_columns(table: Table) -> list[str]:
    """The columns of the table that are columns of the file, each once."""
    return [
        column
        for column, kind in table.columns.items()
        if kind not in NO_COLUMN and column not in table.again
    ]


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
            names = f": {', '.join(_own_columns(table))}" if not table.header else ""
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
            lines,
            delimiter=table.separator,
            quotechar=table.quote,
            doublequote=not table.escape,
            escapechar=table.escape or None,
            strict=True,
        )
        try:
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
        except csv.Error as error:
            hint = (
                ""
                if table.escape
                else '; if a quote within quotes is written as \\", set escape = "\\\\"'
            )
            raise UserError(
                f"{file}: line {reader.line_num:,}: bad quoting: {error}{hint}"
            ) from error


def _lines(file: Path, stream: IO[bytes], table: Table) -> Iterator[str]:
    names = _own_columns(table)
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
        if compression(file) == "gzip":
            with gzip.open(file, "rb") as stream:
                yield stream  # type: ignore[misc]
        elif compression(file) == "zstd":
            with zstandard.open(file, "rb") as raw, io.BufferedReader(raw) as stream:
                yield stream
        else:
            with file.open("rb") as stream:
                yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise UserError(
            f"{file}: damaged or cut {_ENDINGS[compression(file)]} file: {error}"
        ) from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
