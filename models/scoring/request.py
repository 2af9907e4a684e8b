"""The inputs of a scorer (a user and a request), checked against the features that the model was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from models.embeddings import weight_columns
from models.input_schema import CategoricalFeature, InputSchema, n_columns, n_ids

__all__ = [
    "CandidateRows",
    "Candidates",
    "History",
    "SchemaError",
    "UserRows",
    "read_candidates",
    "read_history",
]


# behind a feature's name: its weights
_WEIGHTS = ".weights"
_UNKNOWN = 1
_SECONDS = "whole unix seconds"
# 2100-01-01, as in the importers: larger values are probably milliseconds
_LATEST = 4_102_444_800


class SchemaError(ValueError):
    """The arrays do not match the features that the model was trained on; the message names the array."""


@dataclass(frozen=True)
class History:
    """A user before a request.

    A feature with several values per cell has ids [L, k], 0 behind a cell's last, with k up to its `max_values`. The weights
    of a feature NAME are `NAME.weights`, of the same shape as its ids. So it is for the profile and for candidates.

    Attributes:
        behaviours: ids by feature [L], oldest first; the model reads only its latest L.
        times: whole unix seconds [L], in non-decreasing order.
        profile: an id by feature.
    """

    behaviours: Mapping[str, ArrayLike]
    times: ArrayLike
    profile: Mapping[str, ArrayLike] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidates:
    """The candidates of a request.

    Attributes:
        features: ids by feature [M]; M may be 0.
        time: of the request, whole unix seconds.
        context: ids by feature, [M] or one for all.
        numeric: finite floats by feature, [M] or one for all.
    """

    features: Mapping[str, ArrayLike]
    time: int
    context: Mapping[str, ArrayLike] = field(default_factory=dict)
    numeric: Mapping[str, ArrayLike] = field(default_factory=dict)


@dataclass(frozen=True)
class UserRows:
    """A checked history in the model's order of features: columns [L, c], int64 seconds [L], columns [c]."""

    behaviours: NDArray[np.int64]
    times: NDArray[np.int64]
    profile: NDArray[np.int64]


@dataclass(frozen=True)
class CandidateRows:
    """Checked candidates in the model's order: int64 seconds [1], two arrays of columns [M, c], floats [M, nf]."""

    time: NDArray[np.int64]
    features: NDArray[np.int64]
    context: NDArray[np.int64]
    numeric: NDArray[np.float32]


def read_history(schema: InputSchema, history: History) -> UserRows:
    """Check a history.

    Raises:
        SchemaError: its arrays do not match the schema's features, or its times are not in order.
    """
    if not isinstance(history, History):
        raise SchemaError(f"history: {type(history).__name__}, expected a History")
    times = _read_times("times", history.times, "[L], oldest first", n_dims=1)
    earlier = np.flatnonzero(times[1:] < times[:-1])
    if len(earlier):
        at = int(earlier[0]) + 1
        raise SchemaError(
            f"times: {times[at]} at {at} comes after {times[at - 1]}, expected the oldest first"
        )
    behaviours = _named("behaviour", _arrays(schema.behaviour), history.behaviours)
    profile = _named("profile", _arrays(schema.profile), history.profile)
    return UserRows(
        _stack_ids(schema, "behaviour", behaviours, len(times), may_share=False),
        times,
        _stack_ids(schema, "profile", profile, 1, may_share=True)[0],
    )


def read_candidates(schema: InputSchema, candidates: Candidates) -> CandidateRows:
    """Check a request.

    Raises:
        SchemaError: its arrays do not match the schema's features.
    """
    if not isinstance(candidates, Candidates):
        raise SchemaError(f"candidates: {type(candidates).__name__}, expected Candidates")
    time = _read_times("time", candidates.time, "of the request", n_dims=0)
    features = _named("candidate", _arrays(schema.candidate), candidates.features)
    sizes = [
        len(np.atleast_1d(features[f.name])) if f.max_values > 1 else features[f.name].size
        for f in schema.candidate
    ]
    n_rows = max(sizes, default=0)
    context = _named("context", _arrays(schema.context), candidates.context)
    numeric = _named("numeric", list(schema.numeric), candidates.numeric)
    return CandidateRows(
        time[None],
        _stack_ids(schema, "candidate", features, n_rows, may_share=False),
        _stack_ids(schema, "context", context, n_rows, may_share=True),
        _stack_numeric(numeric, n_rows),
    )


