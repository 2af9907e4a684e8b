"""The interval of an estimate, the band of a curve, and the text of an estimate."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.arrays import FloatArray

__all__ = ["Band", "Interval", "format_change", "format_estimate"]


# Digits that an end may need beyond two of the half width.
_MORE = 3
# Beyond these, a number is written with a power of ten.
_MOST_DECIMALS, _MOST_ZEROS = 8, 3


@dataclass(frozen=True)
class Interval:
    """Both ends of an interval; an open end is a bound of the search, not a limit set by the data."""

    lower: float
    upper: float
    open_lower: bool = False
    open_upper: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the data leave an end open."""
        return self.open_lower or self.open_upper

    def __contains__(self, value: float) -> bool:
        return self.lower <= value <= self.upper


@dataclass(frozen=True)
class Band:
    """Predictions with pointwise intervals; all arrays have the shape of the given sizes.

    Attributes:
        mean: the law.
        lower, upper: confidence interval of the law's value.
        prediction_lower, prediction_upper: interval of one new run, its noise included.
        outside: whether a size lies beyond the fitted span.
    """

    mean: FloatArray
    lower: FloatArray
    upper: FloatArray
    prediction_lower: FloatArray
    prediction_upper: FloatArray
    outside: npt.NDArray[np.bool_]


def format_estimate(value: float, interval: Interval | None) -> str:
    """`0.231 [0.214, 0.249]`, rounded to the interval's width; an open end is printed as `open`."""
    if math.isnan(value):
        return "not determined"
    if interval is None:
        return f"{value:.4g}"
    ends = (interval.lower, interval.upper)
    width = max(abs(end - value) for end in ends)
    if (1e-4 <= abs(value) < 1e4 or value == 0) and 0 < width < 1e4:
        decimals = min(max(2 - math.floor(math.log10(width)), 0), 6)
        texts = [_fixed(number, decimals) for number in (value, *ends)]
    else:
        texts = [f"{number:.3g}" for number in (value, *ends)]
    lower = "open" if interval.open_lower else texts[1]
    upper = "open" if interval.open_upper else texts[2]
    return f"{texts[0]} [{lower}, {upper}]"


def format_change(value: float, low: float, high: float) -> str:
    """`0.0078 [0.0029, 0.0127]`: all with two digits of the interval's half width, three of the value without one.

    There are more digits if an end would be printed as zero without being zero.
    """
    half = (high - low) / 2
    if not (math.isfinite(half) and half > 0):
        return f"{value:.3g}" if math.isfinite(value) else "not determined"
    decimals = 1 - math.floor(math.log10(half))
    ends = [end for end in (low, high) if end]
    while any(not round(end, decimals) for end in ends) and decimals < 1 - math.log10(half) + _MORE:
        decimals += 1
    return "{} [{}, {}]".format(*(_rounded(number, decimals) for number in (value, low, high)))


def _rounded(number: float, decimals: int) -> str:
    """A number rounded to a decimal place, which may lie left of the point; very large and small ones as 1.2e-09."""
    if -_MOST_ZEROS <= decimals <= _MOST_DECIMALS:
        return _fixed(round(number, decimals), max(decimals, 0))
    if not round(number, decimals):
        return "0"
    digits = max(math.floor(math.log10(abs(number))) + decimals, 0)
    return f"{number:.{digits}e}"


def _fixed(number: float, decimals: int) -> str:
    """A number with so many decimals; never a negative zero."""
    text = f"{number:.{decimals}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text
