"""The first step of an import: raw files into engine tables. Rows are typed, checked, or dropped by reason.

An error names the file and the line. How one cell is parsed is in `cell_parsing.py`.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import UserError
from scaling.importers.declaration import Table
from scaling.importers.pipeline.cell_parsing import expected_cell, parsed_cell
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.odd_cells import (
    count_listed,
    count_suspects,
    report_listed,
    report_suspects,
)
from scaling.importers.pipeline.raw_sources import (
    Source,
    refuse_other_partition,
    refuse_uneven_lists,
    source_of,
)
from scaling.importers.raw_files import (
    RawFile,
    find_files,
    is_parquet,
    line_of_record,
    raise_first_broken,
    read_through,
)
from scaling.importers.sql import quoted, text

__all__ = [
    "REPEATED",
    "RowCounts",
    "keep_rows",
    "log_counts",
    "read_table",
    "refuse_no_rows",
    "report_empty",
    "report_order",
    "stage_files",
    "staged_rows",
    "with_content",
]


logger = logging.getLogger(__name__)
# Columns of the engine's own, whose names no raw file has.
_FILE, _REASON, _FAULT, _ROW = '"%file"', '"%reason"', '"%fault"', '"%row"'
_LONGEST_LINE = 2**27
REPEATED = "repeated"
# Files that are read by one statement, which takes some milliseconds, and by several threads.
_TOGETHER = 64


@dataclass(frozen=True)
class RowCounts:
    """Number of rows read, and numbers of rows dropped by reason; the other rows are kept."""

    read: int
    dropped: Mapping[str, int]

    @property
    def kept(self) -> int:
        """Number of rows that were not dropped."""
        return self.read - sum(self.dropped.values())

    def followed_by(self, later: "RowCounts") -> "RowCounts":
        """Return the counts of both steps; `later` must have read the rows that this step kept."""
        assert later.read == self.kept
        return RowCounts(self.read, {**self.dropped, **later.dropped})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `read` is `kept` plus all of `dropped`."""
        return {"read": self.read, "kept": self.kept, "dropped": dict(self.dropped)}


def read_table(engine: Engine, name: str, table: Table, raw: Path) -> RowCounts:
    """Read the files of `table` in `raw` into an engine table or view `name` with the rows that are kept.

    Raises:
        UserError: a file is missing, empty, damaged or of another layout, a cell is not of its kind, a check
            fails, or a key occurs twice. The message names file, line and column.
    """
    files = find_files(raw, table.files, by_number=table.has_row_numbers)
    filled = with_content(files)
    report_empty(name, len(files), [file.path for file in files if file not in filled], files[0])
    report_order(name, table, filled, raw)
    staged = f"core.{quoted('raw ' + name)}"
    counts = stage_files(engine, name, table, filled, staged)
    refuse_no_rows(counts, filled[0])
    counts = keep_rows(engine, name, table, staged_rows(table, staged), counts, filled)
    if table.drop_repeats:
        engine.run(f"DROP TABLE {staged}")
    log_counts(name, counts)
    report_suspects(name, table, count_suspects(engine, name, table))
    report_listed(name, table, count_listed(engine, name, table))
    return counts


def stage_files(
    engine: Engine, name: str, table: Table, files: list[RawFile], staged: str
) -> RowCounts:
    """Read files into the engine table `staged`: typed rows with a reason, which is 0 for those that are kept.

    Raises:
        UserError: as `read_table`, except for keys.
    """
    _check_names(name, table)
    sources = [source_of(file, table) for file in files]
    with _in_zone(engine, table):
        sources = _stage(engine, files, sources, table, staged)
        for source in sources:
            refuse_other_partition(engine, source)
            refuse_uneven_lists(engine, source)
        _raise_first_fault(engine, staged, sources, table)
    reasons = dict(engine.rows(f"SELECT {_REASON}, count(*) FROM {staged} GROUP BY ALL"))
    return RowCounts(sum(reasons.values()), _by_reason(table, reasons))


def keep_rows(
    engine: Engine, name: str, table: Table, kept: str, counts: RowCounts, files: list[RawFile]
) -> RowCounts:
    """Create the engine table or view `name` from the SELECT `kept`, without repeats; return `counts` with these.

    `files` are those of the rows; they are read again for the message about a key.

    Raises:
        UserError: a key occurs twice.
    """
    if table.drop_repeats:
        engine.run(f"CREATE TABLE {quoted(name)} AS SELECT DISTINCT * FROM ({kept})")
        left = engine.value(f"SELECT count(*) FROM {quoted(name)}")
        counts = RowCounts(counts.read, {**counts.dropped, REPEATED: counts.kept - left})
    else:
        engine.run(f"CREATE VIEW {quoted(name)} AS {kept}")
    _raise_first_repeated_key(engine, name, files, table)
    return counts


