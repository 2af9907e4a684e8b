"""Rows of a log in memory, and the order in which a store has them.

The order depends only on the content, so that a store does not depend on the order of the raw rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.arrays import Array
from scaling.store.format import FEATURE_PATHS, OFFSETS, WEIGHTS, Feature, Schema
from scaling.store.value_lists import flat_values

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
    """Behaviours in memory, in any row order: `user`, `time` (unix seconds) and the features, each [n_events].

    The ids of a feature with several values per cell are [n_events, max_values], 0 behind a cell's last; the weights of a
    feature NAME are of the same shape and named `NAME.weights`. So it is for the impressions and profiles.
    """

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
    of_event = _columns("behaviour", schema.behaviour, events.features)
    order = np.lexsort([*_keys(of_event.values()), events.time, events.user])
    event_time = np.asarray(events.time, dtype=np.int64)[order]
    event_user = np.asarray(events.user, dtype=np.int64)[order]
    counts = np.bincount(event_user, minlength=n_users)
    arrays: dict[str, Array] = {
        "behaviours/offsets": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        "behaviours/time": event_time,
    }
    arrays |= {name: values[order] for name, values in of_event.items()}

    columns: dict[str, Array] = {
        **_columns("candidate", schema.candidate, impressions.candidates),
        **_columns("context", schema.context, impressions.contexts),
        **{f"impressions/numeric.{name}": impressions.numerics[name] for name in schema.numeric},
        "impressions/label": impressions.label,
    }
    if impressions.probability is not None:
        columns["impressions/probability"] = impressions.probability
    in_test = np.asarray(impressions.in_test, dtype=bool)
    order = np.lexsort([*_keys(columns.values()), impressions.user, impressions.time, in_test])
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
    arrays |= {name: np.asarray(values)[order] for name, values in columns.items()}
    arrays |= _columns("profile", schema.profile, profiles)
    for group, path in FEATURE_PATHS.items():
        for feature in getattr(schema, group):
            if feature.max_values > 1:
                _flatten(arrays, f"{path}{feature.name}")
    return arrays, int((~in_test).sum())


def _columns(
    group: str, features: Iterable[Feature], values: Mapping[str, Array]
) -> dict[str, Array]:
    """The ids and weights of a group's features by path."""
    found = {}
    for feature in features:
        path = f"{FEATURE_PATHS[group]}{feature.name}"
        found[path] = np.asarray(values[feature.name])
        if feature.weighted:
            found[f"{path}{WEIGHTS}"] = np.asarray(values[f"{feature.name}{WEIGHTS}"])
    return found


def _keys(columns: Iterable[Array]) -> list[Array]:
    """Columns for `lexsort` by their content, the first one first; a cell with several values is compared one by one."""
    keys: list[Array] = []
    for values in columns:
        keys += list(np.asarray(values).T) if np.ndim(values) > 1 else [values]
    return keys[::-1]


def _flatten(arrays: dict[str, Array], name: str) -> None:
    """Replace a feature's padded ids and weights by those of the store."""
    weights = arrays.get(f"{name}{WEIGHTS}")
    arrays[f"{name}{OFFSETS}"], arrays[name], weights = flat_values(arrays[name], weights)
    if weights is not None:
        arrays[f"{name}{WEIGHTS}"] = weights


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
