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
from scaling.store import PADDING, UNKNOWN, EventStore, chunks

__all__ = ["Column", "IdCounts", "columns", "count_ids", "future_share", "user_column"]


_PRIOR_ROWS = 10.0
_BINS = 256  # bins of a numeric feature, by quantiles of the training part
_SAMPLE = 1 << 18  # number of training rows from which the quantiles are computed
TRAIN_ROWS_PER_TEST_ROW, FEWEST_TEST_ROWS, FEWEST_OWNERS = 3, 5, 30


class Column(NamedTuple):
    """A feature of the impressions: `ids(rows)`, each in `[0, size)`; a number also has its `values(rows)`."""

    group: str
    name: str
    size: int
    ids: Callable[[slice], Array]
    values: Callable[[slice], Array] | None = None


@dataclass(frozen=True)
class IdCounts:
    """Impressions counted by id: `train` and `test` are int64 [2, size], first non-clicks, then clicks."""

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
    for group, features, arrays in (
        ("candidate", store.schema.candidate, store.candidates),
        ("context", store.schema.context, store.contexts),
    ):
        for f in features:
            yield Column(group, f.name, sizes[f.vocabulary], arrays[f.name].__getitem__)
    for f in store.schema.profile:
        of_user = store.profiles[f.name]
        yield Column("profile", f.name, sizes[f.vocabulary], partial(_of_user, store, of_user))
    for name, values in store.numerics.items():
        edges = _quantiles(values[: store.n_train])
        binned = partial(_binned, values, edges)
        yield Column("numeric", name, len(edges) + 1, binned, values.__getitem__)
    yield Column("history", "length", 65, partial(_length, store))
    yield Column("history", "time_since", 67, partial(_time_since, store))
    for f in store.schema.candidate:
        for b in store.schema.behaviour:
            if b.vocabulary == f.vocabulary:
                repeat = partial(
                    _repeats, store, store.behaviours[b.name], store.candidates[f.name]
                )
                yield Column("history", f"last_{b.name}_is_{f.name}", 68, repeat)


def user_column(store: EventStore) -> Column:
    """Return the users of the impressions as a column; no model sees it."""
    return Column("user", "user", store.n_users, store.user.__getitem__)


def count_ids(store: EventStore, column: Column) -> IdCounts:
    """Count the impressions by id, part and label."""
    counts = np.zeros((2, 2, column.size), dtype=np.int64)
    for rows in chunks(store.n_impressions):
        in_test = np.arange(rows.start, rows.stop) >= store.n_train
        np.add.at(counts, (in_test.astype(int), store.label[rows], column.ids(rows)), 1)
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
    for rows in chunks(store.n_test):
        at = slice(rows.start + store.n_train, rows.stop + store.n_train)
        values = counts.score[column.ids(at)] if column.values is None else column.values(at)
        np.add.at(total, owner.ids(at), values)
    train_rate = of_owner.train[1][enough] / n[enough]
    test_rate = of_owner.test[1][enough] / m[enough]
    residuals = []
    for values in (total[enough] / m[enough], test_rate):
        design = np.vander(train_rate, 4)
        residuals.append(values - design @ np.linalg.lstsq(design, values, rcond=None)[0])
    norm = np.linalg.norm(residuals[0]) * np.linalg.norm(residuals[1])
    return float(residuals[0] @ residuals[1] / norm) if norm > 1e-9 else None


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
