"""Feature embeddings: one table for all vocabularies, one look-up per batch, sparse gradients.

A cell of a feature may hold several ids, or weights. Its embedding is the mean or the sum of those of its ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.input_schema import GROUPS, CategoricalFeature, InputSchema, is_plain, n_ids

__all__ = [
    "EMBEDDING_STD",
    "FeatureEmbeddings",
    "look_up",
    "pool_cells",
    "sum_rows",
    "weight_columns",
]


# Standard deviation of the initial embeddings; see docs/recipe.md.
EMBEDDING_STD = 0.1


def host_may_read(x: Tensor) -> bool:
    """Whether the number of results may depend on values of `x`.

    On a GPU it may not: the host runs ahead of the device, and would wait until it knows the number.
    """
    return not x.is_cuda


def sum_rows(rows: Tensor, values: Tensor, scratch: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the values [n, d] of equal rows [n]: return the distinct rows [u] and their sums [u, d].

    Linear in n, without a sort: all positions of a row write their index to the row's cell of `scratch`
    (int64, one cell per row of the table, any content). The index that remains represents the row.

    On a GPU n rows return: each distinct row once, and row 0 (padding) in the places left over, with sums of zero there.
    The values of row 0 itself are not summed; they must be zero, or the caller clears them.
    """
    places = torch.arange(len(rows), device=rows.device)
    winner = scratch.scatter_(0, rows, places).gather(0, rows)
    if not host_may_read(rows):
        # half of a batch may be padding; its sums would be added to one place, one after the other
        winner = torch.where(rows == 0, places, winner)
        sums = torch.zeros_like(values).index_add_(0, winner, values)
        return torch.where(winner == places, rows, 0), sums
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


def look_up(weight: Tensor, rows: Tensor, scratch: Tensor) -> Tensor:
    """Return rows of a table [n, d], of which row 0 is padding; `scratch` is that of `sum_rows`."""
    found: Tensor = _LookUp.apply(weight, rows, scratch)  # type: ignore[no-untyped-call]
    return found


class _PooledLookUp(torch.autograd.Function):
    """Sums of weighted rows of a table; the gradient is sparse and holds each distinct row once."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        rows: Tensor,
        shares: Tensor,
        first: Tensor,
        cells: Tensor,
        scratch: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(rows, shares, cells)
        ctx.scratch, ctx.shape = scratch, weight.shape
        shares = shares.to(weight.dtype)
        return F.embedding_bag(rows, weight, first, mode="sum", per_sample_weights=shares)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, shares, cells = ctx.saved_tensors
        values = grad[cells] * shares.unsqueeze(1)
        distinct, sums = sum_rows(rows, values.to(grad.dtype), ctx.scratch)
        sums.masked_fill_((distinct == 0).unsqueeze(1), 0)  # padding is not trained
        sparse = torch.sparse_coo_tensor(
            distinct.unsqueeze(0), sums, ctx.shape, check_invariants=False
        )
        return sparse, None, None, None, None, None


def weight_columns(weights: Tensor) -> Tensor:
    """Return float32 weights as columns of a batch, int64; those that are 0 are 0."""
    return weights.float().view(torch.int32).to(torch.int64)


@dataclass(frozen=True)
class _Cells:
    """Where a group's cells lie in its columns.

    Attributes:
        lengths: ids in a cell of each feature.
        pooling: of each feature.
        weights: for each feature, the first column of its weights; -1: none.
    """

    lengths: tuple[int, ...]
    pooling: tuple[Literal["mean", "sum"], ...]
    weights: tuple[int, ...]

    @classmethod
    def of(cls, features: Sequence[CategoricalFeature]) -> "_Cells":
        weights, column = [], n_ids(features)
        for feature in features:
            weights.append(column if feature.weighted else -1)
            column += feature.max_values * feature.weighted
        lengths = tuple(feature.max_values for feature in features)
        return cls(lengths, tuple(feature.pooling for feature in features), tuple(weights))

    @property
    def n_columns(self) -> int:
        """Columns of ids, and of weights."""
        weights = zip(self.lengths, self.weights, strict=True)
        return sum(self.lengths) + sum(length for length, place in weights if place >= 0)

    @property
    def first(self) -> list[int]:
        """The column of each feature's first id."""
        return [sum(self.lengths[:k]) for k in range(len(self.lengths))]

    def shares(self, columns: Tensor) -> Tensor:
        """Return the factor of each id's embedding, float32 [..., ids]; 0 behind a cell's last id."""
        found = []
        for first, length, pooling, place in zip(
            self.first, self.lengths, self.pooling, self.weights, strict=True
        ):
            share = (columns[..., first : first + length] != 0).float()
            if place >= 0:
                bits = columns[..., place : place + length].to(torch.int32)
                share = share * bits.view(torch.float32)
            if pooling == "mean":
                total = share.sum(-1, keepdim=True)
                share = share / torch.where(total > 0, total, 1)
            found.append(share)
        return torch.cat(found, -1) if found else columns[..., :0].float()


