"""The rules for features whose cells hold several ids, or weights."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from scaling.arrays import Array
from scaling.store.event_store import EventStore, broken_rows
from scaling.store.format import OFFSETS, UNKNOWN, WEIGHTS, Feature

__all__ = ["list_breaches"]


def list_breaches(store: EventStore, name: str, feature: Feature, size: int) -> Iterator[str]:
    """Yield one line for each broken rule of the feature whose ids lie in `name` and belong to `size` ids."""
    cells = store.lists[name]
    if (offsets := cells.offsets) is not None:
        of_offsets = list(_offset_breaches(store, name, offsets, len(cells.ids), feature))
        yield from of_offsets
        if of_offsets:
            return
    yield from broken_rows(
        store.path / f"{name}.npy",
        len(cells.ids),
        partial(_ascends, cells.ids, offsets, size),
        f"is not an id of {feature.vocabulary!r}, or not above the one before in its cell, expected 1 to {size - 1}",
    )
    if (weights := cells.weights) is not None:
        expected = "finite" if feature.pooling == "sum" else "a finite number above 0"
        yield from broken_rows(
            store.path / f"{name}{WEIGHTS}.npy",
            len(weights),
            partial(_is_weight, weights, feature.pooling == "sum"),
            f"is not {expected}",
        )
        if offsets is None:
            yield from broken_rows(
                store.path / f"{name}{WEIGHTS}.npy",
                len(weights),
                lambda rows: (cells.ids[rows] != UNKNOWN) | (weights[rows] == 1),
                "is the weight of the unknown id, expected 1",
            )


def _offset_breaches(
    store: EventStore, name: str, offsets: Array, n_ids: int, feature: Feature
) -> Iterator[str]:
    file = store.path / f"{name}{OFFSETS}.npy"
    if offsets[0] != 0 or offsets[-1] != n_ids:
        yield f"{file}: runs from {offsets[0]} to {offsets[-1]}, expected 0 to {n_ids:,}"

    def holds(rows: slice) -> Array:
        lengths = np.diff(offsets[rows.start : rows.stop + 1])
        return np.asarray((lengths >= 1) & (lengths <= feature.max_values))

    yield from broken_rows(
        file, len(offsets) - 1, holds, f"has not 1 to {feature.max_values} values"
    )


def _ascends(ids: Array, offsets: Array | None, size: int, rows: slice) -> Array:
    good: Array = (ids[rows] >= 1) & (ids[rows] < size)
    if offsets is None:
        return good
    begin = max(rows.start - 1, 0)
    part = ids[begin : rows.stop]
    ascends = np.concatenate([[True], part[1:] > part[:-1]])[rows.start - begin :]
    first = np.searchsorted(offsets, [rows.start, rows.stop])
    ascends[offsets[first[0] : first[1]] - rows.start] = True  # the first one of a cell
    good &= ascends
    return good


def _is_weight(weights: Array, any_sign: bool, rows: slice) -> Array:
    good: Array = np.isfinite(weights[rows]) & (any_sign | (weights[rows] > 0))
    return good
