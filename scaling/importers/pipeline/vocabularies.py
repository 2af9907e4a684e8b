"""Ids of raw values: 0 is padding, 1 is unknown, then the values of the training part in sorted order.

Because of the sorting, ids do not depend on the order of the raw rows. In a hashed vocabulary an id is a bucket.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from scaling.errors import UserError, nearest
from scaling.importers.declaration import EventNumber, Log
from scaling.importers.pipeline.cell_ranks import (
    CellColumn,
    RankedCells,
    counts_in_cells,
    rank_cells,
    rank_numbers,
    split_cells,
    standardisation,
)
from scaling.importers.pipeline.engine import Engine
from scaling.importers.sql import quoted
from scaling.store import UNKNOWN, Feature, Schema, check_schema

__all__ = [
    "ITEMS",
    "Counted",
    "Features",
    "cell_columns",
    "check_names",
    "find_features",
    "has_item_features",
    "item_counts",
    "make_vocabularies",
    "number_values",
    "rank_all",
    "ranked_features",
    "schema_of",
    "split_lists",
    "training_numbers",
    "value_counts",
    "vocabulary_table",
]


FIRST = UNKNOWN + 1
ITEMS = "core.items"


@dataclass(frozen=True)
class Features:
    """Columns of the impressions, the events, the items and the users, with their types."""

    impressions: dict[str, str]
    events: dict[str, str]
    items: dict[str, str]
    users: dict[str, str]

    def table(self, group: str, feature: str) -> str:
        """Return the table with a feature of `group`: impressions, events, items or users.

        Raises:
            UserError: no table has such a column.
        """
        own = {"profile": "users", "behaviour": "events"}.get(group, "impressions")
        columns = getattr(self, own)
        if feature in columns:
            return own
        if own != "users" and "item" in columns and feature in self.items:
            return "items"
        choices = [c for c in (*columns, *self.items) if not c.startswith("__")]
        raise UserError(
            f"{group} feature {feature!r}: there is no such column{nearest(feature, choices)}"
        )


def find_features(engine: Engine, log: Log) -> Features:
    """Return the columns of every table."""
    return Features(
        engine.columns("SELECT * FROM __impressions"),
        engine.columns("SELECT * FROM __events"),
        {} if log.items is None else engine.columns("SELECT * FROM core.items"),
        {} if log.users is None else engine.columns("SELECT * FROM core.profiles"),
    )


def make_vocabularies(engine: Engine, log: Log, features: Features) -> Schema:
    """Create a table `core."vocabulary NAME"` (`value`, `id`) for each vocabulary, and return the store's schema.

    Values are counted in the impressions and events of the training part (once if these are the same rows), and values
    of profile features in the users with a training impression.

    Raises:
        UserError: a hashed vocabulary belongs to no feature.
    """
    if has_item_features(log, features):
        engine.run(f"CREATE TABLE core.item_counts AS {item_counts(log, features)}")
    rows, items = (value_counts(log, features, of_items=of_items) for of_items in (False, True))
    return number_values(engine, log, {name: (*rows[name], *items[name]) for name in rows})


class Counted(NamedTuple):
    """A SELECT of `value` and its count `n`; the values are the cells of a list feature if one is named."""

    select: str
    of_list: str = ""


def value_counts(log: Log, features: Features, *, of_items: bool) -> dict[str, tuple[Counted, ...]]:
    """Return the counts of values by vocabulary: of columns of the items, or of all other columns."""
    groups = _groups(log)
    return {
        name: tuple(
            sorted(
                set(_counted(log, features, groups, name, name in log.hashed, of_items=of_items))
            )
        )
        for name in sorted({feature.vocabulary for group in groups.values() for feature in group})
        if name not in log.event_numeric
    }


def number_values(engine: Engine, log: Log, counts: Mapping[str, Sequence[Counted]]) -> Schema:
    """Create the tables of the vocabularies from the SELECTs of their counts; return the store's schema.

    Raises:
        UserError: a hashed vocabulary belongs to no feature.
    """
    unknown = next((name for name in log.hashed if name not in counts), None)
    if unknown is not None:
        raise UserError(
            f"hashed vocabulary {unknown!r}: no feature uses it{nearest(unknown, counts)}"
        )
    sizes = dict.fromkeys(log.event_numeric, FIRST + 1)
    for name, counted in counts.items():
        selects = [
            counts_in_cells(one.of_list, one.select) if one.of_list else one.select
            for one in counted
        ]
        values = (
            f"SELECT value FROM ({' UNION ALL '.join(selects)}) "
            "WHERE value IS NOT NULL AND value::VARCHAR != '' GROUP BY value"
        )
        table = vocabulary_table(name)
        if name in log.hashed:
            buckets = log.hashed[name]
            engine.run(
                f"CREATE TABLE {table} AS SELECT value, "
                f"(('0x' || substr(md5(value::VARCHAR), 1, 15))::UBIGINT % {buckets} + {FIRST})::UINTEGER AS id FROM ({values})"
            )
            sizes[name] = FIRST + buckets
        else:
            engine.run(
                f"CREATE TABLE {table} AS SELECT value, (row_number() OVER (ORDER BY value) + {UNKNOWN})::UINTEGER AS id "
                f"FROM ({values} HAVING sum(n) >= {log.min_count})"
            )
            sizes[name] = FIRST + engine.value(f"SELECT count(*) FROM {table}")
    return schema_of(log, sizes)


def split_lists(
    engine: Engine, log: Log, columns: Mapping[str, Sequence[CellColumn]]
) -> dict[str, int]:
    """Split the cells of each list feature (`cell_ranks`); return how many were cut, by feature."""
    return {
        name: split_cells(engine, name, rule, columns[name]) for name, rule in log.lists.items()
    }


def rank_all(
    engine: Engine,
    log: Log,
    schema: Schema,
    columns: Mapping[str, Sequence[CellColumn]],
    numbers: Mapping[str, str],
) -> tuple[dict[str, RankedCells], dict[str, list[float]]]:
    """Rank the cells of each feature that is not plain; return them, and mean and deviation of each number of events.

    Args:
        engine: has the vocabularies and the split cells.
        log: the log.
        schema: of the store.
        columns: as `cell_columns`.
        numbers: as `training_numbers`.

    Raises:
        UserError: a weight or a number does not fit in 32 bits.
    """
    ranked, moments = {}, {}
    for feature in ranked_features(schema):
        name = feature.name
        if name not in log.event_numeric:
            ranked[name] = rank_cells(engine, feature)
            continue
        found = standardisation(engine, numbers[name])
        moments[name] = list(found)
        rule = log.event_numeric[name]
        ranked[name] = rank_numbers(engine, feature, rule, found, columns[name])
    return ranked, moments


def ranked_features(schema: Schema) -> list[Feature]:
    """Return the features that are not plain, in order."""
    every = (*schema.behaviour, *schema.candidate, *schema.context, *schema.profile)
    return sorted({feature for feature in every if not feature.is_plain})


def cell_columns(log: Log, features: Features) -> dict[str, list[CellColumn]]:
    """Return the columns of each feature that is not plain."""
    return {name: _columns(log, features, name) for name in (*log.lists, *log.event_numeric)}


def _columns(log: Log, features: Features, name: str) -> list[CellColumn]:
    places = {"items": ITEMS, "users": "core.profiles"}
    tables = {
        features.table(group, name)
        for group, members in _groups(log).items()
        if name in [feature.name for feature in members]
    }
    if log.events is None and "impressions" in tables:
        tables.discard("events")  # their rows are the impressions
    found = [CellColumn(quoted(name), places.get(table, f"__{table}")) for table in sorted(tables)]
    if log.items_of_rows and name in features.items:
        found.append(CellColumn(quoted(name), ITEMS, "0"))  # counted as cells of their rows
    return found


def training_numbers(log: Log, features: Features) -> dict[str, str]:
    """Return for each number of events a SELECT of its values in the training part, and of their counts `n`."""
    return {
        name: _training_numbers(features, name, rule) for name, rule in log.event_numeric.items()
    }


def _training_numbers(features: Features, name: str, rule: EventNumber) -> str:
    number, rows = f"r.{quoted(name)}", "__events r"
    if features.table("behaviour", name) == "items":
        number = f"i.{quoted(name)}"
        rows += " LEFT JOIN core.items i ON i.item = r.item"
    if rule.fill is not None:
        number = f"coalesce({number}, '{rule.fill!r}'::DOUBLE)"
    return f"SELECT {number} AS value, count(*) AS n FROM {rows} WHERE NOT r.__test GROUP BY 1"


def vocabulary_table(name: str) -> str:
    """Return the quoted name of the table of a vocabulary."""
    return f"core.{quoted(f'vocabulary {name}')}"


def schema_of(log: Log, sizes: dict[str, int]) -> Schema:
    """Return the store's schema, given the size of each vocabulary."""
    return Schema(**_groups(log), numeric=log.numeric, vocabularies=sizes)