def staged_rows(table: Table, staged: str) -> str:
    """Return a SELECT of the rows of `staged` that are kept."""
    columns = ", ".join(quoted(column) for column in table.columns)
    return f"SELECT {columns} FROM {staged} WHERE {_REASON} = 0"


@contextmanager
def _in_zone(engine: Engine, table: Table) -> Iterator[None]:
    """Read timestamps in the zone of the table, and then in UTC and in any order again."""
    engine.run(f"SET TimeZone = {text(table.zone)}")
    yield
    engine.run("SET TimeZone = 'UTC'")
    engine.keep_order(wanted=False)


def refuse_no_rows(counts: RowCounts, first: RawFile) -> None:
    """Refuse a table without rows; all of them may be dropped later.

    Raises:
        UserError: names its first file.
    """
    if not counts.read:
        raise UserError(f"{first.path}: has no rows")


def log_counts(name: str, counts: RowCounts) -> None:
    """Log how the rows that were read add up."""
    parts = [f"{counts.kept:,} kept", *(f"{n:,} {reason}" for reason, n in counts.dropped.items())]
    logger.info("%s: %s rows read = %s", name, f"{counts.read:,}", " + ".join(parts))


def _by_reason(table: Table, reasons: Mapping[int, int]) -> dict[str, int]:
    return {reason: reasons.get(code, 0) for code, reason in enumerate(table.drop, start=1)}


def _check_names(name: str, table: Table) -> None:
    """Refuse columns that the engine would take for one.

    Raises:
        UserError: names both.
    """
    seen: dict[str, str] = {}
    for column in table.columns:
        if (other := seen.setdefault(column.lower(), column)) != column:
            raise UserError(
                f"{name}: the columns {other!r} and {column!r} differ only in case; rename one of them in the files"
            )


def with_content(files: list[RawFile]) -> list[RawFile]:
    """The files that are not empty.

    Raises:
        UserError: one that is not a part of several is empty, or one cannot be read.
    """
    found = []
    for file in files:
        if read_through(file.path):
            found.append(file)
        elif not file.is_part:
            raise UserError(f"{file.path}: is empty")
    return found


def report_empty(name: str, n_files: int, empty: list[Path], first: RawFile) -> None:
    """Report the empty files of a table.

    Raises:
        UserError: all are empty.
    """
    if len(empty) == n_files:
        raise UserError(f"{first.path}: is empty")
    if empty:
        logger.warning("%s: %d empty file(s) skipped, e.g. %s", name, len(empty), empty[0])


def report_order(name: str, table: Table, files: list[RawFile], raw: Path) -> None:
    """Report the order of several files in `raw`, if it matters."""
    if not table.has_row_numbers or len(files) == 1:
        return
    shown = [os.path.relpath(file.path, raw) for file in files]
    if len(shown) > 4:
        shown = [*shown[:3], "...", shown[-1]]
    logger.info("%s: rows are in the order of %d files: %s", name, len(files), ", ".join(shown))


def _stage(
    engine: Engine, files: list[RawFile], sources: list[Source], table: Table, staged: str
) -> list[Source]:
    """Create the table `staged` with the typed rows of all files; return the sources with which that was possible."""
    import duckdb

    in_order = table.has_row_numbers
    if in_order:
        engine.keep_order()
    read = list(sources)
    for start in range(0, len(files), _TOGETHER):
        numbers = range(start, min(start + _TOGETHER, len(files)))
        if not in_order:
            selects = [_typed_rows(sources[number], table, number) for number in numbers]
            try:
                engine.run(f"{_into(staged, start)} {' UNION ALL '.join(selects)}")
                continue
            except duckdb.Error:
                pass  # one by one, so that the file is known
        for number in numbers:
            n_before = engine.value(f"SELECT count(*) FROM {staged}") if in_order and number else 0
            read[number] = _read(
                engine, files[number], read[number], table, number, n_before, staged
            )
    return read


def _into(staged: str, number: int) -> str:
    return f"INSERT INTO {staged}" if number else f"CREATE TABLE {staged} AS"


def _read(
    engine: Engine,
    file: RawFile,
    source: Source,
    table: Table,
    number: int,
    n_before: int,
    staged: str,
) -> Source:
    """Append the rows of file `number`; return the source with which that was possible."""
    import duckdb

    into = _into(staged, number)
    try:
        try:
            engine.run(f"{into} {_typed_rows(source, table, number, n_before)}")
        except duckdb.Error as error:
            if "Maximum line size" not in str(error):
                raise
            # larger buffers only where a line needs them
            source = source_of(file, table, max_line_size=str(_LONGEST_LINE))
            engine.run(f"{into} {_typed_rows(source, table, number, n_before)}")
    except duckdb.Error as error:
        if not is_parquet(source.file):
            raise_first_broken(source.file, table, source.n_fields)
        reason = "a line is longer than 128 MB" if "Maximum line" in str(error) else str(error)
        raise UserError(f"{source.file}: cannot be read: {reason.splitlines()[0]}") from error
    return source


