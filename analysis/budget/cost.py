"""The cost of a run: FLOPs or GPU-hours as a power of model size times data size, fitted to the table."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.table import require_columns, source_of
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["Cost", "SizeCost", "Unit", "read_cost", "read_size_cost"]


Unit = Literal["flops", "gpu-hours"]

_COLUMNS: dict[Unit, tuple[str, float]] = {"flops": ("flops", 1.0), "gpu-hours": ("train_seconds", 3600.0)}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """Cost of one run, factor x N^power x D.

    Attributes:
        unit: of the cost.
        factor, power: of the formula.
        spread: root mean square of the relative error at the runs.
    """

    unit: Unit
    factor: float
    power: float
    spread: float = 0.0

    def __call__(self, n_params: npt.ArrayLike, n_samples: npt.ArrayLike) -> FloatArray:
        """Cost of runs."""
        n, d = np.asarray(n_params, dtype=float), np.asarray(n_samples, dtype=float)
        return np.asarray(self.factor * n**self.power * d)

    def samples(self, budget: float, n_params: npt.ArrayLike) -> FloatArray:
        """Samples that a budget allows for each model size."""
        return np.asarray(budget / self.factor / np.asarray(n_params, dtype=float) ** self.power)


@dataclass(frozen=True)
class SizeCost:
    """Cost of one run of a law of one size, factor x size^power.

    Attributes:
        unit: of the cost: flops, gpu-hours, or "relative cost" if nothing is known but the size.
        factor, power: of the formula.
    """

    unit: str
    factor: float = 1.0
    power: float = 1.0

    def __call__(self, size: npt.ArrayLike) -> FloatArray:
        """Cost of runs."""
        return np.asarray(self.factor * np.asarray(size, dtype=float) ** self.power)


def read_size_cost(table: pd.DataFrame, unit: Unit, *, x: str) -> SizeCost:
    """Fit the cost of a run to the runs, in logs; without a column `flops`, it is taken as proportional to the size.

    Args:
        table: one row per run.
        unit: of the cost.
        x: column of the size.

    Raises:
        UserError: the column of the hours is missing, or no run has a positive cost.
    """
    column, scale = _COLUMNS[unit]
    if column == x:
        return SizeCost(unit, 1.0 / scale)
    if column not in table.columns:
        if unit == "flops":
            return SizeCost("relative cost")
        raise UserError(
            f"{source_of(table)}: no column {column}, which a cost in {unit} needs; leave it out"
        )
    require_columns(table, [x, column])
    rows = table[(table[column] > 0) & (table[x] > 0)]
    if rows.empty:
        raise UserError(f"{source_of(table)}: no run has a positive {column}")
    factor, power, _ = _power_law(rows[x], rows[column] / scale)
    return SizeCost(unit, factor, power)


def read_cost(table: pd.DataFrame, unit: Unit, *, x: str, data: str) -> Cost:
    """Fit the cost of a sample to the runs, in logs; without a column `flops`, a sample costs 6 N.

    Args:
        table: one row per run, with the column `flops` or `train_seconds`.
        unit: of the cost.
        x: column of the model's size.
        data: column of the data size.

    Raises:
        UserError: the column is missing, or no run has a positive cost.
    """
    column, scale = _COLUMNS[unit]
    if column in (x, data):
        raise UserError(
            f"{source_of(table)}: column {column} is the cost of a run and also one of its sizes; a budget is split "
            "between a model size and a data size"
        )
    if column not in table.columns:
        if unit == "flops":
            return Cost(unit, 6.0, 1.0)
        raise UserError(
            f"{source_of(table)}: no column {column}, which a budget in {unit} needs; give the budget in FLOPs"
        )
    require_columns(table, [x, data, column])
    rows = table[(table[column] > 0) & (table[x] > 0) & (table[data] > 0)]
    if rows.empty:
        raise UserError(f"{source_of(table)}: no run has a positive {column}")
    # Start-up time distorts small runs, so only the largest data size of each model is used.
    largest = rows[rows[data] == rows.groupby(x)[data].transform("max")]
    return Cost(unit, *_power_law(largest[x], largest[column] / scale / largest[data]))


def _power_law(sizes: "pd.Series[float]", costs: "pd.Series[float]") -> tuple[float, float, float]:
    """Factor, power and root mean square of the residuals of a line in logs; power 1 for a single size."""
    size, each = np.log(sizes.to_numpy(dtype=float)), np.log(costs.to_numpy(dtype=float))
    centre, level = size.mean(), float(each.mean())
    power = float(np.polyfit(size - centre, each, 1)[0]) if np.ptp(size) > 0 else 1.0
    error = each - level - power * (size - centre)
    return float(np.exp(level - power * centre)), power, float(np.sqrt((error**2).mean()))
