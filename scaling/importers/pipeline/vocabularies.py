"""Ids of raw values: 0 is padding, 1 is unknown, then the values of the training part in sorted order.

Because of the sorting, ids do not depend on the order of the raw rows. In a hashed vocabulary an id is a bucket.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError, nearest
from scaling.importers.declaration import Log
from scaling.importers.pipeline.engine import Engine
from scaling.importers.sql import quoted
from scaling.store import UNKNOWN, Feature, Schema, check_schema

__all__ = ["Features", "check_names", "find_features", "make_vocabularies"]


FIRST = UNKNOWN + 1


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
    """Create `core.items` and `core.profiles`, and return the columns of every table.

    Raises:
        UserError: an item or a user occurs twice.
    """
    for name, select, key in (("items", log.items, "item"), ("profiles", log.users, "user")):
        if select is None:
            continue
        engine.run(f"CREATE TABLE core.{name} AS {select}")
        twice = engine.rows(
            f"SELECT {key} FROM core.{name} GROUP BY {key} HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
        )
        if twice:
            raise UserError(f"{name}: {key} {twice[0][0]} occurs twice, expected one row per {key}")
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
    if any(
        features.table(g, f) == "items" for g in ("behaviour", "candidate") for f in getattr(log, g)
    ):
        _count_items(engine, log, features)
    groups = _groups(log)
    names = sorted({feature.vocabulary for group in groups.values() for feature in group})
    unknown = next((name for name in log.hashed if name not in names), None)
    if unknown is not None:
        raise UserError(
            f"hashed vocabulary {unknown!r}: no feature uses it{nearest(unknown, names)}"
        )
    sizes = {}
    for name in names:
        counted = set(_counted(log, features, groups, name, everywhere=name in log.hashed))
        values = (
            f"SELECT value FROM ({' UNION ALL '.join(sorted(counted))}) "
            "WHERE value IS NOT NULL AND value::VARCHAR != '' GROUP BY value"
        )
        table = f"core.{quoted(f'vocabulary {name}')}"
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
    return Schema(**groups, numeric=log.numeric, vocabularies=sizes)


def check_names(where: Path, log: Log) -> None:
    """Check before any work that the names of the features can be part of file names.

    Raises:
        UserError: the first name that cannot.
    """
    groups = _groups(log)
    vocabularies = {feature.vocabulary: FIRST for group in groups.values() for feature in group}
    check_schema(where, Schema(**groups, numeric=log.numeric, vocabularies=vocabularies))


def _groups(log: Log) -> dict[str, tuple[Feature, ...]]:
    return {
        group: tuple(Feature(name, log.vocabulary(name)) for name in getattr(log, group))
        for group in ("behaviour", "candidate", "context", "profile")
    }


def _counted(
    log: Log,
    features: Features,
    groups: dict[str, tuple[Feature, ...]],
    vocabulary: str,
    *,
    everywhere: bool,
) -> Iterator[str]:
    """Yield a SELECT of `value` and its count `n` for each column with values of the vocabulary."""
    for group, members in groups.items():
        for feature in members:
            if feature.vocabulary != vocabulary:
                continue
            column, table = quoted(feature.name), features.table(group, feature.name)
            if table == "items":
                rows = (
                    "core.items" if everywhere else "core.items JOIN core.item_counts USING (item)"
                )
                n = "1" if everywhere else "sum(n)"
                yield f"SELECT {column} AS value, {n} AS n FROM {rows} GROUP BY value"
            elif table == "users":
                rows = "core.profiles JOIN core.users USING (user)"
                where = "" if everywhere else "WHERE trained"
                yield f"SELECT {column} AS value, count(*) AS n FROM {rows} {where} GROUP BY value"
            else:
                # If the impressions are the events, their rows are counted once.
                rows = "impressions" if log.events is None else table
                where = "" if everywhere else "WHERE NOT __test"
                yield f"SELECT {column} AS value, count(*) AS n FROM __{rows} {where} GROUP BY value"


def _count_items(engine: Engine, log: Log, features: Features) -> None:
    tables = ["impressions"] if log.events is None else ["impressions", "events"]
    counts = " UNION ALL ".join(
        f"SELECT item, count(*) AS n FROM __{table} WHERE NOT __test GROUP BY item"
        for table in tables
        if "item" in getattr(features, table)
    )
    engine.run(
        f"CREATE TABLE core.item_counts AS SELECT item, sum(n) AS n FROM ({counts}) GROUP BY item"
    )
