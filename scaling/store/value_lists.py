"""`ValueLists`: the values of a feature whose cells hold several, or hold weights, as they lie in a store.

docs/file-formats.md describes the arrays.
"""

from dataclasses import dataclass

import numpy as np

from scaling.arrays import Array

__all__ = ["ValueLists", "flat_values"]


@dataclass(frozen=True)
class ValueLists:
    """The cells of one feature, of which each holds up to `max_values` ids.

    Attributes:
        ids: of all cells, one after the other; each cell's ids are distinct and ascend.
        offsets: cell r holds the values from `offsets[r]` to before `offsets[r + 1]`, int64 [rows + 1]; None: one value each.
        weights: of the values, float32; None: all are 1.
        max_values: the most that a cell holds.
    """

    ids: Array
    offsets: Array | None
    weights: Array | None
    max_values: int

    def __len__(self) -> int:
        """Return the number of cells."""
        return len(self.ids) if self.offsets is None else len(self.offsets) - 1

    def padded(self, rows: Array) -> tuple[Array, Array | None]:
        """Return the cells in `rows` [...]: ids [..., max_values], 0 after a cell's last value, and their weights.

        The ids have the type of the store; weights are float32, 0 after the last value. Rows beyond the last are clipped.
        """
        if self.offsets is None:
            places = np.minimum(rows, len(self.ids) - 1)[..., None]
            return self.ids[places], None if self.weights is None else self.weights[places]
        rows = np.minimum(rows, len(self) - 1)
        first = self.offsets[rows][..., None]
        places = first + np.arange(self.max_values)
        missing = places >= self.offsets[rows + 1][..., None]
        places[missing] = 0
        ids = self.ids[places]
        ids[missing] = 0
        if self.weights is None:
            return ids, None
        weights = self.weights[places]
        weights[missing] = 0
        return ids, weights


def flat_values(ids: Array, weights: Array | None) -> tuple[Array, Array, Array | None]:
    """Return the offsets [n + 1], ids and weights of cells that are given with padding, [n, max_values] each."""
    filled = ids > 0
    offsets = np.concatenate([[0], np.cumsum(filled.sum(1), dtype=np.int64)])
    return offsets, ids[filled], None if weights is None else weights[filled]
