"""The first step of an import: raw files into engine tables. Rows are typed, checked, or dropped by reason.

An error names the file and the line. How one cell is parsed is in `cell_parsing.py`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import UserError, nearest
from scaling.importers.declaration import Table
from scaling.importers.pipeline.cell_parsing import EXPECTED_KINDS, NULL_TEXTS, parsed_cell
from scaling.importers.pipeline.engine import Engine
from scaling.importers.raw_files import (
    field_positions,
    find_files,
    is_parquet,
    line_of_record,
    parquet_relation,
    parquet_types,
    raise_first_broken,
    read_through,
)
from scaling.importers.sql import quoted, text

__all__ = ["RowCounts", "log_counts", "read_table"]


logger = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class Source:
    """One raw file as SQL.

    Attributes:
        relation: SQL that reads the rows.
        raw: SQL for each column of the table, as it is in the file.
        types: type of each column in the file, as the engine names it.
        n_fields: number of fields per record.
    """

    file: Path
    relation: str
    raw: Mapping[str, str]
    types: Mapping[str, str]
    n_fields: int


def read_table(engine: Engine, name: str, table: Table, raw: Path) -> RowCounts:
    """Read the files of `table` in `raw` into an engine table or view `name` with the rows that are kept.

    Raises:
        UserError: a file is missing, empty, damaged or of another layout, a cell is not of its kind, a check
            fails, or a key occurs twice. The message names file, line and column.
    """
    engine.run(f"SET TimeZone = {text(table.zone)}")
    sources = [_source(file, table) for file in find_files(raw, table.files)]
    staged = f"core.{quoted('raw ' + name)}"
    for number, source in enumerate(sources):
        select = _typed_rows(source, table, number)
        into = f"CREATE TABLE {staged} AS" if number == 0 else f"INSERT INTO {staged}"
        _read(engine, source, table, f"{into} {select}")
    _raise_first_fault(engine, staged, sources, table)
    reasons = dict(engine.rows(f"SELECT __reason, count(*) FROM {staged} GROUP BY ALL"))
    read, dropped = sum(reasons.values()), _by_reason(table, reasons)
    columns = ", ".join(quoted(column) for column in table.columns)
    kept = f"SELECT {columns} FROM {staged} WHERE __reason = 0"
    if table.drop_repeats:
        engine.run(f"CREATE TABLE {quoted(name)} AS SELECT DISTINCT * FROM ({kept})")
        engine.run(f"DROP TABLE {staged}")
        left = engine.value(f"SELECT count(*) FROM {quoted(name)}")
        dropped["repeated"] = read - sum(dropped.values()) - left
    else:
        engine.run(f"CREATE VIEW {quoted(name)} AS {kept}")
    counts = RowCounts(read, dropped)
    if not counts.read:
        raise UserError(f"{sources[0].file}: has no rows")
    _raise_first_repeated_key(engine, name, sources, table)
    engine.run("SET TimeZone = 'UTC'")
    log_counts(name, counts)
    return counts


def log_counts(name: str, counts: RowCounts) -> None:
    """Log how the rows that were read add up."""
    parts = [f"{counts.kept:,} kept", *(f"{n:,} {reason}" for reason, n in counts.dropped.items())]
    logger.info("%s: %s rows read = %s", name, f"{counts.read:,}", " + ".join(parts))


def _by_reason(table: Table, reasons: Mapping[int, int]) -> dict[str, int]:
    return {reason: reasons.get(code, 0) for code, reason in enumerate(table.drop, start=1)}


def _source(file: Path, table: Table) -> Source:
    read_through(file)
    if is_parquet(file):
        return _parquet_source(file, table)
    n_fields, positions = field_positions(file, table)
    names = [f"f{i}" for i in range(n_fields)]
    options = {
        "auto_detect": "false",
        "header": str(table.header).lower(),
        "delim": text(table.separator),
        "quote": text(table.quote),
        "escape": text(table.quote),
        "encoding": text(table.encoding),
        "nullstr": "[" + ", ".join(map(text, NULL_TEXTS)) + "]",
        "columns": "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in names) + "}",
    }
    settings = ", ".join(f"{key} = {value}" for key, value in options.items())
    relation = f"read_csv({text(file)}, {settings})"
    if n_fields == 1:  # the engine skips blank lines only in files with several fields
        relation = f"(SELECT * FROM {relation} WHERE f0 IS NOT NULL)"
    return Source(
        file,
        relation,
        {
            **{column: names[position] for column, position in positions.items()},
            **_file_name_columns(file, table),
        },
        dict.fromkeys(table.columns, "VARCHAR"),
        n_fields,
    )


def _parquet_source(file: Path, table: Table) -> Source:
    types = parquet_types(file)
    raw = {column: quoted(column) for column in table.columns} | _file_name_columns(file, table)
    for column in table.columns:
        if raw[column] == quoted(column) and column not in types:
            raise UserError(f"{file}: no column {column!r}{nearest(column, types)}")
    return Source(
        file,
        parquet_relation(file),
        raw,
        {**types, **dict.fromkeys(_file_name_columns(file, table), "VARCHAR")},
        len(types),
    )


def _file_name_columns(file: Path, table: Table) -> dict[str, str]:
    return {column: text(file.name) for column, kind in table.columns.items() if kind == "file"}


def _read(engine: Engine, source: Source, table: Table, sql: str) -> None:
    import duckdb

    try:
        engine.run(sql)
    except duckdb.Error as error:
        if not is_parquet(source.file):
            raise_first_broken(source.file, table, source.n_fields)
        raise UserError(f"{source.file}: cannot be read: {_first_line(error)}") from error


def _typed_rows(source: Source, table: Table, number: int) -> str:
    """Return a SELECT of a file's typed rows with `__reason`: 0 is kept, positive dropped, negative an error."""
    faults, typed = [], []
    for code, (column, kind) in enumerate(table.columns.items(), start=1):
        value, fault = parsed_cell(
            source.raw[column], source.types[column], kind, table.time_format
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
    rules = " ".join(["WHEN __fault < 0 THEN __fault", *drops, *checks])
    columns = ", ".join(quoted(column) for column in table.columns)
    return (
        f"SELECT {columns}, {number}::INTEGER AS __file, (CASE {rules} ELSE 0 END)::SMALLINT AS __reason "
        f"FROM (SELECT {', '.join(typed)}, CASE {' '.join(faults)} ELSE 0 END AS __fault FROM {source.relation})"
    )


def _raise_first_fault(engine: Engine, staged: str, sources: list[Source], table: Table) -> None:
    first = engine.value(f"SELECT min(__file) FROM {staged} WHERE __reason < 0")
    if first is None:
        return
    engine.keep_order()
    source = sources[first]
    row, code = engine.rows(
        f"SELECT __row, __reason FROM ({_numbered(_typed_rows(source, table, first))}) "
        "WHERE __reason < 0 ORDER BY __row LIMIT 1"
    )[0]
    columns = list(table.columns)
    if -code <= len(columns):
        column = columns[-code - 1]
        expected = EXPECTED_KINDS[table.columns[column].removesuffix("?")]
    else:
        check = table.checks[-code - 1 - len(columns)]
        column, expected = check.column, check.expected
    found = engine.value(
        f"SELECT {source.raw[column]}::VARCHAR FROM ({_numbered(f'SELECT * FROM {source.relation}')}) WHERE __row = {row}"
    )
    shown = "empty" if found is None else repr(found)
    raise UserError(f"{_location(source, table, row)}: {column} is {shown}, expected {expected}")


def _raise_first_repeated_key(
    engine: Engine, name: str, sources: list[Source], table: Table
) -> None:
    if not table.key:
        return
    key = ", ".join(quoted(column) for column in table.key)
    if not engine.rows(f"SELECT 1 FROM {quoted(name)} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"):
        return
    engine.keep_order()
    rows = " UNION ALL ".join(
        f"SELECT * FROM ({_numbered(_typed_rows(source, table, number))})"
        for number, source in enumerate(sources)
    )
    # Repeats were dropped from the table, but are still in the file.
    distinct = (
        ", ".join(quoted(c) for c in table.columns) if table.drop_repeats else "__file, __row"
    )
    file, row, *values = engine.rows(
        f"SELECT __file, __row, {key} FROM (SELECT * FROM ({rows}) WHERE __reason = 0 "
        f"QUALIFY row_number() OVER (PARTITION BY {distinct} ORDER BY __file, __row) = 1) "
        f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY __file, __row) > 1 ORDER BY __file, __row LIMIT 1"
    )[0]
    shown = ", ".join(str(value) for value in values)
    raise UserError(
        f"{_location(sources[file], table, row)}: {', '.join(table.key)} is {shown} again, "
        "expected a value that no earlier row has"
    )


def _numbered(select: str) -> str:
    # A window without ORDER BY numbers the rows in the order of the file.
    return f"SELECT *, row_number() OVER () AS __row FROM ({select})"


def _location(source: Source, table: Table, row: int) -> str:
    if is_parquet(source.file):
        return f"{source.file}: row {row:,}"
    return f"{source.file}: line {line_of_record(source.file, table, row):,}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
