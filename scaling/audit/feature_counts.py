"""How well each feature of a store predicts clicks by itself: impressions counted by id, and an AUC.

The score of an id is its click rate in the training part, shrunk to the base rate; the AUC of these scores is
computed in the test part. Both follow from four counts per id, so memory grows only with the vocabulary.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from scaling.arrays import Array
from scaling.store import (
    CHUNK,
    FEATURE_PATHS,
    PADDING,
    UNKNOWN,
    EventStore,
    Feature,
    ValueLists,
)

__all__ = [
    "Column",
    "IdCounts",
    "columns",
    "count_ids",
    "future_share",
    "list_auc",
    "user_column",
]


_PRIOR_ROWS = 10.0
_BINS = 256  # bins of a numeric feature, by quantiles of the training part
_SCORE_BINS = 1 << 16  # bins of the mean score of an impression with several ids
_SAMPLE = 1 << 18  # number of training rows from which the quantiles are computed
TRAIN_ROWS_PER_TEST_ROW, FEWEST_TEST_ROWS, FEWEST_OWNERS = 3, 5, 30


class Column(NamedTuple):
    """A feature of the impressions: `ids(rows)`, each in `[0, size)`; a number also has its `values(rows)`.

    A feature with several values per cell has `lengths(rows)`, the number of ids of each row, at most `most`; its ids
    are those of all rows, one after the other, and with weights each has its share of the row, `shares(rows)`. `unknown` is
    the id of a missing value, if the feature has one.
    """

    group: str
    name: str
    size: int
    ids: Callable[[slice], Array]
    values: Callable[[slice], Array] | None = None
    lengths: Callable[[slice], Array] | None = None
    most: int = 1
    unknown: int | None = None
    shares: Callable[[slice], Array] | None = None

    def pieces(self, start: int, stop: int) -> Iterator[slice]:
        """Cut rows into slices whose ids fit in memory."""
        step = max(1, CHUNK // self.most)
        for first in range(start, stop, step):
            yield slice(first, min(first + step, stop))

    def spread(self, of_rows: Array, rows: slice) -> Array:
        """Return a value of each row once for each id of the row."""
        return of_rows if self.lengths is None else np.repeat(of_rows, self.lengths(rows))

    def scores(self, counts: "IdCounts", rows: slice) -> Array:
        """Return the mean score of each row's ids, float64 [rows]."""
        scores = counts.score[self.ids(rows)]
        if self.lengths is None:
            return scores
        lengths = self.lengths(rows)
        shares = np.repeat(1 / lengths, lengths) if self.shares is None else self.shares(rows)
        means: Array = np.add.reduceat(scores * shares, np.cumsum(lengths) - lengths)
        return means


@dataclass(frozen=True)
class IdCounts:
    """Impressions counted by id: `train` and `test` are int64 [2, size], first non-clicks, then clicks.

    An impression with several ids counts once for each of them, or by their weights.
    """

    train: Array
    test: Array

    @cached_property
    def score(self) -> Array:
        """Click rate of each id in the training part, with ten added rows of the base rate, float64 [size]."""
        base = self.train[1].sum() / self.train.sum()
        score: Array = (self.train[1] + _PRIOR_ROWS * base) / (self.train.sum(axis=0) + _PRIOR_ROWS)
        return score

    @cached_property
    def auc(self) -> float:
        """AUC of the score in the test part; ties count half. NaN if all labels are equal."""
        _, group = np.unique(self.score, return_inverse=True)
        negative, positive = (np.bincount(group, weights=counts) for counts in self.test)
        pairs = negative.sum() * positive.sum()
        below = np.cumsum(negative) - negative
        return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")

    @property
    def n_train(self) -> Array:
        """Number of training impressions of each id, int64 [size]."""
        n: Array = self.train.sum(axis=0)
        return n

    @property
    def n_test(self) -> Array:
        """Number of test impressions of each id, int64 [size]."""
        n: Array = self.test.sum(axis=0)
        return n


