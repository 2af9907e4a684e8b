"""The last step of an import: sort the rows in the engine and write them into a store's arrays, piece by piece.

The order is that of `scaling.store.rows`. Ties are broken by every column, so that no byte depends on the order of
the raw rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scaling.arrays import Array
from scaling.errors import UserError
from scaling.importers.declaration import Log
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.id_joins import encode_items, encoded, id_column
from scaling.importers.pipeline.vocabularies import Features
from scaling.importers.sql import quoted
from scaling.store import HistoryLengths, Schema, StoreDescription, StoreWriter, array_table

__all__ = ["write_rows"]


def write_rows(
    engine: Engine,
    log: Log,
    features: Features,
    schema: Schema,
    folder: Path,
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
        _encode_impressions(engine, log, features, schema)
    n, n_train, clicks = engine.rows(
        "SELECT count(*), count(*) FILTER (NOT in_test), count(*) FILTER (NOT in_test AND label = 1) FROM core.encoded"
    )[0]
    if clicks in (0, n_train):
        raise UserError(
            f"impressions: label is {int(clicks > 0)} in every row of the training part ({n_train:,}), expected clicks "
            "and non-clicks; take another label or another split"
        )
    n_users = engine.value("SELECT count(*) FROM core.users")
    n_events = engine.value("SELECT count(*) FROM __events")
    lengths = HistoryLengths()
    with StoreWriter(folder, array_table(schema, n_users, n_events, n, False)) as writer:
        with engine.progress.step("writing events"):
            offsets = _write_events(engine, features, schema, writer, n_users)
        with engine.progress.step("writing impressions"):
            n_requests = _write_impressions(engine, schema, writer, offsets, lengths)
        _write_profiles(engine, features, schema, writer)
    split: dict[str, Any] = {"kind": "user"}
    if boundary is not None:
        split = {"kind": "time", "boundary": boundary}
    writer.finish(
        StoreDescription(
            schema=schema,
            n_users=n_users,
            n_requests=n_requests,
            split={**split, "n_train": n_train},
            history_quantiles=lengths.quantiles(),
            source=source,
            utc_offset_seconds=log.utc_offset_seconds,
        )
    )


def _encode_impressions(engine: Engine, log: Log, features: Features, schema: Schema) -> None:
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
            raise UserError(f"impressions: {name} is {bad[0][0]}, expected a finite number")
        # -0 and 0 are equal in a sort but differ in their bytes.
        numbers.append(f"{number} + 0::FLOAT AS {quoted(f'numeric.{name}')}")
    others = ["r.__user AS user", "r.time", "r.__test AS in_test", "r.label::UTINYINT AS label"]
    groups = {"candidate": schema.candidate, "context": schema.context}
    select = encoded(schema, features, groups, rows, [*others, *numbers])
    engine.run(f"CREATE TABLE core.encoded AS {select}")


def _write_events(
    engine: Engine, features: Features, schema: Schema, writer: StoreWriter, n_users: int
) -> Array:
    """Write the behaviours in order; return the offsets, int64 [n_users + 1]."""
    ids = [id_column("behaviour", feature) for feature in schema.behaviour]
    select = encoded(
        schema,
        features,
        {"behaviour": schema.behaviour},
        "__events",
        ["r.__user AS user", "r.time"],
    )
    counts = np.zeros(n_users, dtype=np.int64)
    for piece in engine.stream(
        f"SELECT * FROM ({select}) ORDER BY {', '.join(['user', 'time', *ids])}"
    ):
        # A piece has few users, and their numbers are adjacent.
        first = int(piece["user"][0])
        found = np.bincount(piece["user"] - first)
        counts[first : first + len(found)] += found
        writer.append("behaviours/time", piece["time"])
        for feature in schema.behaviour:
            writer.append(f"behaviours/feature.{feature.name}", piece[f"behaviour.{feature.name}"])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    writer.append("behaviours/offsets", offsets)
    return offsets


def _write_impressions(
    engine: Engine, schema: Schema, writer: StoreWriter, offsets: Array, lengths: HistoryLengths
) -> int:
    """Write the impressions in order; return the number of requests."""
    columns = [
        *(f"candidate.{feature.name}" for feature in schema.candidate),
        *(f"context.{feature.name}" for feature in schema.context),
        *(f"numeric.{name}" for name in schema.numeric),
        "label",
    ]
    order = ", ".join(["in_test", "time", "user", *map(quoted, columns)])
    # An event in the same second comes after the impression and is not counted.
    both = (
        "SELECT *, 0::UTINYINT AS is_event FROM core.encoded UNION ALL BY NAME "
        "SELECT __user AS user, time, 1::UTINYINT AS is_event FROM __events"
    )
    seen = "sum(is_event) OVER (PARTITION BY user ORDER BY time, is_event ROWS UNBOUNDED PRECEDING)"
    request, last = -1, None
    for piece in engine.stream(
        f"SELECT * EXCLUDE is_event FROM (SELECT *, {seen}::BIGINT AS seen FROM ({both})) "
        f"WHERE is_event = 0 ORDER BY {order}"
    ):
        keys = np.stack([piece[name].astype(np.int64) for name in ("in_test", "time", "user")])
        new = np.append(
            last is None or (keys[:, 0] != last).any(), (np.diff(keys) != 0).any(axis=0)
        )
        requests = request + np.cumsum(new)
        request, last = int(requests[-1]), keys[:, -1]
        lengths.add(piece["seen"])
        writer.append("impressions/user", piece["user"])
        writer.append("impressions/time", piece["time"])
        writer.append("impressions/history_end", offsets[piece["user"]] + piece["seen"])
        writer.append("impressions/request", requests)
        for name in columns:
            writer.append(f"impressions/{name}", piece[name])
    return request + 1


def _write_profiles(
    engine: Engine, features: Features, schema: Schema, writer: StoreWriter
) -> None:
    if not schema.profile:
        return
    rows = "(SELECT * FROM core.users LEFT JOIN core.profiles USING (user))"
    select = encoded(schema, features, {"profile": schema.profile}, rows, ["r.number"])
    for piece in engine.stream(f"SELECT * FROM ({select}) ORDER BY number"):
        for feature in schema.profile:
            writer.append(f"profile/feature.{feature.name}", piece[f"profile.{feature.name}"])
