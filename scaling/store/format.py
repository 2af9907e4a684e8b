"""The format of an event store: its schema, and the type and length of each array.

docs/file-formats.md describes the format for other programs. The keys of `dataset.json` are in
`scaling.store.manifest`.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scaling.arrays import Array
from scaling.errors import UserError

__all__ = [
    "COMPONENT_PREFIX",
    "PADDING",
    "SCHEMA_VERSION",
    "UNKNOWN",
    "ArraySpec",
    "Feature",
    "Schema",
    "array_table",
    "check_schema",
    "content_digest",
]


SCHEMA_VERSION = 1
PADDING, UNKNOWN = 0, 1
# before the name of a component of the true logit, as arrays of generated logs are named
COMPONENT_PREFIX = "truth/component."


class Feature(NamedTuple):
    """A categorical feature and the vocabulary its ids belong to (0 padding, 1 unknown)."""

    name: str
    vocabulary: str


class ArraySpec(NamedTuple):
    """Type and length of one array, as `dataset.json` states them."""

    dtype: np.dtype[Any]
    rows: int


@dataclass(frozen=True)
class Schema:
    """The features of a store; features that share a vocabulary share their ids."""

    behaviour: tuple[Feature, ...]
    candidate: tuple[Feature, ...]
    context: tuple[Feature, ...] = ()
    profile: tuple[Feature, ...] = ()
    numeric: tuple[str, ...] = ()
    vocabularies: dict[str, int] = field(default_factory=dict)

    def dtype(self, feature: Feature) -> np.dtype[Any]:
        """Return the smallest unsigned type that holds every id of the feature's vocabulary."""
        return np.min_scalar_type(self.vocabularies[feature.vocabulary] - 1)

    def to_json(self) -> dict[str, Any]:
        """Return the schema as plain JSON types."""
        groups = ("behaviour", "candidate", "context", "profile")
        document: dict[str, Any] = {g: [f._asdict() for f in getattr(self, g)] for g in groups}
        document["numeric"] = list(self.numeric)
        document["vocabularies"] = dict(sorted(self.vocabularies.items()))
        return document


def check_schema(where: Path, schema: Schema) -> None:
    """Check that every feature name can be part of a file name and that every vocabulary has a size.

    Raises:
        UserError: the first name or vocabulary that breaks this; the message starts with `where`.
    """
    features = (*schema.behaviour, *schema.candidate, *schema.context, *schema.profile)
    for name in (*(f.name for f in features), *schema.numeric):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise UserError(
                f"{where}: feature name {name!r} must be lower-case letters, digits and _, and start with a letter"
            )
    for feature in features:
        if schema.vocabularies.get(feature.vocabulary, 0) < 2:
            raise UserError(
                f"{where}: vocabulary {feature.vocabulary!r} of feature {feature.name!r} needs a size of 2 or more"
            )


def array_table(
    schema: Schema,
    n_users: int,
    n_events: int,
    n_impressions: int,
    has_probability: bool,
    *,
    components: Sequence[str] = (),
    n_test: int = 0,
) -> dict[str, ArraySpec]:
    """Return the type and length of every array of a store; the keys are paths without `.npy`.

    `components` names the known parts of the logit, which only generated logs have, and only in the test part.
    """
    row = np.dtype(np.int32 if n_impressions < 2**31 else np.int64)
    table = {
        "behaviours/offsets": ArraySpec(np.dtype(np.int64), n_users + 1),
        "behaviours/time": ArraySpec(np.dtype(np.int64), n_events),
        "impressions/user": ArraySpec(np.dtype(np.int32), n_impressions),
        "impressions/time": ArraySpec(np.dtype(np.int64), n_impressions),
        "impressions/history_end": ArraySpec(np.dtype(np.int64), n_impressions),
        "impressions/request": ArraySpec(row, n_impressions),
        "impressions/label": ArraySpec(np.dtype(np.uint8), n_impressions),
    }
    if has_probability:
        table["impressions/probability"] = ArraySpec(np.dtype(np.float32), n_impressions)
    for name, feature, rows in _feature_arrays(schema, n_users, n_events, n_impressions):
        table[name] = ArraySpec(schema.dtype(feature), rows)
    for numeric in schema.numeric:
        table[f"impressions/numeric.{numeric}"] = ArraySpec(np.dtype(np.float32), n_impressions)
    for component in components:
        table[f"{COMPONENT_PREFIX}{component}"] = ArraySpec(np.dtype(np.float32), n_test)
    return table


def _feature_arrays(
    schema: Schema, n_users: int, n_events: int, n_impressions: int
) -> list[tuple[str, Feature, int]]:
    return [
        *((f"behaviours/feature.{f.name}", f, n_events) for f in schema.behaviour),
        *((f"impressions/candidate.{f.name}", f, n_impressions) for f in schema.candidate),
        *((f"impressions/context.{f.name}", f, n_impressions) for f in schema.context),
        *((f"profile/feature.{f.name}", f, n_users) for f in schema.profile),
    ]


def content_digest(array: Array) -> str:
    """Return the sha256 of an array's bytes (little-endian, without the file's header)."""
    return hashlib.sha256(array.data).hexdigest()
