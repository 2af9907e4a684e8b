"""`write_store`: a store from arrays in memory, which are checked before anything is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scaling.arrays import Array
from scaling.atomic_files import atomic_folder
from scaling.errors import UserError
from scaling.store.event_store import EventStore
from scaling.store.format import (
    UNKNOWN,
    WEIGHTS,
    Feature,
    Schema,
    array_table,
    check_schema,
)
from scaling.store.opening import open_store
from scaling.store.rows import Events, Impressions, one_class, sorted_arrays
from scaling.store.writer import HistoryLengths, StoreDescription, StoreWriter

__all__ = ["check_input", "write_store"]


def write_store(
    path: Path | str,
    schema: Schema,
    events: Events,
    impressions: Impressions,
    profiles: Mapping[str, Array],
    *,
    n_users: int,
    split: Mapping[str, Any],
    source: Mapping[str, Any],
    utc_offset_seconds: int = 0,
    truth: Mapping[str, float] | None = None,
) -> EventStore:
    """Write a store from arrays in any row order and open it; nothing is left behind after an error.

    Events are sorted by (user, time), impressions by (part, time, user), and both then by content, so that the
    store does not depend on the order of the input. `split` states how the parts were made: `{"kind": "time",
    "boundary": seconds}`, `{"kind": "user"}` or `{"kind": "given"}`. The arrays of `profiles` are [n_users].

    Raises:
        UserError: arrays do not fit the schema, a label is neither 0 nor 1, a part is empty, `path` exists, or
            the disk is full.
    """
    path = Path(path)
    check_input(path, schema, events, impressions, profiles, n_users)
    arrays, n_train = sorted_arrays(schema, events, impressions, profiles, n_users)
    table = array_table(
        schema,
        n_users,
        len(events.time),
        len(impressions.time),
        impressions.probability is not None,
        n_values={name: len(values) for name, values in arrays.items()},
    )
    lengths = HistoryLengths()
    lengths.add(
        arrays["impressions/history_end"] - arrays["behaviours/offsets"][arrays["impressions/user"]]
    )
    n_requests = int(arrays["impressions/request"][-1]) + 1
    with atomic_folder(path) as folder:
        with StoreWriter(folder, table) as writer:
            for name in table:
                writer.append(name, arrays.pop(name))
        writer.finish(
            StoreDescription(
                schema=schema,
                n_users=n_users,
                n_requests=n_requests,
                split={**split, "n_train": n_train},
                history_quantiles=lengths.quantiles(),
                source=source,
                utc_offset_seconds=utc_offset_seconds,
                truth=truth,
            )
        )
    return open_store(path)


def check_input(
    path: Path,
    schema: Schema,
    events: Events,
    impressions: Impressions,
    profiles: Mapping[str, Array],
    n_users: int,
) -> None:
    """Check the arrays passed to `write_store`.

    Raises:
        UserError: the first array and row that break a rule of the format.
    """
    check_schema(path, schema)
    n_events, n = len(events.time), len(impressions.time)
    for what, ids, rows in (
        ("event user", events.user, n_events),
        ("impression user", impressions.user, n),
    ):
        _check_column(path, what, ids, rows, 0, n_users)
    groups: tuple[tuple[str, tuple[Feature, ...], Mapping[str, Array], int], ...] = (
        ("behaviour", schema.behaviour, events.features, n_events),
        ("candidate", schema.candidate, impressions.candidates, n),
        ("context", schema.context, impressions.contexts, n),
        ("profile", schema.profile, profiles, n_users),
    )
    for group, features, columns, rows in groups:
        for feature in features:
            if feature.name not in columns:
                raise UserError(
                    f"{path}: {group} feature {feature.name!r} has no values, expected an array of {rows:,}"
                )
            size = schema.vocabularies[feature.vocabulary]
            what = f"{group} {feature.name}"
            if feature.max_values > 1:
                _check_lists(path, what, feature, columns[feature.name], rows, size)
            else:
                _check_column(path, what, columns[feature.name], rows, 1, size)
            if feature.weighted:
                _check_weights(path, what, feature, columns)
    for name in schema.numeric:
        values = np.asarray(impressions.numerics[name])
        _check_rows(path, f"numeric {name}", values, n, np.isfinite(values), "a finite number")
    label = np.asarray(impressions.label)
    _check_rows(path, "label", label, n, (label == 0) | (label == 1), "0 or 1")
    if impressions.probability is not None:
        p = np.asarray(impressions.probability, dtype=np.float32)
        _check_rows(path, "probability", p, n, (p > 0) & (p < 1), "a number between 0 and 1")
    n_test = int(np.count_nonzero(impressions.in_test))
    if not 0 < n_test < n:
        part = "test" if n_test == 0 else "training"
        raise UserError(
            f"{path}: the split leaves the {part} part without impressions, expected some in both parts"
        )
    for line in one_class(f"{path}: label", label[~np.asarray(impressions.in_test, dtype=bool)]):
        raise UserError(line)
    times = [np.asarray(t) for t in (events.time, impressions.time) if len(t)]
    span = int(max(t.max() for t in times)) - int(min(t.min() for t in times)) + 1
    if span * n_users >= 2**63:
        raise UserError(f"{path}: times span {span:,} seconds; are they really in seconds?")


def _check_lists(path: Path, what: str, feature: Feature, ids: Array, rows: int, size: int) -> None:
    ids = np.asarray(ids)
    if ids.shape != (rows, feature.max_values):
        raise UserError(
            f"{path}: {what} has shape {ids.shape}, expected ({rows}, {feature.max_values})"
        )
    filled = ids > 0
    ascends = (ids[:, 1:] > ids[:, :-1]) | ~filled[:, 1:]
    good = filled[:, 0] & (ids < size).all(1) & ascends.all(1) & (ids >= 0).all(1)
    good &= (filled[:, :-1] | ~filled[:, 1:]).all(1)
    if not good.all():
        row = int(np.argmin(good))
        raise UserError(
            f"{path}: {what}: row {row:,} is {ids[row].tolist()}, expected one id or more, each 1 to {size - 1} and above "
            "the one before, then 0"
        )


def _check_weights(path: Path, what: str, feature: Feature, columns: Mapping[str, Array]) -> None:
    name = f"{feature.name}{WEIGHTS}"
    ids = np.asarray(columns[feature.name])
    if name not in columns or np.shape(columns[name]) != ids.shape:
        found = f"has shape {np.shape(columns[name])}" if name in columns else "is missing"
        raise UserError(f"{path}: {what}: {name} {found}, expected {ids.shape}")
    weights = np.asarray(columns[name])
    good = np.isfinite(weights) & ((weights > 0) | (feature.pooling == "sum")) | (ids == 0)
    if feature.max_values == 1:
        good &= (ids != UNKNOWN) | (weights == 1)
    if not good.all():
        row = int(np.argmin(good.reshape(len(ids), -1).all(1)))
        expected = "finite numbers" if feature.pooling == "sum" else "numbers above 0"
        expected += ", and 1 for the unknown id" * (feature.max_values == 1)
        raise UserError(
            f"{path}: {what}: row {row:,} of {name} is {weights[row].tolist()}, expected {expected}"
        )


def _check_column(path: Path, what: str, ids: Array, rows: int, low: int, high: int) -> None:
    ids = np.asarray(ids)
    _check_rows(path, what, ids, rows, (ids >= low) & (ids < high), f"{low} to {high - 1}")


def _check_rows(
    path: Path, what: str, values: Array, rows: int, good: Array, expected: str
) -> None:
    if values.shape != (rows,):
        raise UserError(f"{path}: {what} has shape {values.shape}, expected ({rows},)")
    if not good.all():
        row = int(np.argmin(good))
        raise UserError(f"{path}: {what}: row {row:,} is {values[row]}, expected {expected}")
