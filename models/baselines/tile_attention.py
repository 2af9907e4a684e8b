"""Attention over [history; candidates] on a CPU core, tile by tile: weights are a softmax or a SiLU of the scores.

For few candidates: they are part of the sequence, and pairs of them are computed and masked. The projections, and what
follows the attention, are the caller's.

Shapes: B passes, N tokens, M queries (the last M of the N tokens), H heads, E width of a head; a tile holds b passes, m queries
and their n keys.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention import MASKED, Layout, Tile, gap_buckets, make_tiles

__all__ = ["FEW_CANDIDATES", "TiledPairs", "tile_attention", "tile_pairs"]


# Candidates of a pass, at most; with more, the masked pairs of candidates cost more than they save.
FEW_CANDIDATES = 32


@dataclass(frozen=True)
class TiledPairs:
    """The pairs of a batch that are computed, for all layers.

    Attributes:
        tiles: for some passes block after block of queries, the last block, which reaches all keys, first.
        masks: zero, or `MASKED` for a pair that may not be read, [b, m, n] of each tile; empty with `buckets`.
        buckets: of the time between two tokens, int32 [b, m, n]; one more than the last for a pair that may not be read.
        distance: behaviours between two tokens, int64 [N, N] or [B, N, N].
    """

    tiles: tuple[Tile, ...]
    masks: tuple[Tensor, ...]
    buckets: tuple[Tensor, ...]
    distance: Tensor | None

    def last(self, n_queries: int) -> "TiledPairs":
        """The pairs of the last tokens as queries."""
        kept: list[Tile] = []
        masks: list[Tensor] = []
        buckets: list[Tensor] = []
        for number, tile in enumerate(self.tiles):
            n_tokens = tile.keys.stop
            if tile.queries.stop == self.tiles[0].queries.stop:
                if n_queries > n_tokens - tile.queries.start:
                    raise ValueError(f"{n_queries} queries, expected those of one tile")
                kept.append(Tile(tile.samples, slice(n_tokens - n_queries, n_tokens), tile.keys))
                for found, given in ((masks, self.masks), (buckets, self.buckets)):
                    if given:
                        found.append(given[number][:, -n_queries:].contiguous())
        return TiledPairs(tuple(kept), tuple(masks), tuple(buckets), self.distance)


def tile_pairs(
    layout: Layout, dtype: torch.dtype, times_BN: Tensor | None = None, n_buckets: int = 0
) -> TiledPairs:
    """Return the pairs of a batch; with times [B, N] their buckets, of which there are `n_buckets`."""
    n_tokens = layout.n_history + layout.n_candidates
    tiles = make_tiles(len(layout.lengths), n_tokens, skip_future=True)
    unread, masks, buckets = ~layout.readable, [], []
    for tile in tiles:
        hidden = unread[tile.samples, tile.queries, tile.keys]
        if times_BN is None:
            zeros = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            masks.append(zeros.masked_fill_(hidden, MASKED))
        else:
            times = times_BN[tile.samples]
            gaps = times[:, tile.queries, None] - times[:, None, tile.keys]
            buckets.append(gap_buckets(gaps, n_buckets - 1).masked_fill_(hidden, n_buckets))
    distance = None if times_BN is None else layout.distance.clamp(min=0)
    return TiledPairs(tiles, tuple(masks), tuple(buckets), distance)


def tile_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pairs: TiledPairs,
    tables: tuple[Tensor, Tensor] | None,
    *,
    n_heads: int,
    scale: float,
    divisor: float | None = None,
) -> Tensor:
    """Return what the queries read, [B, M, H E'].

    Args:
        q: [B, M, H E].
        k: [B, N, H E].
        v: [B, N, H E'].
        pairs: of these queries.
        tables: bias by distance and by time bucket, shared by the heads; None: without.
        n_heads: H.
        scale: of the products.
        divisor: of SiLU's sums; None: softmax.
    """
    position, time = (None, None) if tables is None else tables
    read: Tensor = _TileAttention.apply(q, k, v, position, time, pairs, n_heads, scale, divisor)  # type: ignore[no-untyped-call]
    return read


class _TileAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        position: Tensor | None,
        time: Tensor | None,
        pairs: TiledPairs,
        n_heads: int,
        scale: float,
        divisor: float | None,
    ) -> Tensor:
        read = torch.empty(*q.shape[:2], v.shape[2], dtype=v.dtype, device=v.device)
        first, kept = k.shape[1] - q.shape[1], []
        biases = _biases(pairs, position, time)
        for samples, numbers in _groups(pairs.tiles):
            bias = {number: biases(number) for number in numbers}
            for qh, kh, vh, out in _heads(
                n_heads, q[samples], k[samples], v[samples], read[samples]
            ):
                for number in numbers:
                    tile = pairs.tiles[number]
                    rows = slice(tile.queries.start - first, tile.queries.stop - first)
                    scores = torch.baddbmm(
                        bias[number], qh[:, rows], kh[:, tile.keys].mT, alpha=scale
                    )
                    if divisor is None:
                        weights = torch.softmax(scores, -1)
                        out[:, rows] = torch.bmm(weights, vh[:, tile.keys])
                    else:
                        weights = F.silu(scores)
                        kept.append(scores)
                        torch.div(torch.bmm(weights, vh[:, tile.keys]), divisor, out=out[:, rows])
                    kept.append(weights)
        ctx.pairs, ctx.n_heads, ctx.scale, ctx.divisor = pairs, n_heads, scale, divisor
        ctx.sizes = None if position is None or time is None else (len(position), len(time))
        ctx.save_for_backward(q, k, v, *kept)
        return read

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        pairs, scale, divisor = ctx.pairs, ctx.scale, ctx.divisor
        first, kept = k.shape[1] - q.shape[1], iter(saved)
        grad = grad.contiguous() if divisor is None else grad / divisor
        grads = tuple(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        totals: dict[int, Tensor] = {}
        for samples, numbers in _groups(pairs.tiles):
            parts = (x[samples] for x in (q, k, v, *grads, grad))
            for qh, kh, vh, to_q, to_k, to_v, to_read in _heads(ctx.n_heads, *parts):
                for number in numbers:
                    tile = pairs.tiles[number]
                    rows = slice(tile.queries.start - first, tile.queries.stop - first)
                    scores = None if divisor is None else next(kept)
                    weights, from_read = next(kept), to_read[:, rows]
                    inner = torch.bmm(from_read, vh[:, tile.keys].mT)
                    if scores is None:
                        inner = torch._softmax_backward_data(inner, weights, -1, weights.dtype)
                    else:
                        inner = torch.ops.aten.silu_backward(inner, scores)
                    of_v, of_k = torch.bmm(weights.mT, from_read), torch.bmm(inner.mT, qh[:, rows])
                    if number == numbers[0]:  # reaches all keys
                        to_v.copy_(of_v)
                        torch.mul(of_k, scale, out=to_k)
                    else:
                        to_v[:, tile.keys] += of_v
                        to_k[:, tile.keys].add_(of_k, alpha=scale)
                    torch.mul(torch.bmm(inner, kh[:, tile.keys]), scale, out=to_q[:, rows])
                    if ctx.sizes is not None:
                        totals[number] = totals[number].add_(inner) if number in totals else inner
        to_tables = (None, None) if ctx.sizes is None else _to_tables(pairs, totals, ctx.sizes)
        return *grads, *to_tables, None, None, None, None


def _biases(pairs: TiledPairs, position: Tensor | None, time: Tensor | None) -> Any:
    """Return a function that gives the bias of a tile [b, m, n]."""
    if position is None or time is None:
        return lambda number: pairs.masks[number]
    assert pairs.distance is not None
    by_bucket = torch.cat([time, time.new_full((1,), MASKED)])
    by_distance = position[pairs.distance]

    def bias(number: int) -> Tensor:
        tile, bucket = pairs.tiles[number], pairs.buckets[number]
        value = by_bucket.index_select(0, bucket.view(-1)).view(bucket.shape)
        place = (tile.samples, tile.queries, tile.keys)[-by_distance.dim() :]
        return value.add_(by_distance[place])

    return bias


def _to_tables(
    pairs: TiledPairs, totals: dict[int, Tensor], sizes: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Sum the gradients of the bias by distance and by bucket."""
    distance, one = pairs.distance, totals[0]
    assert distance is not None
    to_time, by_distance = one.new_zeros(sizes[1] + 1), one.new_zeros(distance.shape)
    for number, total in totals.items():
        tile = pairs.tiles[number]
        to_time.index_add_(0, pairs.buckets[number].view(-1), total.view(-1))
        if distance.dim() == 2:
            by_distance[tile.queries, tile.keys] += total.sum(0)
        else:
            by_distance[tile.samples, tile.queries, tile.keys] = total
    to_position = one.new_zeros(sizes[0])
    to_position.index_add_(0, distance.reshape(-1), by_distance.view(-1))
    return to_position, to_time[:-1]


def _groups(tiles: tuple[Tile, ...]) -> Iterator[tuple[slice, list[int]]]:
    """The numbers of the tiles of the same passes."""
    for _, found in groupby(range(len(tiles)), key=lambda number: tiles[number].samples.start):
        numbers = list(found)
        yield tiles[numbers[0]].samples, numbers


def _heads(n_heads: int, *parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of each head of all parts, [b, tokens, E] each."""
    return zip(*(part.chunk(n_heads, -1) for part in parts), strict=True)
