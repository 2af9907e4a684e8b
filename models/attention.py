"""Causal self-attention with SUAN's learned relative bias, in blocks of queries.

Shapes: B batch, N keys, M queries (the last M of the N tokens), D token width, H heads, E = D / H.
"""

from typing import Any

import torch
from torch import Tensor, nn

from models.config import N_TIME_BUCKETS

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

    def forward(self, times_BN: Tensor, valid_BN: Tensor) -> Tensor:
        """Return the additive bias [B, N, N], with padding keys and the future masked."""
        n_tokens = times_BN.shape[1]
        index_N = torch.arange(n_tokens, device=times_BN.device)
        distance_NN = index_N[:, None] - index_N[None, :]
        dtype = next((p.dtype for p in (self.position, self.time) if p is not None), torch.float32)
        open_BNN = valid_BN[:, None, :] & (distance_NN >= 0)
        mask_BNN = torch.zeros(open_BNN.shape, dtype=dtype, device=times_BN.device)
        mask_BNN.masked_fill_(~open_BNN, _MASKED)
        if self.position is not None:
            # index_select has a far cheaper backward on a CPU than an embedding of so few rows.
            flat = self.position.index_select(0, distance_NN.clamp(min=0).reshape(-1))
            mask_BNN = mask_BNN + flat.view(1, n_tokens, n_tokens)
        if self.time is not None:
            buckets_BNN = time_buckets(times_BN)
            mask_BNN = mask_BNN + self.time.index_select(0, buckets_BNN.reshape(-1)).view_as(
                mask_BNN
            )
        return mask_BNN


class _BlockAttention(torch.autograd.Function):
    """softmax(q k' + bias) v with the future half skipped block by block.

    Keeps one probability tensor and has its own backward, because torch's fused attention leaves its
    fast path when the bias needs a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, q_BHME: Tensor, k_BHNE: Tensor, v_BHNE: Tensor, bias_BMN: Tensor, causal: bool
    ) -> Tensor:
        spans = _spans(q_BHME.shape[2], k_BHNE.shape[2], causal)
        outputs, weights = [], []
        for start, stop, end in spans:
            logits = torch.matmul(q_BHME[:, :, start:stop], k_BHNE[:, :, :end].transpose(-1, -2))
            logits += bias_BMN[:, None, start:stop, :end]
            weight = torch.softmax(logits, -1)
            outputs.append(torch.matmul(weight, v_BHNE[:, :, :end]))
            weights.append(weight)
        ctx.spans = spans
        ctx.save_for_backward(q_BHME, k_BHNE, v_BHNE, *weights)
        return outputs[0] if len(spans) == 1 else torch.cat(outputs, 2)

    @staticmethod
    def backward(ctx: Any, grad_BHME: Tensor) -> tuple[Tensor | None, ...]:
        q_BHME, k_BHNE, v_BHNE, *weights = ctx.saved_tensors
        grad_q = torch.empty_like(q_BHME)
        grad_k, grad_v = torch.zeros_like(k_BHNE), torch.zeros_like(v_BHNE)
        grad_bias = None
        if ctx.needs_input_grad[3]:
            batch, _, n_queries, _ = q_BHME.shape
            grad_bias = q_BHME.new_zeros(batch, n_queries, k_BHNE.shape[2])
        for (start, stop, end), weight in zip(ctx.spans, weights, strict=True):
            grad_out = grad_BHME[:, :, start:stop]
            grad_v[:, :, :end] += torch.matmul(weight.transpose(-1, -2), grad_out)
            grad_weight = torch.matmul(grad_out, v_BHNE[:, :, :end].transpose(-1, -2))
            # backward of softmax: p * (g - sum(p * g))
            grad_logits = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype)
            if grad_bias is not None:
                torch.sum(grad_logits, 1, out=grad_bias[:, start:stop, :end])
            grad_q[:, :, start:stop] = torch.matmul(grad_logits, k_BHNE[:, :, :end])
            grad_k[:, :, :end] += torch.matmul(
                grad_logits.transpose(-1, -2), q_BHME[:, :, start:stop]
            )
        return grad_q, grad_k, grad_v, grad_bias, None


def _spans(n_queries: int, n_keys: int, causal: bool) -> list[tuple[int, int, int]]:
    """Blocks of queries as (start, stop, keys that they can see)."""
    if not causal or n_queries <= _BLOCK:
        return [(0, n_queries, n_keys)]
    first = n_keys - n_queries
    starts = range(0, n_queries, _BLOCK)
    stops = [min(start + _BLOCK, n_queries) for start in starts]
    return [(start, stop, first + stop) for start, stop in zip(starts, stops, strict=True)]


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases on its projections (SUAN, UAB step 2)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.scale = (width // n_heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x_BND: Tensor, bias_BNN: Tensor, n_queries: int, *, skip_future: bool
    ) -> Tensor:
        """Return the attention's output for the last `n_queries` tokens, [B, M, D].

        `skip_future` leaves the masked future out of the sums, block by block; rows without a valid
        key then attend uniformly to fewer keys, which only pooling over padding could notice.
        """
        batch, n_tokens, width = x_BND.shape
        shape = (batch, -1, self.n_heads, width // self.n_heads)
        if n_queries == n_tokens:
            q_BND, k_BND, v_BND = self.qkv(x_BND).chunk(3, -1)
        else:
            query, key_value = self.qkv.weight[:width], self.qkv.weight[width:]
            q_BND = nn.functional.linear(x_BND[:, -n_queries:], query)
            k_BND, v_BND = nn.functional.linear(x_BND, key_value).chunk(2, -1)
        q_BHME = (q_BND * self.scale).view(shape).transpose(1, 2)
        k_BHNE = k_BND.view(shape).transpose(1, 2)
        v_BHNE = v_BND.view(shape).transpose(1, 2)
        bias_BMN = bias_BNN[:, -n_queries:]
        out_BHME = _BlockAttention.apply(  # type: ignore[no-untyped-call]
            q_BHME, k_BHNE, v_BHNE, bias_BMN, skip_future
        )
        y_BMD: Tensor = self.out(out_BHME.transpose(1, 2).reshape(batch, n_queries, width))
        return y_BMD
