"""Causal self-attention with SUAN's learned relative bias, in blocks of queries.

Shapes: B batch, N keys, M queries (the last M of the N tokens), D token width, H heads, E = D / H.
"""

from typing import Any

import torch
from torch import Tensor, nn

from models.config import N_TIME_BUCKETS
from models.tokens import Layout

__all__ = ["RelativeBias", "SelfAttention", "time_buckets"]

_BUCKET_WIDTH = 0.301

# Finite, so that a row without any valid key attends uniformly instead of giving NaN.
_MASKED = -1e9

# Queries per block: the future half is skipped block by block; below this one block is fastest.
_BLOCK = 64


def time_buckets(times_BN: Tensor) -> Tensor:
    """Return the bucket of |t_i - t_j| for each pair of tokens: floor(ln(max(x, 1)) / 0.301).

    Args:
        times_BN: seconds, int64.

    Returns:
        int32 [B, N, N], clipped to [0, N_TIME_BUCKETS].
    """
    gaps_BNN = (times_BN[:, :, None] - times_BN[:, None, :]).abs_().to(torch.float32)
    gaps_BNN.clamp_(min=1.0).log_().mul_(1.0 / _BUCKET_WIDTH).clamp_(max=N_TIME_BUCKETS)
    return gaps_BNN.to(torch.int32)


class RelativeBias(nn.Module):
    """B[i, j] = position[i - j] + time[bucket(|t_i - t_j|)] for j <= i; shared by heads and layers.

    The position table holds the L + 1 distances that a causal model can read (the paper's table has
    2(L + 1) - 1 entries, of which the future half is never used).
    """

    def __init__(self, max_len: int, *, position: bool, time: bool) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(max_len + 1)) if position else None
        self.time = nn.Parameter(torch.zeros(N_TIME_BUCKETS + 1)) if time else None

    def forward(self, times_BN: Tensor, layout: Layout, dtype: torch.dtype) -> Tensor:
        """Return the additive bias [B, N, N], with all that a token may not read masked."""
        bias_BNN = torch.zeros(layout.readable.shape, dtype=dtype, device=times_BN.device)
        bias_BNN.masked_fill_(~layout.readable, _MASKED)
        if self.position is not None:
            # index_select has a far cheaper backward on a CPU than an embedding of so few rows.
            distance = layout.distance.clamp(min=0)
            flat = self.position.index_select(0, distance.reshape(-1))
            bias_BNN = bias_BNN + flat.view(distance.shape)
        if self.time is not None:
            flat = self.time.index_select(0, time_buckets(times_BN).reshape(-1))
            bias_BNN = bias_BNN + flat.view_as(bias_BNN)
        return bias_BNN


