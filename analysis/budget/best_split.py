"""The best split of a budget between model size and data size, by a fitted joint law and a cost factor x N^power x D.

Intervals are those of the law's parameters, propagated to first order. For the metric at the optimum this is enough:
its slope in N is zero there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.optimize import brentq, minimize_scalar

from analysis.budget.cost import Cost
from analysis.fit import LawFit
from analysis.table import direction
from analysis.uncertainty import combined
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["Point", "best_log_size", "cheapest", "check_terms", "frontier", "half_width"]


# Search range for an optimum on both sides of the fitted sizes, in units of log size.
_REACH = 25.0
_STEP = 1e-4


@dataclass(frozen=True)
class Point:
    """The best split of one budget, each number with its interval's ends.

    Attributes:
        budget: in the cost's unit.
        n_params, n_samples: the split.
        metric: of a run with this split, on the fitted test part.
        reach: size over the largest fitted size, for the axis on which it is larger; at least 1.
        below: smallest fitted size over the size, for the axis on which it is larger; at least 1.
    """

    budget: float
    n_params: tuple[float, float, float]
    n_samples: tuple[float, float, float]
    metric: tuple[float, float, float]
    reach: float
    below: float


def frontier(fit: LawFit, cost: Cost, budgets: Sequence[float]) -> list[Point]:
    """The best split of each budget.

    Raises:
        UserError: the law has no best split.
    """
    check_terms(fit, "best split of a budget")
    return [_point(fit, cost, budget) for budget in budgets]


def check_terms(fit: LawFit, asked: str) -> None:
    """Check that the metric depends on every size; else there is nothing to gain from one of them.

    Args:
        fit: with a curve.
        asked: what cannot be told otherwise, e.g. "best split of a budget".

    Raises:
        UserError: the term of a size is 0, or an exponent is at its bound.
    """
    # the first amplitudes are those of single sizes; without an interaction, the law still depends on both
    n_sizes = len(fit.law.variables) - len(fit.law.ratios)
    terms = {*fit.law.amplitudes[:n_sizes], "alpha", "beta", "gamma"}
    if terms & set(fit.at_bound):
        doubtful = direction(fit.y) is not fit.law.rising
        hint = f"check the direction of {fit.y} (--rising, --falling), or " if doubtful else ""
        raise UserError(f"no {asked}: {fit.message}; {hint}widen the sizes")


def best_log_size(fit: LawFit, cost: Cost, budget: float, theta: FloatArray) -> float:
    """Log of the best model size for inner parameters (p,)."""
    law, origin = fit.law, fit.origin
    total = float(np.log(budget / cost.factor))

    def worth(log_size: float) -> float:
        logs = [np.array([log_size - origin[0]])]
        logs.append(np.array([total - cost.power * log_size - origin[1]]))
        return float(law.sign * law.evaluate(logs, theta[None])[0, 0])

    low, high = (np.log(fit.spans["N"][k]) + s * _REACH for k, s in ((0, -1.0), (1, 1.0)))
    # First find the basin on a grid, as far away the law is flat up to rounding.
    grid = np.linspace(low, high, 201)
    logs = [grid - origin[0], total - cost.power * grid - origin[1]]
    with np.errstate(over="ignore"):
        values = law.sign * law.evaluate(logs, theta[None])[0]
    k = int(np.argmin(values))
    if k in (0, len(grid) - 1):
        raise UserError(
            f"the {law.name} law has no best split of a budget: it improves towards "
            f"{'small' if k == 0 else 'large'} models without end"
        )
    found = minimize_scalar(
        worth, bounds=(grid[k - 1], grid[k + 1]), method="bounded", options={"xatol": 1e-10}
    )
    return float(found.x)


def _point(fit: LawFit, cost: Cost, budget: float) -> Point:
    log_size = best_log_size(fit, cost, budget, fit.theta)
    slope = np.zeros(len(fit.theta))
    for i in range(len(slope)):
        if fit.law.names[i] not in fit.fixed:
            step = np.zeros(len(slope))
            step[i] = _STEP
            ends = [best_log_size(fit, cost, budget, fit.theta + s * step) for s in (1.0, -1.0)]
            slope[i] = (ends[0] - ends[1]) / (2 * _STEP)
    half = half_width(fit, slope)
    size = np.exp(np.array([log_size, log_size - half, log_size + half]))
    samples = cost.samples(budget, size)
    band = fit.band(size[0], samples[0])
    (n_low, n_high), (d_low, d_high) = fit.spans["N"], fit.spans["D"]
    return Point(
        budget,
        (float(size[0]), float(size[1]), float(size[2])),
        (float(samples[0]), float(samples[2]), float(samples[1])),
        (float(band.mean), float(band.lower), float(band.upper)),
        float(max(size[0] / n_high, samples[0] / d_high, 1.0)),
        float(max(n_low / size[0], d_low / samples[0], 1.0)),
    )


def half_width(fit: LawFit, slope: FloatArray) -> float:
    """Half the interval of a quantity whose derivatives by theta are (p,)."""
    if not fit.noise.dof:
        return float("nan")
    variance, dof = combined(fit.parts, slope[None])
    return float(np.sqrt(variance[0]) * special.stdtrit(dof[0], 0.5 + fit.options.level / 2))


def cheapest(fit: LawFit, cost: Cost, target: float) -> Point:
    """The cheapest run that reaches a metric.

    Raises:
        UserError: the law has no best split, or the target lies beyond E or cannot be reached at any cost.
    """
    check_terms(fit, "best split of a budget")
    if not np.isfinite(target):
        raise UserError(f"a target of {target:g} cannot be reached: expected a finite number")
    sign, offset = fit.law.sign, fit.params["E"]
    if sign * (target - offset) <= 0:
        raise UserError(f"a target of {target:g} lies beyond the law's limit E = {offset:.4g}")
    start = float(np.log(cost(fit.spans["N"][0], fit.spans["D"][0])))

    def short(log_budget: float) -> float:
        budget = float(np.exp(log_budget))
        size = float(np.exp(best_log_size(fit, cost, budget, fit.theta)))
        return sign * (float(fit.predict(size, cost.samples(budget, size))) - target)

    low = high = start
    while short(low) < 0 and low > start - _REACH:
        low -= 2.0
    while short(high) > 0 and high < start + 2 * _REACH:
        high += 2.0
    if short(low) < 0 or short(high) > 0:
        raise UserError(f"a target of {target:g} is not between what a run can reach")
    return _point(fit, cost, float(np.exp(brentq(short, low, high, xtol=1e-8))))
