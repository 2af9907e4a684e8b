"""Duplicate rows of a store, counted chunk by chunk through 64-bit hashes of their contents."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scaling.arrays import Array
from scaling.store import CHUNK, UNKNOWN, EventStore, ValueLists

__all__ = ["Duplicates", "count_duplicates"]


@dataclass(frozen=True)
class Duplicates:
    """Numbers of rows that repeat an earlier row.

    Rows whose item is unknown are left out: different rare items have the same id. The item is the candidate's, or the
    behaviour's, feature with the most values, among those with one value per cell.

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
    lists = [cells for name, cells in store.lists.items() if name.startswith("impressions/")]
    for rows in _whole_groups(store.n_impressions, lambda row: _end_of_request(store, row)):
        told = _is_told(store, "candidate", rows)
        columns = [
            store.request[rows],
            *(c[rows] for c in seen),
            *(_cell_hashes(c, rows) for c in lists),
        ]
        content = _hashes(columns)[told]
        both = np.stack([content, store.label[rows][told].astype(np.uint64)], axis=1)
        kinds = len(np.unique(content))
        labelled = len(np.unique(both, axis=0))
        contradictions += labelled - kinds
        impressions += len(content) - labelled
    lists = [cells for name, cells in store.lists.items() if name.startswith("behaviours/")]
    for rows in _whole_groups(store.n_events, lambda row: _end_of_user(store, row)):
        first = np.searchsorted(store.offsets, np.arange(rows.start, rows.stop), side="right")
        told = _is_told(store, "behaviour", rows)
        columns = [first, store.event_time[rows], *(c[rows] for c in store.behaviours.values())]
        content = _hashes([*columns, *(_cell_hashes(c, rows) for c in lists)])[told]
        events += len(content) - len(np.unique(content))
    return Duplicates(impressions, contradictions, events)


def _is_told(store: EventStore, group: str, rows: slice) -> Array:
    """Whether the id of the group's feature with the most values is known; true if none has one value per cell."""
    features = [feature for feature in getattr(store.schema, group) if feature.is_plain]
    if not features:
        return np.ones(rows.stop - rows.start, dtype=bool)
    finest = max(features, key=lambda feature: store.schema.vocabularies[feature.vocabulary])
    columns = store.candidates if group == "candidate" else store.behaviours
    known: Array = columns[finest.name][rows] != UNKNOWN
    return known


def _whole_groups(rows: int, end_of: Callable[[int], int]) -> Iterator[slice]:
    start = 0
    while start < rows:
        stop = min(start + CHUNK, rows)
        stop = max(stop, end_of(stop - 1))  # earlier only if the groups are not in order
        yield slice(start, stop)
        start = stop


def _end_of_request(store: EventStore, row: int) -> int:
    return int(np.searchsorted(store.request, store.request[row], side="right"))


def _end_of_user(store: EventStore, row: int) -> int:
    return int(store.offsets[np.searchsorted(store.offsets, row, side="right")])


def _hashes(columns: list[Array]) -> Array:
    """Return a 64-bit hash of each row of columns; two different rows collide in about one of 10^7 chunks."""
    total = np.zeros(len(columns[0]), dtype=np.uint64)
    for values in columns:
        bits = values.view(np.uint32) if values.dtype.kind == "f" else values
        total = (total ^ bits.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(29)
        total *= np.uint64(0xBF58476D1CE4E5B9)
        total ^= total >> np.uint64(32)
    return total


def _cell_hashes(cells: ValueLists, rows: slice) -> Array:
    """Return a 64-bit hash of each cell: the sum of those of its values, which are distinct."""
    begin, end = rows.start, rows.stop
    if cells.offsets is not None:
        begin, end = (int(offset) for offset in cells.offsets[[begin, end]])
    values = _hashes(
        [cells.ids[begin:end], *([] if cells.weights is None else [cells.weights[begin:end]])]
    )
    if cells.offsets is None:
        return values
    sums: Array = np.add.reduceat(values, cells.offsets[rows] - begin)
    return sums
