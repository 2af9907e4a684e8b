"""A raw file as SQL: how the engine reads it, and where its columns come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.importers.declaration import Table
from scaling.importers.pipeline.cell_parsing import NULL_TEXTS, exploded_entries, real_entry
from scaling.importers.pipeline.engine import Engine
from scaling.importers.raw_files import (
    RawFile,
    compression,
    field_positions,
    is_parquet,
    parquet_columns,
)
from scaling.importers.sql import text

__all__ = ["Source", "refuse_other_partition", "refuse_uneven_lists", "source_of"]


@dataclass(frozen=True)
class Source:
    """One raw file as SQL.

    Attributes:
        relation: SQL that reads the rows.
        raw: SQL for each column of the table, as it is in the file.
        types: type of each column in the file, as the engine names it.
        n_fields: number of fields per record.
        lists: for each column that is exploded, SQL that reads the rows before, and SQL for the entries.
        twice: SQL for the value of the path and that of the file, for each column that has both.
    """

    file: Path
    relation: str
    raw: Mapping[str, str]
    types: Mapping[str, str]
    n_fields: int
    twice: Mapping[str, tuple[str, str]]
    lists: Mapping[str, tuple[str, str]]


def source_of(file: RawFile, table: Table, **csv_options: str) -> Source:
    """Return a raw file as SQL; `csv_options` are further ones of the engine's reader.

    Raises:
        UserError: a column of the table is missing, stands twice, or holds several values where one is expected.
    """
    path = file.path
    n_fields, positions = field_positions(path, table, file.partitions)
    names = [f"f{i}" for i in range(n_fields)]
    if is_parquet(path):
        # by position, because the engine does not tell names apart that differ only in case
        relation = f"(SELECT * FROM read_parquet({text(path)}, hive_partitioning = false) AS t({', '.join(names)}))"
        columns = parquet_columns(path)
        types = {column: columns[place][1] for column, place in positions.items()}
        wanted = {c: "list" if c in table.explode else kind for c, kind in table.columns.items()}
        _refuse_nested(path, {c: t for c, t in types.items() if not _is_list(wanted[c], t)})
    else:
        relation = _csv_relation(path, table, names, csv_options)
        types = dict.fromkeys(positions, "VARCHAR")
    own = {column: names[place] for column, place in positions.items()}
    lists = {
        own[column]: exploded_entries(own[column], types[column], table.list_separator)
        for column in table.explode
        if column in own
    }
    whole = relation
    if lists:
        entries = ", ".join(f"unnest({entry}) AS {name}" for name, entry in lists.items())
        relation = f"(SELECT * EXCLUDE ({', '.join(lists)}), {entries} FROM {relation})"
        types |= {
            column: real_entry(types.get(column, "VARCHAR")) or "VARCHAR"
            for column in table.explode
        }
    on_path = {
        column: "NULL::VARCHAR" if value is None else text(value)
        for column, value in file.partitions.items()
        if column in table.columns
    }
    absent = dict.fromkeys(table.columns, "NULL::VARCHAR")
    raw = {**absent, **on_path, **own, **_file_name_columns(path, table)}
    raw |= {again: raw[column] for again, column in table.again.items()}
    types |= {again: types[column] for again, column in table.again.items() if column in types}
    return Source(
        path,
        relation,
        raw,
        {**dict.fromkeys(raw, "VARCHAR"), **types},
        n_fields,
        {column: (on_path[column], own[column]) for column in on_path if column in own},
        {column: (whole, lists[own[column]]) for column in table.explode if column in own},
    )


def refuse_other_partition(engine: Engine, source: Source) -> None:
    """Refuse a file whose column differs from the folder of the same name that it lies in.

    Raises:
        UserError: names column and values.
    """
    for column, (on_path, own) in source.twice.items():
        alike = f"coalesce(TRY_CAST({own} AS DOUBLE) = TRY_CAST({on_path} AS DOUBLE), {own}::VARCHAR = {on_path})"
        other = engine.rows(
            f"SELECT {own}::VARCHAR, {on_path} FROM {source.relation} WHERE NOT coalesce({alike}, false) LIMIT 1"
        )
        if other:
            found, expected = other[0]
            raise UserError(
                f"{source.file}: {column} is {found!r} in a row, but the file lies in the folder {column}={expected}; remove "
                "the column from the file, or rename the folder"
            )


def refuse_uneven_lists(engine: Engine, source: Source) -> None:
    """Refuse rows whose lists, of which each entry is a row, have different lengths.

    Raises:
        UserError: names two columns and their lengths.
    """
    if not source.lists:
        return
    first, *others = source.lists.items()
    for column, (whole, entries) in others:
        n, n_first = f"len({entries})", f"len({first[1][1]})"
        uneven = engine.rows(f"SELECT {n}, {n_first} FROM {whole} WHERE {n} != {n_first} LIMIT 1")
        if uneven:
            raise UserError(
                f"{source.file}: {column} has {uneven[0][0]} entries in a row where {first[0]} has {uneven[0][1]}; "
                "expected as many"
            )


def _csv_relation(
    file: Path, table: Table, names: list[str], csv_options: Mapping[str, str]
) -> str:
    options = {
        "auto_detect": "false",
        "header": str(table.header).lower(),
        "delim": text(table.separator),
        "quote": text(table.quote),
        "escape": text(table.escape or table.quote),
        "encoding": text(table.encoding),
        "compression": text(compression(file)),
        "nullstr": "[" + ", ".join(map(text, NULL_TEXTS)) + "]",
        "columns": "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in names) + "}",
        **csv_options,
    }
    settings = ", ".join(f"{key} = {value}" for key, value in options.items())
    relation = f"read_csv({text(file)}, {settings})"
    if len(names) == 1:  # the engine skips blank lines only in files with several fields
        relation = f"(SELECT * FROM {relation} WHERE f0 IS NOT NULL)"
    return relation


def _is_list(kind: str, native: str) -> bool:
    """Whether a column is wanted as a list, and is one of single values."""
    inner = native.removesuffix("[]")
    nested = inner.endswith("]") or inner.startswith(("STRUCT", "MAP", "UNION"))
    return kind.startswith(("list", "numbers", "cell")) and native.endswith("[]") and not nested


def _refuse_nested(file: Path, types: Mapping[str, str]) -> None:
    """Refuse columns that hold several values in a cell.

    Raises:
        UserError: names the first one and its type.
    """
    for column, kind in types.items():
        if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "VARIANT")):
            advice = (
                "if its feature has several values, say so in a section [lists.NAME] with max_values (docs/data.md)"
                if _is_list("list", kind)
                else "write it as one column for each value, or as a list of single values"
            )
            raise UserError(
                f"{file}: column {column!r} has the type {kind}, expected one value in each cell; {advice}"
            )


def _file_name_columns(file: Path, table: Table) -> dict[str, str]:
    return {column: text(file.name) for column, kind in table.columns.items() if kind == "file"}
