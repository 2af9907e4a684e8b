"""LightSUAN's self-attention, only for the pairs of its pattern: O(L (k + L / r)) time and memory.

The window is read block by block, the dilated past within the r residue classes of the index, each as plain
batched matrix products; one softmax runs over both parts of a row (`models.sparse_pattern.Tiles`).

Shapes: B batch, N tokens, P padded tokens, D token width, H heads, E = D / H, G heads worked on at once,
S = G B sequences, W columns of a row.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention.layout import MASKED
from models.model_options import N_TIME_BUCKETS
from models.sparse_pattern import Tiles

__all__ = ["BUCKET_WIDTH", "gap_buckets", "sparse_attention", "sparse_bias"]


BUCKET_WIDTH = 0.301

# The row of the time table for a key that may not be read.
_UNREADABLE = N_TIME_BUCKETS + 1

# The time of padding and of positions outside the sequence: so far from all events that the gap falls into the
# unreadable bucket (ln(2^61) / 0.301 > 129). Padding then reads padding, and no other token reads it.
_PADDING_TIME, _OUTSIDE_TIME = -(2.0**61), -(2.0**62)

# Up to this many pairs, all heads are computed at once; more do not fit into a core's caches.
_PAIRS = 650_000


def sparse_bias(
    position: Tensor, time: Tensor, times_BN: Tensor, lengths: Tensor, tiles: Tiles
) -> Tensor:
    """Return the additive bias of the pattern's pairs, [B, P, W], in the layout of `tiles`.

    Args:
        position: a scalar for each distance, at least N.
        time: a scalar for each bucket of the time between two tokens, N_TIME_BUCKETS + 1.
        times_BN: seconds, int64, below 2^53 in absolute value; all padding has the same time.
        lengths: valid tokens of each row [B], on the right; they never read the others.
        tiles: of N tokens.
    """
    bias: Tensor = _SparseBias.apply(position, time, times_BN, lengths, tiles)  # type: ignore[no-untyped-call]
    return bias


def gap_buckets(gaps: Tensor, largest: int = N_TIME_BUCKETS) -> Tensor:
    """Return floor(ln(max(|x|, 1)) / 0.301) of seconds x, at most `largest`, int32; float32 is overwritten."""
    gaps = gaps.float().abs_().clamp_(min=1.0).log_().mul_(1.0 / BUCKET_WIDTH)
    return gaps.clamp_(max=largest).int()


def sparse_attention(qkv_BNX: Tensor, bias_BPW: Tensor, n_heads: int, tiles: Tiles) -> Tensor:
    """Return softmax(q k' / sqrt(E) + bias) v over the pattern's pairs, [B, N, D].

    Args:
        qkv_BNX: q, k and v side by side, [B, N, 3 D].
        bias_BPW: from `sparse_bias`; shared by the heads.
        n_heads: H.
        tiles: of N tokens.
    """
    # under autocast the projections are in bfloat16 and the softmax is not; these products are in float32
    with torch.autocast(qkv_BNX.device.type, enabled=False):
        qkv, bias = qkv_BNX.to(bias_BPW.dtype), bias_BPW
        out: Tensor = _SparseAttention.apply(qkv, bias, n_heads, tiles)  # type: ignore[no-untyped-call]
    return out.to(qkv_BNX.dtype)


class _SparseBias(torch.autograd.Function):
    """position[distance] + time[bucket]; the buckets are kept, a byte for each pair."""

    @staticmethod
    def forward(
        ctx: Any, position: Tensor, time: Tensor, times_BN: Tensor, lengths: Tensor, tiles: Tiles
    ) -> Tensor:
        buckets_BPW = _pair_buckets(times_BN, lengths, tiles)
        table = torch.cat([time, time.new_full((1,), MASKED)])
        bias_BPW = table.index_select(0, buckets_BPW.view(-1)).view(buckets_BPW.shape)
        distances = _pair_distances(tiles, len(position) - 1, position.device)
        table = torch.cat([position, position.new_full((1,), MASKED)])
        for rows, distance in zip(tiles.split(bias_BPW), distances, strict=True):
            if rows.numel():
                rows += table[distance]
        ctx.save_for_backward(buckets_BPW.to(torch.uint8), *distances)
        ctx.tiles, ctx.sizes = tiles, (len(position), len(time))
        return bias_BPW

    @staticmethod
    def backward(ctx: Any, grad_BPW: Tensor) -> tuple[Tensor | None, ...]:
        buckets_BPW, *distances = ctx.saved_tensors
        tiles, (n_positions, n_times) = ctx.tiles, ctx.sizes
        # scatter_add_ is far cheaper on a CPU than the backward of a look-up in so small a table
        time = grad_BPW.new_zeros(n_times + 1)
        time.scatter_add_(0, buckets_BPW.view(-1).long(), grad_BPW.reshape(-1))
        position = grad_BPW.new_zeros(n_positions + 1)
        for rows, distance in zip(tiles.split(grad_BPW), distances, strict=True):
            if rows.numel():
                summed = rows.flatten(0, -3).sum(0)
                position.scatter_add_(0, distance.view(-1), summed.view(-1))
        return position[:-1], time[:-1], None, None, None


def _pair_buckets(times_BN: Tensor, lengths: Tensor, tiles: Tiles) -> Tensor:
    """Time buckets of the pairs, int32 [B, P, W]; see `models.attention.bias.time_buckets`."""
    batch, n_tokens = times_BN.shape
    look_back, added = tiles.look_back, tiles.padded - n_tokens
    padding = torch.arange(n_tokens, device=times_BN.device) < (n_tokens - lengths)[:, None]
    # float64 holds seconds exactly and is faster than integers
    times = times_BN.double().masked_fill_(padding, _PADDING_TIME)
    times = F.pad(times, (look_back + added, 0), value=_OUTSIDE_TIME)
    gaps_BPW = tiles.new_rows(times.new_empty(0, dtype=torch.float32), batch, unread=0.0)
    near, far = tiles.split(gaps_BPW)
    query = times[:, look_back:].view(batch, -1, tiles.block, 1)
    windows = times.unfold(1, tiles.near, tiles.block).unsqueeze(2)
    near.view(batch, -1, tiles.block, tiles.near).copy_(query - windows)
    if tiles.far:
        classes = tiles.by_class(times[:, look_back:].unsqueeze(-1))
        keys = classes[:, :, : tiles.far].transpose(-2, -1)
        far.copy_(classes[:, :, tiles.pattern.skipped :] - keys)
    return gap_buckets(gaps_BPW, _UNREADABLE)


def _pair_distances(tiles: Tiles, largest: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Distances within a window [m, near] and a class [far, far]; largest + 1 where nothing is read."""
    block, look_back = tiles.block, tiles.look_back
    near = look_back + torch.arange(block, device=device)[:, None]
    near = near - torch.arange(tiles.near, device=device)
    far = torch.arange(tiles.far, device=device)
    far = far[:, None] - far
    outside = (near < 0) | (near > look_back)
    near = near.masked_fill(outside, largest + 1)
    distance = ((far + tiles.pattern.skipped) * tiles.pattern.dilation).clamp(max=largest)
    return near, distance.masked_fill(far < 0, largest + 1)


class _SparseAttention(torch.autograd.Function):
    """Forward and backward by groups of heads; saves the probabilities and a copy of q, k and v.

    The copy has each head's rows together, so that blocks, and the windows that overlap, are strided views.
    """

    @staticmethod
    def forward(ctx: Any, qkv_BNX: Tensor, bias_BPW: Tensor, n_heads: int, tiles: Tiles) -> Tensor:
        batch, n_tokens, triple = qkv_BNX.shape
        size = triple // 3 // n_heads
        n_group = n_heads if n_heads * bias_BPW.numel() <= _PAIRS else 1
        parts = qkv_BNX.view(batch, n_tokens, 3, n_heads, size).permute(2, 3, 0, 1, 4)
        out_BND = qkv_BNX.new_empty(batch, n_tokens, triple // 3)
        heads_out = out_BND.view(batch, n_tokens, n_heads, size).permute(2, 0, 1, 3)
        bias = tiles.split(bias_BPW)
        logits = tiles.new_rows(bias_BPW, n_group * batch, unread=MASKED)
        split = tiles.split(logits)
        saved = []
        for first in range(0, n_heads, n_group):
            flat = _flat_parts(parts[:, first : first + n_group], tiles)
            q, k, v = _Queries(flat[0], tiles), _Keys(flat[1], tiles), _Keys(flat[2], tiles)
            for target, added, scores in zip(split, bias, _scores(q, k), strict=False):
                shape = (-1, *added.shape)
                torch.add(added, scores.view(shape), alpha=size**-0.5, out=target.view(shape))
            weights = torch.softmax(logits, -1)
            attended = _attend(weights, v, tiles).view(n_group, batch, tiles.padded, size)
            heads_out[first : first + n_group] = attended[:, :, tiles.padded - n_tokens :]
            saved += [flat, weights]
        ctx.save_for_backward(*saved)
        ctx.tiles, ctx.n_heads = tiles, n_heads
        return out_BND

    @staticmethod
    def backward(ctx: Any, grad_BND: Tensor) -> tuple[Tensor | None, ...]:
        tiles, n_heads, saved = ctx.tiles, ctx.n_heads, ctx.saved_tensors
        batch, n_tokens, width = grad_BND.shape
        size, n_group = width // n_heads, n_heads * 2 // len(saved)
        grad_qkv = grad_BND.new_empty(batch, n_tokens, 3 * width)
        parts = grad_qkv.view(batch, n_tokens, 3, n_heads, size).permute(2, 3, 0, 1, 4)
        heads_grad = grad_BND.view(batch, n_tokens, 1, n_heads, size).permute(2, 3, 0, 1, 4)
        grad_weights = tiles.new_rows(saved[1], n_group * batch, unread=0.0)
        split = tiles.split(grad_weights)
        grad_bias: Tensor | None = None
        for index, first in enumerate(range(0, n_heads, n_group)):
            flat, weights = saved[2 * index : 2 * index + 2]
            q, k, v = _Queries(flat[0], tiles), _Keys(flat[1], tiles), _Keys(flat[2], tiles)
            grad = _Queries(_flat_parts(heads_grad[:, first : first + n_group], tiles)[0], tiles)
            for target, scores in zip(split, _scores(grad, v), strict=False):
                target.copy_(scores.view(target.shape))
            # backward of softmax: p * (g - sum(p * g))
            grad_logits = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            for rows_BPW in torch.split(grad_logits, batch):
                grad_bias = rows_BPW.clone() if grad_bias is None else grad_bias.add_(rows_BPW)
            grad_flat = torch.zeros_like(flat)
            _add_grads(grad_flat, (q, k), (weights, grad_logits), grad, tiles)
            body = grad_flat[:, tiles.look_back :].view(3, n_group, batch, tiles.padded, size)
            parts[:, first : first + n_group] = body[..., tiles.padded - n_tokens :, :]
        return grad_qkv, grad_bias, None, None


def _flat_parts(parts: Tensor, tiles: Tiles) -> Tensor:
    """Copy [parts, G, B, N, E] to [parts, k - 1 + S P, E], zeros before the first and each sequence."""
    n_parts, n_group, batch, n_tokens, size = parts.shape
    added = tiles.padded - n_tokens
    flat = parts.new_empty(n_parts, tiles.look_back + n_group * batch * tiles.padded, size)
    flat[:, : tiles.look_back] = 0
    body = flat[:, tiles.look_back :].view(n_parts, n_group, batch, tiles.padded, size)
    body[..., :added, :] = 0
    body[..., added:, :] = parts
    return flat


class _Queries:
    """Rows [k - 1 + S P, E] as queries: blocks [S P / m, m, E], and those with far keys [S r, far, E]."""

    def __init__(self, flat: Tensor, tiles: Tiles) -> None:
        self.near = tiles.blocks(flat, tiles.look_back, tiles.block)
        self.far = _classes(flat, tiles)[:, tiles.pattern.skipped :] if tiles.far else flat[:0]


class _Keys:
    """Rows [k - 1 + S P, E] as keys: windows [S P / m, near, E], and far keys [S r, far, E]."""

    def __init__(self, flat: Tensor, tiles: Tiles) -> None:
        self.near = tiles.blocks(flat, 0, tiles.near)
        self.far = _classes(flat, tiles)[:, : tiles.far] if tiles.far else flat[:0]


def _classes(flat: Tensor, tiles: Tiles) -> Tensor:
    """Residue classes as one batch [S r, P / r, E]: a view for one sequence, else a copy."""
    body = flat[tiles.look_back :].view(-1, tiles.padded, flat.shape[-1])
    return tiles.by_class(body).flatten(0, 1)


def _scores(q: _Queries, k: _Keys) -> list[Tensor]:
    """Products of queries and keys, in the windows and, if there are any, in the classes."""
    near = torch.bmm(q.near, k.near.mT)
    return [near, torch.bmm(q.far, k.far.mT)] if q.far.numel() else [near]


def _attend(weights: Tensor, v: _Keys, tiles: Tiles) -> Tensor:
    """Return the weighted values [S, P, E]."""
    near, far = tiles.split(weights)
    out = torch.bmm(near, v.near).view(*weights.shape[:2], -1)
    if tiles.far:
        attended = torch.bmm(far.reshape(-1, tiles.far, tiles.far), v.far)
        late = tiles.by_class(out)[:, :, tiles.pattern.skipped :]
        late += attended.view(late.shape)
    return out


def _add_grads(
    flat: Tensor,
    qk: tuple[_Queries, _Keys],
    rows: tuple[Tensor, Tensor],
    grad: _Queries,
    tiles: Tiles,
) -> None:
    """Add the gradients of q, k and v to `flat`, zeros laid out as they are."""
    q, k = qk
    grad_q, grad_k, grad_v = flat
    scale = flat.shape[-1] ** -0.5
    (near_weights, far_weights), (near, far) = (tiles.split(part) for part in rows)
    target = tiles.blocks(grad_q, tiles.look_back, tiles.block)
    torch.baddbmm(target, near, k.near, beta=0, alpha=scale, out=target)
    for target, parts, factor in (
        (grad_k, torch.bmm(near.mT, q.near), scale),
        (grad_v, torch.bmm(near_weights.mT, grad.near), 1.0),
    ):
        for start in range(
            0, tiles.near, tiles.block
        ):  # pieces of one block's length do not overlap
            piece = parts[:, start : start + tiles.block]
            tiles.blocks(target, start, piece.shape[1]).add_(piece, alpha=factor)
    if not tiles.far:
        return
    shape = far.shape[:3]
    body = flat[:, tiles.look_back :].view(3, -1, tiles.padded, flat.shape[-1])
    grad_q, grad_k, grad_v = tiles.by_class(body)
    far, far_weights = (part.reshape(-1, tiles.far, tiles.far) for part in (far, far_weights))
    late, early = slice(tiles.pattern.skipped, None), slice(tiles.far)
    grad_q[:, :, late].add_(torch.bmm(far, k.far).view(*shape, -1), alpha=scale)
    grad_k[:, :, early].add_(torch.bmm(far.mT, q.far).view(*shape, -1), alpha=scale)
    grad_v[:, :, early].add_(torch.bmm(far_weights.mT, grad.far).view(*shape, -1))
