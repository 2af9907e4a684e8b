"""A variant's law of the budget: a fitted law of one size, or that of N and D at the best split of each budget."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.budget import Cost
from analysis.fit import LawFit
from scaling.arrays import FloatArray

__all__ = ["VariantLaw"]


# Range and steps of the best split's search, in logs of the model size beyond the fitted ones.
_REACH, _GRID, _ROUNDS = 25.0, 121, 5


@dataclass(frozen=True)
class VariantLaw:
    """A law of one variant.

    Attributes:
        name: of the variant.
        fit: of a law of N and D, or of one size, which then is the budget.
        table: the rows that were fitted.
        cost: of a run, for a law of N and D; else None.
    """

    name: str
    fit: LawFit
    table: pd.DataFrame
    cost: Cost | None = None

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest budget of its runs."""
        sizes = self.fit.cell_sizes
        budgets = self.cost(sizes[:, 0], sizes[:, 1]) if self.cost else sizes[:, 0]
        return float(budgets.min()), float(budgets.max())

    @property
    def unit(self) -> str:
        """Of the budget."""
        return self.cost.unit if self.cost else next(iter(self.fit.columns.values()))

    def at(self, log_budgets: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The law (m,) and its derivatives by theta (m, p) at logs of budgets (m,)."""
        fit, law = self.fit, self.fit.law
        logs = [log_budgets - fit.origin[0]]
        if self.cost:
            size, samples = self._split(log_budgets)
            logs = [size - fit.origin[0], samples - fit.origin[1]]
        # The split's own derivative does not matter: at the optimum, the law is flat along it (envelope theorem).
        with np.errstate(over="ignore", invalid="ignore"):
            return law.evaluate(logs, fit.theta[None])[0], law.jacobian(logs, fit.theta)

    def _split(self, log_budgets: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logs of the best model size and data size (m,); a grid that narrows around the minimum."""
        fit, cost = self.fit, self.cost
        assert cost is not None
        total = log_budgets - np.log(cost.factor)
        low, high = np.log(fit.spans["N"][0]) - _REACH, np.log(fit.spans["N"][1]) + _REACH
        offsets = np.linspace(-0.5, 0.5, _GRID) * (high - low)
        best = np.full(len(log_budgets), (low + high) / 2)
        for _ in range(_ROUNDS):
            size = best[:, None] + offsets
            logs = [size - fit.origin[0], total[:, None] - cost.power * size - fit.origin[1]]
            with np.errstate(over="ignore", invalid="ignore"):
                value = fit.law.evaluate([log.ravel() for log in logs], fit.theta[None])[0]
            # NaN where powers overflow, far from any best split
            worth = np.nan_to_num(fit.law.sign * value.reshape(size.shape), nan=np.inf)
            least = np.argmin(worth, axis=1)
            best = size[np.arange(len(best)), least]
            offsets = np.linspace(-1, 1, 17) * (offsets[1] - offsets[0])
        return best, total - cost.power * best
