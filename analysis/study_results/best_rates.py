"""The best learning rate of each scanned corner of a grid, and the law of these rates in width and data size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.interpolate import PchipInterpolator

from scaling.errors import UserError
from scaling.study import RateLaw

__all__ = ["BestRate", "RateFit", "ScannedRates", "find_best_rates", "fit_rate_law"]

Floats = NDArray[np.float64]

_CONFIDENCE = 0.95
# A loss curve is not quite a parabola in log rate: it may miss a point by this share of the point's rise.
_MISFIT = 0.2
# For the same reason no best rate is known better than to this (in logarithms): a tenth of a factor of 2.
_FINEST = 0.1 * math.log(2)
_LARGEST_LOG = 700.0  # its exponential is still a number
# A parabola is fitted to the best rate and so many neighbours on each side.
_NEIGHBOURS = 2


@dataclass(frozen=True)
class ScannedRates:
    """Losses of one model and data size at several peak rates.

    Attributes:
        n_samples: the data size for which the rate is set; not that of the runs, if all sizes have one rate.
        rates: peak rates of the dense parameters, ascending.
        losses: one for each rate; inf for a run that diverged.
    """

    token_width: int
    n_samples: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class BestRate:
    """The minimum of a parabola in log rate.

    Attributes:
        rate: the best rate, with its 95 % interval from `low` to `high`, cut at the ends of the scan.
        curvature: loss above the smallest one at a rate e times or 1/e times the best; nan without a parabola.
        standard_error: of the rate's logarithm.
        n_free: degrees of freedom of the noise behind it; 0 if that could not be estimated.
        at_edge: the best rate of the scan is its lowest or highest, so the true one may lie beyond it.
    """

    scanned: ScannedRates
    rate: float
    low: float
    high: float
    curvature: float
    standard_error: float
    n_free: int
    at_edge: bool

    def cost(self, rate: float) -> float:
        """Return the loss at `rate` above that at the best one; inf where runs diverge.

        It is the larger of two readings: from the parabola, and from a curve through the measured losses.
        """
        x = math.log(rate)
        finite = np.isfinite(self.scanned.losses)
        points = np.log(self.scanned.rates)
        if not finite[np.argmin(abs(points - x))]:
            return math.inf
        center = math.log(self.rate)
        parabola = self.curvature * (x - center) ** 2
        measured = math.nan
        if finite.sum() > 1:
            inside, losses = points[finite], np.asarray(self.scanned.losses)[finite]
            curve = PchipInterpolator(inside, losses, extrapolate=False)
            measured = float(curve(x) - curve(np.clip(center, inside[0], inside[-1])))
        return float(max(0.0, np.fmax(parabola, measured)))


@dataclass(frozen=True)
class RateFit:
    """A law of the best rates.

    Attributes:
        low: ends of the 95 % intervals of `factor`, `width_exponent` and `samples_exponent`, as far as fitted.
        high: the same.
        kept: which of them stay at the recipe's value (a factor of 1, exponents of 0), and why.
        rates: the law's rate at each corner.
        errors: standard error of the logarithm of each of these rates.
        n_free: degrees of freedom behind them.
    """

    law: RateLaw
    low: Mapping[str, float]
    high: Mapping[str, float]
    kept: Mapping[str, str]
    rates: tuple[float, ...]
    errors: tuple[float, ...]
    n_free: int


def find_best_rates(scans: Sequence[ScannedRates]) -> list[BestRate]:
    """Return the best rate of each scan, the minimum of a parabola in the logarithm of the rate.

    The parabola goes through the best rate and up to two neighbours on each side; a point counts less the
    more it lies above the best. The noise of the losses is estimated from what all parabolas leave. A minimum is
    looked for between the neighbours of the best rate only.

    Raises:
        UserError: all runs of a scan diverged.
    """
    for scan in scans:
        if not np.isfinite(scan.losses).any():
            raise UserError(
                f"all {len(scan.rates)} rates from {scan.rates[0]:.2g} up diverged at token width {scan.token_width} and "
                f"{scan.n_samples} samples; name lower multiples with --rates"
            )
    squares, n_free = 0.0, 0
    for scan in scans:
        x, y = _window(scan)
        if len(x) > 3:
            rise = y - y.min()
            shape = np.median(rise[rise > 0]) if (rise > 0).any() else 1.0
            weights = shape / (shape + rise)
            residuals = y - np.polyval(np.polyfit(x, y, 2, w=weights), x)
            squares += float(np.sum((weights * residuals) ** 2))
            n_free += len(x) - 3
    noise = math.sqrt(squares / n_free) if n_free else None
    return [_minimum(scan, noise, n_free) for scan in scans]


def _window(scan: ScannedRates) -> tuple[Floats, Floats]:
    """Return log rates and losses of the best rate and its neighbours that did not diverge."""
    x, y = np.log(scan.rates), np.asarray(scan.losses, float)
    best = int(np.argmin(y))
    near = slice(max(0, best - _NEIGHBOURS), best + _NEIGHBOURS + 1)
    x, y = x[near], y[near]
    return x[np.isfinite(y)], y[np.isfinite(y)]


def _minimum(scan: ScannedRates, noise: float | None, n_free: int) -> BestRate:
    x, y = _window(scan)
    best, points = int(np.argmin(scan.losses)), np.log(scan.rates)
    center = points[best]
    low, high = (_reach(scan, best, side) for side in (-1, 1))
    step = max(-low, high)
    at_edge = best in (0, len(points) - 1)
    where, curvature, error = center, math.nan, step
    if len(x) >= 3:
        deviations = np.hypot(max(noise or 0.0, 1e-9), _MISFIT * (y - y.min()))
        design = np.vander(x - center, 3, increasing=True) / deviations[:, None]
        covariance = np.linalg.pinv(design.T @ design)
        _, slope, bend = covariance @ design.T @ (y / deviations)
        vertex = -slope / (2 * bend) if bend > 0 else math.inf
        # beyond the neighbours the parabola is not of this curve
        if low <= vertex <= high:
            gradient = np.array([0.0, -1 / (2 * bend), slope / (2 * bend**2)])
            statistical = math.sqrt(gradient @ covariance @ gradient)
            error = math.hypot(statistical if noise is not None else step / 2, _FINEST)
            where, curvature = center + vertex, float(bend)
    error = max(error, step) if at_edge else error
    half = (_quantile(n_free) if n_free else 2.0) * error
    return BestRate(
        scanned=scan,
        rate=math.exp(where),
        low=max(scan.rates[0], math.exp(max(where - half, points[0]))),
        high=min(scan.rates[-1], math.exp(min(where + half, points[-1]))),
        curvature=curvature,
        standard_error=error,
        n_free=n_free,
        at_edge=at_edge,
    )


def _reach(scan: ScannedRates, best: int, side: int) -> float:
    """Return how far, in log rate, the minimum can lie from the best measured rate on one side.

    That is as far as the neighbour, or half way to one that diverged.
    """
    other = best + side
    if not 0 <= other < len(scan.rates):
        return 0.0
    distance = math.log(scan.rates[other] / scan.rates[best])
    return distance if math.isfinite(scan.losses[other]) else distance / 2


def fit_rate_law(
    best: Sequence[BestRate], recipe_rates: Sequence[float], *, one_rate: bool = False
) -> RateFit:
    """Fit log(rate / recipe's rate) = a + w log(width) + s log(samples) to the best rates, weighted by their standard errors.

    The law will be used far beyond its scan, where a small error of an exponent is a large one of the rate. An
    exponent therefore stays 0, as in the recipe, while its interval holds that, and where the scan has one value only.
    If both stay, so does the factor while its interval holds 1, unless a run at the recipe's rate diverged.

    Args:
        best: the best rates.
        recipe_rates: the recipe's rate at each corner.
        one_rate: one rate holds for all data sizes, so their exponent is 0.
    """
    widths = np.array([one.scanned.token_width for one in best], float)
    sizes = np.array([one.scanned.n_samples for one in best], float)
    reference = (
        int(np.sort(np.unique(widths))[(len(np.unique(widths)) - 1) // 2]),
        int(sizes.max()),
    )
    columns = {
        "width_exponent": np.log(widths / reference[0]),
        "samples_exponent": np.log(sizes / reference[1]),
    }
    kept: dict[str, str] = {}
    if len(np.unique(widths)) == 1:
        kept["width_exponent"] = "the scan has one width"
    if one_rate:
        kept["samples_exponent"] = "all data sizes have one rate"
    elif len(np.unique(sizes)) == 1:
        kept["samples_exponent"] = "the scan has one data size"
    y = np.log([one.rate / recipe for one, recipe in zip(best, recipe_rates, strict=True)])
    found = _regress(best, y, {k: v for k, v in columns.items() if k not in kept})
    lows, highs = found.low, found.high
    holds = {
        name: "its interval holds the recipe's value"
        for name in columns
        if name not in kept and lows[name] <= 0 <= highs[name]
    }
    kept |= holds
    if holds:
        found = _regress(best, y, {k: v for k, v in columns.items() if k not in kept})
        lows, highs = {**lows, **found.low}, {**highs, **found.high}
    is_finite = all(
        math.isfinite(one.cost(rate)) for one, rate in zip(best, recipe_rates, strict=True)
    )
    if len(kept) == len(columns) and lows["level"] <= 0 <= highs["level"] and is_finite:
        kept["factor"] = "its interval holds the recipe's value"
    law = RateLaw(
        token_width=reference[0],
        n_samples=reference[1],
        width_exponent=round(found.values.get("width_exponent", 0.0), 3),
        samples_exponent=round(found.values.get("samples_exponent", 0.0), 3),
        factor=1.0 if "factor" in kept else _rounded(math.exp(found.values["level"])),
    )
    lows["factor"], highs["factor"] = (
        math.exp(np.clip(ends.pop("level"), -_LARGEST_LOG, _LARGEST_LOG)) for ends in (lows, highs)
    )
    rates = tuple(
        law.rate(one.scanned.token_width, one.scanned.n_samples, recipe)
        for one, recipe in zip(best, recipe_rates, strict=True)
    )
    return RateFit(law, lows, highs, kept, rates, found.errors, found.n_free)


@dataclass(frozen=True)
class _Regression:
    """Values and ends of the intervals of `level` and the free exponents; standard errors of the corners' log rates."""

    values: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    errors: tuple[float, ...]
    n_free: int


def _regress(best: Sequence[BestRate], y: Floats, columns: Mapping[str, Floats]) -> _Regression:
    """Regress log rates `y`, (corners), on the columns.

    If the best rates scatter more about the law than their standard errors say, the intervals are wider by that.
    """
    errors = np.array([one.standard_error for one in best])
    design = np.column_stack([np.ones(len(y)), *columns.values()])
    weighted = design / errors[:, None]
    covariance = np.linalg.pinv(weighted.T @ weighted)
    solution = covariance @ weighted.T @ (y / errors)
    n_left = len(y) - design.shape[1]
    if n_left > 0:
        scatter = float(np.sum(((y - design @ solution) / errors) ** 2)) / n_left
        covariance = covariance * max(1.0, scatter)
    n_free = max(1, n_left + best[0].n_free)
    half = _quantile(n_free) * np.sqrt(np.diag(covariance))
    names = ["level", *columns]
    values, low, high = (
        dict(zip(names, map(float, v), strict=True))
        for v in (solution, solution - half, solution + half)
    )
    at_corners = np.sqrt(np.einsum("ij,jk,ik->i", design, covariance, design))
    return _Regression(values, low, high, tuple(map(float, at_corners)), n_free)


def _quantile(n_free: int) -> float:
    return float(stats.t.ppf((1 + _CONFIDENCE) / 2, n_free))


def _rounded(rate: float) -> float:
    """Return a rate with four significant digits."""
    return float(f"{rate:.4g}")