def _typed_rows(source: Source, table: Table, number: int, n_before: int = 0) -> str:
    """Return a SELECT of a file's typed rows with a reason: 0 is kept, positive dropped, negative an error."""
    faults, typed, relation = [], [], source.relation
    if table.has_row_numbers:
        relation = f"({_numbered(f'SELECT * FROM {relation}')})"
    for code, (column, kind) in enumerate(table.columns.items(), start=1):
        if kind == "row":
            typed.append(f"{n_before} + {_ROW} - 1 AS {quoted(column)}")
            continue
        value, fault = parsed_cell(
            source.raw[column],
            source.types[column],
            kind,
            table.time_format,
            table.nulls,
            table.list_separator,
        )
        typed.append(f"{value} AS {quoted(column)}")
        faults.append(f"WHEN {fault} THEN {-code}")
    drops = [
        f"WHEN {condition} THEN {code}" for code, condition in enumerate(table.drop.values(), 1)
    ]
    checks = [
        f"WHEN NOT coalesce({check.holds}, false) THEN {-code}"
        for code, check in enumerate(table.checks, start=len(table.columns) + 1)
    ]
    rules = " ".join([*drops, f"WHEN {_FAULT} < 0 THEN {_FAULT}", *checks])
    columns = ", ".join(quoted(column) for column in table.columns)
    return (
        f"SELECT {columns}, {number}::INTEGER AS {_FILE}, (CASE {rules} ELSE 0 END)::SMALLINT AS {_REASON} "
        f"FROM (SELECT {', '.join(typed)}, CASE {' '.join(faults)} ELSE 0 END AS {_FAULT} FROM {relation})"
    )


def _raise_first_fault(engine: Engine, staged: str, sources: list[Source], table: Table) -> None:
    first = engine.value(f"SELECT min({_FILE}) FROM {staged} WHERE {_REASON} < 0")
    if first is None:
        return
    engine.keep_order()
    source = sources[first]
    row, code = engine.rows(
        f"SELECT {_ROW}, {_REASON} FROM ({_numbered(_typed_rows(source, table, first))}) "
        f"WHERE {_REASON} < 0 ORDER BY {_ROW} LIMIT 1"
    )[0]
    columns = list(table.columns)
    if -code <= len(columns):
        column = columns[-code - 1]
        expected = expected_cell(table.columns[column], source.types[column], table.time_format)
    else:
        check = table.checks[-code - 1 - len(columns)]
        column, expected = check.column, check.expected
    found = engine.value(
        f"SELECT {source.raw[column]}::VARCHAR FROM ({_numbered(f'SELECT * FROM {source.relation}')}) WHERE {_ROW} = {row}"
    )
    shown = "empty" if found is None else repr(found)
    column = table.again.get(column, column)
    raise UserError(f"{_location(source, table, row)}: {column} is {shown}, expected {expected}")


def _raise_first_repeated_key(
    engine: Engine, name: str, files: list[RawFile], table: Table
) -> None:
    if not table.key:
        return
    key = ", ".join(quoted(column) for column in table.key)
    if not engine.rows(f"SELECT 1 FROM {quoted(name)} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"):
        return
    engine.keep_order()
    engine.run(f"SET TimeZone = {text(table.zone)}")
    longest = {"max_line_size": str(_LONGEST_LINE)}
    sources = [source_of(file, table, **longest) for file in files]
    rows = " UNION ALL ".join(
        f"SELECT * FROM ({_numbered(_typed_rows(source, table, number))})"
        for number, source in enumerate(sources)
    )
    # Repeats were dropped from the table, but are still in the file.
    distinct = (
        ", ".join(quoted(c) for c in table.columns) if table.drop_repeats else f"{_FILE}, {_ROW}"
    )
    file, row, *values = engine.rows(
        f"SELECT {_FILE}, {_ROW}, {key} FROM (SELECT * FROM ({rows}) WHERE {_REASON} = 0 "
        f"QUALIFY row_number() OVER (PARTITION BY {distinct} ORDER BY {_FILE}, {_ROW}) = 1) "
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY {_FILE}, {_ROW}) > 1 ORDER BY {_FILE}, {_ROW} LIMIT 1"
    )[0]
    shown = ", ".join(str(value) for value in values)
    raise UserError(
        f"{_location(sources[file], table, row)}: {', '.join(table.key)} is {shown} again, "
        "expected a value that no earlier row has"
    )


def _numbered(select: str) -> str:
    # A window without ORDER BY numbers the rows in the order of the file.
    return f"SELECT *, row_number() OVER () AS {_ROW} FROM ({select})"


def _location(source: Source, table: Table, row: int) -> str:
    if table.explode:
        return f"{source.file}: entry {row:,}"
    if is_parquet(source.file):
        return f"{source.file}: row {row:,}"
    return f"{source.file}: line {line_of_record(source.file, table, row):,}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
