"""Summary of a store in numbers; reads `dataset.json`, times, labels and history ends."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.errors import UserError
from scaling.store import EventStore, ValueLists, chunks

__all__ = ["Day", "count_days", "count_history_lengths", "nested_sizes", "summarize_store"]


# The smallest nested data size has at least this many impressions of the rarer class: with fewer, the standard
# error of the base rate itself is more than a tenth of it.
FEWEST_OF_RARER_CLASS = 100


class Day(NamedTuple):
    """Impressions and clicks of one day in the log's own time zone."""

    date: date
    impressions: int
    clicks: int


def summarize_store(store: EventStore) -> dict[str, Any]:
    """Return counts, rates, vocabularies, split, span and fingerprint as plain JSON types.

    `span` has the first and last second of each part, ISO 8601 in UTC. `history_quantiles` are quantiles of the
    number of events before an impression. `truth` is None unless the log was generated. `days` are days in the
    log's own time zone. `values_per_cell` has the mean and the maximum of each feature with several values per cell, by
    the path of its array.

    Raises:
        UserError: a time is outside the calendar.
    """
    n = store.n_train
    bytes_on_disk = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    return {
        "path": str(store.path),
        "fingerprint": store.fingerprint,
        "source": store.source,
        "counts": {
            "users": store.n_users,
            "events": store.n_events,
            "impressions": store.n_impressions,
            "requests": int(store.request[-1]) + 1,
            "train": store.n_train,
            "test": store.n_test,
        },
        "split": store.split,
        "base_rate": store.base_rate,
        "truth": store.truth,
        "history_quantiles": store.history_quantiles,
        "span": {
            "train": [_iso(store, 0), _iso(store, n - 1)],
            "test": [_iso(store, n), _iso(store, store.n_impressions - 1)],
        },
        "days": [
            {"date": day.isoformat(), "impressions": n, "base_rate": clicks / n}
            for day, n, clicks in count_days(store)
        ],
        "nested_sizes": nested_sizes(store),
        "utc_offset_seconds": store.utc_offset_seconds,
        "schema": store.schema.to_json(),
        "values_per_cell": {
            path: [len(cells.ids) / max(len(cells), 1), _longest(cells)]
            for path, cells in store.lists.items()
            if cells.max_values > 1
        },
        "bytes": bytes_on_disk,
        "bytes_per_impression": bytes_on_disk / store.n_impressions,
    }


def nested_sizes(store: EventStore) -> list[int]:
    """Return the data sizes that repeated halving of the training part gives, smallest first.

    The smallest size is the last one with at least 100 impressions of the rarer class.
    """
    rate = store.base_rate["train"]
    sizes = [store.n_train]
    while sizes[-1] // 2 * min(rate, 1 - rate) >= FEWEST_OF_RARER_CLASS:
        sizes.append(sizes[-1] // 2)
    return sizes[::-1]


def count_days(store: EventStore) -> list[Day]:
    """Return the days with impressions, in order.

    Raises:
        UserError: a time is outside the calendar.
    """
    impressions: Counter[int] = Counter()
    clicks: Counter[int] = Counter()
    for rows in chunks(store.n_impressions):
        day = (store.time[rows] + store.utc_offset_seconds) // 86_400
        values, group, counts = np.unique(day, return_inverse=True, return_counts=True)
        of_day = np.bincount(group, weights=store.label[rows]).astype(int)
        impressions.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        clicks.update(dict(zip(values.tolist(), of_day.tolist(), strict=True)))
    try:
        return [
            Day(date(1970, 1, 1) + timedelta(days=day), n, clicks[day])
            for day, n in sorted(impressions.items())
        ]
    except OverflowError as error:
        raise UserError(
            f"{store.path / 'impressions/time.npy'}: has times outside the calendar, expected unix seconds"
        ) from error


def count_history_lengths(store: EventStore) -> NDArray[np.int64]:
    """Return how many impressions have 0, 1, 2, ... events before them, int64 [longest + 1]."""
    counts = np.zeros(1, dtype=np.int64)
    for rows in chunks(store.n_impressions):
        lengths = store.history_end[rows] - store.offsets[store.user[rows]]
        found = np.bincount(lengths, minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    return counts


def _longest(cells: ValueLists) -> int:
    """The most values of a cell."""
    assert cells.offsets is not None
    offsets = cells.offsets
    return max(
        (int(np.diff(offsets[rows.start : rows.stop + 1]).max()) for rows in chunks(len(cells))),
        default=0,
    )


def _iso(store: EventStore, row: int) -> str:
    seconds = int(store.time[row])
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(
            f"{store.path / 'impressions/time.npy'}: row {row:,} is {seconds}, expected unix seconds"
        ) from error
