"""The layout of a pass: which tokens read which, at which distance, with which weight in the mean.

One pass contains the history's L tokens, padded on the left, and then M candidates that do not read each
other. M = 1 is the paper's sequence. Several candidates of one request share the history; several
requests of one stretch of a user's log share it up to their own end.

Shapes: B batch, L behaviours, M candidates, N = L + M tokens.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from models.sparse_pattern import SparsePattern

__all__ = ["MASKED", "Layout", "RunningMean"]


# The bias of a pair that may not be read: finite, so that a row without any valid key attends uniformly instead of
# giving NaN.
MASKED = -1e9


@dataclass(frozen=True)
class Layout:
    """The tokens of a batch.

    Attributes:
        lengths: valid behaviours [B]; the others are padding on the left.
        n_history: L.
        n_candidates: M, or 0 if candidates enter only in the head.
        ends: [B, M] columns of the history before each candidate's request; None: all of them.
        pattern: of LightSUAN, whose tokens read only part of their past; padding reads padding.
    """

    lengths: Tensor
    n_history: int
    n_candidates: int
    ends: Tensor | None = None
    pattern: SparsePattern | None = None

    @cached_property
    def valid(self) -> Tensor:
        """Which behaviours are not padding, [B, L]."""
        return self._columns >= (self.n_history - self.lengths)[:, None]

    @cached_property
    def readable(self) -> Tensor:
        """Whether token i may read token j, bool [B, N, N]: valid behaviours before it, and itself."""
        n_history, n_tokens = self.n_history, self.n_history + self.n_candidates
        valid = self.valid
        readable = valid.new_zeros(len(valid), n_tokens, n_tokens)
        past = self._columns[:, None] >= self._columns
        if self.pattern is not None:  # as `models.attention.sparse` has it
            past = past & (valid[:, None, :] | ~valid[:, :, None])
            readable[:, :n_history, :n_history] = past
        else:
            readable[:, :n_history, :n_history] = past & valid[:, None, :]
        seen = valid[:, None, :]
        if self.ends is not None:
            seen = seen & (self._columns < self.ends[:, :, None])
        readable[:, n_history:, :n_history] = seen
        readable[:, n_history:, n_history:].diagonal(dim1=1, dim2=2).fill_(True)
        if self.pattern is not None:
            readable &= self.pattern.reads(self.distance)
        return readable

    @cached_property
    def distance(self) -> Tensor:
        """Behaviours from token j to token i, int64 [N, N], or [B, N, N] with `ends`."""
        place = self._places
        return place[..., :, None] - place[..., None, :]

    def merge_padding(self, times_BN: Tensor) -> Tensor:
        """Return the times with one value for all padding, so that its bias is constant."""
        padding = F.pad(~self.valid, (0, times_BN.shape[1] - self.n_history))
        return times_BN.masked_fill(padding, 0)

    def positions(self, max_len: int, origin: str) -> Tensor:
        """Rows of a position table of `max_len` + 1, int64 [N], or [B, N].

        `end`: counted back from the request, the paper's. `start`: counted from the first behaviour.
        """
        if origin == "end":
            return self._places + (max_len - self.n_history)
        padding = (self.n_history - self.lengths)[:, None]
        return (self._places - padding).clamp(min=0)

    def pool(self, kind: str, dtype: torch.dtype) -> "Tensor | RunningMean":
        """Weights of the alignment mean [B, N], zero where there is none; or for `running` the means.

        `behaviours`: the valid behaviours; `all`: every token, padding and candidate included;
        `running`: the valid behaviours up to the token, itself included.
        """
        n_tokens = self.n_history + self.n_candidates
        if kind == "all":
            shape = (len(self.lengths), n_tokens)
            return torch.full(shape, 1 / n_tokens, dtype=dtype, device=self.lengths.device)
        if kind == "running":
            return RunningMean(self)
        weights = F.pad(self.valid.to(dtype), (0, self.n_candidates))
        return weights / weights.sum(-1, keepdim=True).clamp(min=1)

    @property
    def _columns(self) -> Tensor:
        return torch.arange(self.n_history, device=self.lengths.device)

    @cached_property
    def _places(self) -> Tensor:
        """Column of each behaviour; for a candidate, the column of the next event after its history."""
        if self.ends is not None:
            columns = self._columns.expand(len(self.lengths), -1)
            return torch.cat([columns, self.ends], 1)
        own = self.lengths.new_full((self.n_candidates,), self.n_history)
        return torch.cat([self._columns, own])


@dataclass(frozen=True)
class RunningMean:
    """The mean of each token and of the valid behaviours before it; zero for padding.

    By prefix sums: its cost does not grow with the square of the tokens.
    """

    layout: Layout

    def __call__(self, x_BND: Tensor) -> Tensor:
        """Return the means [B, N, D]."""
        layout = self.layout
        valid_BL1 = layout.valid.to(x_BND.dtype).unsqueeze(-1)
        history, own = x_BND[:, : layout.n_history], x_BND[:, layout.n_history :]
        sums, counts = (history * valid_BL1).cumsum(1), valid_BL1.cumsum(1)
        means = sums / counts.clamp(min=1) * valid_BL1
        if layout.ends is None:
            before, n_before = sums[:, -1:], counts[:, -1:]
        else:  # the prefix that ends before the request; an empty one sums to zero
            ends = layout.ends.unsqueeze(-1)
            before = F.pad(sums, (0, 0, 1, 0)).gather(1, ends.expand(-1, -1, sums.shape[-1]))
            n_before = F.pad(counts, (0, 0, 1, 0)).gather(1, ends)
        return torch.cat([means, (before + own) / (n_before + 1)], 1)
