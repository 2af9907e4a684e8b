"""From rows of an event store to the tensors of a batch, by vectorised indexing; no sample is copied twice."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.ctr_model import Batch
from models.input_schema import n_columns, n_ids
from scaling.batches.fixed_shapes import ANY_SHAPE, Shapes, padded
from scaling.batches.permutation import permuted_rows
from scaling.batches.share import WHOLE, Share
from scaling.store import FEATURE_PATHS, EventStore
from scaling.study import TOKENS_PER_PART

__all__ = ["columns_of", "gather_batch", "gather_packed", "iterate_test", "iterate_training"]


def gather_batch(store: EventStore, rows: NDArray[np.int64], max_len: int) -> Batch:
    """Read impressions `rows`, one per pass, with their latest `max_len` behaviours.

    The history is as wide as the batch's longest (one column at least), padded on the left.
    """
    ends = store.history_end[rows]
    starts = np.maximum(store.offsets[store.user[rows]], ends - max_len)
    return _gather(store, rows[:, None], starts, ends, packed=False)


def gather_packed(
    store: EventStore, rows: NDArray[np.int64], starts: NDArray[np.int64], *, stretches: bool
) -> Batch:
    """Read passes that share their histories.

    Args:
        store: of the impressions.
        rows: impressions of each pass [B, M], of one user and in time order; padded with -1.
        starts: the first event of each pass's window [B].
        stretches: whether a pass holds several requests, each with a history of its own length;
            otherwise all of a pass's rows are one request's.
    """
    ends = np.where(rows >= 0, store.history_end[rows], 0).max(1)
    return _gather(store, rows, starts, ends, packed=True, stretches=stretches)


def _gather(
    store: EventStore,
    rows_BM: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    *,
    packed: bool,
    stretches: bool = False,
) -> Batch:
    present = rows_BM >= 0
    rows = np.where(present, rows_BM, rows_BM[:, :1])
    users, n_candidates = store.user[rows[:, 0]], rows.shape[1]
    lengths = ends - starts
    width = max(1, int(lengths.max(initial=0)))
    columns = np.arange(width) - width
    valid = columns >= -lengths[:, None]
    events = ends[:, None] + columns
    np.maximum(events, 0, out=events)
    behaviours = columns_of(store, "behaviour", events)
    np.multiply(behaviours, valid[:, :, None], out=behaviours)
    times = np.empty((len(rows), width + n_candidates), np.int64)
    store.event_time.take(events, out=times[:, :width], mode="clip")
    times[:, width:] = store.time[rows]
    hours = (times + store.utc_offset_seconds) // 3600 % 24 + 1
    hours[:, :width] *= valid
    own_ends = store.history_end[rows] - ends[:, None] + width
    schema = store.schema
    numerics = np.empty((*rows.shape, len(schema.numeric)), np.float32)
    for index, name in enumerate(schema.numeric):
        numerics[..., index] = store.numerics[name][rows]
    label = store.label[rows]

    def shape(stacked: NDArray[Any]) -> Tensor:
        return torch.from_numpy(stacked if packed else stacked[:, 0])

    return Batch(
        behaviours=torch.from_numpy(behaviours),
        times=torch.from_numpy(times),
        hours=torch.from_numpy(hours),
        lengths=torch.from_numpy(lengths),
        candidate=shape(columns_of(store, "candidate", rows)),
        context=shape(columns_of(store, "context", rows)),
        profile=torch.from_numpy(columns_of(store, "profile", users)),
        numeric=shape(numerics),
        label=torch.from_numpy((label if packed else label[:, 0]).astype(np.float32)),
        present=torch.from_numpy(present) if packed else None,
        ends=torch.from_numpy(own_ends) if stretches else None,
    )


def iterate_training(
    store: EventStore,
    step_ends: NDArray[np.int64],
    max_len: int,
    order: int | None,
    first_step: int = 0,
    tokens_per_part: int = TOKENS_PER_PART,
    share: Share = WHOLE,
    shapes: Shapes = ANY_SHAPE,
) -> Iterator[list[Batch]]:
    """Yield the steps of one epoch over the first impressions of the order named by key `order`.

    Without a key, the epoch has the latest impressions of the training part, in time order.
    Step k takes the places from `step_ends[k - 1]` up to `step_ends[k]`, the first one from 0.
    A step's batch is split into parts of similar history lengths, to limit padding, and of at most
    `tokens_per_part` tokens. The sum of their gradients is the gradient of the batch.
    Of each batch only `share` is read, which may be nothing; all shares have about equally long histories.
    Parts are padded to the `shapes`, and have at most `tokens_per_part` tokens with this padding.
    """
    starts = np.concatenate([[0], step_ends[:-1]])
    for start, end in zip(starts[first_step:], step_ends[first_step:], strict=True):
        positions = np.arange(start, end, dtype=np.int64)
        if order is None:  # the rows of the training part are sorted by time
            rows = positions + (store.n_train - int(step_ends[-1]))
        else:
            rows = permuted_rows(positions, store.n_train, order)
        parts = _parts_of_similar_length(store, rows, max_len, tokens_per_part, share, shapes)
        yield [padded(gather_batch(store, rows[part], max_len), shapes) for part in parts]


def iterate_test(
    store: EventStore,
    max_len: int,
    tokens_per_batch: int = TOKENS_PER_PART,
    share: Share = WHOLE,
) -> Iterator[tuple[NDArray[np.int64], Batch | None]]:
    """Yield (positions in the test part, batch) over the whole test part, similar lengths together.

    Batches are the same whatever the number of shares, each in one share. All shares yield equally often: one that
    has a batch less ends with no positions and None.
    """
    rows = np.arange(store.n_train, store.n_impressions)
    parts = list(_parts_of_similar_length(store, rows, max_len, tokens_per_batch))
    for index in range(share.number, share.number + len(parts), share.count):
        if index < len(parts):
            yield parts[index], gather_batch(store, rows[parts[index]], max_len)
        else:
            yield rows[:0], None


def _parts_of_similar_length(
    store: EventStore,
    rows: NDArray[np.int64],
    max_len: int,
    n_tokens: int,
    share: Share = WHOLE,
    shapes: Shapes = ANY_SHAPE,
) -> Iterator[NDArray[np.int64]]:
    """Split a share of `rows` into index arrays, longest histories first, each of at most `n_tokens` with padding."""
    lengths = np.minimum(store.history_end[rows] - store.offsets[store.user[rows]], max_len)
    order = share.of(np.argsort(lengths, kind="stable"))
    stop = len(order)
    while stop > 0:
        width = shapes.width(max(1, int(lengths[order[stop - 1]]))) + 1
        start = max(0, stop - shapes.passes_within(n_tokens // width))
        yield order[start:stop]
        stop = start


def columns_of(store: EventStore, group: str, rows: NDArray[Any]) -> NDArray[np.int64]:
    """Return a group's columns for rows [...] of its arrays, int64 [..., c]; `models.ctr_model.Batch` has their order.

    Rows beyond the last are clipped.
    """
    plain = store.plain(group)
    features = getattr(store.schema, group)
    columns = np.empty((*rows.shape, n_columns(features)), np.int64)
    column, weight_column = 0, n_ids(features)
    for feature in features:
        if feature.name in plain:
            columns[..., column] = plain[feature.name].take(rows, mode="clip")
            column += 1
            continue
        ids, weights = store.lists[f"{FEATURE_PATHS[group]}{feature.name}"].padded(rows)
        columns[..., column : column + feature.max_values] = ids
        column += feature.max_values
        if weights is not None:
            columns[..., weight_column : weight_column + feature.max_values] = weights.view(
                np.int32
            )
            weight_column += feature.max_values
    return columns