def _read_times(where: str, given: ArrayLike, shape: str, *, n_dims: int) -> NDArray[np.int64]:
    times = _array(where, given)
    if times.ndim != n_dims or (times.size and times.dtype.kind not in "iuf"):
        raise SchemaError(f"{where}: {_dtype_and_shape(times)}, expected {_SECONDS} {shape}")
    if not times.size:
        return times.astype(np.int64)
    if times.dtype.kind == "f" and not (times == np.floor(times)).all():
        broken = times[times != np.floor(times)].flat[0]
        raise SchemaError(f"{where}: {broken}, expected {_SECONDS}, e.g. int(time.time())")
    first, last = times.min(), times.max()
    if not 0 <= first <= last < _LATEST:
        worst = first if first < 0 else last
        raise SchemaError(
            f"{where}: {worst}, expected {_SECONDS} from 1970 to 2100 (0 to {_LATEST - 1}), not milliseconds"
        )
    return times.astype(np.int64)


def _named(group: str, names: list[str], given: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    """Return a group's arrays in the model's order."""
    if not hasattr(given, "keys"):
        raise SchemaError(f"{group}: {type(given).__name__}, expected a dict of arrays by feature")
    if set(given.keys()) != set(names):
        listed = [", ".join(map(str, some)) or "none" for some in (names, given.keys())]
        raise SchemaError(
            f"{group}: this model reads the features {listed[0]}; given are {listed[1]}"
        )
    return {name: _array(f"{group} {name}", given[name]) for name in names}


def _stack_ids(
    schema: InputSchema,
    group: str,
    arrays: Mapping[str, NDArray[Any]],
    n_rows: int,
    *,
    may_share: bool,
) -> NDArray[np.int64]:
    """Stack a group's columns [rows, c]; a single cell stands for all rows if `may_share`."""
    features = getattr(schema, group)
    columns = np.zeros((n_rows, n_columns(features)), np.int64)
    column, weight_column = 0, n_ids(features)
    for feature in features:
        values, where, width = arrays[feature.name], f"{group} {feature.name}", feature.max_values
        if width > 1:
            _check_cells(where, values, n_rows, width, may_share=may_share)
        else:
            _check_shape(where, values, n_rows, "iu", "ids", may_share=may_share)
        size, least = schema.vocabularies[feature.vocabulary], int(feature.weighted and width == 1)
        if values.size and not least <= values.min() <= values.max() < size:
            raise SchemaError(
                f"{where}: ids from {values.min()} to {values.max()}, but its vocabulary has {least} to {size - 1}"
            )
        ids = _padded(values, width)
        # an empty cell is the unknown id, as in a store; so is a number that is missing
        empty = ids[..., 0] == (0 if width > 1 else _UNKNOWN)
        if feature.weighted:
            given = arrays[f"{feature.name}{_WEIGHTS}"]
            weights = _read_weights(f"{where}{_WEIGHTS}", feature, values, given)
            weights[empty, 0] = 1
            own = weight_columns(torch.from_numpy(weights)).numpy()
            columns[:, weight_column : weight_column + width] = own
            weight_column += width
        if width > 1:
            ids[empty, 0] = _UNKNOWN
        columns[:, column : column + width] = ids
        column += width
    return columns


def _arrays(features: Sequence[CategoricalFeature]) -> list[str]:
    """The names of the arrays of a group."""
    names = [f.name for f in features]
    return names + [f"{f.name}{_WEIGHTS}" for f in features if f.weighted]


def _padded(cells: NDArray[Any], width: int) -> NDArray[Any]:
    """Return a copy of cells [..., k] with zeros behind them, [..., width]; of single values [...] for a width of 1."""
    if width == 1:
        return cells[..., None].copy()
    return np.pad(cells, [(0, 0)] * (cells.ndim - 1) + [(0, width - cells.shape[-1])])


def _check_cells(
    where: str, values: NDArray[Any], n_rows: int, max_values: int, *, may_share: bool
) -> None:
    """Check cells of several ids [rows, k].

    Raises:
        SchemaError: another shape or type, an id behind a 0, or an id twice.
    """
    fits = (values.ndim == 2 and values.shape[0] == n_rows) or (may_share and values.ndim == 1)
    if not fits or values.shape[-1] > max_values or (values.size and values.dtype.kind not in "iu"):
        shape = f"({n_rows}, k)" + (" or (k,)" if may_share else "")
        raise SchemaError(
            f"{where}: {_dtype_and_shape(values)}, expected ids {shape} with k up to {max_values}, 0 behind a cell's last"
        )
    behind = (values[..., 1:] != 0) & (values[..., :-1] == 0)
    ordered = np.sort(values, axis=-1)
    twice = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] != 0)
    if behind.any() or twice.any():
        what = "an id behind a 0" if behind.any() else "an id twice in a cell"
        raise SchemaError(f"{where}: has {what}, expected distinct ids, then 0")


