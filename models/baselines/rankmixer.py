"""RankMixer (Zhu et al., 2025, arXiv 2507.15551): tokens of feature groups, mixed by a transpose.

The flat features are cut into T chunks, each with its own projection to a token of width W (equations 1 and 2). A block
is s = LN(x + mix(x)), y = LN(s + FFN(s)), where mix exchanges the T heads of all T tokens without weights and the
feed-forward network has its own weights for each token (equations 3 to 6); the output is the mean of the tokens.

Published: T = 16, W = 768, 2 blocks (10^8 weights); T = 32, W = 1536, 2 blocks (10^9).

Grade rule: `n_layers` blocks of T = `n_tokens` tokens (4), W = 4 d rounded up to a multiple of T, inner width `expansion`
(2) times W. `n_heads` and `max_len` change no weight: the heads of the mix are the tokens.

Departures: chunks are cut evenly from [profile, mean of the history, candidate and context], not grouped by hand; no sparse
experts. GELU is exact.

Shapes: B passes, M candidates, R = B M rows, T tokens, W token width.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoder import Encoder, EncoderInput, Packing
from models.grades import Grade
from models.input_schema import InputSchema

__all__ = ["RankMixer", "RankMixerBlock", "RankMixerOptions", "TokenProjection"]


# Token width in embedding widths.
_WIDTH = 4


@dataclass(frozen=True)
class RankMixerOptions:
    """Variations of RankMixer.

    Attributes:
        n_tokens: T; also the heads of the mix.
        expansion: inner width of the feed-forward networks, in token widths.
        placement: of the norms, after each residual (`post`, the paper's) or before each branch (`pre`).
    """

    n_tokens: int = 4
    expansion: int = 2
    placement: Literal["post", "pre"] = "post"

    def __post_init__(self) -> None:
        for name in ("n_tokens", "expansion"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.placement not in ("post", "pre"):
            raise ValueError(f"placement is {self.placement!r}, expected 'post' or 'pre'")


class TokenProjection(nn.Module):
    """Cut rows into T chunks of equal width, zeros at the end, and project each with its own weights."""

    def __init__(self, n_in: int, n_tokens: int, width: int) -> None:
        super().__init__()
        self.chunk = -(-n_in // n_tokens)
        self.missing = self.chunk * n_tokens - n_in
        self.weight = _per_token(n_tokens, self.chunk, width)
        self.bias = nn.Parameter(torch.zeros(n_tokens, width))

    def forward(self, rows: Tensor) -> Tensor:
        """Return tokens [R, T, W] of rows [R, inputs]."""
        chunks = F.pad(rows, (0, self.missing)).view(len(rows), -1, self.chunk)
        return _apply(chunks, self.weight, self.bias)


class RankMixerBlock(nn.Module):
    """Mix, then one feed-forward network per token."""

    def __init__(self, n_tokens: int, width: int, expansion: int, placement: str) -> None:
        super().__init__()
        self.pre, inner = placement == "pre", expansion * width
        self.norm_mix, self.norm_ffn = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = _per_token(n_tokens, width, inner), _per_token(n_tokens, inner, width)
        self.up_bias = nn.Parameter(torch.zeros(n_tokens, inner))
        self.down_bias = nn.Parameter(torch.zeros(n_tokens, width))

    def forward(self, x_RTW: Tensor) -> Tensor:
        """Return [R, T, W]."""
        if self.pre:
            x_RTW = x_RTW + _mix(self.norm_mix(x_RTW))
            return x_RTW + self._ffn(self.norm_ffn(x_RTW))
        x_RTW = self.norm_mix(x_RTW + _mix(x_RTW))
        y_RTW: Tensor = self.norm_ffn(x_RTW + self._ffn(x_RTW))
        return y_RTW

    def _ffn(self, x_RTW: Tensor) -> Tensor:
        hidden = F.gelu(_apply(x_RTW, self.up, self.up_bias))
        return _apply(hidden, self.down, self.down_bias)


class RankMixer(Encoder):
    """The mean of the mixed tokens, [B, M, W]."""

    options_type = RankMixerOptions

    def __init__(self, grade: Grade, options: RankMixerOptions, schema: InputSchema) -> None:
        super().__init__(grade, options, schema)
        n_tokens, d = options.n_tokens, grade.d
        self.n_out = width = -(-_WIDTH * d // n_tokens) * n_tokens
        groups = (schema.profile, schema.behaviour, schema.candidate, schema.context)
        self.tokens = TokenProjection(sum(map(len, groups)) * d, n_tokens, width)
        self.blocks = nn.ModuleList(
            RankMixerBlock(n_tokens, width, options.expansion, options.placement)
            for _ in range(grade.n_layers)
        )
        self.norm = nn.LayerNorm(width) if options.placement == "pre" else nn.Identity()

    @classmethod
    def packing(cls, options: Any) -> tuple[Packing, ...]:
        """Both: the history enters as a mean."""
        return ("request", "stretch")

    def forward(self, inputs: EncoderInput) -> Tensor:
        """Return [B, M, W]."""
        seen = inputs.seen
        weights = seen.to(inputs.history_BLD.dtype) / seen.sum(-1, keepdim=True).clamp(min=1)
        profile = inputs.profile_BPd.flatten(1).unsqueeze(1).expand(-1, inputs.n_candidates, -1)
        rows = torch.cat([profile, weights @ inputs.history_BLD, inputs.own_BMC], -1)
        x_RTW = self.tokens(rows.flatten(0, 1))
        for block in self.blocks:
            x_RTW = block(x_RTW)
        mean: Tensor = self.norm(x_RTW).mean(1)
        return mean.view(*rows.shape[:2], -1)


def _mix(x_RTW: Tensor) -> Tensor:
    """Exchange heads and tokens: token h of the result is head h of all tokens side by side."""
    n_tokens = x_RTW.shape[1]
    return x_RTW.view(*x_RTW.shape[:2], n_tokens, -1).transpose(1, 2).flatten(2)


def _per_token(n_tokens: int, n_in: int, n_out: int) -> nn.Parameter:
    """One matrix for each token [T, in, out], with the usual start of a linear layer."""
    return nn.Parameter((torch.rand(n_tokens, n_in, n_out) * 2 - 1) * n_in**-0.5)


def _apply(x_RTX: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W + b with the weights of each token."""
    return torch.baddbmm(bias.unsqueeze(1), x_RTX.transpose(0, 1), weight).transpose(0, 1)