def check_names(where: Path, log: Log) -> None:
    """Check before any work that the names of the features can be part of file names.

    Raises:
        UserError: the first name that cannot.
    """
    groups = _groups(log)
    vocabularies = {feature.vocabulary: FIRST for group in groups.values() for feature in group}
    check_schema(where, Schema(**groups, numeric=log.numeric, vocabularies=vocabularies))


def _groups(log: Log) -> dict[str, tuple[Feature, ...]]:
    groups = {
        group: tuple(_feature(log, name) for name in getattr(log, group))
        for group in ("behaviour", "candidate", "context", "profile")
    }
    numbers = {
        name: Feature(name, name, pooling="sum", weighted=True) for name in log.event_numeric
    }
    groups["behaviour"] += tuple(numbers.values())
    groups["candidate"] += tuple(
        numbers[name] for name, rule in log.event_numeric.items() if rule.of_candidate
    )
    return groups


def _feature(log: Log, name: str) -> Feature:
    rule = log.lists.get(name)
    if rule is None:
        return Feature(name, log.vocabulary(name))
    return Feature(name, log.vocabulary(name), rule.max_values, rule.pooling, rule.weighted)


def _counted(
    log: Log,
    features: Features,
    groups: dict[str, tuple[Feature, ...]],
    vocabulary: str,
    everywhere: bool,
    *,
    of_items: bool,
) -> Iterator[Counted]:
    """Yield the counts of each column with values of the vocabulary."""
    for group, members in groups.items():
        for feature in members:
            if feature.vocabulary != vocabulary:
                continue
            tables = {features.table(group, feature.name)}
            if log.items_of_rows and group == "candidate" and feature.name in features.items:
                tables |= {"events"} | ({"items"} if everywhere else set())
            for table in sorted(tables):
                if (table == "items") == of_items:
                    counted = _counted_cells(log, feature, table, everywhere=everywhere)
                    yield Counted(counted, feature.name if feature.name in log.lists else "")


