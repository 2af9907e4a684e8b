"""A grid that suits a data set: data sizes up to all of its training part, grades that it can feed, seeds for the noise.

A proposal for a first study on a few cores, not a rule: it spans as much as is cheap, because a law needs a span.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.accounting import model_size
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.study import DataFacts

__all__ = ["FittedGrid", "fit_grid"]


# FLOPs of the most expensive cell: some minutes on a core
_MOST_FLOPS = 2e13
# Parameters for each impression of the log: a larger model only learns it by heart.
_MOST_PARAMS = 4
_MOST_GRADES, _MOST_SIZES = 5, 5
_LEAST_SIZES = 4  # a law needs three on each axis, and a test without the largest one more
_LEAST_SAMPLES = 4_096  # below, test scores say more of the seed than of the size
_FEWEST_SAMPLES = 300  # what a small log goes down to
_STEP = 4  # between data sizes
# Between the largest and the smallest data size: a decade, with room for rounding. An exponent needs it.
_LEAST_SPAN = 12
# Of several impressions with one history, one pass over it is far cheaper than one pass for each.
_PACKED = 1.5


@dataclass(frozen=True)
class FittedGrid:
    """Keys of `[grid]` and `[train]`.

    Attributes:
        grid: `grade`, `n_samples` and `n_seeds`.
        train: `packing`, if it pays.
        remarks: what a small log cannot give, a sentence each.
    """

    grid: dict[str, Any]
    train: dict[str, Any]
    remarks: tuple[str, ...] = ()


def fit_grid(data: DataFacts) -> FittedGrid:
    """Return a grid for a data set: four or five grades and, if it has as many impressions, data sizes."""
    sizes = _data_sizes(data.n_train)
    seeds = [3 if place < len(sizes) - 2 else 2 for place in range(len(sizes))]
    grid = {"grade": _grades(data), "n_samples": [*sizes[:-1], "all"], "n_seeds": seeds}
    packed = data.shape.per_request >= _PACKED
    return FittedGrid(grid, {"packing": "request"} if packed else {}, _remarks(sizes))


def _data_sizes(n_train: int) -> list[int]:
    """Sizes up to `n_train`: a factor of four apart, or in a small log four sizes over a decade or more."""
    smallest = n_train / _STEP ** (_LEAST_SIZES - 1)
    if smallest >= _LEAST_SAMPLES:
        sizes = [n_train / _STEP**k for k in range(_MOST_SIZES)]
        falling = [_two_digits(size) for size in sizes if size >= _LEAST_SAMPLES]
    else:
        smallest = max(1.0, min(max(smallest, _FEWEST_SAMPLES), n_train / _LEAST_SPAN))
        step = (n_train / smallest) ** (1 / (_LEAST_SIZES - 1))
        falling = [_two_digits(n_train / step**k) for k in range(_LEAST_SIZES)]
    return sorted({*falling[1:], n_train})


def _remarks(sizes: Sequence[int]) -> tuple[str, ...]:
    least, most = sizes[0], sizes[-1]
    if most >= _LEAST_SPAN * _LEAST_SAMPLES:
        return ()
    remark = (
        f"The log is small for a law of the data size: to span a decade, the sizes begin at {least:,}, and below "
        f"{_LEAST_SAMPLES:,} scores say more of the seed than of the size."
    )
    if least < _FEWEST_SAMPLES:
        few = _FEWEST_SAMPLES * _LEAST_SPAN
        return (
            remark,
            f"Of {most:,} impressions, expect intervals that tell nothing; {few:,} are a beginning.",
        )
    return (remark,)


def _two_digits(size: float) -> int:
    return max(1, int(float(f"{size:.1e}")))


def _grades(data: DataFacts) -> list[str]:
    """Grades from the smallest to the largest whose largest cell is cheap and that the log can feed, spread evenly."""
    names = list(GRADES)
    suitable = [name for name in names if _suits(name, data)]
    last = max(len(suitable), _LEAST_SIZES) - 1
    n = min(_MOST_GRADES, last + 1)
    places = sorted({round(k * last / (n - 1)) for k in range(n)})
    return [names[place] for place in places]


def _suits(name: str, data: DataFacts) -> bool:
    size = model_size(GRADES[name], SuanOptions(), data.schema)
    is_cheap = size.training_flops(data.n_train) <= _MOST_FLOPS
    return is_cheap and size.n_params <= _MOST_PARAMS * data.n_train
