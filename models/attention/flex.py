"""LightSUAN's self-attention on CUDA: two FlexAttention calls, combined through their log-sum-exps.

A dilated pattern touches every block of a block mask, so one call would save nothing. The window is block-sparse
as it stands, and the dilated past is once the tokens lie class by class. Unmeasured: the forward pass is tested
on a CPU, where FlexAttention has no backward; `pytest -m gpu` compares both on a GPU.

Shapes: B batch, N tokens, P padded tokens (whole classes), D token width, H heads, E = D / H.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from models.attention.sparse import BUCKET_WIDTH
from models.model_options import N_TIME_BUCKETS
from models.sparse_pattern import SparsePattern

__all__ = ["FlexBias", "flex_applies", "flex_sparse_attention"]


# The Triton kernels need heads at least this wide.
_SMALLEST_HEAD = 16


@dataclass(frozen=True)
class FlexBias:
    """Inputs from which the kernels compute mask and bias; none has one element per pair.

    Attributes:
        position: a scalar for each distance. time: a scalar for each bucket of time.
        times: seconds [B, N]; all padding has the same time.
        lengths: valid tokens [B], on the right; they never read the others.
    """

    pattern: SparsePattern
    position: Tensor
    time: Tensor
    times: Tensor
    lengths: Tensor


def flex_applies(x: Tensor, size: int) -> bool:
    """Whether FlexAttention has a kernel for tensors such as `x` and heads of width `size`."""
    return x.is_cuda and x.dtype != torch.float64 and size >= _SMALLEST_HEAD


def flex_sparse_attention(qkv_BNX: Tensor, bias: FlexBias, n_heads: int) -> Tensor:
    """Return softmax(q k' / sqrt(E) + bias) v over the pattern's pairs, [B, N, D]."""
    batch, n_tokens, _ = qkv_BNX.shape
    dilation, skipped = bias.pattern.dilation, bias.pattern.skipped
    qkv = qkv_BNX.view(batch, n_tokens, 3, n_heads, -1).permute(2, 0, 3, 1, 4)
    near, near_lse = _call(bias, qkv, lambda index: index, _in_window(bias.pattern), n_tokens)
    if skipped * dilation >= n_tokens:
        return near.transpose(1, 2).flatten(2)
    n_steps = -(-n_tokens // dilation)
    padded = F.pad(qkv, (0, 0, 0, n_steps * dilation - n_tokens))
    by_class = padded.view(*qkv.shape[:3], n_steps, dilation, -1).transpose(3, 4).flatten(3, 4)
    far, far_lse = _call(
        bias,
        by_class,
        lambda index: index % n_steps * dilation + index // n_steps,
        _in_class(bias.pattern),
        n_tokens,
    )

    def in_order(x: Tensor) -> Tensor:
        x = x.reshape(batch, n_heads, dilation, n_steps, -1).transpose(2, 3).flatten(2, 3)
        return x[:, :, :n_tokens]

    share = torch.sigmoid(in_order(far_lse) - near_lse.unsqueeze(-1)).to(near.dtype)
    return torch.lerp(near, in_order(far), share).transpose(1, 2).flatten(2)


def _in_window(pattern: SparsePattern) -> Callable[[Tensor], Tensor]:
    return lambda distance: (distance >= 0) & (distance < pattern.window)


def _in_class(pattern: SparsePattern) -> Callable[[Tensor], Tensor]:
    def reads(distance: Tensor) -> Tensor:
        return (distance >= pattern.window) & (distance % pattern.dilation == 0)

    return reads


def _call(
    bias: FlexBias,
    qkv: Tensor,
    place: Callable[[Tensor], Tensor],
    reads: Callable[[Tensor], Tensor],
    n_tokens: int,
) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp of tokens in any order; `place` gives their index in time."""
    first, times = n_tokens - bias.lengths, bias.times

    def mask(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        query, key = place(i), place(j)
        inside = (query < n_tokens) & ((key >= first[b]) | (query < first[b]))
        return reads(query - key) & inside

    def score(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        query, key = (place(index).clamp(max=n_tokens - 1) for index in (i, j))
        distance = (query - key).clamp(min=0)
        gap = (times[b, query] - times[b, key]).abs().to(torch.float32).clamp(min=1.0)
        bucket = (gap.log() * (1.0 / BUCKET_WIDTH)).clamp(max=N_TIME_BUCKETS).to(torch.int32)
        return s + bias.position[distance] + bias.time[bucket]

    size, device = qkv.shape[3], str(qkv.device)
    block_mask = create_block_mask(mask, qkv.shape[1], None, size, size, device=device)
    call = _kernel(qkv.is_cuda)
    if not hasattr(flex, "AuxRequest"):  # torch before 2.9
        found: tuple[Tensor, Tensor] = call(*qkv.contiguous(), score, block_mask, return_lse=True)
        return found
    aux = flex.AuxRequest(lse=True)
    out, extra = call(*qkv.contiguous(), score, block_mask, return_aux=aux)
    return out, extra.lse


@cache
def _kernel(compiled: bool) -> Any:
    """FlexAttention, compiled where there is a kernel for it; histories differ in length."""
    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention
