"""The rules that the contents of every valid store follow, checked row by row: order, ids, users, histories, labels.

A new rule (for example against duplicate rows) is one more function here, called by `find_breaches`. Each broken
rule gives one line with the file and the first row that breaks it. Memory grows with the number of users and with
the test part of generated logs, not with the number of rows. Duplicates are allowed; `scaling.audit` counts them.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from scaling.arrays import Array
from scaling.metrics import true_limits
from scaling.store.event_store import EventStore, broken_rows, chunks
from scaling.store.format import FEATURE_PATHS, content_digest
from scaling.store.list_rules import list_breaches
from scaling.store.manifest import document_fingerprint
from scaling.store.rows import one_class

__all__ = ["find_breaches", "find_index_breaches", "sees_only_the_past"]


# Logits below this are known to 1e-4 from a float32 probability; the components are float32, too.
_EXACT_LOGIT, _LOGIT_TOLERANCE = 6.0, 1e-3


def find_breaches(
    store: EventStore, document: Mapping[str, Any], arrays: Mapping[str, Array]
) -> Iterator[str]:
    """Yield one line for each rule of the format that the contents break: file, first row, what was expected.

    A rule is skipped if it depends on a broken one: with wrong offsets, for example, no history can be checked.
    """
    offsets_good = users_good = True
    for line in _offset_breaches(store):
        offsets_good = False
        yield line
    if offsets_good:
        yield from _event_breaches(store)
    for line in _user_breaches(store):
        users_good = False
        yield line
    if offsets_good and users_good:
        yield from _history_breaches(store)
    yield from _value_breaches(store)
    yield from _order_breaches(store)
    if users_good or store.split["kind"] != "user":
        yield from _split_breaches(store)
    yield from _id_breaches(store)
    yield from _document_breaches(store, document, arrays)
    yield from _truth_breaches(store)


def find_index_breaches(store: EventStore) -> Iterator[str]:
    """Yield one line for each broken rule without which an impression's user, history, ids and label cannot be read."""
    offsets = list(_offset_breaches(store))
    users = list(_user_breaches(store))
    yield from (*offsets, *users)
    if not offsets and not users:
        file = store.path / "impressions/history_end.npy"
        yield from broken_rows(
            file, store.n_impressions, partial(_is_own, store), "is outside the user's events"
        )
    yield from _value_breaches(store)
    yield from _id_breaches(store)


def _offset_breaches(store: EventStore) -> Iterator[str]:
    offsets, file = store.offsets, store.path / "behaviours/offsets.npy"
    if offsets[0] != 0 or offsets[-1] != store.n_events:
        yield f"{file}: runs from {offsets[0]} to {offsets[-1]}, expected 0 to {store.n_events:,}"
    yield from broken_rows(
        file, store.n_users, lambda r: offsets[_next(r)] >= offsets[r], "decreases"
    )


def _event_breaches(store: EventStore) -> Iterator[str]:
    time, offsets = store.event_time, store.offsets

    def in_order(rows: slice) -> Array:
        good: Array = time[_next(rows)] >= time[rows]
        if not good.all():
            of_next = np.arange(rows.start, rows.stop)[~good] + 1
            # The next event may be earlier if it is the first event of another user.
            good[~good] = offsets[np.searchsorted(offsets, of_next)] == of_next
        return good

    yield from broken_rows(
        store.path / "behaviours/time.npy",
        store.n_events - 1,
        in_order,
        "is later than the next event of the same user; events must be sorted by (user, time)",
    )


def _user_breaches(store: EventStore) -> Iterator[str]:
    user = store.user
    yield from broken_rows(
        store.path / "impressions/user.npy",
        store.n_impressions,
        lambda r: (user[r] >= 0) & (user[r] < store.n_users),
        f"is not a user number, expected 0 to {store.n_users - 1}",
    )


def _history_breaches(store: EventStore) -> Iterator[str]:
    file, n = store.path / "impressions/history_end.npy", store.n_impressions
    yield from broken_rows(file, n, lambda r: _is_own(store, r), "is outside the user's events")

    def ends_right(rows: slice) -> Array:
        good, at = sees_only_the_past(store, rows), store.history_end[rows]
        more = at < store.offsets[store.user[rows].astype(np.int64) + 1]
        more &= _is_own(store, rows)
        good[more] &= store.event_time[at[more]] >= store.time[rows][more]
        return good

    yield from broken_rows(
        file, n, ends_right, "does not end the history just before the impression's second"
    )


def sees_only_the_past(store: EventStore, rows: slice) -> Array:
    """Return for each impression in `rows` whether its history ends before the impression's second, bool [rows]."""
    end = store.history_end[rows]
    some = (end > store.offsets[store.user[rows]]) & _is_own(store, rows)
    good = np.ones(len(end), dtype=bool)
    good[some] = store.event_time[end[some] - 1] < store.time[rows][some]
    return good


def _is_own(store: EventStore, rows: slice) -> Array:
    user, end, offsets = store.user[rows].astype(np.int64), store.history_end[rows], store.offsets
    own: Array = (end >= offsets[user]) & (end <= offsets[user + 1])
    return own