def columns(store: EventStore) -> Iterator[Column]:
    """Yield every feature of an impression that a model sees, and three kinds that it can derive from the history.

    These are the number of events before the impression, the time since the last of them, and, for each
    vocabulary that behaviours and candidates share, whether the last event has the candidate's id (by that time).
    """
    sizes = store.schema.vocabularies
    for group in ("candidate", "context"):
        for f in getattr(store.schema, group):
            if f.is_plain:
                ids = store.plain(group)[f.name].__getitem__
                yield Column(group, f.name, sizes[f.vocabulary], ids, unknown=UNKNOWN)
            else:
                cells = store.lists[f"{FEATURE_PATHS[group]}{f.name}"]
                yield from _list_columns(store, group, f, cells, _itself)
    for f in store.schema.profile:
        if f.is_plain:
            ids = partial(_of_user, store, store.profiles[f.name])
            yield Column("profile", f.name, sizes[f.vocabulary], ids, unknown=UNKNOWN)
        else:
            cells = store.lists[f"{FEATURE_PATHS['profile']}{f.name}"]
            yield from _list_columns(store, "profile", f, cells, store.user.__getitem__)
    for name, values in store.numerics.items():
        edges = _quantiles(values[: store.n_train])
        binned = partial(_binned, values, edges)
        yield Column("numeric", name, len(edges) + 1, binned, values.__getitem__)
    yield Column("history", "length", 65, partial(_length, store))
    yield Column("history", "time_since", 67, partial(_time_since, store))
    for f in store.schema.candidate:
        for b in store.schema.behaviour:
            if b.vocabulary == f.vocabulary and b.is_plain and f.is_plain:
                repeat = partial(
                    _repeats, store, store.behaviours[b.name], store.candidates[f.name]
                )
                yield Column("history", f"last_{b.name}_is_{f.name}", 68, repeat)


def user_column(store: EventStore) -> Column:
    """Return the users of the impressions as a column; no model sees it."""
    return Column("user", "user", store.n_users, store.user.__getitem__)


def count_ids(store: EventStore, column: Column, *, by_weight: bool = False) -> IdCounts:
    """Count the impressions by id, part and label; with `by_weight`, each id by its share of the impression."""
    shares = column.shares if by_weight else None
    counts = np.zeros((2, 2, column.size), dtype=np.float64 if shares else np.int64)
    for rows in column.pieces(0, store.n_impressions):
        in_test = np.arange(rows.start, rows.stop) >= store.n_train
        part, label = (column.spread(of, rows) for of in (in_test.astype(int), store.label[rows]))
        by = 1 if shares is None else shares(rows)
        np.add.at(counts, (part, label, column.ids(rows)), by)
    return IdCounts(counts[0], counts[1])


def future_share(
    store: EventStore, owner: Column, of_owner: IdCounts, column: Column, counts: IdCounts
) -> float | None:
    """Return how well a feature predicts the change of its owners' click rates from the training to the test part.

    Owners are items or users; only those with at least three times as many training rows (n) as test rows (m) count.
    Two quantities are computed per owner: the feature's mean over the test rows (of a category: the mean score), and
    the test click rate. A cubic regression on the training click rate is subtracted from both; the result is the
    correlation of the residuals. The change is mostly label noise: a feature that knew the true click rates
    could reach sqrt(1 / (1 + n / m)), at most 0.5, while one computed from the test labels comes close to 1.

    Returns:
        The correlation, or None if there are fewer than 30 such owners or the feature is constant.
    """
    n, m = of_owner.n_train, of_owner.n_test
    enough = (m >= FEWEST_TEST_ROWS) & (n >= TRAIN_ROWS_PER_TEST_ROW * m)
    if owner.group == "candidate":
        enough[: UNKNOWN + 1] = False
    if np.count_nonzero(enough) < FEWEST_OWNERS:
        return None
    total = np.zeros(owner.size)
    for at in column.pieces(store.n_train, store.n_impressions):
        values = column.scores(counts, at) if column.values is None else column.values(at)
        np.add.at(total, owner.ids(at), values)
    train_rate = of_owner.train[1][enough] / n[enough]
    test_rate = of_owner.test[1][enough] / m[enough]
    residuals = []
    for values in (total[enough] / m[enough], test_rate):
        design = np.vander(train_rate, 4)
        residuals.append(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])
    norm = np.linalg.norm(residuals[0]) * np.linalg.norm(residuals[1])
    return float(residuals[0] @ residuals[1] / norm) if norm > 1e-9 else None


def list_auc(store: EventStore, column: Column, counts: IdCounts) -> float:
    """Return the AUC in the test part of the mean score of each impression's ids, in fine bins.

    Of ids with weights, counts and means are weighted. NaN if all labels are equal.
    """
    if column.shares is not None:
        counts = count_ids(store, column, by_weight=True)
    low, high = float(counts.score.min()), float(counts.score.max())
    scale = (_SCORE_BINS - 1) / (high - low) if high > low else 0.0
    found = np.zeros((2, _SCORE_BINS))
    for at in column.pieces(store.n_train, store.n_impressions):
        bins = np.rint((column.scores(counts, at) - low) * scale).astype(np.int64)
        np.add.at(found, (store.label[at], bins), 1)
    negative, positive = found
    pairs = negative.sum() * positive.sum()
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")


