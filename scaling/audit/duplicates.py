"""Duplicate rows of a store, counted chunk by chunk through 64-bit hashes of their contents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scaling.arrays import Array
from scaling.store import CHUNK, EventStore

__all__ = ["Duplicates", "count_duplicates"]


@dataclass(frozen=True)
class Duplicates:
    """Numbers of rows that repeat an earlier row.

    Attributes:
        impressions: rows with the same user, second, candidate, context, numbers and label.
        contradictions: rows that are the same except for the label.
        events: rows with the same user, second and features.
    """

    impressions: int
    contradictions: int
    events: int


def count_duplicates(store: EventStore) -> Duplicates:
    """Count repeated rows; a chunk ends with a request or a user's events, so equal rows are in one chunk."""
    impressions = contradictions = events = 0
    seen = [*store.candidates.values(), *store.contexts.values(), *store.numerics.values()]
    for rows in _whole_groups(store.n_impressions, lambda row: _end_of_request(store, row)):
        content = _hashes([store.request, *seen], rows)
        both = np.stack([content, store.label[rows].astype(np.uint64)], axis=1)
        kinds = len(np.unique(content))
        labelled = len(np.unique(both, axis=0))
        contradictions += labelled - kinds
        impressions += len(content) - labelled
    for rows in _whole_groups(store.n_events, lambda row: _end_of_user(store, row)):
        first = np.searchsorted(store.offsets, np.arange(rows.start, rows.stop), side="right")
        content = _hashes([store.event_time, *store.behaviours.values()], rows, first)
        events += len(content) - len(np.unique(content))
    return Duplicates(impressions, contradictions, events)


def _whole_groups(rows: int, end_of: Callable[[int], int]) -> Iterator[slice]:
    start = 0
    while start < rows:
        stop = min(start + CHUNK, rows)
        stop = end_of(stop - 1)
        yield slice(start, stop)
        start = stop


def _end_of_request(store: EventStore, row: int) -> int:
    return int(np.searchsorted(store.request, store.request[row], side="right"))


def _end_of_user(store: EventStore, row: int) -> int:
    return int(store.offsets[np.searchsorted(store.offsets, row, side="right")])


def _hashes(columns: list[Array], rows: slice, user: Array | None = None) -> Array:
    """Return a 64-bit hash of each row; two different rows collide in about one of 10^7 chunks."""
    total = np.zeros(rows.stop - rows.start, dtype=np.uint64)
    for values in [*([] if user is None else [user]), *(column[rows] for column in columns)]:
        bits = values.view(np.uint32) if values.dtype.kind == "f" else values
        total = (total ^ bits.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(29)
        total *= np.uint64(0xBF58476D1CE4E5B9)
        total ^= total >> np.uint64(32)
    return total
