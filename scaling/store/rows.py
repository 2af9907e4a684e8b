"""Rows of a log in memory, and the order in which a store has them.

The order depends only on the content, so that a store does not depend on the order of the raw rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.arrays import Array
from scaling.store.format import Schema

__all__ = ["Events", "Impressions", "one_class", "sorted_arrays"]


def one_class(what: str, labels: Array) -> Iterator[str]:
    """Yield a line if all labels of the training part are equal: the base rate then has no finite log-odds."""
    if labels.min() == labels.max():
        yield (
            f"{what}: is {int(labels[0])} in every row of the training part ({len(labels):,}), "
            "expected clicks and non-clicks; take more impressions or another split"
        )


@dataclass(frozen=True)
class Events:
    """Behaviours in memory, in any row order: `user`, `time` (unix seconds) and the features, each [n_events]."""

    user: Array
    time: Array
    features: Mapping[str, Array]


@dataclass(frozen=True)
class Impressions:
    """Impressions in memory, in any row order, each array [n_impressions]; `in_test` marks the test part.

    `probability` is the true click probability, which only generated logs have.
    """

    user: Array
    time: Array
    label: Array
    in_test: Array
    candidates: Mapping[str, Array]
    contexts: Mapping[str, Array] = field(default_factory=dict)
    numerics: Mapping[str, Array] = field(default_factory=dict)
    probability: Array | None = None


def sorted_arrays(
    schema: Schema,
    events: Events,
    impressions: Impressions,
    profiles: Mapping[str, Array],
    n_users: int,
) -> tuple[dict[str, Array], int]:
    """Return the store's arrays in their final order, by path without `.npy`, and the length of the training part."""
    of_event = [np.asarray(events.features[f.name]) for f in schema.behaviour]
    order = np.lexsort([*reversed(of_event), events.time, events.user])
    event_time = np.asarray(events.time, dtype=np.int64)[order]
    event_user = np.asarray(events.user, dtype=np.int64)[order]
    counts = np.bincount(event_user, minlength=n_users)
    arrays: dict[str, Array] = {
        "behaviours/offsets": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        "behaviours/time": event_time,
    }
    for feature, values in zip(schema.behaviour, of_event, strict=True):
        arrays[f"behaviours/feature.{feature.name}"] = values[order]

    columns: dict[str, Array] = {
        **{f"candidate.{f.name}": impressions.candidates[f.name] for f in schema.candidate},
        **{f"context.{f.name}": impressions.contexts[f.name] for f in schema.context},
        **{f"numeric.{name}": impressions.numerics[name] for name in schema.numeric},
        "label": impressions.label,
    }
    if impressions.probability is not None:
        columns["probability"] = impressions.probability
    in_test = np.asarray(impressions.in_test, dtype=bool)
    order = np.lexsort(
        [*reversed(list(columns.values())), impressions.user, impressions.time, in_test]
    )
    user = np.asarray(impressions.user, dtype=np.int64)[order]
    time = np.asarray(impressions.time, dtype=np.int64)[order]
    same = (
        (user[1:] == user[:-1])
        & (time[1:] == time[:-1])
        & (in_test[order][1:] == in_test[order][:-1])
    )
    arrays["impressions/user"] = user
    arrays["impressions/time"] = time
    arrays["impressions/request"] = np.concatenate([[0], np.cumsum(~same)])
    arrays["impressions/history_end"] = _history_ends(event_user, event_time, user, time)
    for name, values in columns.items():
        arrays[f"impressions/{name}"] = np.asarray(values)[order]
    for feature in schema.profile:
        arrays[f"profile/feature.{feature.name}"] = np.asarray(profiles[feature.name])
    return arrays, int((~in_test).sum())


def _history_ends(event_user: Array, event_time: Array, user: Array, time: Array) -> Array:
    """Return for each (user, time) the row after the user's last event strictly before that second, int64 [rows]."""
    if not len(event_time):
        return np.zeros(len(time), dtype=np.int64)
    start = min(event_time.min(), time.min())
    span = max(event_time.max(), time.max()) - start + 1
    # One composite key sorts like (user, time); check_input makes sure that it fits in int64.
    keys = event_user * span + (event_time - start)
    ends: Array = np.searchsorted(keys, user * span + (time - start), side="left")
    return ends