def _value_breaches(store: EventStore) -> Iterator[str]:
    folder, n, label = store.path / "impressions", store.n_impressions, store.label
    yield from broken_rows(folder / "label.npy", n, lambda r: label[r] <= 1, "is neither 0 nor 1")
    yield from one_class(f"{folder / 'label.npy'}", label[: store.n_train])
    if store.probability is not None:
        p = store.probability
        yield from broken_rows(
            folder / "probability.npy",
            n,
            lambda r: (p[r] > 0) & (p[r] < 1),
            "is not between 0 and 1",
        )
    for name, values in store.numerics.items():
        yield from broken_rows(
            folder / f"numeric.{name}.npy", n, partial(_is_finite, values), "is not finite"
        )


def _order_breaches(store: EventStore) -> Iterator[str]:
    folder, border = store.path / "impressions", store.n_train - 1
    user, time, request = store.user, store.time, store.request

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
    yield from broken_rows(
        folder / "time.npy", last, in_order, "breaks the order by (part, time, user)"
    )
    if request[0] != 0:
        yield f"{folder / 'request.npy'}: row 0 is {request[0]}, expected 0"
    yield from broken_rows(
        folder / "request.npy", last, numbered, "is not followed by the right request number"
    )


def _split_breaches(store: EventStore) -> Iterator[str]:
    folder, n = store.path / "impressions", store.n_train
    if store.split["kind"] == "time":
        boundary = store.split["boundary"]
        if not store.time[n - 1] < boundary <= store.time[n]:
            yield f"{folder / 'time.npy'}: the parts overlap in time at {boundary}"
    if store.split["kind"] != "user":
        return
    trained = np.zeros(store.n_users, dtype=bool)
    for rows in chunks(n):
        trained[store.user[rows]] = True
    yield from broken_rows(
        folder / "user.npy",
        store.n_test,
        lambda r: ~trained[store.user[r.start + n : r.stop + n]],
        "of the test part has a user who is also in the training part",
    )


def _id_breaches(store: EventStore) -> Iterator[str]:
    schema = store.schema
    for group, path in FEATURE_PATHS.items():
        for feature in getattr(schema, group):
            size = schema.vocabularies[feature.vocabulary]
            if not feature.is_plain:
                yield from list_breaches(store, f"{path}{feature.name}", feature, size)
                continue
            ids = store.plain(group)[feature.name]
            yield from broken_rows(
                store.path / f"{path}{feature.name}.npy",
                len(ids),
                partial(_is_id, ids, size),
                f"is not an id of {feature.vocabulary!r}, expected 1 to {size - 1}",
            )


def _document_breaches(
    store: EventStore, document: Mapping[str, Any], arrays: Mapping[str, Array]
) -> Iterator[str]:
    file = store.path / "dataset.json"
    requests, stated = int(store.request[-1]) + 1, document["counts"]["requests"]
    if requests != stated:
        yield f"{file}: counts.requests is {stated}, but impressions/request ends with {requests - 1}"
    for name, array in arrays.items():
        entry = document["arrays"][name]
        for key, value in (("dtype", array.dtype.str), ("rows", len(array))):
            if entry[key] != value:
                yield f"{file}: arrays.{name}.{key} is {entry[key]!r}, expected {value!r}"
        if content_digest(array) != entry["sha256"]:
            yield (
                f"{store.path / name}.npy: contents differ from the sha256 in dataset.json; "
                "make the data set again"
            )
    if document_fingerprint(document) != store.fingerprint:
        yield f"{file}: fingerprint does not match the contents; make the data set again"


def _truth_breaches(store: EventStore) -> Iterator[str]:
    """Yield a line for each value of `truth` that does not follow from the stored probabilities."""
    if store.truth is None:
        return
    file = store.path / "dataset.json"
    if store.probability is None:
        yield f"{file}: truth: present, but there is no impressions/probability"
        return
    p = store.probability[store.n_train :]
    if not ((p > 0) & (p < 1)).all():
        return  # has a line of its own
    limits = true_limits(p)
    for name, value in store.truth.items():
        # The writer may have summed the same numbers in another order.
        if name not in limits or abs(value - limits[name]) > 1e-9:
            yield f"{file}: truth.{name} is {value}, but the stored probabilities give {limits.get(name)}"
    if store.components and not _adds_up(p, store.components):
        yield f"{store.path / 'truth'}: the components do not add up to the logit of impressions/probability"


def _adds_up(probability: Array, components: Mapping[str, Array]) -> bool:
    """Whether the sum of the components differs from the true logit by the same number in every row."""
    p = probability.astype(np.float64)
    logit = np.log(p) - np.log1p(-p)
    # single precision of a probability near 1 says too little of its logit
    exact = np.abs(logit) < _EXACT_LOGIT
    if not exact.any():
        return True
    parts = [part[exact].astype(np.float64) for part in components.values()]
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.ptp(logit[exact] - np.sum(parts, axis=0)) < _LOGIT_TOLERANCE)


def _is_finite(values: Array, rows: slice) -> Array:
    return np.isfinite(values[rows])


def _is_id(ids: Array, size: int, rows: slice) -> Array:
    return (ids[rows] >= 1) & (ids[rows] < size)


def _next(rows: slice) -> slice:
    return slice(rows.start + 1, rows.stop + 1)
