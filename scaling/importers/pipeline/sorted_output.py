"""The last step of an import: sort the rows in the engine and write them into a store's arrays, piece by piece.

The order is that of `scaling.store.rows`. Ties are broken by every column, so that no byte depends on the order of
the raw rows.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scaling.arrays import Array
from scaling.errors import UserError
from scaling.importers.declaration import GivenSplit, Log
from scaling.importers.pipeline.cell_ranks import Append, RankedCells, expanding
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.id_joins import encode_items, encoded, id_column
from scaling.importers.pipeline.vocabularies import Features
from scaling.importers.sql import quoted
from scaling.store import (
    HistoryLengths,
    Schema,
    StoreDescription,
    StoreWriter,
    array_table,
    feature_arrays,
)

__all__ = [
    "append_events",
    "append_impressions",
    "append_profiles",
    "count_values",
    "encode_impressions",
    "encoded_events",
    "encoded_profiles",
    "impressions_with_history",
    "refuse_one_class",
    "store_description",
    "training_sizes",
    "write_rows",
]

_USERS = "(SELECT u.number AS __number, p.* FROM core.users u LEFT JOIN core.profiles p ON p.user = u.user)"


def write_rows(
    engine: Engine,
    log: Log,
    features: Features,
    schema: Schema,
    folder: Path,
    cells: Mapping[str, RankedCells],
    *,
    boundary: int | None,
    source: Mapping[str, Any],
) -> None:
    """Write the store into `folder`.

    Raises:
        UserError: a number is missing or not finite, or the training part has only one class.
    """
    with engine.progress.step("encoding"):
        encode_items(engine, schema, features)
        encode_impressions(engine, log, features, schema)
    n, n_train, clicks = training_sizes(engine)
    refuse_one_class(n_train, clicks)
    n_users = engine.value("SELECT count(*) FROM core.users")
    n_events = engine.value("SELECT count(*) FROM __events")
    lengths = HistoryLengths()
    n_values = count_values(engine, features, schema, cells)
    table = array_table(schema, n_users, n_events, n, False, n_values=n_values)
    with StoreWriter(folder, table) as writer:
        append = expanding(schema, cells, writer.append)
        with engine.progress.step("writing events"):
            offsets = _write_events(engine, features, schema, append, n_users)
        with engine.progress.step("writing impressions"):
            n_requests = _write_impressions(engine, schema, append, offsets, lengths)
        if schema.profile:
            append_profiles(engine, schema, append, encoded_profiles(schema, features))
    writer.finish(
        store_description(
            log,
            schema,
            n_users=n_users,
            n_requests=n_requests,
            n_train=n_train,
            boundary=boundary,
            history_quantiles=lengths.quantiles(),
            source=source,
        )
    )


def count_values(
    engine: Engine, features: Features, schema: Schema, cells: Mapping[str, RankedCells]
) -> dict[str, int]:
    """Return the number of ids in all cells, by the path of each array of a feature with several values per cell."""
    found = {}
    for path, feature, _ in feature_arrays(schema, 0, 0, 0):
        if feature.max_values == 1:
            continue
        place, group = path.split(".")[0].split("/")
        rows = "FROM core.encoded"
        if place != "impressions":
            group, table = {
                "behaviours": ("behaviour", "__events"),
                "profile": ("profile", _USERS),
            }[place]
            rows = encoded(schema, features, {group: [feature]}, table, [])
        ranks = f"SELECT {id_column(group, feature)} AS id FROM ({rows})"
        found[path] = cells[feature.name].count_ids(engine, ranks)
    return found


def store_description(
    log: Log, schema: Schema, *, n_train: int, boundary: int | None, **others: Any
) -> StoreDescription:
    """Return what `dataset.json` states; `others` are further attributes of `StoreDescription`."""
    split: dict[str, Any] = {"kind": "given" if isinstance(log.split, GivenSplit) else "user"}
    if boundary is not None:
        split = {"kind": "time", "boundary": boundary}
    return StoreDescription(
        schema=schema,
        split={**split, "n_train": n_train},
        utc_offset_seconds=log.utc_offset_seconds,
        **others,
    )


def training_sizes(engine: Engine) -> tuple[int, int, int]:
    """Return the numbers of encoded impressions, of those of the training part, and of clicks in that part."""
    n, n_train, clicks = engine.rows(
        "SELECT count(*), count(*) FILTER (NOT in_test), count(*) FILTER (NOT in_test AND label = 1) FROM core.encoded"
    )[0]
    return n, n_train, clicks


def refuse_one_class(n_train: int, clicks: int) -> None:
    """Refuse a training part of clicks only, or of none.

    Raises:
        UserError: says which.
    """
    if clicks in (0, n_train):
        raise UserError(
            f"impressions: label is {int(clicks > 0)} in every row of the training part ({n_train:,}), expected clicks "
            "and non-clicks; take another label or another split"
        )


def encode_impressions(engine: Engine, log: Log, features: Features, schema: Schema) -> None:
    """Create the table `core.encoded`: the impressions with ids, in any order.

    Raises:
        UserError: a number is missing or not finite.
    """
    rows = "(SELECT i.*, u.number AS __user FROM __impressions i JOIN core.users u USING (user))"
    if log.negatives is not None:
        drawn = "SELECT n.*, u.number AS __user, 0 AS label FROM core.negatives n JOIN core.users u USING (user)"
        rows = f"(SELECT *, 1 AS label FROM {rows} UNION ALL BY NAME {drawn})"
    numbers = []
    for name in log.numeric:
        number = f"r.{quoted(name)}::FLOAT"
        bad = engine.rows(
            f"SELECT {quoted(name)}::VARCHAR FROM __impressions r WHERE NOT coalesce(isfinite({number}), false) "
            "ORDER BY 1 LIMIT 1"
        )
        if bad:
            hint = log.numeric_hints.get(name, "") if bad[0][0] is None else ""
            raise UserError(f"impressions: {name} is {bad[0][0]}, expected a finite number{hint}")
        # -0 and 0 are equal in a sort but differ in their bytes.
        numbers.append(f"{number} + 0::FLOAT AS {quoted(f'numeric.{name}')}")
    others = ["r.__user AS user", "r.time", "r.__test AS in_test", "r.label::UTINYINT AS label"]
    groups = {"candidate": schema.candidate, "context": schema.context}
    select = encoded(schema, features, groups, rows, [*others, *numbers])
    engine.run(f"CREATE TABLE core.encoded AS {select}")


def encoded_events(schema: Schema, features: Features) -> str:
    """Return a SELECT of the events with ids, in any order."""
    others = ["r.__user AS user", "r.time"]
    return encoded(schema, features, {"behaviour": schema.behaviour}, "__events", others)


def encoded_profiles(schema: Schema, features: Features) -> str:
    """Return a SELECT of the users' numbers and profiles with ids, in any order."""
    return encoded(schema, features, {"profile": schema.profile}, _USERS, ["r.__number AS number"])


