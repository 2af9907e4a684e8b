"""The scan of learning rates behind a rate law: a few corners of a study's grid, each at several rates."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scaling.study import DataFacts, DistillConfig, StudyConfig
from sweeps.planning.cell_standing import PlannedCell
from sweeps.planning.grid import data_sizes, grid_cells, typical_size
from sweeps.planning.plan import Plan

__all__ = ["Corner", "RateScan", "choose_scan", "make_scan", "shares_rate", "wider"]


# How often a scan whose best rate is its lowest or highest goes on by a factor.
_EXTENSIONS = 2


@dataclass(frozen=True)
class Corner:
    """A grade at a data size.

    Attributes:
        rate_samples: the data size for which its rate is set; `n_samples` unless all sizes have one rate.
        rule: the recipe's peak rate of the dense parameters.
    """

    grade_name: str
    token_width: int
    n_samples: int
    rate_samples: int
    rule: float


@dataclass(frozen=True)
class RateScan:
    """A scan as a study of its own, whose axis has all rates that any corner could need.

    Attributes:
        study: the study `NAME-tune`; its cells differ from those of the study only in their rates.
        factors: rates of each corner as multiples of the recipe's, ascending.
    """

    study: StudyConfig
    corners: tuple[Corner, ...]
    factors: tuple[float, ...]

    @property
    def grades(self) -> tuple[str, ...]:
        """Names of the grades, from the narrowest up."""
        return self.study.grid.grade

    @property
    def sizes(self) -> tuple[int, ...]:
        """Data sizes, ascending."""
        return tuple(sorted({corner.n_samples for corner in self.corners}))

    def cells(
        self, plan: Plan, factors_of: Mapping[Corner, Sequence[float]]
    ) -> dict[Corner, dict[float, PlannedCell]]:
        """Return the cells of a plan of `study` that train each corner at these multiples of the recipe's rate."""
        found = {
            (cell.config.grade_name, cell.config.n_samples, cell.config.learning_rate): cell
            for cell in plan.cells
        }
        return {
            corner: {f: found[corner.grade_name, corner.n_samples, f * corner.rule] for f in chosen}
            for corner, chosen in factors_of.items()
        }


def make_scan(
    study: StudyConfig,
    data: DataFacts,
    grades: Sequence[str],
    sizes: Sequence[int],
    factors: Sequence[float],
) -> RateScan:
    """Return the scan of these grades, data sizes and multiples of the recipe's rate, with one seed and no teacher.

    Raises:
        SettingError: there is no such grade, or a data size is larger than the training part.
    """
    widths = len(data.schema.behaviour)
    grades = sorted(dict.fromkeys(grades), key=lambda name: study.grade(name, "--grades").d)
    one_size = _one_size(study, data)
    base = replace(
        study,
        study=replace(study.study, name=f"{study.name}-tune"),
        grid=replace(
            study.grid,
            grade=tuple(grades),
            n_samples=tuple(sorted(set(sizes))),
            n_seeds=1,
            axes={},
        ),
        train=replace(study.train, rate_law=None, recipe_n_samples=one_size),
        distill=DistillConfig(),
    )
    corners = tuple(
        Corner(
            c.grade_name, c.grade.d * widths, c.n_samples, one_size or c.n_samples, c.learning_rate
        )
        for c in grid_cells(base, data)
    )
    factors = tuple(sorted(set(factors)))
    rates = sorted({f * corner.rule for corner in corners for f in _all_factors(factors)})
    axes = {"train.learning_rate": tuple(rates)}
    return RateScan(replace(base, grid=replace(base.grid, axes=axes)), corners, factors)


