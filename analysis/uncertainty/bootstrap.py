"""Bootstrap by cell, or by run if runs serve several cells; all draws are fitted at once.

A resample is a set of weights: each cell (or run) gets a multinomial count. So all draws have the same
points, and each starts at the estimate. Resampling treats cells as independent, and few cells as if they were many;
`widened` adds what it misses.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.optimum import Problem
from analysis.uncertainty.interval import Interval
from analysis.uncertainty.variance import Part
from scaling.arrays import FloatArray

__all__ = ["bootstrap_draws", "percentile_intervals", "widened"]


# Draws at once, and points times draws at once.
_CHUNK, _MOST = 512, 4_000_000


def bootstrap_draws(
    problem: Problem, theta: FloatArray, n_draws: int, seed: int
) -> tuple[FloatArray, int]:
    """Minimisers (n_draws, p) of the loss on resampled cells or runs, and the number of evaluations.

    Args:
        problem: law, points and loss.
        theta: (p,) its optimum, the start of every draw.
        n_draws: number of resamples.
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    points = problem.points
    unit = points.cell if points.run is None else points.run
    n_units = int(unit.max()) + 1
    draws, evaluations = [], 0
    chunk = max(1, min(_CHUNK, _MOST // len(points)))
    for first in range(0, n_draws, chunk):
        size = min(chunk, n_draws - first)
        counts = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=size)
        solution = problem.refit(
            np.tile(theta, (size, 1)), weights=points.weights * counts[:, unit]
        )
        draws.append(solution.x)
        evaluations += solution.n_evaluations
    return np.concatenate(draws), evaluations


def widened(
    draws: FloatArray, theta: FloatArray, parts: Sequence[Part], dof: int, level: float, seed: int
) -> FloatArray:
    """Draws (B, p) whose percentiles are those of t and contain errors that cells share.

    The distance from theta grows by the ratio of the quantiles of t and of the normal distribution, and each part
    adds an error with the tails of its own degrees of freedom.

    Args:
        draws: (B, p) minimisers on resampled cells.
        theta: (p,) the estimate.
        parts: of the covariance, which resampling does not show.
        dof: degrees of freedom of the resampled cells.
        level: of the intervals.
        seed: of the added errors.
    """
    rng = np.random.default_rng(seed)
    one = 0.5 + level / 2
    factor = special.stdtrit(max(dof, 1), one) / special.ndtri(one)
    result = theta + factor * (draws - theta)
    for part in parts:
        values, vectors = np.linalg.eigh(part.covariance)
        spread = vectors * np.sqrt(np.maximum(values, 0.0))
        normal = rng.standard_normal((len(draws), len(theta)))
        mean_square = (
            rng.chisquare(part.dof, len(draws)) / part.dof if np.isfinite(part.dof) else 1.0
        )
        result = result + (normal @ spread.T) / np.sqrt(mean_square)[..., None]
    return np.asarray(result)


def percentile_intervals(
    draws: FloatArray,
    at_lower: npt.NDArray[np.bool_],
    at_upper: npt.NDArray[np.bool_],
    level: float,
) -> list[Interval]:
    """Percentile interval of each column; open if more draws end at a bound than the tail holds.

    Args:
        draws: (B, p).
        at_lower: (B, p), whether a draw ended at its lower bound.
        at_upper: (B, p), or at its upper one.
        level: of the interval, e.g. 0.95.
    """
    tail = (1 - level) / 2
    lower, upper = np.quantile(draws, [tail, 1 - tail], axis=0)
    open_lower, open_upper = at_lower.mean(axis=0) > tail, at_upper.mean(axis=0) > tail
    return [
        Interval(float(a), float(b), bool(c), bool(d))
        for a, b, c, d in zip(lower, upper, open_lower, open_upper, strict=True)
    ]