class _SharedBiasAttention(torch.autograd.Function):
    """softmax(q k' scale + bias) v for q, k, v side by side [B, N, 3 D], one bias for all heads.

    Heads and blocks of queries are views into the projection's own memory: nothing is copied into
    another layout, the future half is skipped block by block, one probability tensor is kept, and
    the gradient is written where the projection's backward wants it.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv_BNX: Tensor, bias_BNN: Tensor, n_heads: int, skip_future: bool
    ) -> Tensor:
        batch, n_tokens, triple = qkv_BNX.shape
        width = triple // 3
        out_BND = qkv_BNX.new_empty(batch, n_tokens, width)
        scale = (width // n_heads) ** -0.5
        spans, weights = _spans(n_tokens, skip_future), []
        for q, k, v, out in zip(
            *_heads(qkv_BNX, 3, n_heads), *_heads(out_BND, 1, n_heads), strict=True
        ):
            for start, stop, end in spans:
                bias = bias_BNN[:, start:stop, :end]
                logits = torch.baddbmm(bias, q[:, start:stop], k[:, :end].mT, alpha=scale)
                weight = torch.softmax(logits, -1)
                torch.bmm(weight, v[:, :end], out=out[:, start:stop])
                weights.append(weight)
        ctx.spans, ctx.n_heads, ctx.scale = spans, n_heads, scale
        ctx.save_for_backward(qkv_BNX, *weights)
        return out_BND

    @staticmethod
    def backward(ctx: Any, grad_BND: Tensor) -> tuple[Tensor | None, ...]:
        qkv_BNX, *weights = ctx.saved_tensors
        batch, n_tokens, _ = qkv_BNX.shape
        grad_qkv = torch.zeros_like(qkv_BNX)
        grad_bias = qkv_BNX.new_zeros(batch, n_tokens, n_tokens)
        remaining = iter(weights)
        for q, k, v, grad_q, grad_k, grad_v, grad in zip(
            *_heads(qkv_BNX, 3, ctx.n_heads),
            *_heads(grad_qkv, 3, ctx.n_heads),
            *_heads(grad_BND, 1, ctx.n_heads),
            strict=True,
        ):
            for start, stop, end in ctx.spans:
                weight, grad_out = next(remaining), grad[:, start:stop]
                grad_v[:, :end].baddbmm_(weight.mT, grad_out)
                grad_weight = torch.bmm(grad_out, v[:, :end].mT)
                # backward of softmax: p * (g - sum(p * g))
                grad_logits = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype)
                grad_bias[:, start:stop, :end] += grad_logits
                grad_q[:, start:stop].baddbmm_(grad_logits, k[:, :end], alpha=ctx.scale)
                grad_k[:, :end].baddbmm_(grad_logits.mT, q[:, start:stop], alpha=ctx.scale)
        return grad_qkv, grad_bias, None, None


def _heads(x_BNX: Tensor, n_parts: int, n_heads: int) -> list[tuple[Tensor, ...]]:
    """Views of each part's heads, [B, N, E] each: one tuple of H per part."""
    return [part.chunk(n_heads, -1) for part in x_BNX.chunk(n_parts, -1)]


def _spans(n_tokens: int, skip_future: bool) -> list[tuple[int, int, int]]:
    """Blocks of queries as (start, stop, keys that they can see)."""
    if not skip_future or n_tokens <= _BLOCK:
        return [(0, n_tokens, n_tokens)]
    starts = range(0, n_tokens, _BLOCK)
    return [(start, stop, stop) for start in starts for stop in [min(start + _BLOCK, n_tokens)]]


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases on its projections (SUAN, UAB step 2)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x_BND: Tensor, bias_BNN: Tensor, n_queries: int, *, skip_future: bool
    ) -> Tensor:
        """Return the attention's output for the last `n_queries` tokens, [B, M, D].

        `skip_future` leaves the masked future out of the sums, block by block; rows without a valid
        key then attend uniformly to fewer keys, which only pooling over padding could notice.
        """
        if n_queries == x_BND.shape[1]:
            attended = _SharedBiasAttention.apply(  # type: ignore[no-untyped-call]
                self.qkv(x_BND), bias_BNN, self.n_heads, skip_future
            )
        else:
            attended = self._few_queries(x_BND, bias_BNN[:, -n_queries:])
        y_BMD: Tensor = self.out(attended)
        return y_BMD

    def _few_queries(self, x_BND: Tensor, bias_BMN: Tensor) -> Tensor:
        """The same for the last M tokens alone: nothing here is large."""
        batch, _, width = x_BND.shape
        query, key_value = self.qkv.weight[:width], self.qkv.weight[width:]
        q_BMD = nn.functional.linear(x_BND[:, -bias_BMN.shape[1] :], query)
        keys_values = nn.functional.linear(x_BND, key_value).chunk(2, -1)
        shape = (batch, -1, self.n_heads, width // self.n_heads)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in (q_BMD, *keys_values))
        logits = q @ k.mT * shape[-1] ** -0.5 + bias_BMN[:, None]
        return (torch.softmax(logits, -1) @ v).transpose(1, 2).flatten(2)
