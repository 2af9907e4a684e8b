"""Intervals and standard errors of the reported parameters, by profile, bootstrap or Wald.

Internally, amplitudes are logs for sizes measured from the points' centre; reported ones hold for sizes in
their own units. This module converts between them; the search is in `profile_likelihood` and `bootstrap`.
"""

from collections.abc import Sequence

import numpy as np
from scipy import special

from analysis.laws import Law
from analysis.optimum import LOG_RANGE, Problem, inverse_curvature
from analysis.uncertainty.bootstrap import percentile_intervals, widened
from analysis.uncertainty.huber_errors import shared_correlation
from analysis.uncertainty.interval import Interval
from analysis.uncertainty.profile_likelihood import profile_intervals
from analysis.uncertainty.variance import Part, Variance, combined
from scaling.arrays import FloatArray

__all__ = ["bootstrap_summary", "profile_summary", "wald_summary"]


# The least share of a variance that is taken as the cells' own.
_LEAST_OWN = 0.05


def _reported(law: Law, theta: FloatArray) -> FloatArray:
    """Theta (P, p) for sizes in their own units, as reported values."""
    return np.where(law.logged, np.exp(np.clip(theta, -LOG_RANGE, LOG_RANGE)), theta)


def profile_summary(
    problem: Problem, theta: FloatArray, value: float, variance: Variance, level: float
) -> tuple[dict[str, Interval], FloatArray | None]:
    """Profile-likelihood interval of each free parameter, and a better optimum if the search finds one.

    Args:
        problem: law and points, with the squared loss.
        theta: (p,) optimum around the points' origin.
        value: its loss.
        variance: around it.
        level: of the intervals.

    Returns:
        The intervals by name, and theta (p,) with a loss below `value`, or None.
    """
    law, origin = problem.law, problem.points.origin
    spread = float(np.ptp(problem.points.response))
    scale = max(variance.noise.sd, 1e-9 * spread) ** 2
    # Only at the centre is the curvature conditioned well enough to invert; so invert first, then change the units.
    centred = inverse_curvature(problem.objective(origin).curvature(theta))
    turn = _turn(law, theta, origin)
    wider, dof = variance.inflation(turn)
    intervals, better = profile_intervals(
        problem,
        law.rebased(theta[None], origin)[0],
        value,
        turn @ centred @ turn.T,
        scale,
        wider * special.stdtrit(dof, 0.5 + level / 2),
        _longest_steps(problem, theta),
    )
    found = {
        name: _exp(interval) if log else interval
        for name, interval, log in zip(law.names, intervals, law.logged, strict=True)
        if interval is not None
    }
    if better is None:
        return found, None
    return found, law.rebased(better[None], [-o for o in origin])[0]


def bootstrap_summary(
    problem: Problem,
    theta: FloatArray,
    draws: FloatArray,
    variance: Variance,
    level: float,
    seed: int,
) -> tuple[dict[str, Interval], dict[str, float], tuple[Part, ...]]:
    """Percentile intervals, standard errors and the covariance by source.

    Args:
        problem: law, points and loss.
        theta: (p,) optimum around the points' origin.
        draws: (B, p) its resamples.
        variance: around the optimum; its errors that cells share widen the intervals.
        level: of the intervals.
        seed: of the added errors.
    """
    law, free = problem.law, problem.free
    lower, upper = problem.bounds()
    points = problem.points
    # What resampling varies are the cells' residuals, not the seeds.
    of_cells = points.n_cells - int(free.sum())
    dof = max(of_cells, 1) if points.run is None else variance.noise.dof
    draws = theta + _own_share(problem, theta, variance) * (draws - theta)
    added = (*variance.shared, variance.test) if variance.test else variance.shared
    wide = np.clip(widened(draws, theta, added, dof, level, seed), lower, upper)
    at_lower, at_upper = wide <= lower + 1e-9, wide >= upper - 1e-9
    values = _reported(law, law.rebased(wide, problem.points.origin))
    found = percentile_intervals(values, at_lower, at_upper, level)
    names = [name for name, wanted in zip(law.names, free, strict=True) if wanted]
    intervals = dict(zip(law.names, found, strict=True))
    spread = _reported(law, law.rebased(draws, problem.points.origin)).std(axis=0, ddof=1)
    turn = _turn(law, theta, problem.points.origin)
    beyond, _ = combined(added, turn)
    # The error of a logarithm times the value is that of the value.
    value = _reported(law, law.rebased(theta[None], problem.points.origin))[0]
    beyond = beyond * np.where(law.logged, value, 1.0) ** 2
    stderr = dict(zip(law.names, np.sqrt(spread**2 + beyond), strict=True))
    cells = Part("bootstrap", np.atleast_2d(np.cov(draws.T)), dof)
    return (
        {n: intervals[n] for n in names},
        {n: float(stderr[n]) for n in names},
        (cells, *variance.shared),
    )


