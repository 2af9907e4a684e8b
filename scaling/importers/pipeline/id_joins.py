"""Joins: with the rows of items and users, and how many find theirs; and of raw values with their ids, of cells with ranks."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scaling.errors import UserError
from scaling.importers.declaration import Log
from scaling.importers.pipeline.cell_ranks import rank_table
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.vocabularies import Features, vocabulary_table
from scaling.importers.sql import quoted
from scaling.store import UNKNOWN, Feature, Schema

__all__ = [
    "Found",
    "encode_items",
    "encoded",
    "find_lost",
    "found_counts",
    "id_column",
    "make_lookup",
    "make_lookups",
    "report_found",
]


logger = logging.getLogger(__name__)
KEYS = {"items": "item", "profiles": "user"}
# A join that finds less than this share of the rows is probably a mistake.
_FEW_FOUND = 0.5
TYPES = {np.dtype("u1"): "UTINYINT", np.dtype("u2"): "USMALLINT", np.dtype("u4"): "UINTEGER"}


def make_lookups(engine: Engine, log: Log) -> None:
    """Create `core.items` and `core.profiles`, as far as the log has them.

    Raises:
        UserError: an item or a user occurs twice.
    """
    make_lookup(engine, "items", log.items)
    make_lookup(engine, "profiles", log.users)


def make_lookup(engine: Engine, name: str, select: str | None) -> None:
    """Create `core.items` or `core.profiles` from its SELECT, if there is one.

    Raises:
        UserError: an item or a user occurs twice.
    """
    if select is None:
        return
    key = KEYS[name]
    engine.run(f"CREATE TABLE core.{name} AS {select}")
    twice = engine.rows(
        f"SELECT {key} FROM core.{name} GROUP BY {key} HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
    )
    if twice:
        raise UserError(f"{name}: {key} {twice[0][0]} occurs twice, expected one row per {key}")


class Found(NamedTuple):
    """How many of the rows `rows` have a row in the table `of`, and an id of both sides for a message."""

    of: str
    rows: str
    key: str
    n_found: int
    n: int
    lost: Any
    other: Any


def find_lost(engine: Engine, log: Log, features: Features) -> list[Found]:
    """Return how many rows have a row in the items and in the users."""
    found = []
    tables = ["impressions"] if log.events is None else ["impressions", "events"]
    for table, key in KEYS.items():
        if (log.items if table == "items" else log.users) is None:
            continue
        name = "users" if table == "profiles" else table
        for rows in tables if table == "items" else ["impressions"]:
            if key not in getattr(features, rows):
                continue
            ids = f"(SELECT {key}, count(*) AS n FROM __{rows} GROUP BY {key})"
            joined = f"{ids} r LEFT JOIN (SELECT {key} AS other FROM core.{table}) ON {key} = other"
            n, n_found, lost = engine.rows(
                "SELECT coalesce(sum(n), 0)::BIGINT, coalesce(sum(n) FILTER (other IS NOT NULL), 0)::BIGINT, "
                f"min({key}) FILTER (other IS NULL) FROM {joined}"
            )[0]
            other = engine.value(f"SELECT min({key}) FROM core.{table}")
            found.append(Found(name, rows, key, n_found, n, lost, other))
    return found


def report_found(log: Log, found: Sequence[Found]) -> None:
    """Report how many rows have a row in the items and in the users, if these are others; few are a warning."""
    for one in found:
        if one.of == "items" and log.items_of_rows:
            continue
        line = f"{one.rows}: {one.n_found:,} of {one.n:,} rows found their {one.key} in [{one.of}]"
        if one.n_found >= _FEW_FOUND * one.n:
            logger.info("%s", line)
        else:
            logger.warning(
                "%s; ids are compared as text: %r here, %r there", line, one.lost, one.other
            )


def found_counts(log: Log, found: Sequence[Found]) -> dict[str, dict[str, list[int]]]:
    """Return the counts as [found, all], by table, for the store's `source`."""
    counts: dict[str, dict[str, list[int]]] = {}
    if log.items is not None:
        counts["items"] = {}
    if log.users is not None:
        counts["users"] = {}
    for one in found:
        counts[one.of][one.rows] = [one.n_found, one.n]
    return counts


def id_column(group: str, feature: Feature) -> str:
    """Return the quoted name of the column with a feature's ids in `encoded`."""
    return quoted(f"{group}.{feature.name}")


def encode_items(engine: Engine, schema: Schema, features: Features) -> None:
    """Create the table `core.item_ids`, if a feature is a column of the items."""
    wanted = {
        feature
        for group in ("behaviour", "candidate")
        for feature in getattr(schema, group)
        if features.table(group, feature.name) == "items"
    }
    if wanted:
        members = sorted(wanted)
        ids = [f"{_id(schema, f, f'v{i}')} AS {quoted(f.name)}" for i, f in enumerate(members)]
        joins = [_join(feature, f"v{i}") for i, feature in enumerate(members)]
        engine.run(
            f"CREATE TABLE core.item_ids AS SELECT r.item, {', '.join(ids)} FROM core.items r {' '.join(joins)}"
        )


def encoded(
    schema: Schema,
    features: Features,
    groups: Mapping[str, Sequence[Feature]],
    rows: str,
    others: Sequence[str],
) -> str:
    """Return a SELECT of the columns `others` and the ids of every feature in `groups`, from `rows` (alias `r`)."""
    columns, joins = list(others), []
    if any(features.table(g, f.name) == "items" for g, members in groups.items() for f in members):
        joins.append("LEFT JOIN core.item_ids i ON i.item = r.item")
    for group, members in groups.items():
        for feature in members:
            if features.table(group, feature.name) == "items":
                value = _or_unknown(schema, feature, f"i.{quoted(feature.name)}")
            else:
                value = _id(schema, feature, f"v{len(joins)}")
                joins.append(_join(feature, f"v{len(joins)}"))
            columns.append(f"{value} AS {id_column(group, feature)}")
    return f"SELECT {', '.join(columns)} FROM {rows} r {' '.join(joins)}"


def _id(schema: Schema, feature: Feature, alias: str) -> str:
    return _or_unknown(schema, feature, f"{alias}.id")


def _or_unknown(schema: Schema, feature: Feature, found: str) -> str:
    """SQL for an id, or for the rank of a cell if the feature is not plain."""
    if feature.is_plain:
        return f"coalesce({found}, {UNKNOWN})::{TYPES[schema.dtype(feature)]}"
    empty = f"SELECT id FROM {rank_table(feature.name)} WHERE value IS NULL"
    return f"coalesce({found}, ({empty}))::UINTEGER"


def _join(feature: Feature, alias: str) -> str:
    ids = vocabulary_table(feature.vocabulary) if feature.is_plain else rank_table(feature.name)
    return f"LEFT JOIN {ids} {alias} ON {alias}.value = r.{quoted(feature.name)}"
