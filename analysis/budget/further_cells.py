"""Which cells to run next: by how much each would narrow an interval, and at what cost.

Linearised at the fit (rank-one update of D-optimal designs, Fedorov 1972): a cell with S runs adds its squared
slope to the information. New cells cannot reduce the errors that all cells share (test part, subset).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.budget.cost import Cost, SizeCost
from analysis.fit import LawFit
from analysis.optimum import inverse_curvature
from analysis.uncertainty import combined
from scaling.arrays import FloatArray
from scaling.errors import UserError, nearest

__all__ = ["Precision", "linearise", "next_cells", "settling_note", "with_advice"]


# Names of the sizes of a candidate, by their number.
_NAMES = {1: ("size",), 2: ("n_params", "n_samples")}


def next_cells(
    fit: LawFit,
    cost: Cost | SizeCost,
    *,
    quantity: str = "alpha",
    at: Sequence[float] | None = None,
    seeds: int = 3,
) -> pd.DataFrame:
    """Rank the missing cells, those one step beyond the grid, and further seeds of the present cells.

    Args:
        fit: of a joint law of N and D, or of a law of one size, with least squares of raw residuals.
        cost: of a run with these sizes.
        quantity: a free parameter other than an amplitude, or "loss" for the law's value `at` sizes.
        at: the sizes of the target, for "loss".
        seeds: runs of a candidate.

    Returns:
        Columns n_params and n_samples (or size, of a law of one), n_runs (present there), cost (of `seeds` runs), width_now and
        width_then (of the 95 % interval, linearised), shrinks (share of the width), per_cost (shrinkage per
        unit of cost); most per cost first.

    Raises:
        UserError: the fit has no curve or no noise, or there is no such quantity.
    """
    now = linearise(fit, quantity, at)
    sizes, runs = _present(fit)
    candidates = _candidates(sizes)
    then = now.with_one_more(np.repeat(candidates[:, None], seeds, axis=1))
    known = {tuple(cell): int(r) for cell, r in zip(sizes.tolist(), runs, strict=True)}
    width = 2 * 1.959964 * np.sqrt(now.variance)
    price = cost(*candidates.T) * seeds
    shrinks = 1 - np.sqrt(then / now.variance)
    table = pd.DataFrame(
        {
            **dict(zip(_NAMES[len(candidates.T)], candidates.T, strict=True)),
            "n_runs": [known.get(tuple(cell), 0) for cell in candidates.tolist()],
            "cost": price,
            "width_now": width,
            "width_then": width * np.sqrt(then / now.variance),
            "shrinks": shrinks,
            "per_cost": shrinks / price,
        }
    )
    return table.sort_values("per_cost", ascending=False, ignore_index=True, kind="stable")


@dataclass(frozen=True)
class Precision:
    """How well a fit knows one quantity, linearised there; further runs update it.

    Attributes:
        fit: the fit.
        used: which inner parameters are free and seen by the data, (p,).
        own: covariance of these due to the runs' own noise, (q, q).
        target: derivatives of the quantity by these, (q,).
        run_variance: of one run's own noise.
        shared: variance of the quantity that no further run reduces.
        dof: degrees of freedom of the noise.
    """

    fit: LawFit
    used: npt.NDArray[np.bool_]
    own: FloatArray
    target: FloatArray
    run_variance: float
    shared: float
    dof: float

    @property
    def variance(self) -> float:
        """Variance of the quantity."""
        return float(self.target @ self.own @ self.target) + self.shared

    def with_one_more(self, units: FloatArray) -> FloatArray:
        """Variance of the quantity after one more unit of runs, (units,).

        Args:
            units: (units, runs, sizes) of the runs of each unit; a run at NaN adds nothing.
        """
        steps = self._steps(units)
        pull = steps @ self.own @ self.target
        inner = np.einsum("urp,pq,usq->urs", steps, self.own, steps)
        inner = inner + self.run_variance * np.eye(units.shape[1])
        solved = np.linalg.solve(inner, pull[..., None])[..., 0]
        return np.asarray(np.maximum(self.variance - np.einsum("ur,ur->u", pull, solved), 0.0))

    def after(self, runs: FloatArray) -> "Precision":
        """The precision after more runs, whose sizes are (runs, sizes)."""
        steps = self._steps(runs[None])[0]
        inner = self.run_variance * np.eye(len(runs)) + steps @ self.own @ steps.T
        pull = steps @ self.own
        own = self.own - pull.T @ np.linalg.solve(inner, pull)
        return replace(self, own=own, dof=self.dof + len(runs))

    def _steps(self, units: FloatArray) -> FloatArray:
        flat = units.reshape(-1, units.shape[-1])
        is_run = ~np.isnan(flat[:, 0])
        steps = np.zeros((len(flat), int(self.used.sum())))
        steps[is_run] = _slopes(self.fit, flat[is_run])[:, self.used]
        return np.asarray(steps.reshape(*units.shape[:2], -1))


def linearise(fit: LawFit, quantity: str, at: Sequence[float] | None = None) -> Precision:
    """How well a fit of a joint law, or of a law of one size, knows a quantity.

    Args:
        fit: with least squares of raw residuals.
        quantity: a free parameter other than an amplitude, or "loss" for the law's value `at` sizes.
        at: the sizes, for "loss".

    Raises:
        UserError: the fit has no curve or no noise, or there is no such quantity.
    """
    if fit.law.variables not in (("N", "D"), ("x",)) or not fit.has_curve or not fit.noise.dof:
        raise UserError(f"no interval to shrink: {fit.message}")
    free = [n for n in fit.law.names if n not in fit.fixed and n not in fit.law.amplitudes]
    sizes, runs = _present(fit)
    slopes = _slopes(fit, sizes)
    used = np.array([n not in fit.fixed for n in fit.law.names]) & (np.abs(slopes).max(axis=0) > 0)
    if quantity == "loss":
        if at is None or len(at) != len(fit.columns):
            wanted = ",".join(column.upper() for column in fit.columns.values())
            raise UserError(f"quantity loss needs a target: the sizes at = {wanted}")
        target = _slopes(fit, np.array([at], dtype=float))[0]
    elif quantity in free:
        target = np.eye(len(fit.law.names))[fit.law.names.index(quantity)]
    else:
        raise UserError(f"quantity {quantity}: not a quantity{nearest(quantity, [*free, 'loss'])}")
    if quantity != "loss" and np.isnan(fit.params[quantity]):
        raise UserError(f"quantity {quantity}: no interval to shrink: {fit.message}")
    # A run that serves several cells has an error of its own, which further runs average out, too.
    variance = fit.noise.sd**2 + fit.noise.run_sd**2
    information = (slopes * runs[:, None]).T @ slopes
    own = inverse_curvature(information[np.ix_(used, used)]) * variance
    shared = [part for part in fit.parts if part.source not in ("seeds", "residuals", "runs")]
    fixed = float(combined(shared, target[None])[0][0]) if shared else 0.0
    return Precision(fit, used, own, target[used], variance, fixed, float(fit.noise.dof))


def with_advice(fit: LawFit) -> LawFit:
    """The fit; if its profile intervals are open, with a note on the cell that would narrow them most."""
    if fit.interval_method != "profile" or fit.status != "not_identified":
        return fit
    note = settling_note(fit)
    return replace(fit, notes=(*fit.notes, note)) if note else fit


def settling_note(fit: LawFit) -> str | None:
    """The cell that would narrow the first undetermined parameter most, as text; None if there is none."""
    if fit.law.variables != ("N", "D") or not fit.unidentified or not fit.noise.dof:
        return None
    name = fit.unidentified[0]
    if name in fit.law.scales:
        return None
    table = next_cells(fit, Cost("flops", 6.0, 1.0), quantity=name)
    best = table.iloc[int(table["shrinks"].to_numpy().argmax())]
    n, d = (fit.columns[v] for v in fit.law.variables)
    return (
        f"3 runs at {n} {best['n_params']:.3g}, {d} {best['n_samples']:.3g} would narrow {name} by about "
        f"{best['shrinks']:.0%}, more than any other cell; `scaling next` weighs them by cost"
    )


def _present(fit: LawFit) -> tuple[FloatArray, FloatArray]:
    """Sizes (cells, sizes) and runs (cells,)."""
    sizes, cell = np.unique(fit.cell_sizes, axis=0, return_inverse=True)
    return sizes, np.bincount(cell.ravel(), fit.cells["n_rows"]).astype(float)


def _slopes(fit: LawFit, sizes: FloatArray) -> FloatArray:
    logs = [np.log(sizes[:, k]) - fit.origin[k] for k in range(len(fit.origin))]
    return fit.law.jacobian(logs, fit.theta)


def _candidates(sizes: FloatArray) -> FloatArray:
    """Every cell of the grid and of one step beyond it on each side that is larger."""
    axes = []
    for k in range(sizes.shape[1]):
        levels = np.unique(sizes[:, k])
        # One step of the grid, between 1.5 and 10, as the last step of an irregular grid may be tiny.
        step = (levels[-1] / levels[0]) ** (1 / (len(levels) - 1)) if len(levels) > 1 else 4.0
        axes.append(np.append(levels, levels[-1] * min(max(step, 1.5), 10.0)))
    if max(len(axis) for axis in axes) > 40:
        axes = [axis[:: len(axis) // 20] if len(axis) > 40 else axis for axis in axes]
    return np.array(list(product(*axes)))
