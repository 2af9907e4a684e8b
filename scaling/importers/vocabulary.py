"""Dense ids from raw values: 0 padding, 1 unknown, then the training part's values in sorted order."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.store import UNKNOWN

__all__ = ["Vocabulary"]

Array = NDArray[Any]


class Vocabulary:
    """The values that the training part holds; every other value, and the empty string, is unknown.

    Sorted order makes ids independent of the order of the raw rows.
    """

    def __init__(self, training_values: Array) -> None:
        values = np.unique(training_values)
        self.values = values[values != ""] if values.dtype.kind == "U" else values

    @property
    def size(self) -> int:
        """Number of ids, padding and unknown included."""
        return len(self.values) + UNKNOWN + 1

    def encode(self, values: Array) -> Array:
        """Return the id of each value, int64 of the same shape."""
        if not len(self.values):
            return np.full(values.shape, UNKNOWN)
        at = np.minimum(np.searchsorted(self.values, values), len(self.values) - 1)
        return np.where(self.values[at] == values, at + UNKNOWN + 1, UNKNOWN)
