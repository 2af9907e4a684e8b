"""HSTU (Zhai et al., ICML '24, arXiv 2402.17152): pointwise attention with gates in place of feed-forward networks.

U, V, Q, K = SiLU(LN(x) W); A V = SiLU(Q K' + rab) V / n; x' = x + f(LN(A V) * U) + b (equations 1 to 3; research code). The
bias rab is by position and by time, ln(seconds) / 0.301, with tables of its own in each layer.

Published: MovieLens-1M 2 layers of 1 head (large: 8 of 2) at D = 50; MovieLens-20M 4 of 4 (large: 16 of 8) at D = 256.

Grade rule: 2 `n_layers` layers (they have no feed-forward network; the smallest published has two) of `n_heads` heads at
width D; bias tables of L + 1 distances and 129 time buckets in each.

Departures: n is `max_len` + 1 for every batch, which is the padded length of the public code when it pads all histories to
the longest; the output then does not depend on the batch's padding. The candidate is the last token, and a token's time is
its own: public code trains on the next item and takes the next item's time. No position table in the input, which the
bias by position replaces; `form = "ranking"` is the release's layer for many targets in one sequence (STU), with tables for
position and time until the request in the input.

Shapes: B passes, L behaviours, M candidates, D token width, H heads, E = D / H.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention import Layout, gap_buckets
from models.baselines.ranking_layer import RankingLayer
from models.baselines.silu_attention import Heads, Pairs, find_pairs, silu_attention
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
from models.model_options import N_TIME_BUCKETS

__all__ = ["HSTU", "HSTULayer", "HSTUOptions"]


# Layers per `n_layers` of a grade.
_LAYERS_PER_GRADE = 2
# of the tables and of the first projection, as released
_STD = 0.02


@dataclass(frozen=True)
class HSTUOptions:
    """Variations of HSTU.

    Attributes:
        form: `research`, the paper's layer with its bias by position and time; or `ranking`, the release's.
        bias: whether the research form has its bias.
        concat: the research form's last product reads [u, LN(o), u * LN(o)], not only u * LN(o).
    """

    form: Literal["research", "ranking"] = "research"
    bias: bool = True
    concat: bool = False

    def __post_init__(self) -> None:
        if self.form not in ("research", "ranking"):
            raise ValueError(f"form is {self.form!r}, expected 'research' or 'ranking'")
        if self.form == "ranking" and (self.concat or not self.bias):
            raise ValueError('bias and concat are options of form = "research"')


class HSTULayer(nn.Module):
    """One layer of the research form."""

    def __init__(
        self,
        width: int,
        n_heads: int,
        max_len: int,
        options: HSTUOptions,
        widths: tuple[int, int] | None = None,
    ) -> None:
        """Set the widths of a head's queries and values; by default both are D / H."""
        super().__init__()
        e_qk, e_v = widths or (width // n_heads,) * 2
        self.concat, self.n_heads = options.concat, n_heads
        self.n_qk, self.inner = n_heads * e_qk, n_heads * e_v
        self.uvqk = nn.Parameter(torch.randn(width, 2 * (self.n_qk + self.inner)) * _STD)
        self.out = nn.Linear(self.inner * (3 if options.concat else 1), width)
        nn.init.xavier_uniform_(self.out.weight)
        self.position = self.time = None
        if options.bias:
            self.position = nn.Parameter(torch.randn(max_len + 1) * _STD)
            self.time = nn.Parameter(torch.randn(N_TIME_BUCKETS + 1) * _STD)

    def forward(
        self,
        history_BLD: Tensor,
        own_BMD: Tensor,
        pairs: Pairs,
        *,
        divisor: int,
        with_history: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return behaviours [B, L, D] and candidates [B, M, D]; without `with_history` only the latter are new."""
        tables = None
        if self.position is not None and self.time is not None:
            tables = (self.position, self.time)
        history_u, history = self._project(history_BLD, with_history)
        own_u, own = self._project(own_BMD, True)
        read, read_own = silu_attention(history, own, pairs, tables, scale=1.0, divisor=divisor)
        if read is not None:
            history_BLD = self._finish(history_BLD, history_u, read)
        return history_BLD, self._finish(own_BMD, own_u, read_own)

    def together(self, x_BND: Tensor, pairs: TiledPairs, n_out: int, divisor: int) -> Tensor:
        """Return the same for the last `n_out` tokens of [history; candidates], [B, n_out, D]."""
        inner, tables = self.inner, None
        if self.position is not None and self.time is not None:
            tables = (self.position, self.time)
        sizes = [inner, inner, self.n_qk, self.n_qk]
        normed = F.layer_norm(x_BND, x_BND.shape[-1:], eps=1e-6)
        if n_out == x_BND.shape[1]:
            u, v, q, k = torch.split(F.silu(normed @ self.uvqk), sizes, -1)
        else:
            of_u, of_v, of_q, of_k = torch.split(self.uvqk, sizes, 1)
            v, k = torch.split(F.silu(normed @ torch.cat([of_v, of_k], 1)), [inner, self.n_qk], -1)
            x_BND, normed = x_BND[:, -n_out:], normed[:, -n_out:]
            u, q = torch.split(F.silu(normed @ torch.cat([of_u, of_q], 1)), [inner, self.n_qk], -1)
        read = tile_attention(
            q, k, v, pairs, tables, n_heads=self.n_heads, scale=1.0, divisor=divisor
        )
        return self._finish(x_BND, u, read)

    def _project(self, x: Tensor, with_queries: bool) -> tuple[Tensor, Heads]:
        """Return u and the heads; without queries, u is empty."""
        inner, n_qk = self.inner, self.n_qk
        weight: Tensor = self.uvqk
        sizes = [inner, inner, n_qk, n_qk]
        if not with_queries:
            weight = torch.cat([weight[:, inner : 2 * inner], weight[:, -n_qk:]], 1)
            sizes = [0, inner, 0, n_qk]
        normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
        u, v, q, k = torch.split(F.silu(normed @ weight), sizes, -1)
        n_heads = self.n_heads
        q, k, v = (p.reshape(*p.shape[:2], n_heads, p.shape[2] // n_heads) for p in (q, k, v))
        return u, Heads(q if with_queries else None, k, v)

    def _finish(self, x: Tensor, u: Tensor, read: Tensor) -> Tensor:
        normed = F.layer_norm(read, read.shape[-1:], eps=1e-6)
        gated = torch.cat([u, normed, u * normed], -1) if self.concat else u * normed
        y: Tensor = x + self.out(gated)
        return y


class HSTU(Encoder):
    """The candidate after it has read its history, [B, M, D]."""

    options_type = HSTUOptions
    packing_needs = 'stretch needs form = "research"'
    tables = ("position", "time")

    def __init__(self, grade: Grade, options: HSTUOptions, schema: InputSchema) -> None:
        super().__init__(grade, options, schema)
        self.n_out = width = grade.d * len(schema.behaviour)
        n_layers, n_heads = _LAYERS_PER_GRADE * grade.n_layers, grade.n_heads
        if options.form == "ranking":
            self.position = nn.Parameter(torch.randn(grade.max_len + 1, width) * _STD)
            self.time = nn.Parameter(torch.randn(N_TIME_BUCKETS + 1, width) * _STD)
            layers: list[nn.Module] = [RankingLayer(width, n_heads) for _ in range(n_layers)]
        else:
            layers = [HSTULayer(width, n_heads, grade.max_len, options) for _ in range(n_layers)]
        self.layers = nn.ModuleList(layers)

    @classmethod
    def packing(cls, options: Any) -> tuple[Packing, ...]:
        """`stretch` for the research form: all it knows of place and time is relative."""
        return ("request", "stretch") if options.form == "research" else ("request",)

    @classmethod
    def encodes_once(cls, options: Any) -> bool:
        """Both forms: behaviours read only earlier ones."""
        return True

    def forward(self, inputs: EncoderInput) -> Tensor:
        """Return [B, M, D].

        Raises:
            ValueError: a stretch in the ranking form.
        """
        if inputs.ends is not None and self.options.form == "ranking":
            raise ValueError(self.packing_needs)
        n_history, n_candidates = inputs.n_history, inputs.n_candidates
        layout = Layout(inputs.lengths, n_history, n_candidates, inputs.ends)
        few = n_candidates <= FEW_CANDIDATES and in_cache(inputs.tokens_BND)
        if few and self.options.form == "research":
            return self._together(inputs, layout)
        pairs = find_pairs(layout, inputs.seen, inputs.times)
        x_BND = torch.cat([inputs.history_BLD, inputs.candidate_BMD], 1) * self.n_out**0.5
        if self.options.form == "ranking":
            x_BND = x_BND + self._place(inputs.times, n_history, n_candidates)
        history, own = torch.split(x_BND, [n_history, n_candidates], 1)
        for layer in self.layers:
            history, own = layer(
                history,
                own,
                pairs,
                divisor=self.grade.max_len + 1,
                with_history=layer is not self.layers[-1],
            )
        return own

    def _together(self, inputs: EncoderInput, layout: Layout) -> Tensor:
        """The research form on a CPU, with few candidates."""
        times: Tensor = inputs.times
        x_BND: Tensor = inputs.tokens_BND * self.n_out**0.5
        pairs = tile_pairs(
            layout, x_BND.dtype, times if self.options.bias else None, N_TIME_BUCKETS + 1
        )
        n_out = inputs.n_candidates
        for layer in self.layers:
            assert isinstance(layer, HSTULayer)
            last = layer is self.layers[-1]
            x_BND = layer.together(
                x_BND,
                pairs.last(n_out) if last else pairs,
                n_out if last else x_BND.shape[1],
                self.grade.max_len + 1,
            )
        return x_BND

    def _place(self, times_BN: Tensor, n_history: int, n_candidates: int) -> Tensor:
        """Position and time until the request of tokens, [B, N, D]."""
        layout = Layout(times_BN[:, 0], n_history, n_candidates)
        position = self.position.index_select(0, layout.positions(self.grade.max_len, "end"))
        buckets = gap_buckets(times_BN[:, n_history:][:, :1] - times_BN)
        time = self.time.index_select(0, buckets.reshape(-1)).view(*buckets.shape, -1)
        return torch.add(position, time)