def pool_cells(embedded: Tensor, shares: Tensor, lengths: Sequence[int]) -> Tensor:
    """Sum embeddings [..., ids, d] with their shares [..., ids] to those of cells with so many ids, [..., features, d]."""
    weighted = embedded * shares.to(embedded.dtype).unsqueeze(-1)
    return torch.stack([part.sum(-2) for part in torch.split(weighted, list(lengths), -2)], -2)


class FeatureEmbeddings(nn.Module):
    """One table [1 + sum(vocabulary sizes - 1), d]: row 0 is the padding of all vocabularies and stays zero.

    Features that share a vocabulary share its rows. Gradients are sparse, so that a step's cost does
    not depend on the number of rows.

    Attributes:
        cells: by group, where the ids and weights of its features lie in the columns of a batch.
        plain: whether each cell is one id without a weight.
    """

    cells: dict[str, _Cells]
    plain: bool
    _scratch: Tensor

    def __init__(self, schema: InputSchema, d: int, std: float) -> None:
        super().__init__()
        n_rows = self._lay_out(schema)
        self.weight = nn.Parameter(torch.randn(n_rows, d) * std)
        with torch.no_grad():
            self.weight[0] = 0
        self.register_buffer("_scratch", torch.empty(n_rows, dtype=torch.int64), False)

    def is_of(self, schema: InputSchema) -> bool:
        """Whether the table was laid out for this schema."""
        n_rows, offsets = _layout(schema)
        own = {group: getattr(self, f"_{group}").tolist() for group in offsets}
        cells = {group: _Cells.of(getattr(schema, group)) for group in GROUPS}
        return self.weight.shape[0] == n_rows and own == offsets and self.cells == cells

    def rows(self, group: str, columns: Tensor) -> Tensor:
        """Return the table's rows of a group's ids [..., ids]; padding stays 0."""
        offsets: Tensor = getattr(self, f"_{group}")
        ids = columns[..., : len(offsets)]
        return torch.where(ids == 0, 0, ids + offsets)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the embeddings [..., d] of rows."""
        weight, places = self._places(rows)
        return look_up(weight, places, self._scratch)

    def first_columns(self, group: str) -> Tensor:
        """Return the column of the first id of each feature [features]."""
        columns: Tensor = getattr(self, f"_first_{group}")
        return columns

    def pooled(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the embeddings of cells, [..., features, d], of the columns [..., c] of some groups, by group."""
        rows, shares, first, cells, n_ids_before, n_before = [], [], [], [], 0, 0
        for group, own in columns.items():
            rows.append(self.rows(group, own).reshape(-1))
            shares.append(self.cells[group].shares(own).reshape(-1))
            lengths = self.cells[group].lengths
            n = own.shape[:-1].numel()
            number = torch.arange(n, device=own.device)[:, None]
            first.append(
                (n_ids_before + number * sum(lengths) + self.first_columns(group)).reshape(-1)
            )
            of_columns: Tensor = getattr(self, f"_cell_{group}")
            cells.append((n_before + number * len(lengths) + of_columns).reshape(-1))
            n_ids_before += n * sum(lengths)
            n_before += n * len(lengths)
        weight, places = self._places(torch.cat(rows))
        found: Tensor = _PooledLookUp.apply(  # type: ignore[no-untyped-call]
            weight, places, *map(torch.cat, (shares, first, cells)), self._scratch
        )
        parts = torch.split(found, [len(part) for part in first])
        return {
            group: part.view(*own.shape[:-1], len(self.cells[group].lengths), weight.shape[1])
            for (group, own), part in zip(columns.items(), parts, strict=True)
        }

    def _places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The table that is at hand, and where it has these rows."""
        return self.weight, rows

    def _lay_out(self, schema: InputSchema) -> int:
        """Keep the offsets of the features' rows, and where their cells lie; return the number of rows."""
        n_rows, offsets = _layout(schema)
        self.cells = {group: _Cells.of(getattr(schema, group)) for group in GROUPS}
        self.plain = all(is_plain(getattr(schema, group)) for group in GROUPS)
        for group, first in offsets.items():
            self.register_buffer(f"_{group}", torch.tensor(first, dtype=torch.int64), False)
            cells = self.cells[group]
            self.register_buffer(f"_first_{group}", torch.tensor(cells.first).long(), False)
            of_columns = [k for k, length in enumerate(cells.lengths) for _ in range(length)]
            self.register_buffer(f"_cell_{group}", torch.tensor(of_columns).long(), False)
        return n_rows


def _layout(schema: InputSchema) -> tuple[int, dict[str, list[int]]]:
    """The number of rows, and the row offset of each column of ids by group: id 1 is in the row after the offset."""
    first: dict[str, int] = {}
    n_rows = 0
    for name, size in schema.vocabularies.items():
        first[name] = n_rows
        n_rows += size - 1
    return n_rows + 1, {
        group: [first[f.vocabulary] for f in getattr(schema, group) for _ in range(f.max_values)]
        for group in GROUPS
    }