def choose_scan(
    study: StudyConfig,
    data: DataFacts,
    factors: Sequence[float],
    *,
    grades: Sequence[str] | None,
    sizes: Sequence[int] | None,
    seconds_of: Callable[[RateScan], float],
    limit: float,
) -> RateScan:
    """Return the scan that spans most of the grid's widths and data sizes (as shares of their logarithms).

    It has up to three widths, from the narrowest up, and up to two data sizes, from the smallest up.

    Args:
        study: the study.
        data: facts of its store.
        factors: multiples of the recipe's rate.
        grades: take these instead.
        sizes: take these instead.
        seconds_of: returns the estimated seconds of a scan.
        limit: seconds that it may take; if none takes less, the cheapest is returned.
    """
    width_of = {name: study.grade(name).d for name in study.grid.grade}
    all_sizes = sorted(data_sizes(study, data))
    choices = [
        make_scan(study, data, some_grades, some_sizes, factors)
        for some_grades in ([grades] if grades else _grade_choices(width_of))
        for some_sizes in ([sizes] if sizes else _size_choices(all_sizes))
    ]

    def span(scan: RateScan) -> float:
        widths = [corner.token_width for corner in scan.corners]
        return _share(widths, width_of.values()) + _share(scan.sizes, all_sizes)

    for scan in sorted(choices, key=span, reverse=True):
        if seconds_of(scan) <= limit:
            return scan
    return min(choices, key=seconds_of)


def wider(
    scan: RateScan, losses: Mapping[Corner, Mapping[float, float]]
) -> dict[Corner, tuple[float, ...]]:
    """Return the multiples of each corner; one more where the best one is the lowest or the highest so far.

    Args:
        scan: the scan.
        losses: loss by multiple of the recipe's rate, inf for a run that diverged.
    """
    possible = _all_factors(scan.factors)
    chosen = {}
    for corner, by_factor in losses.items():
        tried = sorted(by_factor)
        best = min(tried, key=lambda factor: by_factor[factor])
        first, last = possible.index(tried[0]), possible.index(tried[-1])
        # where all runs diverged, the first one is the best: the scan goes on downwards
        if best == tried[0]:
            first = max(0, first - 1)
        elif best == tried[-1]:
            last = min(len(possible) - 1, last + 1)
        chosen[corner] = possible[first : last + 1]
    return chosen


def shares_rate(study: StudyConfig) -> bool:
    """Whether all data sizes of a grade have one rate, because the recipe is applied at one size."""
    train = study.train
    return (
        train.recipe_n_samples is not None
        or train.share_prefix
        or train.batch_schedule == "growing"
    )


def _all_factors(factors: Sequence[float]) -> tuple[float, ...]:
    """Return the multiples of a scan with those by which either end may be extended."""
    down, up = factors[1] / factors[0], factors[-1] / factors[-2]
    below = [factors[0] / down**k for k in range(_EXTENSIONS, 0, -1)]
    return (*below, *factors, *(factors[-1] * up**k for k in range(1, _EXTENSIONS + 1)))


def _grade_choices(width_of: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """Yield the narrowest grade with each wider one, and with the grade nearest to their geometric mean between them."""
    # one grade for each width, the first of the grid
    grades = sorted({d: name for name, d in reversed(list(width_of.items()))}.items())
    if len(grades) == 1:
        yield (grades[0][1],)
    for k in range(1, len(grades)):
        low, high, between = grades[0], grades[k], grades[1:k]
        middle = math.sqrt(low[0] * high[0])
        nearest = sorted(between, key=lambda one: abs(math.log(one[0] / middle)))[:1]
        yield tuple(name for _, name in (low, *nearest, high))


def _size_choices(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    if len(sizes) == 1:
        yield (sizes[0],)
    for size in sizes[1:]:
        yield (sizes[0], size)


def _share(some: Iterable[int], everything: Iterable[int]) -> float:
    """Return which share of the logarithmic range of `everything` lies between the ends of `some`."""
    some, everything = list(some), list(everything)
    whole = math.log(max(everything) / min(everything))
    return math.log(max(some) / min(some)) / whole if whole else 1.0


def _one_size(study: StudyConfig, data: DataFacts) -> int | None:
    """Return the data size for which the recipe sets the rate of all data sizes; None: each has its own."""
    if not shares_rate(study):
        return None
    sizes = data_sizes(study, data)
    return study.train.recipe_n_samples or typical_size(study.train, sizes, sizes[0])
