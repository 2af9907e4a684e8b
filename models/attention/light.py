"""LightSUAN's attention over the tokens of a pass: the history in tiles, then the candidates.

Shapes: B batch, L behaviours, M candidates, N = L + M tokens, D token width, H heads.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models.attention.candidates import CandidateKeys, attend_history, find_keys
from models.attention.layout import Layout
from models.attention.sparse import sparse_attention, sparse_bias
from models.model_options import N_TIME_BUCKETS
from models.sparse_pattern import SparsePattern, Tiles, fit_tiles

__all__ = ["SparseBias", "sparse_pays"]


def sparse_pays(pattern: SparsePattern, n_tokens: int) -> bool:
    """Whether the sparse computation is faster than the masked dense one; both give the same result.

    Measured on a CPU (`benchmarks/light.py crossover`): a query costs as much as W + 60 pairs, or N / 2 + 32 if
    dense, at any batch size, in training and in serving.
    """
    return n_tokens / 2 + 32 > fit_tiles(pattern, n_tokens).width + 60


@dataclass(frozen=True)
class SparseBias:
    """The bias of the pairs that LightSUAN computes; made once, shared by heads and layers.

    Attributes:
        tables: the scalars by distance and by time bucket; None: without.
        times_BN: seconds of the tokens; all padding has the same time.
        layout: of the tokens; it has a pattern.
        dtype: of the bias.
    """

    tables: tuple[Tensor | None, Tensor | None]
    times_BN: Tensor
    layout: Layout
    dtype: torch.dtype

    def attend(self, qkv_BNX: Tensor, n_heads: int) -> Tensor:
        """Return softmax(q k' / sqrt(E) + bias) v over the pattern's pairs, [B, N, D]."""
        n_sequence = self._n_sequence
        if n_sequence == qkv_BNX.shape[1]:
            return self._attend_sequence(qkv_BNX, n_heads)
        width = qkv_BNX.shape[2] // 3
        history, candidates = qkv_BNX[:, :n_sequence], qkv_BNX[:, n_sequence:]
        of_candidates = attend_history(candidates, history[..., width:], self._keys, n_heads)
        return torch.cat([self._attend_sequence(history, n_heads), of_candidates], 1)

    def fill(self, x_BND: Tensor, n_heads: int) -> None:
        """Compute what all blocks share, before the first: compiled blocks cannot take a cached property's lock.

        Args:
            x_BND: the tokens of the first block.
            n_heads: of the blocks.
        """
        if self._n_sequence < x_BND.shape[1]:
            _ = self._keys
        if not self._is_flex(x_BND, x_BND.shape[2] // n_heads):
            _ = self._rows, self._tiles
        _ = self._full_tables, self._pattern.skipped

    def _attend_sequence(self, qkv_BNX: Tensor, n_heads: int) -> Tensor:
        if self._is_flex(qkv_BNX, qkv_BNX.shape[2] // 3 // n_heads):
            from models.attention.flex import FlexBias, flex_sparse_attention

            times, lengths = self._sequence
            flex = FlexBias(self._pattern, *self._full_tables, times, lengths)
            return flex_sparse_attention(qkv_BNX, flex, n_heads)
        return sparse_attention(qkv_BNX, self._rows, n_heads, self._tiles)

    def _is_flex(self, x: Tensor, size: int) -> bool:
        """Whether FlexAttention reads the sequence, for heads of width `size`."""
        if not x.is_cuda:
            return False
        from models.attention.flex import flex_applies

        return flex_applies(x, size)

    @property
    def _pattern(self) -> SparsePattern:
        assert self.layout.pattern is not None
        return self.layout.pattern

    @property
    def _n_sequence(self) -> int:
        """Tokens that form one sequence: the history, and a single candidate as its next event."""
        alone = self.layout.n_candidates == 1 and self.layout.ends is None
        return self.layout.n_history + int(alone)

    @property
    def _sequence(self) -> tuple[Tensor, Tensor]:
        """Times and valid tokens of the sequence."""
        added = self._n_sequence - self.layout.n_history
        return self.times_BN[:, : self._n_sequence], self.layout.lengths + added

    @cached_property
    def _tiles(self) -> Tiles:
        return fit_tiles(self._pattern, self._n_sequence)

    @cached_property
    def _full_tables(self) -> tuple[Tensor, Tensor]:
        """The tables, zeros for those that the options leave out."""
        position, time = self.tables
        sizes = (self.layout.n_history + 1, N_TIME_BUCKETS + 1)
        zeros = (self.times_BN.new_zeros(size, dtype=self.dtype) for size in sizes)
        first, second = zeros
        return first if position is None else position, second if time is None else time

    @cached_property
    def _rows(self) -> Tensor:
        """The bias of the sequence's pairs [B, P, W]."""
        return sparse_bias(*self._full_tables, *self._sequence, self._tiles)

    @cached_property
    def _keys(self) -> CandidateKeys:
        """What several candidates read."""
        n_history = self.layout.n_history
        times = self.times_BN[:, :n_history], self.times_BN[:, n_history:]
        return find_keys(
            self.tables, times, self.layout.lengths, self._pattern, self.layout.ends, self.dtype
        )
