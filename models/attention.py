"""Causal self-attention with SUAN's learned relative bias, tile by tile.

Shapes: B batch, N keys, M queries (the last M of the N tokens), D token width, H heads, E = D / H;
a tile holds b samples, m queries and their n keys.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import N_TIME_BUCKETS
from models.layers import in_cache, last_tokens
from models.light_attention import SparseBias, sparse_pays
from models.sparse_attention import gap_buckets
from models.tokens import MASKED, Layout

__all__ = ["Bias", "RelativeBias", "SelfAttention", "time_buckets"]

T = TypeVar("T")

# Queries in a tile, at most: the future half is skipped tile by tile; 40 to 128 are equally fast.
_QUERIES = 64
# Pairs in a tile, so that a core's cache holds it; half and twice as many are equally fast.
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
    """The additive bias of all pairs that are computed, all that a token may not read masked.

    Attributes:
        tiles: which pairs; for some samples block after block of queries, the last block first; then
            the next samples.
        values: [b, m, n], one of each tile.
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

    For each few samples the last block of queries comes first: it alone reaches all their keys.
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
    """Look the bias up, each tile while the cache holds it."""

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
    if grad_BMN.is_cuda:  # bins for each row: all threads adding to a few cells would wait in line
        rows = grad_BMN.new_zeros(grad_BMN.shape[0] * grad_BMN.shape[1], n_buckets)
        rows.scatter_add_(1, bucket_BMN.flatten(0, 1).long(), grad_BMN.flatten(0, 1))
        return rows.sum(0)
    # far cheaper on a CPU than the backward of an embedding of so few rows
    sums = grad_BMN.new_zeros(n_buckets)
    return sums.index_add_(0, bucket_BMN.view(-1), grad_BMN.reshape(-1))


