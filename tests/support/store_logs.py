"""A random log with many rows in the same second, as arrays and as a store."""

import numpy as np

from scaling.store import Events, Feature, Impressions, Schema, write_store

__all__ = ["make_log", "write_log"]

SCHEMA = Schema(
    behaviour=(Feature("item", "item"), Feature("action", "action")),
    candidate=(Feature("item", "item"),),
    context=(Feature("hour", "hour"),),
    profile=(Feature("age", "age"),),
    numeric=("price",),
    vocabularies={"item": 300, "action": 5, "hour": 26, "age": 4},
)


def make_log(n_events=200, n_impressions=120, n_users=9, seed=0, last_second=60):
    """Return the events, impressions and profiles of a random log in which many rows share a second."""
    rng = np.random.default_rng(seed)
    start = 1_700_000_000
    events = Events(
        user=rng.integers(0, n_users - 1, n_events),
        time=start + rng.integers(0, last_second, n_events),
        features={
            "item": rng.integers(1, 300, n_events),
            "action": rng.integers(1, 5, n_events),
        },
    )
    time = start + rng.integers(0, last_second, n_impressions)
    time[:2] = start, start + last_second
    impressions = Impressions(
        user=rng.integers(0, n_users, n_impressions),
        time=time,
        label=rng.integers(0, 2, n_impressions),
        in_test=time >= start + 0.8 * last_second,
        candidates={"item": rng.integers(1, 300, n_impressions)},
        contexts={"hour": rng.integers(1, 26, n_impressions)},
        numerics={"price": rng.normal(size=n_impressions)},
    )
    return events, impressions, {"age": rng.integers(1, 4, n_users)}


def write_log(path, log, **changes):
    """Write a log as a store, with `changes` to the arguments of `write_store`."""
    events, impressions, profiles = log
    arguments = {
        "n_users": len(profiles["age"]),
        "split": {"kind": "time", "boundary": 1_700_000_048},
        "source": {"kind": "test"},
    }
    return write_store(path, SCHEMA, events, impressions, profiles, **(arguments | changes))