def impressions_with_history(columns: str = "*") -> str:
    """Return a SELECT of `columns` of `core.encoded`, and of `seen`: the number of earlier events of the user."""
    # An event in the same second comes after the impression and is not counted.
    both = (
        f"SELECT {columns}, 0::UTINYINT AS is_event FROM core.encoded UNION ALL BY NAME "
        "SELECT __user AS user, time, 1::UTINYINT AS is_event FROM __events"
    )
    seen = "sum(is_event) OVER (PARTITION BY user ORDER BY time, is_event ROWS UNBOUNDED PRECEDING)"
    return (
        f"SELECT * EXCLUDE is_event FROM (SELECT *, {seen}::BIGINT AS seen FROM ({both})) "
        "WHERE is_event = 0"
    )


def append_events(engine: Engine, schema: Schema, append: Append, events: str) -> Iterator[Array]:
    """Append the behaviours of the SELECT `events` in order, and yield the users of each piece."""
    ids = [id_column("behaviour", feature) for feature in schema.behaviour]
    for piece in engine.stream(
        f"SELECT * FROM ({events}) ORDER BY {', '.join(['user', 'time', *ids])}"
    ):
        append("behaviours/time", piece["time"])
        for feature in schema.behaviour:
            append(f"behaviours/feature.{feature.name}", piece[f"behaviour.{feature.name}"])
        yield piece["user"]


def _write_events(
    engine: Engine, features: Features, schema: Schema, append: Append, n_users: int
) -> Array:
    """Write the behaviours in order; return the offsets, int64 [n_users + 1]."""
    # in place, because a log may have hundreds of millions of users
    offsets = np.zeros(n_users + 1, dtype=np.int64)
    counts = offsets[1:]
    for user in append_events(engine, schema, append, encoded_events(schema, features)):
        # A piece has few users, and their numbers are adjacent.
        first = int(user[0])
        found = np.bincount(user - first)
        counts[first : first + len(found)] += found
    np.cumsum(counts, out=counts)
    append("behaviours/offsets", offsets)
    return offsets


def append_impressions(
    engine: Engine, schema: Schema, append: Append, rows: str, first_request: int
) -> Iterator[tuple[dict[str, Array], int]]:
    """Append the impressions of the SELECT `rows` in order, but for the ends of their histories.

    Yields each piece, with the number of requests so far.
    """
    columns = [
        *(f"candidate.{feature.name}" for feature in schema.candidate),
        *(f"context.{feature.name}" for feature in schema.context),
        *(f"numeric.{name}" for name in schema.numeric),
        "label",
    ]
    order = ", ".join(["in_test", "time", "user", *map(quoted, columns)])
    request, last = first_request - 1, None
    for piece in engine.stream(f"SELECT * FROM ({rows}) ORDER BY {order}"):
        keys = np.stack([piece[name].astype(np.int64) for name in ("in_test", "time", "user")])
        new = np.append(
            last is None or (keys[:, 0] != last).any(), (np.diff(keys) != 0).any(axis=0)
        )
        requests = request + np.cumsum(new)
        request, last = int(requests[-1]), keys[:, -1]
        append("impressions/user", piece["user"])
        append("impressions/time", piece["time"])
        append("impressions/request", requests)
        for name in columns:
            append(f"impressions/{name}", piece[name])
        yield piece, request + 1


def _write_impressions(
    engine: Engine, schema: Schema, append: Append, offsets: Array, lengths: HistoryLengths
) -> int:
    """Write the impressions in order; return the number of requests."""
    n_requests, rows = 0, impressions_with_history()
    for piece, so_far in append_impressions(engine, schema, append, rows, 0):
        n_requests = so_far
        lengths.add(piece["seen"])
        append("impressions/history_end", offsets[piece["user"]] + piece["seen"])
    return n_requests


def append_profiles(engine: Engine, schema: Schema, append: Append, profiles: str) -> None:
    """Append the profiles of the SELECT `profiles` in order."""
    for piece in engine.stream(f"SELECT * FROM ({profiles}) ORDER BY number"):
        for feature in schema.profile:
            append(f"profile/feature.{feature.name}", piece[f"profile.{feature.name}"])
