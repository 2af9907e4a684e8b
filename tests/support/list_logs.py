"""A random log with several values per cell and with weights, in each group of features."""

from pathlib import Path

import numpy as np

from scaling.store import Events, EventStore, Feature, Impressions, Schema, write_store

__all__ = ["LIST_SCHEMA", "make_cells", "write_list_store"]


LIST_SCHEMA = Schema(
    behaviour=(
        Feature("item", "item"),
        Feature("tags", "tag", 3),
        Feature("price", "price", weighted=True, pooling="sum"),
    ),
    candidate=(Feature("item", "item"), Feature("tags", "tag", 3)),
    context=(Feature("words", "word", 4, weighted=True), Feature("hour", "hour")),
    profile=(Feature("interests", "tag", 5, pooling="sum"), Feature("age", "age")),
    numeric=("score",),
    vocabularies={"item": 30, "tag": 12, "price": 3, "word": 300, "hour": 26, "age": 9},
)


def make_cells(rng, n, feature):
    """Return ids (and weights) for `n` cells as `write_store` takes them, by name."""
    size = LIST_SCHEMA.vocabularies[feature.vocabulary]
    if feature.max_values == 1:
        found = {feature.name: rng.integers(1, size, n)}
    else:
        ids = np.sort(
            np.argsort(rng.random((n, size - 1)), axis=1)[:, : feature.max_values] + 1, axis=1
        )
        lengths = rng.integers(1, feature.max_values + 1, n)
        ids[np.arange(feature.max_values) >= lengths[:, None]] = 0
        found = {feature.name: ids}
    if feature.weighted:
        weights = rng.normal(size=found[feature.name].shape)
        if feature.pooling == "mean":
            weights = np.abs(weights) + 0.1
        found[f"{feature.name}.weights"] = np.where(found[feature.name] > 0, weights, 0)
        if feature.max_values == 1:  # a number that is missing
            found[f"{feature.name}.weights"][found[feature.name] == 1] = 1
    return found


def write_list_store(path: Path, n_users=40, n_events=400, n=600, schema=LIST_SCHEMA) -> EventStore:
    """Write a store of the schema."""
    rng = np.random.default_rng(0)

    def group(features, rows):
        return {k: v for f in features for k, v in make_cells(rng, rows, f).items()}

    time = np.sort(rng.integers(1_600_000_000, 1_600_500_000, n))
    user = np.repeat(rng.integers(0, n_users, n // 3), 3)  # three impressions of each request
    boundary = int(time[int(0.8 * n)])
    time = np.repeat(time[::3], 3)
    events = Events(
        rng.integers(0, n_users, n_events),
        rng.integers(1_599_000_000, 1_600_500_000, n_events),
        group(schema.behaviour, n_events),
    )
    impressions = Impressions(
        user,
        time,
        rng.integers(0, 2, n),
        time >= boundary,
        group(schema.candidate, n),
        group(schema.context, n),
        {name: rng.normal(size=n) for name in schema.numeric},
    )
    return write_store(
        path,
        schema,
        events,
        impressions,
        group(schema.profile, n_users),
        n_users=n_users,
        split={"kind": "time", "boundary": boundary},
        source={"kind": "test"},
    )