class _TiledAttention(torch.autograd.Function):
    """stream + softmax(q k' scale + bias) v Wo, with q, k, v = x Wqkv' and one bias for all heads.

    The projections and their gradients are made for some samples at a time, while a core's cache holds
    them. Heads are views; batched products go to fresh memory and are copied into place, because
    those that write into strided memory are far slower.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_BND: Tensor,
        stream_BND: Tensor | None,
        qkv_weight: Tensor,
        out_weight: Tensor,
        n_heads: int,
        tiles: tuple[Tile, ...],
        *bias: Tensor,
    ) -> Tensor:
        out_BND = torch.empty_like(x_BND, memory_format=torch.contiguous_format)
        scale = (x_BND.shape[-1] // n_heads) ** -0.5
        saved: list[Tensor] = []
        for samples, group in _by_samples(tiles, bias):
            x = x_BND[samples]
            qkv, attended = F.linear(x, qkv_weight), torch.empty_like(x)
            weights = []
            for head, out in zip(
                zip(*_heads(qkv, 3, n_heads), strict=True),
                attended.chunk(n_heads, -1),
                strict=True,
            ):
                q, k, v = head
                for tile, value in group:
                    logits = torch.baddbmm(
                        value, q[:, tile.queries], k[:, tile.keys].mT, alpha=scale
                    )
                    weight = torch.softmax(logits, -1)
                    out[:, tile.queries] = torch.bmm(weight, v[:, tile.keys])
                    weights.append(weight)
            if stream_BND is None:
                torch.mm(attended.flatten(0, 1), out_weight.t(), out=out_BND[samples].flatten(0, 1))
            else:
                torch.addmm(
                    stream_BND[samples].flatten(0, 1),
                    attended.flatten(0, 1),
                    out_weight.t(),
                    out=out_BND[samples].flatten(0, 1),
                )
            saved += [qkv, attended, *weights]
        ctx.tiles, ctx.n_heads, ctx.scale = tiles, n_heads, scale
        ctx.has_stream = stream_BND is not None
        ctx.save_for_backward(x_BND, qkv_weight, out_weight, *saved)
        return out_BND

    @staticmethod
    def backward(ctx: Any, grad_BND: Tensor) -> tuple[Tensor | None, ...]:
        x_BND, qkv_weight, out_weight, *saved = ctx.saved_tensors
        grad_BND = grad_BND.contiguous()
        n_heads, scale = ctx.n_heads, ctx.scale
        grad_x = torch.empty_like(x_BND, memory_format=torch.contiguous_format)
        grad_qkv_weight, grad_out_weight = (
            torch.zeros_like(qkv_weight),
            torch.zeros_like(out_weight),
        )
        grad_bias, remaining = [], iter(saved)
        for samples, group in _by_samples(ctx.tiles, ctx.tiles):
            qkv, attended = next(remaining), next(remaining)
            grad = grad_BND[samples].flatten(0, 1)
            grad_attended = grad.mm(out_weight).view_as(attended)
            grad_out_weight.addmm_(grad.t(), attended.flatten(0, 1))
            grad_qkv = torch.empty_like(qkv)
            totals: list[Tensor] = []
            for q, k, v, grad_q, grad_k, grad_v, grad_head in zip(
                *_heads(qkv, 3, n_heads),
                *_heads(grad_qkv, 3, n_heads),
                *_heads(grad_attended, 1, n_heads),
                strict=True,
            ):
                for number, (tile, _) in enumerate(group):
                    weight, grad_out = next(remaining), grad_head[:, tile.queries]
                    grad_weight = torch.bmm(grad_out, v[:, tile.keys].mT)
                    # backward of softmax: p * (g - sum(p * g))
                    grad_logits = torch._softmax_backward_data(
                        grad_weight, weight, -1, weight.dtype
                    )
                    of_v = torch.bmm(weight.mT, grad_out)
                    of_k = torch.bmm(grad_logits.mT, q[:, tile.queries])
                    if number == 0:  # reaches all keys
                        grad_v.copy_(of_v)
                        torch.mul(of_k, scale, out=grad_k)
                    else:
                        grad_v[:, tile.keys] += of_v
                        grad_k[:, tile.keys].add_(of_k, alpha=scale)
                    of_q = torch.bmm(grad_logits, k[:, tile.keys])
                    torch.mul(of_q, scale, out=grad_q[:, tile.queries])
                    if number < len(totals):
                        totals[number] += grad_logits
                    else:
                        totals.append(grad_logits)
            grad_bias += totals
            flat = grad_qkv.flatten(0, 1)
            torch.mm(flat, qkv_weight, out=grad_x[samples].flatten(0, 1))
            grad_qkv_weight.addmm_(flat.t(), x_BND[samples].flatten(0, 1))
        grad_stream = grad_BND if ctx.has_stream else None
        return grad_x, grad_stream, grad_qkv_weight, grad_out_weight, None, None, *grad_bias


def _by_samples(
    tiles: tuple[Tile, ...], values: Sequence[T]
) -> list[tuple[slice, list[tuple[Tile, T]]]]:
    """The tiles of the same samples together, each with its value."""
    pairs = groupby(zip(tiles, values, strict=True), key=lambda pair: pair[0].samples.start)
    return [(group[0][0].samples, group) for group in (list(found) for _, found in pairs)]


def _heads(x_BNX: Tensor, n_parts: int, n_heads: int) -> list[tuple[Tensor, ...]]:
    """Views of each part's heads, [B, N, E] each: one tuple of H per part."""
    return [part.chunk(n_heads, -1) for part in x_BNX.chunk(n_parts, -1)]


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases on its projections (SUAN, UAB step 2)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x_BND: Tensor,
        bias: Bias | SparseBias,
        n_queries: int,
        stream_BND: Tensor | None = None,
    ) -> Tensor:
        """Return the attention's output for the last `n_queries` tokens, [B, M, D].

        It is added to `stream_BND` [B, N, D], if that is given.
        """
        if isinstance(bias, SparseBias):
            attended = bias.attend(self.qkv(x_BND), self.n_heads)
        elif n_queries < x_BND.shape[1] and (last := bias.last(n_queries)) is not None:
            attended = self._few_queries(x_BND, last)
        elif in_cache(x_BND):
            return self._tiled(x_BND, bias, n_queries, stream_BND)
        else:
            attended = self._whole(x_BND, bias)
        y_BMD: Tensor = self.out(last_tokens(attended, n_queries))
        return y_BMD if stream_BND is None else last_tokens(stream_BND, n_queries) + y_BMD

    def _tiled(
        self, x_BND: Tensor, bias: Bias, n_queries: int, stream_BND: Tensor | None
    ) -> Tensor:
        """The whole of `forward`, tile by tile."""
        y_BND: Tensor = _TiledAttention.apply(  # type: ignore[no-untyped-call]
            x_BND,
            stream_BND,
            self.qkv.weight,
            self.out.weight,
            self.n_heads,
            bias.tiles,
            *bias.values,
        )
        return last_tokens(y_BND, n_queries)

    def _whole(self, x_BND: Tensor, bias: Bias) -> Tensor:
        """Torch's attention over all pairs at once, [B, N, D]: a GPU's kernels take the bias and its gradient."""
        qkv = self.qkv(x_BND).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        (value,) = bias.values
        attended = F.scaled_dot_product_attention(q, k, v, value.to(q.dtype).unsqueeze(1))
        return attended.transpose(1, 2).flatten(2)

    def _few_queries(self, x_BND: Tensor, bias_BMN: Tensor) -> Tensor:
        """The same for the last M tokens alone: nothing here is large."""
        batch, _, width = x_BND.shape
        query, key_value = self.qkv.weight[:width], self.qkv.weight[width:]
        q_BMD = F.linear(x_BND[:, -bias_BMN.shape[1] :], query)
        keys_values = F.linear(x_BND, key_value).chunk(2, -1)
        shape = (batch, -1, self.n_heads, width // self.n_heads)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in (q_BMD, *keys_values))
        logits = q @ k.mT * shape[-1] ** -0.5 + bias_BMN[:, None]
        return (torch.softmax(logits, -1) @ v).transpose(1, 2).flatten(2)
