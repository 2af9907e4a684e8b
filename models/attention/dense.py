"""Causal self-attention with SUAN's learned relative bias, tile by tile.

Shapes: B batch, N keys, M queries (the last M of the N tokens), D token width, H heads, E = D / H;
a tile holds b samples, m queries and their n keys.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.bias import Bias, Tile
from models.attention.light import SparseBias
from models.layers import in_cache, last_tokens

__all__ = ["SelfAttention"]


T = TypeVar("T")


class _TiledAttention(torch.autograd.Function):
    """stream + softmax(q k' scale + bias) v Wo, with q, k, v = x Wqkv' and one bias for all heads.

    The projections and their gradients are computed for a few samples at a time, so that they stay in a
    core's cache. Heads are views; batched products are written to new memory and copied, because
    products that write into strided memory are far slower.
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
        """Torch's attention over all pairs at once, [B, N, D]; its GPU kernels handle the bias and its gradient."""
        qkv = self.qkv(x_BND).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        (value,) = bias.values
        attended = F.scaled_dot_product_attention(q, k, v, value.to(q.dtype).unsqueeze(1))
        return attended.transpose(1, 2).flatten(2)

    def _few_queries(self, x_BND: Tensor, bias_BMN: Tensor) -> Tensor:
        """The same for the last M tokens only, without tiles, because the tensors are small."""
        batch, _, width = x_BND.shape
        query, key_value = self.qkv.weight[:width], self.qkv.weight[width:]
        q_BMD = F.linear(x_BND[:, -bias_BMN.shape[1] :], query)
        keys_values = F.linear(x_BND, key_value).chunk(2, -1)
        shape = (batch, -1, self.n_heads, width // self.n_heads)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in (q_BMD, *keys_values))
        logits = q @ k.mT * shape[-1] ** -0.5 + bias_BMN[:, None]
        return (torch.softmax(logits, -1) @ v).transpose(1, 2).flatten(2)
