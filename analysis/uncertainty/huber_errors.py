"""The errors of a fit with Huber's loss, from squared residuals that are clipped far off the law.

Seeds, shared shifts and curvature are then looked for as in a fit of squared residuals; a few outliers, for which
Huber's loss is chosen, cannot hide or feign them.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from scaling.arrays import FloatArray

if TYPE_CHECKING:
    from analysis.optimum import Problem

__all__ = ["huber_factor", "shared_correlation", "squared_problem"]


# Residuals are clipped at this many robust standard deviations.
_CLIPPED = 3.0


def squared_problem(problem: "Problem", theta: FloatArray) -> "Problem":
    """The squared loss of the cells' means around theta (p,); with Huber's loss, of rows near the law."""
    points = problem.points
    if problem.delta is None:
        return problem if points.run is None else replace(problem, points=points.means())
    residual = problem.objective(points.origin).residuals(theta)
    dof = len(points) - int(problem.free.sum())
    if dof > 0:
        root = np.sqrt(points.weights)
        # Huber's loss is chosen because of outliers, so the scale comes from the central 95 %.
        scale = float(np.quantile(np.abs(residual * root), 0.95)) / 1.96
        most = _CLIPPED * scale * float(np.sqrt(len(residual) / dof)) / root
        near = points.response - residual + np.clip(residual, -most, most)
        points = replace(points, response=near)
    return replace(problem, points=points.means(), delta=None, over=1.0)


def huber_factor(delta: float, sd: float) -> float:
    """Variance of Huber's estimate over that of least squares, for normal noise (Huber 1964).

    Args:
        delta: the threshold.
        sd: standard deviation of the rows around the law.

    Returns:
        1 for a large threshold, pi / 2 for a small one.
    """
    if not sd > 0:
        return 1.0
    c = max(delta / sd, 1e-6)  # below, rounding
    within = 1 - 2 * float(special.ndtr(-c))
    density = float(np.exp(-(c**2) / 2) / np.sqrt(2 * np.pi))
    square = within - 2 * c * density + 2 * c**2 * float(special.ndtr(-c))
    return square / within**2


def shared_correlation(clipped: FloatArray, groups: FloatArray) -> float:
    """Correlation of clipped residuals (n,) that have a value of `groups` (n,) in common; 0 if negative.

    Only the clipped residuals move Huber's estimate. A curve that nearly passes through the middle of a group leaves it
    residuals of either sign, whatever the group shares, so the correlation is lower than that of the errors.
    """
    _, group = np.unique(groups, return_inverse=True)
    sums, squares = np.bincount(group, clipped), np.bincount(group, clipped**2)
    pairs = float(((np.bincount(group) - 1) * squares).sum())
    return max(float((sums**2 - squares).sum()) / pairs, 0.0) if pairs > 0 else 0.0
