"""SUAN (Lai et al., RecSys '25, arXiv 2508.15326): unified attention blocks over a target-aware sequence.

Shapes: B passes, M candidates, L behaviours, N tokens (L + M), D token width (n1 d), P profile features (n2).
docs/suan.md maps each equation of the paper, and the released weights, onto these modules.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention import Bias, Layout, RelativeBias, RunningMean, SelfAttention, SparseBias
from models.embeddings import EMBEDDING_STD
from models.encoder import Encoder, EncoderInput, Packing
from models.fusion import AdaptiveFusion
from models.grades import Grade
from models.input_schema import InputSchema
from models.layers import FeedForward, ReluFeedForward, build_norm, last_tokens, recomputed
from models.model_options import SuanOptions

__all__ = ["SUAN", "UnifiedAttentionBlock"]


class UnifiedAttentionBlock(nn.Module):
    """Self-attention, adaptive fusion with the profile, feed-forward: one UAB."""

    def __init__(self, width: int, d: int, n_heads: int, options: SuanOptions) -> None:
        super().__init__()
        self.options = options
        self.norm_attention = build_norm(options.norm, width)
        self.attention = SelfAttention(width, n_heads)
        self.norm_fusion = build_norm(options.norm, width) if options.fusion != "none" else None
        self.fusion = (
            AdaptiveFusion(width, d, n_heads, options.fusion) if options.fusion != "none" else None
        )
        self.norm_ffn = build_norm(options.norm, width)
        self.ffn = (FeedForward if options.ffn == "swiglu" else ReluFeedForward)(width)

    def forward(
        self,
        x_BND: Tensor,
        profile_BPd: Tensor,
        bias: Bias | SparseBias,
        pool_BN: Tensor | RunningMean | None,
        *,
        n_out: int,
        kept: tuple[Tensor | None, ...] = (None, None, None),
    ) -> Tensor:
        """Return the last `n_out` tokens, [B, n_out, D]; nothing reads the other tokens of the last block.

        The alignment mean still needs the attention output of every token, so only the steps after
        it are shortened. Without a mean (fusion `sum` or `none`) `n_out` queries are enough.
        `kept` is what `draw_kept` returned.
        """
        n_attended = self._n_attended(x_BND, n_out)
        x_BND = self.residual(
            self.norm_attention,
            partial(self.attention, bias=bias, n_queries=n_attended),
            x_BND,
            n_attended,
            kept[0],
        )
        if self.fusion is not None and self.norm_fusion is not None:
            fuse = partial(self.fusion, profile_BPd=profile_BPd, pool_BN=pool_BN, n_out=n_out)
            x_BND = self.residual(self.norm_fusion, fuse, x_BND, n_out, kept[1])
        return self.residual(self.norm_ffn, self.ffn, x_BND, x_BND.shape[1], kept[-1])

    def draw_kept(
        self, x_BND: Tensor, n_out: int, generator: torch.Generator | None
    ) -> tuple[Tensor | None, ...]:
        """Return what dropout keeps of each branch, bool [B, tokens, D]; None: everything.

        It is drawn before `forward`, because torch's compiler takes no generator.
        """
        rate = self.options.dropout
        if not self.training or rate == 0:
            return None, None, None
        batch, _, width = x_BND.shape
        sizes = [self._n_attended(x_BND, n_out), n_out, n_out]
        if self.fusion is None:
            del sizes[1]
        shapes = [(batch, size, width) for size in sizes]
        return tuple(
            torch.rand(shape, generator=generator, device=x_BND.device) >= rate for shape in shapes
        )

    def _n_attended(self, x_BND: Tensor, n_out: int) -> int:
        return x_BND.shape[1] if self.options.fusion == "dual" else n_out

    def residual(
        self,
        norm: nn.Module,
        branch: Callable[..., Tensor],
        x_BND: Tensor,
        n_out: int,
        kept: Tensor | None,
    ) -> Tensor:
        """Combine a branch, its norm and the residual stream as `placement` says; return the last `n_out` tokens.

        Of the branch only what is `kept` counts; None: everything.
        """
        place, rate = self.options.placement, self.options.dropout
        normed = x_BND if place == "post" else norm(x_BND)
        stream = normed if place == "released" else x_BND
        if kept is not None:
            y_BND = last_tokens(stream, n_out) + branch(normed) * kept / (1 - rate)
        else:
            y_BND = branch(normed, stream_BND=stream)
        return norm(y_BND) if place == "post" else y_BND


class SUAN(Encoder):
    """The candidates' tokens after the last block, or without `target_aware` the last behaviour's, [B, M, D]."""

    options_type = SuanOptions
    packing_needs = (
        'request needs pooling = "behaviours" or "running"; stretch needs pooling = "running", '
        'positions = "start" and target_aware = true'
    )
    tables = ("position", "hour")
    options: SuanOptions

    def __init__(self, grade: Grade, options: SuanOptions, schema: InputSchema) -> None:
        options, d, width = options.on(schema), grade.d, grade.d * len(schema.behaviour)
        super().__init__(grade, options, schema)
        self.n_out = width
        self.position = nn.Parameter(torch.randn(grade.max_len + 1, width) * 0.02)
        self.hour = nn.Parameter(torch.randn(25, d) * EMBEDDING_STD)
        self.hour_to_token = nn.Linear(d, width, bias=False)
        self.bias = RelativeBias(
            grade.max_len,
            position=options.bias in ("position", "both"),
            time=options.bias in ("time", "both"),
        )
        self.blocks = nn.ModuleList(
            UnifiedAttentionBlock(width, d, grade.n_heads, options) for _ in range(grade.n_layers)
        )

    @classmethod
    def packing(cls, options: Any) -> tuple[Packing, ...]:
        """As the options say (`SuanOptions.packing`)."""
        return options.packing  # type: ignore[no-any-return]

    @classmethod
    def encodes_once(cls, options: Any) -> bool:
        """Unless the alignment mean covers the candidate."""
        return "request" in options.packing

    def parts_to_compile(self) -> tuple[nn.Module, ...]:
        """The blocks."""
        return tuple(self.blocks)

    def place_tokens(self, x_BND: Tensor, positions: Tensor, hours_BN: Tensor) -> Tensor:
        """Add position [N] or [B, N] and hour of the day to tokens."""
        # its gradient is a sum over all tokens, which in bfloat16 would round each addition
        hour_table = self.hour_to_token(self.hour).to(self.hour.dtype)
        hour_BND = hour_table.index_select(0, hours_BN.reshape(-1)).view(*hours_BN.shape, -1)
        position = self.position.index_select(0, positions.reshape(-1))
        placed: Tensor = x_BND + position.view(*positions.shape, -1) + hour_BND
        return placed

    def forward(self, inputs: EncoderInput) -> Tensor:
        """Return [B, M, D]."""
        if self.options.fusion == "dual" and self.options.pooling == "all":
            inputs = _pad_history(inputs, self.grade.max_len)
        n_history = inputs.n_history
        x_BND = inputs.tokens_BND if self.options.target_aware else inputs.history_BLD
        n_batch, n_tokens, _ = x_BND.shape
        layout = Layout(
            inputs.lengths, n_history, n_tokens - n_history, inputs.ends, self.options.pattern
        )
        times, hours = inputs.times[:, :n_tokens], inputs.hours[:, :n_tokens]
        positions = layout.positions(self.grade.max_len, self.options.positions)
        x_BND = self.place_tokens(x_BND, positions, hours)
        skip_future = self.options.pooling != "all"
        bias = self.bias(times, layout, x_BND.dtype, skip_future=skip_future)
        if isinstance(bias, SparseBias):
            bias.fill(x_BND, self.grade.n_heads)
        pool_BN = None
        if self.options.fusion == "dual":
            pool_BN = layout.pool(self.options.pooling, x_BND.dtype)
        n_read = max(1, layout.n_candidates)
        for block in self.blocks:
            assert isinstance(block, UnifiedAttentionBlock)
            again = self.recomputes and self.training
            run = partial(_run_block, block)
            x_BND = (partial(recomputed, run) if again else run)(
                x_BND,
                inputs.profile_BPd,
                bias,
                pool_BN,
                n_out=n_read if block is self.blocks[-1] else n_tokens,
                generator=self.dropout_generator,
            )
        read_BMD = x_BND[:, -n_read:]
        # without a history the last token is padding, which says nothing
        if layout.n_candidates == 0:
            read_BMD = read_BMD * (inputs.lengths > 0)[:, None, None]
        return read_BMD.expand(n_batch, inputs.n_candidates, -1)


def _run_block(
    block: UnifiedAttentionBlock,
    x_BND: Tensor,
    *inputs: Any,
    n_out: int,
    generator: torch.Generator | None,
) -> Tensor:
    kept = block.draw_kept(x_BND, n_out, generator)
    y_BND: Tensor = block(x_BND, *inputs, n_out=n_out, kept=kept)
    return y_BND


def _pad_history(inputs: EncoderInput, max_len: int) -> EncoderInput:
    """Pad the history to L, so that a mean over padding does not depend on the batch's longest history."""
    missing = max_len - inputs.n_history
    return replace(
        inputs,
        tokens_BND=F.pad(inputs.tokens_BND, (0, 0, missing, 0)),
        token_ids=F.pad(inputs.token_ids, (0, 0, missing, 0)),
        times=F.pad(inputs.times, (missing, 0)),
        hours=F.pad(inputs.hours, (missing, 0)),
    )
