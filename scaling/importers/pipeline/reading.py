"""Raw tables into the engine: typed, checked, and dropped by reason; a breach is told by file and line."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import UserError, nearest
from scaling.importers.declaration import Table
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

EXPECTED = {
    "int": "a whole number",
    "float": "a number of 32 bits",
    "text": "text",
    "timestamp": "a date and time",
}
INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "BOOLEAN")


@dataclass(frozen=True)
class RowCounts:
    """Rows read, and those dropped by reason; the rest was kept."""

    read: int
    dropped: Mapping[str, int]

    @property
    def kept(self) -> int:
        """Rows that were not dropped."""
        return self.read - sum(self.dropped.values())

    def followed_by(self, later: "RowCounts") -> "RowCounts":
        """Return the counts of both, where `later` read what was kept here."""
        assert later.read == self.kept
        return RowCounts(self.read, {**self.dropped, **later.dropped})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `read` is `kept` plus all of `dropped`."""
        return {"read": self.read, "kept": self.kept, "dropped": dict(self.dropped)}


@dataclass(frozen=True)
class Source:
    """One raw file as SQL: where its rows come from, and each column's raw expression and native type."""

    file: Path
    relation: str
    raw: Mapping[str, str]
    types: Mapping[str, str]
    n_fields: int


def read_table(engine: Engine, name: str, table: Table, raw: Path) -> RowCounts:
    """Read the files of `table` in `raw`; the engine then knows the rows that are kept as `name`.

    Raises:
        UserError: a file that is missing, empty, damaged or not of that layout, a cell that is not of its kind,
            a check that fails or a key that stands twice; with file, line and column.
    """
    engine.run(f"SET TimeZone = {text(table.zone)}")
    sources = [_source(file, table) for file in find_files(raw, table.files)]
    staged = f"core.{quoted('raw ' + name)}"
    for number, source in enumerate(sources):
        select = _checked(source, table, number)
        into = f"CREATE TABLE {staged} AS" if number == 0 else f"INSERT INTO {staged}"
        _read(engine, source, table, f"{into} {select}")
    _refuse_faults(engine, staged, sources, table)
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
    _refuse_second_keys(engine, name, sources, table)
    engine.run("SET TimeZone = 'UTC'")
    log_counts(name, counts)
    return counts


def log_counts(name: str, counts: RowCounts) -> None:
    """Tell how the rows read add up."""
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
        "columns": "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in names) + "}",
    }
    settings = ", ".join(f"{key} = {value}" for key, value in options.items())
    relation = f"read_csv({text(file)}, {settings})"
    if n_fields == 1:  # the engine skips blank lines only where there are separators to miss
        relation = f"(SELECT * FROM {relation} WHERE f0 IS NOT NULL)"
    return Source(
        file,
        relation,
        {
            **{column: names[position] for column, position in positions.items()},
            **_names(file, table),
        },
        dict.fromkeys(table.columns, "VARCHAR"),
        n_fields,
    )


def _parquet_source(file: Path, table: Table) -> Source:
    types = parquet_types(file)
    raw = {column: quoted(column) for column in table.columns} | _names(file, table)
    for column in table.columns:
        if raw[column] == quoted(column) and column not in types:
            raise UserError(f"{file}: no column {column!r}{nearest(column, types)}")
    return Source(
        file,
        parquet_relation(file),
        raw,
        {**types, **dict.fromkeys(_names(file, table), "VARCHAR")},
        len(types),
    )


def _names(file: Path, table: Table) -> dict[str, str]:
    return {column: text(file.name) for column, kind in table.columns.items() if kind == "file"}


def _read(engine: Engine, source: Source, table: Table, sql: str) -> None:
    import duckdb

    try:
        engine.run(sql)
    except duckdb.Error as error:
        if not is_parquet(source.file):
            raise_first_broken(source.file, table, source.n_fields)
        raise UserError(f"{source.file}: cannot be read: {_first_line(error)}") from error


def _checked(source: Source, table: Table, number: int) -> str:
    """SELECT of a file's rows with their kinds and `__reason`: 0 kept, above dropped, below refused."""
    faults, typed = [], []
    for code, (column, kind) in enumerate(table.columns.items(), start=1):
        value, fault = _cell(source.raw[column], source.types[column], kind, table.time_format)
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


def _cell(raw: str, native: str, kind: str, time_format: str) -> tuple[str, str]:
    """Return SQL for a cell's value and for whether it is not of its kind."""
    if kind == "file":
        return raw, "false"
    base, may_be_empty = kind.removesuffix("?"), kind.endswith("?")
    is_real, whole = native in ("FLOAT", "DOUBLE"), "true"
    if is_real:  # an integer column with gaps becomes one of these in many programs
        raw = f"CASE WHEN isnan({raw}) THEN NULL ELSE {raw} END"
        whole = f"{raw} = trunc({raw})"
    elif native == "VARCHAR":
        whole = f"regexp_full_match({raw}, ' *[-+]?[0-9]+ *')"
    elif native.lstrip("U") not in INTEGERS and base == "int":
        whole = f"TRY_CAST({raw} AS BIGINT) = {raw}"
    if base == "timestamp":
        is_text = time_format and native == "VARCHAR"
        moment = f"try_strptime({raw}, {text(time_format)})" if is_text else raw
        value = f"epoch_us(TRY_CAST({moment} AS TIMESTAMPTZ)) // 1000000"
        good = f"{value} IS NOT NULL"
    elif base == "int":
        # A cast would round 2.5 to 3 and read 1e3: neither is a whole number in a raw file.
        value = f"TRY_CAST({raw} AS BIGINT)"
        good = f"{value} IS NOT NULL AND {whole}"
    elif base == "float":
        value = f"TRY_CAST({raw} AS DOUBLE)"
        good = f"isfinite(TRY_CAST({value} AS FLOAT))"  # what a store holds
    elif is_real:
        value = (
            f"CASE WHEN {whole} THEN TRY_CAST({raw} AS HUGEINT)::VARCHAR ELSE {raw}::VARCHAR END"
        )
        good = f"{value} IS NOT NULL"
    else:
        value = f"{raw}::VARCHAR"
        good = f"{value} IS NOT NULL"
    bad = f"NOT coalesce({good}, false)"
    return value, f"({raw} IS NOT NULL AND {bad})" if may_be_empty else f"({raw} IS NULL OR {bad})"


def _refuse_faults(engine: Engine, staged: str, sources: list[Source], table: Table) -> None:
    first = engine.value(f"SELECT min(__file) FROM {staged} WHERE __reason < 0")
    if first is None:
        return
    engine.keep_order()
    source = sources[first]
    row, code = engine.rows(
        f"SELECT __row, __reason FROM ({_numbered(_checked(source, table, first))}) "
        "WHERE __reason < 0 ORDER BY __row LIMIT 1"
    )[0]
    columns = list(table.columns)
    if -code <= len(columns):
        column = columns[-code - 1]
        expected = EXPECTED[table.columns[column].removesuffix("?")]
    else:
        check = table.checks[-code - 1 - len(columns)]
        column, expected = check.column, check.expected
    found = engine.value(
        f"SELECT {source.raw[column]}::VARCHAR FROM ({_numbered(f'SELECT * FROM {source.relation}')}) WHERE __row = {row}"
    )
    shown = "empty" if found is None else repr(found)
    raise UserError(f"{_place(source, table, row)}: {column} is {shown}, expected {expected}")


def _refuse_second_keys(engine: Engine, name: str, sources: list[Source], table: Table) -> None:
    if not table.key:
        return
    key = ", ".join(quoted(column) for column in table.key)
    if not engine.rows(f"SELECT 1 FROM {quoted(name)} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"):
        return
    engine.keep_order()
    rows = " UNION ALL ".join(
        f"SELECT * FROM ({_numbered(_checked(source, table, number))})"
        for number, source in enumerate(sources)
    )
    # Repeats were dropped from the table, but stand in the file.
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
        f"{_place(sources[file], table, row)}: {', '.join(table.key)} is {shown}, expected one that no earlier row has"
    )


def _numbered(select: str) -> str:
    # Without an order of its own this window numbers the rows as they stand in the file.
    return f"SELECT *, row_number() OVER () AS __row FROM ({select})"


def _place(source: Source, table: Table, row: int) -> str:
    if is_parquet(source.file):
        return f"{source.file}: row {row:,}"
    return f"{source.file}: line {line_of_record(source.file, table, row):,}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
