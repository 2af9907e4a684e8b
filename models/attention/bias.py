"""The learned relative bias of attention by position and by time, tile by tile."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.attention.layout import MASKED, Layout
from models.attention.light import SparseBias, sparse_pays
from models.attention.sparse import gap_buckets
from models.layers import in_cache
from models.model_options import N_TIME_BUCKETS

__all__ = ["Bias", "RelativeBias", "Tile", "make_tiles", "time_buckets"]


# Queries in a tile, at most: the future half is skipped tile by tile; 40 to 128 are equally fast.
_QUERIES = 64
# Pairs in a tile, chosen to fit into a core's cache; half and twice as many are equally fast.
_PAIRS = 100_000


def time_buckets(times_BM: Tensor, times_BN: Tensor) -> Tensor:
    """Return the bucket of |t_i - t_j| for each pair of tokens: floor(ln(max(x, 1)) / 0.301).

    Args:
        times_BM: seconds of the queries, int64.
        times_BN: seconds of the keys, int64.

    Returns:
        int32 [B, M, N], clipped to [0, N_TIME_BUCKETS].
    """
    return gap_buckets(times_BM[:, :, None] - times_BN[:, None, :])


@dataclass(frozen=True)
class Tile:
    """Some samples, a block of their queries, and the keys up to the last that the block can see."""

    samples: slice
    queries: slice
    keys: slice


@dataclass(frozen=True)
class Bias:
    """The additive bias of all computed pairs; pairs that may not be read are masked.

    Attributes:
        tiles: which pairs; for some samples block after block of queries, the last block first; then
            the next samples.
        values: [b, m, n], one tensor for each tile.
    """

    tiles: tuple[Tile, ...]
    values: tuple[Tensor, ...]

    def last(self, n_queries: int) -> Tensor | None:
        """The rows of the last `n_queries` tokens, [B, n_queries, N]; None if no one tile holds them."""
        last = self.tiles[0].queries
        if n_queries > last.stop - last.start:
            return None
        rows = [
            value[:, -n_queries:]
            for tile, value in zip(self.tiles, self.values, strict=True)
            if tile.queries == last
        ]
        return torch.cat(rows)


def make_tiles(batch: int, n_tokens: int, *, skip_future: bool) -> tuple[Tile, ...]:
    """Cut the pairs of a batch into tiles; `skip_future` leaves out what no query of a block may read.

    For each group of samples the last block of queries comes first, because only it reaches all keys.
    """
    n_blocks = math.ceil(n_tokens / _QUERIES) if skip_future else 1
    edges = [n_tokens * block // n_blocks for block in range(n_blocks + 1)]
    size = max(1, _PAIRS // (n_tokens * math.ceil(n_tokens / n_blocks)))
    return tuple(
        Tile(
            slice(first, min(first + size, batch)),
            slice(start, stop),
            slice(0, stop if skip_future else n_tokens),
        )
        for first in range(0, batch, size)
        for stop, start in pairwise(reversed(edges))
    )


class RelativeBias(nn.Module):
    """B[i, j] = position[i - j] + time[bucket(|t_i - t_j|)] for j <= i; shared by heads and layers.

    The position table holds the L + 1 distances that a causal model can read (the paper's table has
    2(L + 1) - 1 entries, of which the future half is never used).
    """

    def __init__(self, max_len: int, *, position: bool, time: bool) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(max_len + 1)) if position else None
        self.time = nn.Parameter(torch.zeros(N_TIME_BUCKETS + 1)) if time else None

    def forward(
        self, times_BN: Tensor, layout: Layout, dtype: torch.dtype, *, skip_future: bool
    ) -> Bias | SparseBias:
        """Return the bias of all pairs, or of LightSUAN's pairs where computing those alone is faster.

        `skip_future` leaves the masked future out of the sums, tile by tile; rows without a valid
        key then attend uniformly to fewer keys, which only pooling over padding could notice.
        """
        if layout.pattern is not None:
            times_BN = layout.merge_padding(times_BN)
            if sparse_pays(layout.pattern, times_BN.shape[1]):
                return SparseBias((self.position, self.time), times_BN, layout, dtype)
        if in_cache(times_BN):
            tiles = make_tiles(*times_BN.shape, skip_future=skip_future)
        else:
            batch, n_tokens = times_BN.shape
            tiles = (Tile(slice(0, batch), slice(0, n_tokens), slice(0, n_tokens)),)
        values: tuple[Tensor, ...] = _TiledBias.apply(  # type: ignore[no-untyped-call]
            self.position, self.time, times_BN, layout, dtype, tiles
        )
        return Bias(tiles, values)


class _TiledBias(torch.autograd.Function):
    """Look up the bias tile by tile, while each tile is in the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        position: Tensor | None,
        time: Tensor | None,
        times_BN: Tensor,
        layout: Layout,
        dtype: torch.dtype,
        tiles: tuple[Tile, ...],
    ) -> tuple[Tensor, ...]:
        distance = layout.distance.clamp(min=0)  # [N, N], or [B, N, N] where requests differ
        by_distance = None if position is None else position[distance]
        values, buckets = [], []
        for tile in tiles:
            times = times_BN[tile.samples]
            pairs = (tile.samples, tile.queries, tile.keys)
            if time is None:
                value = torch.zeros(layout.readable[pairs].shape, dtype=dtype, device=times.device)
            else:
                bucket = time_buckets(times[:, tile.queries], times[:, tile.keys])
                value = time.index_select(0, bucket.view(-1)).view(bucket.shape)
                buckets.append(bucket)
            if by_distance is not None:
                value += by_distance[pairs[-by_distance.dim() :]]
            values.append(value.masked_fill_(~layout.readable[pairs], MASKED))
        ctx.tiles, ctx.n_position = tiles, None if position is None else len(position)
        ctx.n_time = None if time is None else len(time)
        ctx.save_for_backward(distance, *buckets)
        return tuple(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        distance, *buckets = ctx.saved_tensors
        to_position = to_time = None
        if ctx.n_time is not None:
            to_time = grads[0].new_zeros(ctx.n_time)
            for grad, bucket in zip(grads, buckets, strict=True):
                to_time += _sum_by_bucket(grad, bucket, ctx.n_time)
        if ctx.n_position is not None:
            by_distance = grads[0].new_zeros(distance.shape)
            for grad, tile in zip(grads, ctx.tiles, strict=True):
                if distance.dim() == 2:
                    by_distance[tile.queries, tile.keys] += grad.sum(0)
                else:
                    by_distance[tile.samples, tile.queries, tile.keys] = grad
            to_position = grads[0].new_zeros(ctx.n_position)
            to_position.index_add_(0, distance.view(-1), by_distance.view(-1))
        return to_position, to_time, None, None, None, None


def _sum_by_bucket(grad_BMN: Tensor, bucket_BMN: Tensor, n_buckets: int) -> Tensor:
    """Sum the gradients of each bucket, [n_buckets]."""
    if grad_BMN.is_cuda:  # bins per row: threads adding to few cells would wait
        rows = grad_BMN.new_zeros(grad_BMN.shape[0] * grad_BMN.shape[1], n_buckets)
        rows.scatter_add_(1, bucket_BMN.flatten(0, 1).long(), grad_BMN.flatten(0, 1))
        return rows.sum(0)
    # far cheaper on a CPU than the backward of an embedding of so few rows
    sums = grad_BMN.new_zeros(n_buckets)
    return sums.index_add_(0, bucket_BMN.view(-1), grad_BMN.reshape(-1))
