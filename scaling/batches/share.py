"""Which part of each step's batch one of several processes reads."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["WHOLE", "Share"]


@dataclass(frozen=True)
class Share:
    """Share `number` of `count`, counted from 0."""

    number: int = 0
    count: int = 1

    def of(self, ordered: NDArray[Any]) -> NDArray[Any]:
        """Every `count`-th entry: shares of sorted entries are equally large, within one, and alike."""
        return ordered[self.number :: self.count]


WHOLE = Share()
