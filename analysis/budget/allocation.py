"""Allocation of a budget: the best split, the gains from more, the best of known sizes, curves of equal loss and equal cost."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from analysis.budget.best_split import Point, frontier
from analysis.budget.cost import Cost
from analysis.fit import LawFit
from analysis.table import size_of
from scaling.errors import UserError

__all__ = ["Allocation", "Gain", "allocate", "gain_of", "iso_cost", "iso_loss"]


_CURVE = 25


@dataclass(frozen=True)
class Gain:
    """What more of something buys.

    Attributes:
        what: there is more of.
        before, after: sizes, in the order of the law's variables.
        improvement: of the metric, positive if it gets better, with the ends of its interval.
    """

    what: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    improvement: tuple[float, float, float]


@dataclass(frozen=True)
class Allocation:
    """The best use of a budget.

    Attributes:
        best: at the budget.
        frontier: from a hundredth to ten times the budget.
        gains: from ten times the parameters, the samples, or the budget.
        grades: the metric of each known model size within the budget, best first.
        cost: the formula.
    """

    best: Point
    frontier: tuple[Point, ...]
    gains: tuple[Gain, ...]
    grades: pd.DataFrame
    cost: Cost

    def to_document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "cost": asdict(self.cost),
            "best": asdict(self.best),
            "frontier": [asdict(point) for point in self.frontier],
            "gains": [asdict(gain) for gain in self.gains],
            "grades": self.grades.to_dict("records"),
        }


def allocate(
    fit: LawFit,
    cost: Cost,
    budget: float,
    *,
    grades: "pd.Series[float] | None" = None,
) -> Allocation:
    """Find the best model size and data size under a budget.

    Args:
        fit: of a joint law of N and D.
        cost: of a run.
        budget: in the cost's unit.
        grades: model sizes to choose from, by name.

    Raises:
        UserError: the law is not joint, has no curve, or has no best split (a term vanished, or the law is
            monotone along the budget, as the multiplicative law is).
    """
    if fit.law.variables != ("N", "D"):
        raise UserError(f"law {fit.law.name}: a budget needs a law of model size and data size")
    if not fit.has_curve:
        raise UserError(f"no law to spend a budget by: {fit.message}")
    if not 0 < budget < np.inf:
        raise UserError(f"the budget is {budget:g}, expected a finite positive number")
    points = frontier(fit, cost, [budget * 10.0**k for k in (-2.0, -1.0, 0.0, 1.0)])
    best = points[2]
    n, d = best.n_params[0], best.n_samples[0]
    then = points[-1]
    gains = [
        gain_of(fit, f"10 x {size_of(fit.columns['N']).name}", (n, d), (10 * n, d)),
        gain_of(fit, f"10 x {size_of(fit.columns['D']).name}", (n, d), (n, 10 * d)),
        gain_of(fit, "10 x budget", (n, d), (then.n_params[0], then.n_samples[0])),
    ]
    return Allocation(best, tuple(points), tuple(gains), _by_grade(fit, cost, budget, grades), cost)


def gain_of(fit: LawFit, what: str, before: tuple[float, ...], after: tuple[float, ...]) -> Gain:
    """The improvement from one size to another; the ends are NaN if the fit has no measure of noise."""
    change, interval = fit.gain(before, after)
    ends = (interval.lower, interval.upper) if interval else (float("nan"), float("nan"))
    low, high = sorted(-fit.law.sign * end for end in ends)
    return Gain(what, before, after, (-fit.law.sign * change, low, high))


def _by_grade(
    fit: LawFit, cost: Cost, budget: float, grades: "pd.Series[float] | None"
) -> pd.DataFrame:
    if grades is None or not len(grades):
        return pd.DataFrame(columns=["grade", "n_params", "n_samples", "metric", "lower", "upper"])
    size = grades.to_numpy(dtype=float)
    samples = cost.samples(budget, size)
    band = fit.band(size, samples)
    table = pd.DataFrame(
        {
            "grade": [str(name) for name in grades.index],
            "n_params": size,
            "n_samples": samples,
            "metric": band.mean,
            "lower": band.lower,
            "upper": band.upper,
        }
    )
    return table.sort_values("metric", ascending=not fit.law.rising, ignore_index=True)


def iso_cost(fit: LawFit, cost: Cost, budget: float) -> pd.DataFrame:
    """The metric along one budget, over the fitted sizes and a decade around them."""
    low, high = fit.spans["N"]
    size = np.geomspace(low / 10, high * 10, _CURVE)
    samples = cost.samples(budget, size)
    band = fit.band(size, samples)
    return pd.DataFrame(
        {
            "n_params": size,
            "n_samples": samples,
            "metric": band.mean,
            "lower": band.lower,
            "upper": band.upper,
        }
    )


def iso_loss(fit: LawFit, cost: Cost, target: float) -> pd.DataFrame:
    """Data and cost for each model size to reach a metric; sizes that never reach it are left out."""
    low, high = fit.spans["N"]
    sign, rows = fit.law.sign, []
    ends = np.log(fit.spans["D"][0]) - 10, np.log(fit.spans["D"][1]) + 25
    for size in np.geomspace(low / 10, high * 10, _CURVE):

        def short(log_samples: float, size: float = size) -> float:
            return sign * (float(fit.predict(size, np.exp(log_samples))) - target)

        if short(ends[0]) > 0 > short(ends[1]):
            samples = float(np.exp(brentq(short, *ends)))
            rows.append((size, samples, float(cost(size, samples))))
    return pd.DataFrame(rows, columns=["n_params", "n_samples", "cost"])