def _counted_cells(log: Log, feature: Feature, table: str, *, everywhere: bool) -> str:
    """SELECT of the cells of a feature as `value`, and of their counts `n`."""
    column = quoted(feature.name)
    if table == "items":
        rows = (
            "core.items r"
            if everywhere
            else "core.items r JOIN core.item_counts c ON c.item = r.item"
        )
        n = "1" if everywhere else "sum(c.n)"
        return f"SELECT r.{column} AS value, {n} AS n FROM {rows} GROUP BY 1"
    if table == "users":
        rows = "core.profiles r JOIN core.users u ON u.user = r.user"
        where = "" if everywhere else "WHERE u.trained"
        return f"SELECT r.{column} AS value, count(*) AS n FROM {rows} {where} GROUP BY 1"
    # If the impressions are the events, their rows are counted once.
    rows = "impressions" if log.events is None else table
    where = "" if everywhere else "WHERE NOT __test"
    return f"SELECT {column} AS value, count(*) AS n FROM __{rows} {where} GROUP BY 1"


def has_item_features(log: Log, features: Features) -> bool:
    """Whether a feature is a column of the items."""
    groups = _groups(log)
    return any(
        features.table(g, f.name) == "items" for g in ("behaviour", "candidate") for f in groups[g]
    )


def item_counts(log: Log, features: Features) -> str:
    """Return a SELECT of `item` and the number `n` of its training rows."""
    tables = ["impressions"] if log.events is None else ["impressions", "events"]
    counts = " UNION ALL ".join(
        f"SELECT item, count(*) AS n FROM __{table} WHERE NOT __test GROUP BY item"
        for table in tables
        if "item" in getattr(features, table)
    )
    return f"SELECT item, sum(n) AS n FROM ({counts}) GROUP BY item"
