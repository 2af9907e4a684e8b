"""Checks of what an event store holds, row by row; `scaling.store` checks only that the arrays are there.

Each check raises `UserError` with the file and the first row that breaks the format.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.errors import UserError
from scaling.metrics import true_limits
from scaling.store import EventStore
from scaling.store_document import document_fingerprint
from scaling.store_format import Feature, Schema, check_schema, content_digest
from scaling.store_rows import Events, Impressions

__all__ = ["check_input", "check_store"]

Array = NDArray[Any]
CHUNK = 1 << 20  # rows looked at together: the checks need no memory that grows with the store


def check_store(
    store: EventStore, document: Mapping[str, Any], arrays: Mapping[str, Array]
) -> None:
    """Check every row of an opened store, then its fingerprint.

    Raises:
        UserError: the first breach, with file and row.
    """
    _check_events(store)
    _check_impressions(store)
    _check_split(store)
    _check_ids(store, arrays)
    for name, array in arrays.items():
        if content_digest(array) != document["arrays"][name]["sha256"]:
            raise UserError(
                f"{store.path / name}.npy: contents differ from the sha256 in dataset.json; make the data set again"
            )
    if document_fingerprint(document) != store.fingerprint:
        raise UserError(f"{store.path / 'dataset.json'}: fingerprint does not match the contents")
    _check_truth(store)


def _check_events(store: EventStore) -> None:
    offsets = store.offsets
    file = store.path / "behaviours"
    if offsets[0] != 0 or offsets[-1] != store.n_events:
        raise UserError(
            f"{file / 'offsets.npy'}: runs from {offsets[0]} to {offsets[-1]}, expected 0 to {store.n_events:,}"
        )
    _require(
        file / "offsets.npy", store.n_users, lambda r: offsets[_next(r)] >= offsets[r], "decreases"
    )
    first = np.zeros(store.n_events + 1, dtype=bool)
    first[offsets] = True
    time = store.event_time
    _require(
        file / "time.npy",
        store.n_events - 1,
        lambda r: (time[_next(r)] >= time[r]) | first[_next(r)],
        "is later than the next event of the same user; events must be sorted by (user, time)",
    )


def _check_impressions(store: EventStore) -> None:
    folder = store.path / "impressions"
    n = store.n_impressions
    user, time, end, offsets = store.user, store.time, store.history_end, store.offsets
    _require(
        folder / "user.npy",
        n,
        lambda r: (user[r] >= 0) & (user[r] < store.n_users),
        f"is not a user, expected 0 to {store.n_users - 1}",
    )
    _require(
        folder / "history_end.npy",
        n,
        lambda r: (end[r] >= offsets[user[r]]) & (end[r] <= offsets[user[r].astype(np.int64) + 1]),
        "is outside the user's events",
    )

    def is_strict(rows: slice) -> Array:
        start, stop, at = offsets[user[rows]], offsets[user[rows].astype(np.int64) + 1], end[rows]
        before = np.ones(len(at), dtype=bool)
        some, more = at > start, at < stop
        before[some] = store.event_time[at[some] - 1] < time[rows][some]
        before[more] &= store.event_time[at[more]] >= time[rows][more]
        return before

    _require(
        folder / "history_end.npy",
        n,
        is_strict,
        "does not end the history just before the impression's second",
    )
    _require(folder / "label.npy", n, lambda r: store.label[r] <= 1, "is neither 0 nor 1")
    _require_both_classes(f"{folder / 'label.npy'}", store.label[: store.n_train])
    if store.probability is not None:
        p = store.probability
        _require(
            folder / "probability.npy",
            n,
            lambda r: (p[r] > 0) & (p[r] < 1),
            "is not between 0 and 1",
        )
    for name, values in store.numerics.items():
        _require(
            folder / f"numeric.{name}.npy",
            n,
            partial(_is_finite, values),
            "is not finite",
        )


def _check_split(store: EventStore) -> None:
    folder, n_train = store.path / "impressions", store.n_train
    user, time, request = store.user, store.time, store.request
    border = n_train - 1

    def in_order(rows: slice) -> Array:
        following = _next(rows)
        later: Array = (time[following] > time[rows]) | (
            (time[following] == time[rows]) & (user[following] >= user[rows])
        )
        later |= np.arange(rows.start, rows.stop) == border
        return later

    def numbered(rows: slice) -> Array:
        following = _next(rows)
        new = (user[following] != user[rows]) | (time[following] != time[rows])
        new |= np.arange(rows.start, rows.stop) == border
        return np.asarray(request[following] - request[rows] == new)

    last = store.n_impressions - 1
    _require(folder / "time.npy", last, in_order, "breaks the order by (part, time, user)")
    _require(folder / "request.npy", last, numbered, "is not followed by the right request number")
    if store.split["kind"] == "time":
        boundary = store.split["boundary"]
        if not time[border] < boundary <= time[n_train]:
            raise UserError(f"{folder / 'time.npy'}: the parts overlap in time at {boundary}")
    elif np.isin(np.unique(user[:n_train]), user[n_train:]).any():
        raise UserError(f"{folder / 'user.npy'}: a user is in the training and in the test part")


def _check_truth(store: EventStore) -> None:
    """The truth is compared with data once generated, so it must be that of the stored probabilities."""
    if store.truth is None:
        return
    file = store.path / "dataset.json"
    if store.probability is None:
        raise UserError(f"{file}: truth: given, but there is no impressions/probability")
    limits = true_limits(store.probability[store.n_train :])
    for name, value in store.truth.items():
        # The writer summed the same numbers in another order.
        if name not in limits or abs(value - limits[name]) > 1e-9:
            raise UserError(
                f"{file}: truth.{name} is {value}, but the stored probabilities give {limits.get(name)}"
            )


def _check_ids(store: EventStore, arrays: Mapping[str, Array]) -> None:
    for prefix, features in (
        ("behaviours/feature.", store.schema.behaviour),
        ("impressions/candidate.", store.schema.candidate),
        ("impressions/context.", store.schema.context),
        ("profile/feature.", store.schema.profile),
    ):
        for feature in features:
            name, size = prefix + feature.name, store.schema.vocabularies[feature.vocabulary]
            ids = arrays[name]
            _require(
                store.path / f"{name}.npy",
                len(ids),
                partial(_is_id, ids, size),
                f"is not an id of {feature.vocabulary!r}, expected 1 to {size - 1}",
            )


def _require(file: Path, rows: int, holds: Callable[[slice], Array], breach: str) -> None:
    """Raise with the first row of `range(rows)` for which `holds` is false."""
    for chunk in _chunks(rows):
        good = holds(chunk)
        if not good.all():
            raise UserError(f"{file}: row {chunk.start + int(np.argmin(good)):,} {breach}")


def _require_both_classes(what: str, labels: Array) -> None:
    # A model starts at the log-odds of the base rate, which are infinite for one class.
    if labels.min() == labels.max():
        raise UserError(
            f"{what}: is {int(labels[0])} in every row of the training part ({len(labels):,}), "
            "expected clicks and non-clicks; take more impressions or another split"
        )


def _is_finite(values: Array, rows: slice) -> Array:
    return np.isfinite(values[rows])


def _is_id(ids: Array, size: int, rows: slice) -> Array:
    return (ids[rows] >= 1) & (ids[rows] < size)


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))


def _next(rows: slice) -> slice:
    return slice(rows.start + 1, rows.stop + 1)


def check_input(
    path: Path,
    schema: Schema,
    events: Events,
    impressions: Impressions,
    profiles: Mapping[str, Array],
    n_users: int,
) -> None:
    """Check the arrays handed to `write_store`.

    Raises:
        UserError: the first breach, with array and row.
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
                raise UserError(f"{path}: {group} feature {feature.name!r} has no values")
            size = schema.vocabularies[feature.vocabulary]
            _check_column(path, f"{group} {feature.name}", columns[feature.name], rows, 1, size)
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
        raise UserError(f"{path}: the split leaves the {part} part without impressions")
    _require_both_classes(f"{path}: label", label[~np.asarray(impressions.in_test, dtype=bool)])
    times = [np.asarray(t) for t in (events.time, impressions.time) if len(t)]
    span = int(max(t.max() for t in times)) - int(min(t.min() for t in times)) + 1
    if span * n_users >= 2**63:
        raise UserError(f"{path}: times span {span:,} seconds; are they really in seconds?")


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
