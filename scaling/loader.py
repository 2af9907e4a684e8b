"""From rows of an event store to the tensors of a batch, by vectorised indexing; no sample is copied twice."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.suan import Batch
from scaling.order import permuted_rows
from scaling.store import EventStore

__all__ = ["gather_batch", "iterate_test", "iterate_training"]


def gather_batch(store: EventStore, rows: NDArray[np.int64], max_len: int) -> Batch:
    """Read impressions `rows` with their latest `max_len` behaviours.

    The history is as wide as the batch's longest (one column at least), padded on the left.
    """
    users = store.user[rows]
    ends = store.history_end[rows]
    lengths = np.minimum(ends - store.offsets[users], max_len)
    width = max(1, int(lengths.max(initial=0)))
    columns = np.arange(width) - width
    valid = columns >= -lengths[:, None]
    events = ends[:, None] + columns
    np.maximum(events, 0, out=events)
    behaviours = np.empty((len(rows), width, len(store.schema.behaviour)), np.int64)
    for index, feature in enumerate(store.schema.behaviour):
        values = store.behaviours[feature.name].take(events, mode="clip")
        np.multiply(values, valid, out=behaviours[:, :, index], casting="unsafe")
    times = np.empty((len(rows), width + 1), np.int64)
    store.event_time.take(events, out=times[:, :-1], mode="clip")
    times[:, -1] = store.time[rows]
    hours = (times + store.utc_offset_seconds) // 3600 % 24 + 1
    hours[:, :-1] *= valid
    schema = store.schema
    numerics = [store.numerics[name][rows] for name in schema.numeric]
    return Batch(
        behaviours=torch.from_numpy(behaviours),
        times=torch.from_numpy(times),
        hours=torch.from_numpy(hours),
        lengths=torch.from_numpy(lengths),
        candidate=_columns([store.candidates[f.name][rows] for f in schema.candidate], len(rows)),
        context=_columns([store.contexts[f.name][rows] for f in schema.context], len(rows)),
        profile=_columns([store.profiles[f.name][users] for f in schema.profile], len(rows)),
        numeric=torch.from_numpy(
            np.stack(numerics, 1) if numerics else np.empty((len(rows), 0), np.float32)
        ),
        label=torch.from_numpy(store.label[rows].astype(np.float32)),
    )


def iterate_training(
    store: EventStore,
    n_samples: int,
    batch_size: int,
    max_len: int,
    order: int,
    first_step: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of one epoch over the first `n_samples` of the order named by key `order`."""
    for start in range(first_step * batch_size, n_samples, batch_size):
        positions = np.arange(start, min(start + batch_size, n_samples), dtype=np.int64)
        yield gather_batch(store, permuted_rows(positions, store.n_train, order), max_len)


def iterate_test(
    store: EventStore, max_len: int, tokens_per_batch: int = 16_384
) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Yield (positions in the test part, batch) over the whole test part, similar lengths together."""
    part = slice(store.n_train, store.n_impressions)
    lengths = np.minimum(store.history_end[part] - store.offsets[store.user[part]], max_len)
    order = np.argsort(lengths, kind="stable")
    stop = len(order)
    while stop > 0:
        width = int(lengths[order[stop - 1]]) + 1
        start = max(0, stop - max(1, tokens_per_batch // width))
        positions = order[start:stop]
        yield positions, gather_batch(store, positions + store.n_train, max_len)
        stop = start


def _columns(arrays: list[NDArray[np.unsignedinteger]], n_rows: int) -> Tensor:
    columns = np.empty((n_rows, len(arrays)), np.int64)
    for index, values in enumerate(arrays):
        columns[:, index] = values
    return torch.from_numpy(columns)
