"""Feature embeddings: one table for all vocabularies, one look-up per batch, sparse gradients."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.input_schema import InputSchema

__all__ = ["EMBEDDING_STD", "FeatureEmbeddings", "sum_rows"]


# Standard deviation of the initial embeddings; see docs/recipe.md.
EMBEDDING_STD = 0.1


def sum_rows(rows: Tensor, values: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the values [n, d] of equal rows [n]: return the distinct rows [u] and their sums [u, d].

    Linear in n, without a sort: all positions of a row write their index to the row's cell of `scratch`
    (int64, one cell per row of the table, any content). The index that remains represents the row.
    """
    places = torch.arange(len(rows), device=rows.device)
    winner = scratch.scatter_(0, rows, places).gather(0, rows)
    wins = winner == places
    rank = wins.cumsum(0).sub_(1).gather(0, winner)
    distinct = rows[wins]
    # five times as fast on a CPU as the backward of torch's own embedding
    sums = values.new_zeros(len(distinct), values.shape[1]).index_add_(0, rank, values)
    return distinct, sums


class _LookUp(torch.autograd.Function):
    """Rows of a table; the gradient is sparse and holds each distinct row once."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor, scratch: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.scratch, ctx.shape = scratch, weight.shape
        return F.embedding(rows, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        distinct, sums = sum_rows(rows.reshape(-1), grad.flatten(0, -2), ctx.scratch)
        sums.masked_fill_((distinct == 0).unsqueeze(1), 0)  # padding is not trained
        sparse = torch.sparse_coo_tensor(
            distinct.unsqueeze(0), sums, ctx.shape, check_invariants=False
        )
        return sparse, None, None


class FeatureEmbeddings(nn.Module):
    """One table [1 + sum(vocabulary sizes - 1), d]: row 0 is the padding of all vocabularies and stays zero.

    Features that share a vocabulary share its rows. Gradients are sparse, so that a step's cost does
    not depend on the number of rows.
    """

    def __init__(self, schema: InputSchema, d: int, std: float) -> None:
        super().__init__()
        n_rows, offsets = _layout(schema)
        self.weight = nn.Parameter(torch.randn(n_rows, d) * std)
        with torch.no_grad():
            self.weight[0] = 0
        self.register_buffer("_scratch", torch.empty(n_rows, dtype=torch.int64), False)
        for group, first in offsets.items():
            self.register_buffer(f"_{group}", torch.tensor(first, dtype=torch.int64), False)

    def is_of(self, schema: InputSchema) -> bool:
        """Whether the table was laid out for this schema."""
        n_rows, offsets = _layout(schema)
        own = {group: getattr(self, f"_{group}").tolist() for group in offsets}
        return self.weight.shape[0] == n_rows and own == offsets

    def rows(self, group: str, ids: Tensor) -> Tensor:
        """Return the table's rows of a group's ids [..., features]; padding stays 0."""
        offsets: Tensor = getattr(self, f"_{group}")
        return torch.where(ids == 0, 0, ids + offsets)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the embeddings [..., d] of rows."""
        embedded: Tensor = _LookUp.apply(self.weight, rows, self._scratch)  # type: ignore[no-untyped-call]
        return embedded


def _layout(schema: InputSchema) -> tuple[int, dict[str, list[int]]]:
    """The number of rows, and the row offset of each feature by group: id 1 is in the row after the offset."""
    first: dict[str, int] = {}
    n_rows = 0
    for name, size in schema.vocabularies.items():
        first[name] = n_rows
        n_rows += size - 1
    groups = ("behaviour", "candidate", "context", "profile")
    return n_rows + 1, {g: [first[f.vocabulary] for f in getattr(schema, g)] for g in groups}
