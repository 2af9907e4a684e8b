"""Raw text files, record by record: finding them, their header, and the first record that is broken.

The engine reads the rows; this slow reading is for a header, and to say where a file is wrong once the engine has refused it.
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
    """Return the files of a table in `raw`, sorted: a name stands for itself, `.gz`, `.zst`, or all files of a folder.

    Raises:
        UserError: a name or a glob that matches nothing.
    """
    found: list[Path] = []
    for name in names:
        if (raw / name).is_dir():
            # Other engines leave marks such as _SUCCESS and .crc files.
            inside = (raw / name).rglob("*")
            matches = sorted(f for f in inside if f.is_file() and not _is_mark(f, raw / name))
        elif any(character in name for character in "*?["):
            # An absolute glob is one from the root.
            start, pattern = (Path("/"), name.lstrip("/")) if name[0] == "/" else (raw, name)
            matches = sorted(f for f in start.glob(pattern) if f.is_file())
        else:
            matches = [f for end in ("", *PACKED) if (f := raw / f"{name}{end}").is_file()][:1]
        if not matches:
            raise UserError(f"{raw / name}: missing, and so are {name}.gz and {name}.zst")
        found += [file for file in matches if file not in found]
    return found


def _is_mark(file: Path, folder: Path) -> bool:
    return any(part[0] in "._" for part in file.relative_to(folder).parts)


def is_parquet(file: Path) -> bool:
    """Whether `file` is read as Parquet."""
    return file.suffix in (".parquet", ".pq")


def read_through(file: Path) -> None:
    """Unpack a packed file to its end, or look into a plain one.

    Raises:
        UserError: unreadable, empty, damaged or cut.
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
    # Neither the engine nor zstandard's reader minds a frame that ends too early.
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
    """Return the columns of a Parquet file, or the header of a text file, without the blanks around the names.

    Raises:
        UserError: empty, or not to be read.
    """
    if is_parquet(file):
        return list(parquet_types(file))
    _, first = next(_records(file, table), (0, []))
    if not first:
        read_through(file)  # which tells a damaged file from an empty one
        raise UserError(f"{file}: is empty")
    return [name.strip() for name in first]


def parquet_relation(file: Path) -> str:
    """Return a Parquet file as SQL; `key=value` folders on its path are columns."""
    return f"read_parquet({text(file)}, hive_partitioning = true)"


def parquet_types(file: Path) -> dict[str, str]:
    """Return the columns of a Parquet file with the engine's names of their types.

    Raises:
        UserError: not to be read as Parquet.
    """
    import duckdb

    try:
        with duckdb.connect() as connection:
            described = connection.execute(f"DESCRIBE SELECT * FROM {parquet_relation(file)}")
            return {name: kind for name, kind, *_ in described.fetchall()}
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{file}: cannot be read as Parquet, is it whole? {first}") from error


def field_positions(file: Path, table: Table) -> tuple[int, dict[str, int]]:
    """Return how many fields a record has, and the position of each column of the table.

    Raises:
        UserError: no header, or one without a column that is needed.
    """
    own = [column for column, kind in table.columns.items() if kind != "file"]
    if not table.header:
        return len(own), {name: i for i, name in enumerate(own)}
    names = column_names(file, table)
    for column in own:
        if column not in names:
            if len(names) == 1:
                raise UserError(
                    f"{file}: line 1: one field only; are the columns really separated by {table.separator!r}?"
                )
            raise UserError(f"{file}: line 1: no column {column!r}{nearest(column, names)}")
    return len(names), {column: names.index(column) for column in own}


def line_of_record(file: Path, table: Table, number: int) -> int:
    """Return the line on which record `number` (1 is the first below a header) ends."""
    last = number + table.header
    return next((line for i, (line, _) in enumerate(_records(file, table), 1) if i == last), last)


def raise_first_broken(file: Path, table: Table, n_fields: int) -> None:
    """Raise for the first record that is no text, badly quoted, of another number of fields than `n_fields`, or ends differently."""
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
                    f"{'CRLF' if first else 'LF'}; make the line ends all alike"
                )


def _records(file: Path, table: Table) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not blank, header included, with the number of its last line."""
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
                # The engine refuses them: they are no characters, but a sign of another encoding.
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
    """Open a plain or packed file for reading; its errors become those of a user."""
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