def _own_share(problem: Problem, theta: FloatArray, variance: Variance) -> float:
    """Share of the cells' standard deviation that they do not share; resampling takes all of it for their own."""
    points, noise = problem.points, variance.noise
    if problem.delta is None:
        own = noise.sd**2 * points.n_cells / points.n_rows
        total = own + noise.shared_sd**2 + noise.misfit_sd**2
        return float(np.sqrt(own / total)) if total > 0 else 1.0
    clipped = problem.objective(points.origin).residuals(theta)
    clipped = np.clip(clipped, -problem.delta, problem.delta)
    variables = [problem.law.variables.index(effect.variable) for effect in variance.effects]
    common = sum(shared_correlation(clipped, points.sizes[i]) for i in variables)
    return float(np.sqrt(max(1 - common, _LEAST_OWN)))


def wald_summary(
    problem: Problem, theta: FloatArray, variance: Variance, level: float
) -> tuple[dict[str, Interval], dict[str, float]]:
    """Symmetric intervals (amplitudes: in logs) and standard errors from the curvature.

    Args:
        problem: law, points and loss.
        theta: (p,) optimum around the points' origin.
        variance: around it; without degrees of freedom there is no interval.
        level: of the intervals.
    """
    law, origin, logged = problem.law, problem.points.origin, problem.law.logged
    turn = _turn(law, theta, origin)
    centre = law.rebased(theta[None], origin)[0]
    square, dof = variance.spread(turn)
    known = bool(variance.noise.dof)
    se = np.sqrt(square) if known else np.full(len(theta), np.nan)
    quantile = special.stdtrit(dof, 0.5 + level / 2)
    lower, upper = problem.bounds()
    intervals, errors = {}, {}
    value = _reported(law, centre[None])[0]
    for i, name in enumerate(law.names):
        if not problem.free[i]:
            continue
        errors[name] = float(se[i] * (value[i] if logged[i] else 1.0))
        low, high = centre[i] - quantile[i] * se[i], centre[i] + quantile[i] * se[i]
        if logged[i]:
            intervals[name] = _exp(Interval(low, high))
        else:
            ends = max(low, lower[i]), min(high, upper[i])
            is_open = bool(low < lower[i]), bool(high > upper[i])
            intervals[name] = Interval(float(ends[0]), float(ends[1]), *is_open)
    return (intervals if known else {}), errors


def _turn(law: Law, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
    """Derivatives (p, p) of the rebased theta by theta."""
    # Rebasing is at most bilinear, so these central differences are exact.
    step = np.eye(len(theta))
    return np.asarray((law.rebased(theta + step, origin) - law.rebased(theta - step, origin)).T / 2)


def _longest_steps(problem: Problem, theta: FloatArray) -> FloatArray:
    """Longest first steps (p,): a part of the gap above E or of an exponent, one for logs and signed exponents."""
    gap = np.min(problem.law.sign * (problem.points.metric - theta[0]))
    spread = float(np.ptp(problem.points.metric))
    whole = problem.law.logged.copy()
    whole[len(whole) - len(problem.law.shapes) :] |= [s.signed for s in problem.law.shapes]
    steps = np.where(whole, 1.0, 0.5 * np.abs(theta))
    steps[0] = 0.5 * max(float(gap), 1e-3 * spread)
    return np.maximum(steps, 1e-6)


def _exp(interval: Interval) -> Interval:
    ends = np.exp(np.clip([interval.lower, interval.upper], -LOG_RANGE, LOG_RANGE))
    return Interval(float(ends[0]), float(ends[1]), interval.open_lower, interval.open_upper)
