"""Feature embeddings: one table for all vocabularies, one look-up per batch, sparse gradients."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.config import InputSchema

__all__ = ["FeatureEmbeddings"]


class FeatureEmbeddings(nn.Module):
    """One table [1 + sum(vocabulary sizes - 1), d]: row 0 is everybody's padding and stays zero.

    Features that share a vocabulary share its rows. Gradients are sparse, so that a step's cost does
    not depend on the number of rows.
    """

    def __init__(self, schema: InputSchema, d: int, std: float) -> None:
        super().__init__()
        first: dict[str, int] = {}
        n_rows = 0
        for name, size in schema.vocabularies.items():
            first[name] = n_rows  # id 1 of the vocabulary is row first + 1
            n_rows += size - 1
        self.weight = nn.Parameter(torch.randn(n_rows + 1, d) * std)
        with torch.no_grad():
            self.weight[0] = 0
        for group in ("behaviour", "candidate", "context", "profile"):
            offsets = torch.tensor(
                [first[feature.vocabulary] for feature in getattr(schema, group)], dtype=torch.int64
            )
            self.register_buffer(f"_{group}", offsets, persistent=False)

    def rows(self, group: str, ids: Tensor) -> Tensor:
        """Return the table's rows of a group's ids [..., features]; padding stays 0."""
        offsets: Tensor = getattr(self, f"_{group}")
        return torch.where(ids == 0, 0, ids + offsets)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the embeddings [..., d] of rows."""
        return F.embedding(rows, self.weight, padding_idx=0, sparse=True)
