"""Which part of each step's batch one of several processes reads."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

__all__ = ["WHOLE", "Share"]


class _Sliced(Protocol):
    """An array or a tensor."""

    def __getitem__(self, index: slice, /) -> Any: ...


_Ordered = TypeVar("_Ordered", bound=_Sliced)


@dataclass(frozen=True)
class Share:
    """Share `number` of `count`, counted from 0."""

    number: int = 0
    count: int = 1

    def of(self, ordered: _Ordered) -> _Ordered:
        """Every `count`-th entry: shares of sorted entries are equally large, within one, and alike."""
        part: _Ordered = ordered[self.number :: self.count]
        return part


WHOLE = Share()
