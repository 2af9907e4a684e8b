"""The format of an event store: its schema, and the type and length of each array.

docs/file-formats.md describes the format for other programs. The keys of `dataset.json` are in
`scaling.store.manifest`.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from scaling.arrays import Array
from scaling.errors import UserError

__all__ = [
    "COMPONENT_PREFIX",
    "FEATURE_PATHS",
    "OFFSETS",
    "PADDING",
    "SCHEMA_VERSION",
    "UNKNOWN",
    "WEIGHTS",
    "ArraySpec",
    "Feature",
    "Schema",
    "array_table",
    "check_schema",
    "content_digest",
    "feature_arrays",
]


SCHEMA_VERSION = 1
# A batch holds this many ids for each cell of a feature, padded.
MOST_VALUES = 256
PADDING, UNKNOWN = 0, 1
# before the name of a component of the true logit, as arrays of generated logs are named
COMPONENT_PREFIX = "truth/component."
# before the name of a feature in the path of its ids, by group
FEATURE_PATHS = {
    "behaviour": "behaviours/feature.",
    "candidate": "impressions/candidate.",
    "context": "impressions/context.",
    "profile": "profile/feature.",
}
# behind the path of a feature's ids
OFFSETS, WEIGHTS = ".offsets", ".weights"


class Feature(NamedTuple):
    """A categorical feature and the vocabulary its ids belong to (0 padding, 1 unknown).

    Attributes:
        name: the column's name.
        vocabulary: the id space's name.
        max_values: the most ids that a cell holds; 1: each cell is one id.
        pooling: a cell's embedding is the mean or the sum of those of its ids.
        weighted: whether each id has a weight, by which its embedding is multiplied; a mean is divided by their sum.
    """

    name: str
    vocabulary: str
    max_values: int = 1
    pooling: Literal["mean", "sum"] = "mean"
    weighted: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether each cell is one id without a weight."""
        return self.max_values == 1 and not self.weighted

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON types; what a plain feature has is left out."""
        own = self._asdict()
        return {
            key: value
            for key, value in own.items()
            if key not in self._field_defaults or value != self._field_defaults[key]
        }


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
        document: dict[str, Any] = {
            group: [feature.to_json() for feature in getattr(self, group)]
            for group in FEATURE_PATHS
        }
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
        if not 1 <= feature.max_values <= MOST_VALUES:
            raise UserError(
                f"{where}: max_values of feature {feature.name!r} is {feature.max_values}, expected 1 to {MOST_VALUES}"
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
    n_values: Mapping[str, int] | None = None,
) -> dict[str, ArraySpec]:
    """Return the type and length of every array of a store; the keys are paths without `.npy`.

    `components` names the known parts of the logit, which only generated logs have, and only in the test part.
    `n_values` is the number of ids in all cells, by the path of each array of a feature with several values per cell.
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
    for name, feature, rows in feature_arrays(schema, n_users, n_events, n_impressions):
        n_ids = rows
        if feature.max_values > 1:
            n_ids = (n_values or {}).get(name, 0)
            table[f"{name}{OFFSETS}"] = ArraySpec(np.dtype(np.int64), rows + 1)
        table[name] = ArraySpec(schema.dtype(feature), n_ids)
        if feature.weighted:
            table[f"{name}{WEIGHTS}"] = ArraySpec(np.dtype(np.float32), n_ids)
    for numeric in schema.numeric:
        table[f"impressions/numeric.{numeric}"] = ArraySpec(np.dtype(np.float32), n_impressions)
    for component in components:
        table[f"{COMPONENT_PREFIX}{component}"] = ArraySpec(np.dtype(np.float32), n_test)
    return table


def feature_arrays(
    schema: Schema, n_users: int, n_events: int, n_impressions: int
) -> list[tuple[str, Feature, int]]:
    """Return for each feature the path of its array of ids without `.npy`, the feature, and its number of cells."""
    cells = {"behaviour": n_events, "profile": n_users}
    return [
        (f"{path}{feature.name}", feature, cells.get(group, n_impressions))
        for group, path in FEATURE_PATHS.items()
        for feature in getattr(schema, group)
    ]


def content_digest(array: Array) -> str:
    """Return the sha256 of an array's bytes (little-endian, without the file's header)."""
    return hashlib.sha256(array.data).hexdigest()
