"""Opening a store: `dataset.json` is checked, the arrays are mapped read-only and not read."""

from pathlib import Path

import numpy as np

from scaling.arrays import Array
from scaling.errors import UserError
from scaling.store.event_store import EventStore
from scaling.store.format import (
    COMPONENT_PREFIX,
    FEATURE_PATHS,
    OFFSETS,
    WEIGHTS,
    ArraySpec,
    array_table,
    feature_arrays,
)
from scaling.store.manifest import read_document
from scaling.store.validation_rules import find_breaches
from scaling.store.value_lists import ValueLists

__all__ = ["map_array", "open_store"]


# Keys of `dataset.json` that an opened store has unchanged.
FACTS = (
    "fingerprint",
    "utc_offset_seconds",
    "source",
    "split",
    "truth",
    "history_quantiles",
)


def open_store(path: Path | str, *, verify: bool = False) -> EventStore:
    """Open the store at `path`; with `verify`, also read all of it and check its contents.

    Raises:
        UserError: `path` is not a store, a key of `dataset.json` is missing or wrong, or an array is missing,
            truncated or of another type than `dataset.json` says. With `verify` also: the contents break a
            rule of the format or do not match the fingerprint.
    """
    path = Path(path)
    document, checked = read_document(path)
    counts = checked.counts
    table = array_table(
        checked.schema,
        counts.users,
        counts.events,
        counts.impressions,
        "impressions/probability" in checked.arrays,
        components=[
            name.removeprefix(COMPONENT_PREFIX)
            for name in checked.arrays
            if name.startswith(COMPONENT_PREFIX)
        ],
        n_test=counts.impressions - checked.split.n_train,
        n_values={name: array.rows for name, array in checked.arrays.items()},
    )
    for name in table:
        if name not in checked.arrays:
            raise UserError(f"{path / 'dataset.json'}: arrays: no entry {name!r}")
    arrays = {name: map_array(path / f"{name}.npy", spec) for name, spec in table.items()}

    lists = {
        name: ValueLists(
            arrays[name],
            arrays.get(f"{name}{OFFSETS}"),
            arrays.get(f"{name}{WEIGHTS}"),
            feature.max_values,
        )
        for name, feature, _ in feature_arrays(
            checked.schema, counts.users, counts.events, counts.impressions
        )
        if not feature.is_plain
    }
    of_lists = {f"{name}{end}" for name in lists for end in ("", OFFSETS, WEIGHTS)}

    def group(prefix: str) -> dict[str, Array]:
        return {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix) and name not in of_lists
        }

    store = EventStore(
        path=path,
        schema=checked.schema,
        **{key: document[key] for key in FACTS},
        offsets=arrays["behaviours/offsets"],
        event_time=arrays["behaviours/time"],
        behaviours=group(FEATURE_PATHS["behaviour"]),
        user=arrays["impressions/user"],
        time=arrays["impressions/time"],
        history_end=arrays["impressions/history_end"],
        request=arrays["impressions/request"],
        candidates=group(FEATURE_PATHS["candidate"]),
        contexts=group(FEATURE_PATHS["context"]),
        numerics=group("impressions/numeric."),
        profiles=group(FEATURE_PATHS["profile"]),
        label=arrays["impressions/label"],
        probability=arrays.get("impressions/probability"),
        components=group(COMPONENT_PREFIX),
        lists=lists,
    )
    if verify:
        for breach in find_breaches(store, document, arrays):
            raise UserError(breach)
    return store


def map_array(file: Path, spec: ArraySpec) -> Array:
    """Map one array of a store read-only.

    Raises:
        UserError: the file is missing, is not a `.npy` file, or has another type or length than `spec` says.
    """
    try:
        with file.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
            shape, _, dtype = (read or np.lib.format.read_array_header_2_0)(stream)
            start = stream.tell()
        n_bytes = file.stat().st_size - start
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing; expected {spec.rows:,} rows of {spec.dtype}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not a .npy array: {error}") from error
    if len(shape) != 1:
        raise UserError(f"{file}: shape is {shape}, expected ({spec.rows},)")
    if dtype != spec.dtype and dtype.kind != "f":
        raise UserError(f"{file}: type is {dtype}, expected {spec.dtype}")
    found = min(n_bytes // dtype.itemsize, shape[0])
    if found != spec.rows or shape != (spec.rows,):
        raise UserError(
            f"{file}: {found:,} rows found, dataset.json says {spec.rows:,}; make the data set again"
        )
    if dtype != spec.dtype:
        gaps = np.flatnonzero(np.isnan(np.load(file)))
        if len(gaps):
            raise UserError(
                f"{file}: row {gaps[0]:,} is nan, expected {spec.dtype} without missing values"
            )
        raise UserError(f"{file}: type is {dtype}, expected {spec.dtype}")
    # np.ndarray instead of np.memmap, whose every small slice costs a Python call.
    array: Array = np.load(file, mmap_mode="r").view(np.ndarray)
    return array