def _read_weights(
    where: str, feature: CategoricalFeature, ids: NDArray[Any], weights: NDArray[Any]
) -> NDArray[np.float32]:
    """Check the weights of ids, and return them padded as these; 0 behind a cell's last id.

    Raises:
        SchemaError: another shape or type than the ids have, or a weight that cannot be one.
    """
    if weights.shape != ids.shape or (weights.size and weights.dtype.kind not in "iuf"):
        raise SchemaError(f"{where}: {_dtype_and_shape(weights)}, expected numbers {ids.shape}")
    weights = weights.astype(np.float32)
    unused = ids == (0 if feature.max_values > 1 else _UNKNOWN)
    good = np.isfinite(weights) & ((weights > 0) | (feature.pooling == "sum")) | unused
    if not good.all():
        expected = "finite numbers" if feature.pooling == "sum" else "finite numbers above 0"
        raise SchemaError(f"{where}: {weights[~good][0]}, expected {expected}")
    return _padded(np.where(unused, np.float32(0), weights), feature.max_values)


def _stack_numeric(arrays: Mapping[str, NDArray[Any]], n_rows: int) -> NDArray[np.float32]:
    stacked = np.empty((n_rows, len(arrays)), np.float32)
    for column, (name, values) in enumerate(arrays.items()):
        _check_shape(f"numeric {name}", values, n_rows, "iuf", "numbers", may_share=True)
        with np.errstate(over="ignore"):
            stacked[:, column] = values
        if not np.isfinite(stacked[:, column]).all():
            raise SchemaError(
                f"numeric {name}: has values that are not finite in float32, expected finite numbers"
            )
    return stacked


def _check_shape(
    where: str, values: NDArray[Any], n_rows: int, kinds: str, what: str, *, may_share: bool
) -> None:
    fits = values.shape == (n_rows,) or (may_share and values.shape in ((), (1,)))
    if not fits or (values.size and values.dtype.kind not in kinds):
        shared = " or one for all" if may_share and n_rows != 1 else ""
        raise SchemaError(f"{where}: {_dtype_and_shape(values)}, expected {n_rows} {what}{shared}")


def _array(where: str, given: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged, or of a GPU
        raise SchemaError(
            f"{where}: {type(given).__name__} cannot be converted to an array, expected numbers [rows]"
        ) from error


def _dtype_and_shape(values: NDArray[Any]) -> str:
    return f"{values.dtype} ({' x '.join(map(str, values.shape)) or 'one value'})"
