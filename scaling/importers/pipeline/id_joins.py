"""SQL that replaces raw values by ids: one join per vocabulary, and one join for all features of an item."""

from collections.abc import Mapping, Sequence

import numpy as np

from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.vocabularies import Features
from scaling.importers.sql import quoted
from scaling.store import UNKNOWN, Feature, Schema

__all__ = ["encode_items", "encoded", "id_column"]


TYPES = {np.dtype("u1"): "UTINYINT", np.dtype("u2"): "USMALLINT", np.dtype("u4"): "UINTEGER"}


def id_column(group: str, feature: Feature) -> str:
    """Return the quoted name of the column with a feature's ids in `encoded`."""
    return quoted(f"{group}.{feature.name}")


def encode_items(engine: Engine, schema: Schema, features: Features) -> None:
    """Create the table `core.item_ids`, if a feature is a column of the items."""
    wanted = {
        feature
        for group in ("behaviour", "candidate")
        for feature in getattr(schema, group)
        if features.table(group, feature.name) == "items"
    }
    if wanted:
        members = sorted(wanted)
        ids = [f"{_id(schema, f, f'v{i}')} AS {quoted(f.name)}" for i, f in enumerate(members)]
        joins = [_join(feature, f"v{i}") for i, feature in enumerate(members)]
        engine.run(
            f"CREATE TABLE core.item_ids AS SELECT r.item, {', '.join(ids)} FROM core.items r {' '.join(joins)}"
        )


def encoded(
    schema: Schema,
    features: Features,
    groups: Mapping[str, Sequence[Feature]],
    rows: str,
    others: Sequence[str],
) -> str:
    """Return a SELECT of the columns `others` and the ids of every feature in `groups`, from `rows` (alias `r`)."""
    columns, joins = list(others), []
    if any(features.table(g, f.name) == "items" for g, members in groups.items() for f in members):
        joins.append("LEFT JOIN core.item_ids i ON i.item = r.item")
    for group, members in groups.items():
        for feature in members:
            if features.table(group, feature.name) == "items":
                kind = TYPES[schema.dtype(feature)]
                value = f"coalesce(i.{quoted(feature.name)}, {UNKNOWN})::{kind}"
            else:
                value = _id(schema, feature, f"v{len(joins)}")
                joins.append(_join(feature, f"v{len(joins)}"))
            columns.append(f"{value} AS {id_column(group, feature)}")
    return f"SELECT {', '.join(columns)} FROM {rows} r {' '.join(joins)}"


def _id(schema: Schema, feature: Feature, alias: str) -> str:
    return f"coalesce({alias}.id, {UNKNOWN})::{TYPES[schema.dtype(feature)]}"


def _join(feature: Feature, alias: str) -> str:
    vocabulary = f"core.{quoted(f'vocabulary {feature.vocabulary}')}"
    return f"LEFT JOIN {vocabulary} {alias} ON {alias}.value = r.{quoted(feature.name)}"
