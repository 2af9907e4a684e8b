"""`EventStore`: every user's behaviours stored once, and impressions that point into them.

A store is a folder of plain `.npy` arrays and `dataset.json` (layout: docs/file-formats.md). The arrays are
mapped read-only, so the last L events of any history are a view, never a copy. `scaling.store.format` defines
the format, `scaling.store.opening` opens a store, `scaling.store.validation_rules` checks its contents.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scaling.arrays import Array
from scaling.store.format import Schema
from scaling.store.value_lists import ValueLists

__all__ = ["CHUNK", "EventStore", "broken_rows", "chunks"]


CHUNK = 1 << 20  # rows processed at a time


@dataclass(frozen=True)
class EventStore:
    """An opened store; the arrays are mapped from disk and read-only.

    User u's events are rows `offsets[u]:offsets[u + 1]`, sorted by time. The history of impression i is
    rows `offsets[user[i]]:history_end[i]`: the events strictly before the impression's second. Impressions
    `[0, n_train)` are the training part, `[n_train, n_impressions)` the test part. Each part is sorted by
    (time, user), and the impressions of one user in one second share a `request`. Generated logs have the true
    click `probability` and, for the test part, the `components` of its logit: they and a constant add up to it.
    Features with several values per cell or with weights are in `lists`, by the path of their ids (such as
    `behaviours/feature.tags`), and not in the groups.
    """

    path: Path
    schema: Schema
    fingerprint: str
    utc_offset_seconds: int
    source: dict[str, Any]
    split: dict[str, Any]
    truth: dict[str, float] | None
    history_quantiles: dict[str, float]
    offsets: Array
    event_time: Array
    behaviours: dict[str, Array]
    user: Array
    time: Array
    history_end: Array
    request: Array
    candidates: dict[str, Array]
    contexts: dict[str, Array]
    numerics: dict[str, Array]
    profiles: dict[str, Array]
    label: Array
    probability: Array | None
    components: dict[str, Array]
    lists: dict[str, ValueLists]

    def plain(self, group: str) -> dict[str, Array]:
        """Return the arrays of a group's features, without those in `lists`."""
        groups = {
            "behaviour": self.behaviours,
            "candidate": self.candidates,
            "context": self.contexts,
            "profile": self.profiles,
        }
        return groups[group]

    @property
    def n_users(self) -> int:
        """Number of users, with or without events."""
        return len(self.offsets) - 1

    @property
    def n_events(self) -> int:
        """Number of events of all users."""
        return len(self.event_time)

    @property
    def n_impressions(self) -> int:
        """Number of impressions in both parts."""
        return len(self.label)

    @cached_property
    def base_rate(self) -> dict[str, float]:
        """Share of clicks by part; computed from the labels, which the fingerprint covers."""
        n = self.n_train
        return {"train": float(self.label[:n].mean()), "test": float(self.label[n:].mean())}

    @property
    def n_train(self) -> int:
        """Number of impressions in the training part."""
        return int(self.split["n_train"])

    @property
    def n_test(self) -> int:
        """Number of impressions in the test part."""
        return self.n_impressions - self.n_train


def chunks(rows: int) -> Iterator[slice]:
    """Cut `range(rows)` into slices of at most `CHUNK` rows, so that each fits in memory."""
    for start in range(0, rows, CHUNK):
        yield slice(start, min(start + CHUNK, rows))


def broken_rows(
    file: Path, rows: int, holds: Callable[[slice], Array], breach: str
) -> Iterator[str]:
    """Yield one line with the first row of `range(rows)` for which `holds` is false, if there is one."""
    first, bad = -1, 0
    for chunk in chunks(rows):
        good = holds(chunk)
        if not good.all():
            first = first if bad else chunk.start + int(np.argmin(good))
            bad += len(good) - int(np.count_nonzero(good))
    if bad:
        more = f" (and {bad - 1:,} more)" if bad > 1 else ""
        yield f"{file}: row {first:,} {breach}{more}"
