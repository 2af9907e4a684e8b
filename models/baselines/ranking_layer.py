"""The layer of HSTU's ranking form, as its authors released it (STU): scaled scores, no bias, norms with gains.

Shapes: B passes, L behaviours, M candidates, D token width, H heads, E = D / H.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.baselines.silu_attention import Heads, Pairs, silu_attention

__all__ = ["RankingLayer"]


class RankingLayer(nn.Module):
    """x + [u, o, u * LN(o)] Wo with u, v, q, k = LN(x) W + b, SiLU on u, and o the attention's output."""

    def __init__(self, width: int, n_heads: int, widths: tuple[int, int] | None = None) -> None:
        """Set the widths of a head's queries and values; by default both are D / H."""
        super().__init__()
        e_qk, e_v = widths or (width // n_heads,) * 2
        self.n_heads, self.e_qk, self.inner = n_heads, e_qk, n_heads * e_v
        n_uvqk = 2 * n_heads * (e_qk + e_v)
        self.norm_in = nn.LayerNorm(width, eps=1e-6)
        self.norm_out = nn.LayerNorm(self.inner, eps=1e-6)
        self.uvqk = nn.Parameter(nn.init.xavier_uniform_(torch.empty(width, n_uvqk)))
        self.uvqk_bias = nn.Parameter(torch.zeros(n_uvqk))
        self.out = nn.Linear(3 * self.inner, width, bias=False)
        nn.init.xavier_uniform_(self.out.weight)

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
        history_u, history = self._project(history_BLD, with_history)
        own_u, own = self._project(own_BMD, True)
        read, read_own = silu_attention(
            history, own, pairs, None, scale=self.e_qk**-0.5, divisor=divisor
        )
        if read is not None:
            history_BLD = self._finish(history_BLD, history_u, read)
        return history_BLD, self._finish(own_BMD, own_u, read_own)

    def _project(self, x: Tensor, with_queries: bool) -> tuple[Tensor, Heads]:
        """Return u and the heads; without queries, u is empty."""
        inner, n_qk = self.inner, self.n_heads * self.e_qk
        weight: Tensor = self.uvqk
        bias: Tensor = self.uvqk_bias
        sizes = [inner, inner, n_qk, n_qk]
        if not with_queries:
            weight = torch.cat([weight[:, inner : 2 * inner], weight[:, -n_qk:]], 1)
            bias = torch.cat([bias[inner : 2 * inner], bias[-n_qk:]])
            sizes = [0, inner, 0, n_qk]
        u, v, q, k = torch.split(F.linear(self.norm_in(x), weight.t(), bias), sizes, -1)
        n_heads = self.n_heads
        q, k, v = (p.reshape(*p.shape[:2], n_heads, p.shape[2] // n_heads) for p in (q, k, v))
        return F.silu(u), Heads(q if with_queries else None, k, v)

    def _finish(self, x: Tensor, u: Tensor, read: Tensor) -> Tensor:
        y: Tensor = x + self.out(torch.cat([u, read, u * self.norm_out(read)], -1))
        return y
