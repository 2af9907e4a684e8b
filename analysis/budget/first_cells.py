"""The first cells of a pursuit: the cheapest ones with which a law can be fitted at all."""

from collections.abc import Sequence

__all__ = ["first_cells"]


# The limit E and a power law need three sizes on each axis.
_LEVELS = 3
# Cells beyond the number of free parameters, which tell the noise.
_SPARE_CELLS = 2

_Sizes = tuple[float, float]


def first_cells(
    present: Sequence[_Sizes], units: Sequence[Sequence[_Sizes]], n_free: int, *, more: bool
) -> list[int]:
    """Places of the units to train, the units ordered by cost; empty if all of them are not enough.

    Three sizes on each axis and two cells more than free parameters; every unit is taken that brings a new
    cell as long as one of the three is lacking. Sizes of which more are not needed bring none. Then the dearest
    units are left out as far as the others are enough.

    Args:
        present: sizes of the finished runs.
        units: sizes of the cells of each unit, the cheapest unit first.
        n_free: free parameters of the law.
        more: the present cells are enough, but their fit has no interval: the same number again.
    """
    cells = set(present)
    needed = max(n_free + _SPARE_CELLS, len(cells) + 2 if more else 0)
    chosen: list[int] = []
    for place, unit in enumerate(units):
        if _is_enough(cells, needed):
            break
        with_it = cells | set(unit)
        brings_size = any(_n_levels(with_it, k) > _n_levels(cells, k) for k in _lacking(cells))
        if len(with_it) > len(cells) and (len(cells) < needed or brings_size):
            chosen.append(place)
            cells = with_it
    if not _is_enough(cells, needed):
        return []
    for place in reversed(chosen):
        others = [other for other in chosen if other != place]
        if _is_enough(set(present).union(*(units[other] for other in others)), needed):
            chosen = others
    return chosen


def _is_enough(cells: set[_Sizes], needed: int) -> bool:
    return len(cells) >= needed and not _lacking(cells)


def _lacking(cells: set[_Sizes]) -> list[int]:
    """The axes with too few sizes."""
    return [axis for axis in (0, 1) if _n_levels(cells, axis) < _LEVELS]


def _n_levels(cells: set[_Sizes], axis: int) -> int:
    return len({sizes[axis] for sizes in cells})
