"""Batches of few shapes, for devices that run code compiled for each shape.

A batch is padded up to the next size of each dimension, with passes, behaviours and candidates that do not count. Its
numbers stay the same up to rounding, except where a layer draws random numbers by the shape (dropout) or takes
statistics over the rows of a batch; for the latter only histories are padded.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.ctr_model import Batch

__all__ = ["ANY_SHAPE", "Shapes", "padded"]


# Columns of a history: multiples of this, and the longest history. Candidates come on top: the numbers of tokens with which
# cuDNN's attention fails do not matter, because it is switched off (`scaling.process`).
_COLUMNS = 64


@dataclass(frozen=True)
class Shapes:
    """The sizes of each dimension.

    There are ceil(max_len / 64) widths and, up to a number n of candidates, 1 + ceil(log2(n)) heights. Of numbers of
    passes there are at most 1 + ceil(log2(n_passes)); steps of one size whose parts are alike have one.

    Attributes:
        n_passes: of a full batch; smaller sizes are its halves, quarters and so on, rounded up. None: any number of passes
            and of candidates.
        max_len: the longest history. None: of any width.
    """

    n_passes: int | None = None
    max_len: int | None = None

    def passes(self, n: int) -> int:
        """The smallest size that holds `n` passes."""
        if self.n_passes is None or n > self.n_passes:
            return n
        return next(size for size in reversed(_halves(self.n_passes)) if size >= n)

    def passes_within(self, n: int) -> int:
        """The largest size of at most `n` passes, one at least."""
        if self.n_passes is None:
            return max(1, n)
        return next((size for size in _halves(self.n_passes) if size <= n), 1)

    def width(self, n: int) -> int:
        """Columns for histories of `n` behaviours."""
        if self.max_len is None:
            return n
        return max(n, min(self.max_len, _COLUMNS * math.ceil(n / _COLUMNS)))

    def candidates(self, n: int) -> int:
        """Candidates of a packed pass that has `n`: a power of two."""
        return n if self.n_passes is None else 1 << (n - 1).bit_length()


# Batches stay as they are.
ANY_SHAPE = Shapes()


def _halves(n: int) -> list[int]:
    """N, and its halves rounded up, down to 1."""
    sizes = [n]
    while sizes[-1] > 1:
        sizes.append(math.ceil(sizes[-1] / 2))
    return sizes


def padded(batch: Batch, shapes: Shapes) -> Batch:
    """Return the batch in one of the shapes, with `present` False where a label does not count.

    Added passes repeat the first one, and added candidates the first of their pass.
    """
    if shapes == ANY_SHAPE:
        return batch
    n_passes, n_columns = batch.behaviours.shape[:2]
    is_packed = batch.candidate.dim() == 3
    n_candidates = batch.times.shape[1] - n_columns
    index = _padded_index(n_passes, shapes.passes(n_passes))
    counts = index >= 0
    rows = index.clamp(min=0)
    added = shapes.width(n_columns) - n_columns
    height = shapes.candidates(n_candidates) if is_packed else 1
    columns = _padded_index(n_candidates, height)
    places = columns.clamp(min=0)
    present = torch.ones_like(batch.label, dtype=torch.bool)
    present = (present if batch.present is None else batch.present)[rows]

    def by_candidate(x: Tensor) -> Tensor:
        return x[rows][:, places] if is_packed else x[rows]

    def by_token(x: Tensor) -> Tensor:
        own = x[rows]
        history = F.pad(own[:, :n_columns], (added, 0))
        return torch.cat([history, own[:, n_columns:][:, places]], 1)

    return replace(
        batch,
        behaviours=F.pad(batch.behaviours[rows], (0, 0, added, 0)),
        times=by_token(batch.times),
        hours=by_token(batch.hours),
        lengths=batch.lengths[rows],
        candidate=by_candidate(batch.candidate),
        context=by_candidate(batch.context),
        profile=batch.profile[rows],
        numeric=by_candidate(batch.numeric),
        label=by_candidate(batch.label),
        present=(
            present[:, places] & (columns >= 0) & counts[:, None] if is_packed else present & counts
        ),
        ends=None if batch.ends is None else by_candidate(batch.ends) + added,
    )


def _padded_index(n: int, size: int) -> Tensor:
    """The indices of `n` entries, then -1 up to `size`."""
    index = torch.arange(size)
    return index.masked_fill(index >= n, -1)
