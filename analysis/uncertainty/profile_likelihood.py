"""Profile-likelihood intervals: the values of a parameter for which the refitted loss stays within the noise.

These were the only intervals that kept their coverage when E and an exponent could hardly be separated
(docs/fitting.md). Both ends of all parameters are searched at once.
"""

import numpy as np
import numpy.typing as npt

from analysis.optimum import Problem
from analysis.uncertainty.interval import Interval
from scaling.arrays import FloatArray

__all__ = ["profile_intervals"]


_ROUNDS = 24
# An end is accepted if the root of the statistic is within this share of its threshold.
_TOLERANCE = 1e-3
# A minimum lower by this much (in variances) means that the fit was not at the optimum, unless it is rounding.
_WORTHWHILE = 1e-6
_ROUNDING = 1e-12


def profile_intervals(
    problem: Problem,
    theta: FloatArray,
    value: float,
    metric: FloatArray,
    variance: float,
    threshold: FloatArray,
    longest: FloatArray,
) -> tuple[list[Interval | None], FloatArray | None]:
    """Interval of each free parameter of theta, and a better minimiser (p,) if the search finds one.

    The interval contains the values with 2 (loss - value) / variance <= threshold^2 after refitting all other
    parameters. A threshold above that of independent runs allows for errors that cells share. An end that
    reaches a bound below the threshold is open.

    Args:
        problem: law, points and loss.
        theta: (p,) the minimiser, for sizes in their own units.
        value: the minimum.
        metric: (p, p) inverse curvature there.
        variance: of one row's residual.
        threshold: (p,) quantile of t, times the factor by which shared errors widen the interval.
        longest: (p,) longest first steps, as a flat curvature would give far too long ones.
    """
    free, (lower, upper) = problem.free, problem.bounds(own_units=True)
    parameters = np.repeat(np.flatnonzero(free), 2)
    if not len(parameters):
        return [None] * len(theta), None
    threshold = threshold[parameters]
    side = np.tile([-1.0, 1.0], len(parameters) // 2)
    # Along the ridge: the change of the other parameters if one is moved and they are refitted.
    ridge = metric[:, parameters].T / metric[parameters, parameters][:, None]
    bound = np.where(side < 0, lower[parameters], upper[parameters])
    reach = threshold * np.sqrt(np.maximum(metric[parameters, parameters], 0) * variance)
    reach = np.clip(reach, 1e-9 * longest[parameters], longest[parameters])
    inner = theta[parameters].astype(float).copy()  # best known point inside the interval
    inner_root = np.zeros(len(parameters))
    outer = np.full(len(parameters), np.nan)  # best known point outside
    outer_root = np.full(len(parameters), np.nan)
    start = np.tile(theta, (len(parameters), 1))  # the minimiser at the inner point
    trial = _clip(inner + side * reach, bound, side)
    end = np.full(len(parameters), np.nan)
    is_open = (inner - bound) * side >= 0
    end[is_open] = bound[is_open]
    lowest, better = value - max(_WORTHWHILE * variance, _ROUNDING * value), None
    pending = np.flatnonzero(~is_open)
    for _ in range(_ROUNDS):
        if not len(pending):
            break
        rows = parameters[pending]
        move = trial[pending] - start[pending, rows]
        guess = np.clip(start[pending] + ridge[pending] * move[:, None], lower, upper)
        guess[np.arange(len(pending)), rows] = trial[pending]
        held = np.zeros(guess.shape, dtype=bool)
        held[np.arange(len(pending)), rows] = True
        solution = problem.refit(guess, held, own_units=True)
        best = int(np.argmin(solution.value))
        if solution.value[best] < lowest:
            lowest, better = float(solution.value[best]), solution.x[best]
        excess = 2 * (solution.value - value) / variance
        root = np.sqrt(np.maximum(excess, 0.0))
        limit = threshold[pending]
        close = np.abs(root - limit) <= _TOLERANCE * limit
        end[pending[close]] = trial[pending[close]]
        inside = root < limit
        start[pending[inside]] = solution.x[inside]
        inner[pending[inside]], inner_root[pending[inside]] = trial[pending[inside]], root[inside]
        outer[pending[~inside]], outer_root[pending[~inside]] = (
            trial[pending[~inside]],
            root[~inside],
        )
        at_bound = inside & ~close & ((trial[pending] - bound[pending]) * side[pending] >= 0)
        is_open[pending[at_bound]] = True
        end[pending[at_bound]] = bound[pending[at_bound]]
        pending = pending[~(close | at_bound)]
        trial[pending] = _next_trial(
            theta[parameters[pending]], inner[pending], inner_root[pending], outer[pending],
            outer_root[pending], threshold[pending], bound[pending], side[pending],
        )  # fmt: skip
    # What is still pending sits in a narrow bracket around a jump: its outer end is the safe one.
    end[pending] = np.where(np.isnan(outer[pending]), inner[pending], outer[pending])
    return _intervals(theta, parameters, end, is_open), better


def _clip(trial: FloatArray, bound: FloatArray, side: FloatArray) -> FloatArray:
    return np.where(side < 0, np.maximum(trial, bound), np.minimum(trial, bound))


def _next_trial(
    centre: FloatArray,
    inner: FloatArray,
    inner_root: FloatArray,
    outer: FloatArray,
    outer_root: FloatArray,
    threshold: FloatArray,
    bound: FloatArray,
    side: FloatArray,
) -> FloatArray:
    """Where the root of the statistic, nearly linear, should cross the threshold."""
    bracketed = ~np.isnan(outer)
    with np.errstate(divide="ignore", invalid="ignore"):
        within = inner + (outer - inner) * (threshold - inner_root) / (outer_root - inner_root)
        beyond = inner + (inner - centre) * (threshold / inner_root - 1) * 1.05
    # Stay away from the ends of the bracket, and limit the step if the statistic is flat.
    low, high = inner + 0.05 * (outer - inner), inner + 0.95 * (outer - inner)
    within = np.clip(within, np.minimum(low, high), np.maximum(low, high))
    step = np.clip(np.abs(beyond - inner), np.abs(inner - centre), 4 * np.abs(inner - centre))
    step = np.where(np.isfinite(step), step, 4 * np.abs(inner - centre))
    return np.where(bracketed, within, _clip(inner + side * step, bound, side))


def _intervals(
    theta: FloatArray,
    parameters: npt.NDArray[np.intp],
    end: FloatArray,
    is_open: npt.NDArray[np.bool_],
) -> list[Interval | None]:
    result: list[Interval | None] = [None] * len(theta)
    for i in range(0, len(parameters), 2):
        result[parameters[i]] = Interval(
            float(end[i]), float(end[i + 1]), bool(is_open[i]), bool(is_open[i + 1])
        )
    return result
