"""Which past a LightSUAN token reads, and how a sequence is cut so that only those pairs are computed.

Free of torch, so that plans cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SparsePattern", "Tiles", "fit_tiles"]


# What a block's share of a batched product costs besides its pairs, in pairs per query and block.
_BLOCK_COST = 100


@dataclass(frozen=True)
class SparsePattern:
    """Token i reads token j <= i where i - j < window or (i - j) mod dilation == 0 (SUAN paper).

    Distances count events, so padding on the left changes nothing, and a candidate reads as the event that
    would follow its history.
    """

    window: int
    dilation: int

    def reads(self, distance: Tensor) -> Tensor:
        """Whether a token reads the one `distance` events before it, bool of the same shape."""
        near = (distance < self.window) | (distance % self.dilation == 0)
        return near & (distance >= 0)

    @cached_property
    def skipped(self) -> int:
        """Multiples of the dilation that lie in the window, zero included."""
        return -(-self.window // self.dilation)

    def distances(self, n_tokens: int) -> list[int]:
        """Distances, beyond zero, at which the last of `n_tokens` tokens reads, increasing."""
        near, far = self.distance_ranges(n_tokens)
        return [*near, *far]

    def distance_ranges(self, n_tokens: int) -> tuple[range, range]:
        """The same as two ranges: in the window and beyond it."""
        far = range(self.skipped * self.dilation, n_tokens, self.dilation)
        return range(1, min(self.window, n_tokens)), far


@dataclass(frozen=True)
class Tiles:
    """A sequence cut into blocks of queries for the window, and residue classes for the dilated past.

    A row of pairs holds W = near + far columns: a window's keys, then a class's.

    Attributes:
        pattern: who reads whom.
        n_tokens: N.
        padded: P, a whole number of blocks and of classes.
        block: m, queries that share a window of m + k - 1 keys.
    """

    pattern: SparsePattern
    n_tokens: int
    padded: int
    block: int

    @cached_property
    def look_back(self) -> int:
        """Earlier tokens in a block's window: k - 1, or all there are."""
        return min(self.pattern.window, self.n_tokens) - 1

    @cached_property
    def near(self) -> int:
        """Keys in a window."""
        return self.block + self.look_back

    @cached_property
    def far(self) -> int:
        """Keys that the last query of a class reads outside its window."""
        pattern = self.pattern
        if pattern.skipped * pattern.dilation >= self.n_tokens:
            return 0
        return self.padded // pattern.dilation - pattern.skipped

    @cached_property
    def width(self) -> int:
        """W."""
        return self.near + self.far

    def split(self, rows_SPW: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the window's columns [S P / m, m, near], and of the class's [S, r, far, far].

        The second holds only those queries of a class that read any; it is empty if none does.
        """
        near = rows_SPW[..., : self.near].view(-1, self.block, self.near)
        far = rows_SPW[..., self.near :]
        return near, self.by_class(far)[:, :, self.pattern.skipped :] if self.far else far

    def new_rows(self, like_BPW: Tensor, n_sequences: int, unread: float) -> Tensor:
        """Return memory for rows [S, P, W] with `unread` in the class's columns that are never read."""
        rows = like_BPW.new_empty(n_sequences, self.padded, self.width)
        if self.far:
            self.by_class(rows[..., self.near :])[:, :, : self.pattern.skipped].fill_(unread)
        return rows

    def by_class(self, x_SPX: Tensor) -> Tensor:
        """View [..., S, r, P / r, X] of [..., S, P, X]."""
        *lead, _, width = x_SPX.shape
        return x_SPX.view(*lead, -1, self.pattern.dilation, width).transpose(-3, -2)

    def blocks(self, flat: Tensor, start: int, length: int) -> Tensor:
        """View of `length` rows from `start` on in every block, [S P / m, length, X]; they may overlap.

        `flat` holds look_back rows and then S P rows, contiguous.
        """
        n_rows, width = flat.shape
        size = ((n_rows - self.look_back) // self.block, length, width)
        return flat[start:].as_strided(size, (self.block * width, width, 1))


@lru_cache(maxsize=4096)
def fit_tiles(pattern: SparsePattern, n_tokens: int) -> Tiles:
    """Return the tiles with the least work for `n_tokens` tokens."""
    dilation = pattern.dilation
    if pattern.skipped * dilation >= n_tokens:  # the window covers the dilated past
        dilation = 1
    n_steps = -(-n_tokens // dilation)
    window = min(pattern.window, n_tokens)
    # blocks of whole vector registers, and windows of three blocks at most
    blocks = [*range(1, 8), *range(8, 2 * window + 32, 8)]
    tiles = (
        Tiles(pattern, n_tokens, dilation * steps, block)
        for steps in range(n_steps, n_steps + min(max(8, n_steps // 8), 64) + 1)
        for block in blocks
        if dilation * steps % block == 0 and (2 * block >= window or block == 1)
    )
    return min(tiles, key=lambda t: t.padded * (t.width + _BLOCK_COST / t.block))
