"""Checks of the arrays handed to `write_store`, before anything is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.errors import UserError
from scaling.store_check import one_class
from scaling.store_format import Feature, Schema, check_schema
from scaling.store_rows import Events, Impressions

__all__ = ["check_input"]

Array = NDArray[Any]


def check_input(
    path: Path,
    schema: Schema,
    events: Events,
    impressions: Impressions,
    profiles: Mapping[str, Array],
    n_users: int,
) -> None:
    """Check the arrays handed to `write_store`.

    Raises:
        UserError: the first breach, with array and row.
    """
    check_schema(path, schema)
    n_events, n = len(events.time), len(impressions.time)
    for what, ids, rows in (
        ("event user", events.user, n_events),
        ("impression user", impressions.user, n),
    ):
        _check_column(path, what, ids, rows, 0, n_users)
    groups: tuple[tuple[str, tuple[Feature, ...], Mapping[str, Array], int], ...] = (
        ("behaviour", schema.behaviour, events.features, n_events),
        ("candidate", schema.candidate, impressions.candidates, n),
        ("context", schema.context, impressions.contexts, n),
        ("profile", schema.profile, profiles, n_users),
    )
    for group, features, columns, rows in groups:
        for feature in features:
            if feature.name not in columns:
                raise UserError(f"{path}: {group} feature {feature.name!r} has no values")
            size = schema.vocabularies[feature.vocabulary]
            _check_column(path, f"{group} {feature.name}", columns[feature.name], rows, 1, size)
    for name in schema.numeric:
        values = np.asarray(impressions.numerics[name])
        _check_rows(path, f"numeric {name}", values, n, np.isfinite(values), "a finite number")
    label = np.asarray(impressions.label)
    _check_rows(path, "label", label, n, (label == 0) | (label == 1), "0 or 1")
    if impressions.probability is not None:
        p = np.asarray(impressions.probability, dtype=np.float32)
        _check_rows(path, "probability", p, n, (p > 0) & (p < 1), "a number between 0 and 1")
    n_test = int(np.count_nonzero(impressions.in_test))
    if not 0 < n_test < n:
        part = "test" if n_test == 0 else "training"
        raise UserError(f"{path}: the split leaves the {part} part without impressions")
    for line in one_class(f"{path}: label", label[~np.asarray(impressions.in_test, dtype=bool)]):
        raise UserError(line)
    times = [np.asarray(t) for t in (events.time, impressions.time) if len(t)]
    span = int(max(t.max() for t in times)) - int(min(t.min() for t in times)) + 1
    if span * n_users >= 2**63:
        raise UserError(f"{path}: times span {span:,} seconds; are they really in seconds?")


def _check_column(path: Path, what: str, ids: Array, rows: int, low: int, high: int) -> None:
    ids = np.asarray(ids)
    _check_rows(path, what, ids, rows, (ids >= low) & (ids < high), f"{low} to {high - 1}")


def _check_rows(
    path: Path, what: str, values: Array, rows: int, good: Array, expected: str
) -> None:
    if values.shape != (rows,):
        raise UserError(f"{path}: {what} has shape {values.shape}, expected ({rows},)")
    if not good.all():
        row = int(np.argmin(good))
        raise UserError(f"{path}: {what}: row {row:,} is {values[row]}, expected {expected}")
