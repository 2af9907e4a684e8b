"""BST (Chen et al., DLP-KDD '19, arXiv 1905.06874): a Transformer over the history and the candidate.

The sequence is [behaviours; candidate], the candidate last. A token is [embedding; position], width W = D + d. A block is
s = LN(x + MHA(x)), y = LN(s + W2 LeakyReLU(W1 s + b1) + b2), all of width W (equations 3 to 7).

Published: one block, 8 heads, length 20; FuxiCTR: one block, 4 heads, width 32, mean pooling.

Grade rule: `n_layers` blocks of `n_heads` heads at width W = D + d; a position table of L + 1 rows of d.

Departures: positions are places in the sequence as in FuxiCTR, which start as sinusoids; the paper uses the time until the
request. Behaviours read only earlier ones by default (`causal`), so that they are encoded once for all candidates; the
paper's read all tokens, the candidate included. The candidate's own output is read, not all outputs side by side.

Shapes: B passes, M candidates, L behaviours, N tokens, W token width, H heads.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention import MASKED, CandidateKeys, Layout, attend_history
from models.baselines.tile_attention import (
    FEW_CANDIDATES,
    TiledPairs,
    tile_attention,
    tile_pairs,
)
from models.encoder import Encoder, EncoderInput, Packing
from models.grades import Grade
from models.input_schema import InputSchema
from models.layers import in_cache

__all__ = ["BST", "BSTBlock", "BSTOptions"]


@dataclass(frozen=True)
class BSTOptions:
    """Variations of BST.

    Attributes:
        causal: behaviours read earlier behaviours only; otherwise all tokens read all tokens.
        pooling: the output at the candidate, or the mean of all outputs that are not padding.
        positions: counted back from the request (`end`), or from the first behaviour read (`start`, under which a stretch
            of a user's log can share a pass).
    """

    causal: bool = True
    pooling: Literal["target", "mean"] = "target"
    positions: Literal["end", "start"] = "end"

    def __post_init__(self) -> None:
        choices = {"pooling": ("target", "mean"), "positions": ("end", "start")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                expected = " or ".join(map(repr, known))
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected {expected}")


class BSTBlock(nn.Module):
    """Attention and feed-forward network, each with a residual and then a LayerNorm."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        self.norm_ffn = nn.LayerNorm(width)
        for linear in (self.qkv, self.up, self.down):
            nn.init.xavier_normal_(linear.weight)
        for linear in (self.qkv, self.out, self.up, self.down):
            nn.init.zeros_(linear.bias)

    def forward(self, x_BNW: Tensor, readable_BNN: Tensor) -> Tensor:
        """Return [B, N, W]; every token reads at least one."""
        return self._finish(x_BNW, self._attend(self.qkv(x_BNW), readable_BNN))

    def split(
        self,
        history_BLW: Tensor,
        own_BMW: Tensor,
        readable_BLL: Tensor,
        keys: CandidateKeys,
        *,
        with_history: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return the same for behaviours and candidates apart, where no behaviour reads a candidate.

        Without `with_history` the behaviours come back as they are: nothing reads those of the last block.
        """
        weight, bias, width = self.qkv.weight, self.qkv.bias, own_BMW.shape[-1]
        if with_history:
            qkv = self.qkv(history_BLW)
            key_value = qkv[..., width:]
            history_BLW = self._finish(history_BLW, self._attend(qkv, readable_BLL))
        else:
            key_value = F.linear(history_BLW, weight[width:], bias[width:])
        read = attend_history(self.qkv(own_BMW), key_value, keys, self.n_heads)
        return history_BLW, self._finish(own_BMW, read)

    def together(self, x_BNW: Tensor, pairs: TiledPairs) -> Tensor:
        """Return the same for [history; candidates] as one sequence, [B, N, W]."""
        q, k, v = self.qkv(x_BNW).chunk(3, -1)
        scale = (q.shape[-1] // self.n_heads) ** -0.5
        read = tile_attention(q, k, v, pairs, None, n_heads=self.n_heads, scale=scale)
        return self._finish(x_BNW, read)

    def last_tokens(self, x_BNW: Tensor, mask_BMN: Tensor) -> Tensor:
        """Return the same for the last M tokens only, [B, M, W].

        With few queries, q (x Wk)' is computed as (q Wk') x' and w (x Wv) as (w x) Wv, so that no token is projected; the
        keys' bias adds the same to all scores of a query.
        """
        n_queries, width = mask_BMN.shape[1], x_BNW.shape[-1]
        own_BMW = x_BNW[:, -n_queries:]
        of_q, of_k, of_v = self.qkv.weight.view(3, self.n_heads, -1, width)
        q = torch.einsum("bmw,hew->bmhe", own_BMW, of_q) + self.qkv.bias[:width].view_as(
            of_q[..., 0]
        )
        q = torch.einsum("bmhe,hew->bmhw", q * of_q.shape[1] ** -0.5, of_k).flatten(1, 2)
        mask = mask_BMN.repeat_interleave(self.n_heads, 1)
        weights = torch.softmax(torch.baddbmm(mask, q, x_BNW.mT), -1)
        read = (weights @ x_BNW).view(len(x_BNW), n_queries, self.n_heads, width)
        read = torch.einsum("bmhw,hew->bmhe", read, of_v) + self.qkv.bias[2 * width :].view_as(
            of_v[..., 0]
        )
        return self._finish(own_BMW, read.flatten(2))

    def _attend(self, qkv_BNX: Tensor, readable_BNN: Tensor) -> Tensor:
        shape = (*qkv_BNX.shape[:2], 3, self.n_heads, qkv_BNX.shape[2] // 3 // self.n_heads)
        q, k, v = qkv_BNX.view(shape).transpose(1, 3).unbind(2)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=readable_BNN.unsqueeze(1))
        return attended.transpose(1, 2).flatten(2)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the block, token by token."""
        s = self.norm_attention(x + self.out(attended))
        y: Tensor = self.norm_ffn(s + self.down(F.leaky_relu(self.up(s))))
        return y


class BST(Encoder):
    """The candidate after it has read its history, [B, M, D + d]."""

    options_type = BSTOptions
    packing_needs = 'stretch needs causal = true and positions = "start"'
    tables = ("position",)

    def __init__(self, grade: Grade, options: BSTOptions, schema: InputSchema) -> None:
        super().__init__(grade, options, schema)
        self.n_out = width = grade.d * (len(schema.behaviour) + 1)
        self.position = nn.Parameter(_sinusoids(grade.max_len + 1, grade.d))
        self.blocks = nn.ModuleList(BSTBlock(width, grade.n_heads) for _ in range(grade.n_layers))

    @classmethod
    def packing(cls, options: Any) -> tuple[Packing, ...]:
        """`request` always; `stretch` if behaviours do not depend on what follows them."""
        if options.causal and options.positions == "start":
            return ("request", "stretch")
        return ("request",)

    @classmethod
    def encodes_once(cls, options: Any) -> bool:
        """Whether behaviours do not read the candidate."""
        return bool(options.causal)

    def forward(self, inputs: EncoderInput) -> Tensor:
        """Return [B, M, D + d].

        Raises:
            ValueError: a stretch for options under which it is not exact.
        """
        if inputs.ends is not None and "stretch" not in self.packing(self.options):
            raise ValueError(self.packing_needs)
        layout = Layout(inputs.lengths, inputs.n_history, inputs.n_candidates, inputs.ends)
        positions = layout.positions(self.grade.max_len, self.options.positions)
        place = self.position.index_select(0, positions.reshape(-1)).view(*positions.shape, -1)
        tokens = inputs.tokens_BND
        x_BNW = torch.cat([tokens, place.expand(*tokens.shape[:2], -1)], -1)
        # more queries of heads than that, and projecting the tokens is cheaper
        few = inputs.n_candidates <= min(FEW_CANDIDATES, self.n_out // self.grade.n_heads)
        if few and in_cache(x_BNW) and self.options.causal and self.options.pooling == "target":
            return self._together(x_BNW, layout)
        history, own = torch.split(x_BNW, [inputs.n_history, inputs.n_candidates], 1)
        if self.options.causal:
            return self._causal(history, own, inputs)
        return self._full(history, own, inputs.valid)

    def _together(self, x_BNW: Tensor, layout: Layout) -> Tensor:
        """The causal form on a CPU, with few candidates."""
        n_out = layout.n_candidates
        if len(self.blocks) > 1:
            pairs = tile_pairs(layout, x_BNW.dtype)
            for block in self.blocks[:-1]:
                assert isinstance(block, BSTBlock)
                x_BNW = block.together(x_BNW, pairs)
        last = self.blocks[-1]
        assert isinstance(last, BSTBlock)
        readable = layout.readable[:, -n_out:]
        mask = torch.zeros(readable.shape, dtype=x_BNW.dtype, device=x_BNW.device)
        return last.last_tokens(x_BNW, mask.masked_fill_(~readable, MASKED))

    def _causal(self, history: Tensor, own: Tensor, inputs: EncoderInput) -> Tensor:
        seen, mean = inputs.seen, self.options.pooling == "mean"
        n_history = inputs.n_history
        causal = seen.new_ones(n_history, n_history).tril()
        itself = torch.eye(n_history, dtype=torch.bool, device=seen.device)
        readable = causal & inputs.valid[:, None, :] | itself
        bias = torch.zeros(seen.shape, dtype=own.dtype, device=seen.device)
        keys = CandidateKeys(None, F.pad(bias.masked_fill_(~seen, MASKED), (0, 1)))
        for block in self.blocks:
            assert isinstance(block, BSTBlock)
            last = block is self.blocks[-1]
            history, own = block.split(history, own, readable, keys, with_history=mean or not last)
        if mean:
            own = (seen.to(own.dtype) @ history + own) / (seen.sum(-1, keepdim=True) + 1)
        return own

    def _full(self, history: Tensor, own: Tensor, valid: Tensor) -> Tensor:
        """Each candidate in a sequence of its own, since behaviours read it."""
        n_candidates = own.shape[1]
        history = history.repeat_interleave(n_candidates, 0)
        x = torch.cat([history, own.flatten(0, 1).unsqueeze(1)], 1)
        valid = F.pad(valid, (0, 1), value=True).repeat_interleave(n_candidates, 0)
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        readable = valid[:, None, :] | itself
        last = self.blocks[-1]
        for block in self.blocks:
            if block is last and self.options.pooling == "target":
                x = self._last_token(x, valid)
            else:
                x = block(x, readable)
        if self.options.pooling == "mean":
            weights = valid.to(x.dtype) / valid.sum(-1, keepdim=True)
            x = weights.unsqueeze(1) @ x
        return x.view(own.shape)

    def _last_token(self, x: Tensor, valid: Tensor) -> Tensor:
        block = self.blocks[-1]
        assert isinstance(block, BSTBlock)
        bias = torch.zeros(valid.shape, dtype=x.dtype, device=x.device)
        bias = bias.masked_fill_(~valid, MASKED).unsqueeze(1)
        history, own = x[:, :-1], x[:, -1:]
        return block.split(history, own, bias, CandidateKeys(None, bias), with_history=False)[1]


def _sinusoids(n: int, width: int) -> Tensor:
    """Sines in even and cosines in odd columns, [n, width]."""
    even = torch.arange(0, width, 2)
    angles = torch.arange(n)[:, None] * torch.exp(even * (-math.log(10_000) / width))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width].contiguous()