def _list_columns(
    store: EventStore,
    group: str,
    feature: Feature,
    cells: ValueLists,
    places: Callable[[slice], Array],
) -> Iterator[Column]:
    """The columns of a feature that is not plain; `places` are the cells of rows.

    A model also sees how many values a sum has, and the sum of its weights.
    """
    if feature.max_values == 1:
        yield _number_column(store, group, feature, cells, places)
        return

    def lengths(rows: slice) -> Array:
        assert cells.offsets is not None
        at = places(rows)
        n: Array = cells.offsets[at + 1] - cells.offsets[at]
        return n

    def ids(rows: slice) -> Array:
        return np.asarray(cells.ids[_all_places(rows)])

    def _all_places(rows: slice) -> Array:
        assert cells.offsets is not None
        n = lengths(rows)
        shift = cells.offsets[places(rows)] - (np.cumsum(n) - n)
        found: Array = np.arange(n.sum()) + np.repeat(shift, n)
        return found

    def weights(rows: slice) -> Array:
        assert cells.weights is not None
        return np.asarray(cells.weights[_all_places(rows)], np.float64)

    def sums(of: Array, rows: slice) -> Array:
        n = lengths(rows)
        found: Array = np.add.reduceat(of, np.cumsum(n) - n)
        return found

    def shares(rows: slice) -> Array:
        size = np.abs(weights(rows))
        total = sums(size, rows)
        found: Array = size / np.repeat(np.where(total > 0, total, 1), lengths(rows))
        return found

    def total_weight(rows: slice) -> Array:
        return sums(weights(rows), rows)

    size = store.schema.vocabularies[feature.vocabulary]
    most, of_ids = feature.max_values, None if cells.weights is None else shares
    yield Column(group, feature.name, size, ids, None, lengths, most, UNKNOWN, of_ids)
    if feature.pooling == "sum":
        yield Column("cells", f"n_{feature.name}", most + 1, lengths)
        if cells.weights is not None:
            edges = _quantiles(total_weight(slice(0, min(store.n_train, _SAMPLE))))
            yield Column(
                "cells",
                f"sum_{feature.name}",
                len(edges) + 1,
                lambda rows: np.searchsorted(edges, total_weight(rows), side="right"),
                total_weight,
            )


def _number_column(
    store: EventStore,
    group: str,
    feature: Feature,
    cells: ValueLists,
    places: Callable[[slice], Array],
) -> Column:
    """The column of a number with one weight per cell: bins by quantiles, and one for the missing ones."""
    weights = cells.weights
    assert weights is not None
    there = cells.ids[: store.n_train] != UNKNOWN
    edges = _quantiles(weights[: store.n_train][there]) if there.any() else np.zeros(0)
    missing = len(edges) + 1

    def values(rows: slice) -> Array:
        at = places(rows)
        return np.where(cells.ids[at] == UNKNOWN, 0, weights[at])

    def ids(rows: slice) -> Array:
        at = places(rows)
        return np.where(
            cells.ids[at] == UNKNOWN, missing, np.searchsorted(edges, weights[at], side="right")
        )

    return Column(group, feature.name, missing + 1, ids, values, unknown=missing)


def _itself(rows: slice) -> Array:
    return np.arange(rows.start, rows.stop)


def _of_user(store: EventStore, values: Array, rows: slice) -> Array:
    ids: Array = values[store.user[rows]]
    return ids


def _quantiles(values: Array) -> Array:
    sample = values[:: max(1, len(values) // _SAMPLE)]
    return np.unique(np.quantile(sample, np.linspace(0, 1, _BINS + 1)[1:-1]))


def _binned(values: Array, edges: Array, rows: slice) -> Array:
    return np.searchsorted(edges, values[rows], side="right")


def _length(store: EventStore, rows: slice) -> Array:
    return _magnitude(store.history_end[rows] - store.offsets[store.user[rows]])


def _time_since(store: EventStore, rows: slice) -> Array:
    """Return 0 for an empty history, 1 if the last event is not earlier, else 2 + floor(log2(seconds))."""
    last = store.history_end[rows] - 1
    some = last >= store.offsets[store.user[rows]]
    ids = np.zeros(len(last), dtype=np.int64)
    seconds = store.time[rows][some] - store.event_time[last[some]]
    ids[some] = 1 + _magnitude(np.maximum(seconds, 0))
    return ids


def _repeats(store: EventStore, behaviour: Array, candidate: Array, rows: slice) -> Array:
    """Return 1 + `_time_since` for rows whose last event has the candidate's id, else 0."""
    since = _time_since(store, rows)
    ids = np.zeros(len(since), dtype=np.int64)
    some = np.flatnonzero(since)
    shown = candidate[rows][some]
    same = (behaviour[store.history_end[rows][some] - 1] == shown) & (shown > max(PADDING, UNKNOWN))
    ids[some[same]] = 1 + since[some[same]]
    return ids


def _magnitude(values: Array) -> Array:
    """Return 0 for 0, else 1 + floor(log2(value))."""
    _, exponent = np.frexp(values.astype(np.float64))
    return np.where(values > 0, exponent, 0)
