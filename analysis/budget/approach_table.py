"""The exponents of N*(C) and D*(C) by the three approaches of Hoffmann et al. 2022, side by side.

1: the envelope of curves of the metric against FLOPs, one for each model size. 2: IsoFLOP profiles
(`analysis.budget.isoflop_fit`). 3: the best splits by a joint law (`analysis.budget.best_split`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.budget.best_split import best_log_size, check_terms, half_width
from analysis.budget.budget_profile import WITHIN
from analysis.budget.cost import Cost
from analysis.budget.isoflop_fit import IsoFlop, PowerLaw, isoflop, slopes, with_flops
from analysis.fit import LawFit
from analysis.table import require_columns
from analysis.uncertainty import Interval
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["Approach", "envelope", "exponents_of_law", "three_approaches"]


IntArray = npt.NDArray[np.int_]

_FEWEST_POINTS = 5  # of a curve
_FEWEST_CURVES = 4
_FEWEST_WINNERS = 3
_BUDGETS = 400
_STEP = 1e-4
# Below this p-value the profiles are no parabolas.
_SKEW_P = 0.01
# A difference between the shapes of profiles is told if it is more than this share of the interval.
_TOLD = 0.1


@dataclass(frozen=True)
class Approach:
    """What one approach says.

    Attributes:
        name: e.g. "1 envelope".
        size, samples: N*(C) and D*(C); None if the table does not allow this approach.
        remark: why it is not possible, or what its result rests on.
    """

    name: str
    size: PowerLaw | None
    samples: PowerLaw | None
    remark: str


def three_approaches(
    table: pd.DataFrame,
    fit: LawFit,
    cost: Cost,
    *,
    flops: str = "flops",
    tolerance: float = 0.1,
    within: float = WITHIN,
    seed: int = 0,
) -> tuple[tuple[Approach, ...], IsoFlop | None]:
    """Apply every approach that the table allows.

    Args:
        table: one row per run (or per run and time, for curves).
        fit: of a joint law of N and D.
        cost: of a run, for approach 3.
        flops: column of the training FLOPs.
        tolerance: as in `isoflop`.
        within: as in `isoflop`.
        seed: of the bootstrap.

    Returns:
        The approaches in order, and the profiles of the second; None if there are none.
    """
    x, data, rising = fit.columns["N"], fit.columns["D"], fit.law.rising
    # one error for all approaches, as none can do without
    table = with_flops(table, x, data, flops)
    options: dict[str, Any] = {"x": x, "data": data, "flops": flops, "rising": rising, "seed": seed}
    level = fit.options.level
    found: list[Approach] = []
    profiles = None
    try:
        laws = envelope(table, fit.y, level=level, **options)
        remark = _STEPS if laws[0].interval else f"{_STEPS}; too few sizes win for an interval"
        found.append(Approach("1 envelope", *laws, remark))
    except UserError as error:
        found.append(Approach("1 envelope", None, None, str(error)))
    try:
        profiles = isoflop(table, fit.y, tolerance=tolerance, within=within, level=level, **options)
        remark = _profile_remark(profiles, tolerance)
        found.append(Approach("2 profiles", profiles.size, profiles.samples, remark))
    except UserError as error:
        found.append(Approach("2 profiles", None, None, str(error)))
    budgets = [p.budget for p in profiles.used] if profiles else list(table[flops].dropna())
    try:
        laws = exponents_of_law(fit, cost, min(budgets), max(budgets))
        remark = "; ".join([f"{fit.law.name} law, {fit.status}", *fit.notes])
        found.append(Approach("3 joint law", *laws, remark))
    except UserError as error:
        found.append(Approach("3 joint law", None, None, str(error)))
    return tuple(found), profiles


_STEPS = "N* moves in the steps of the trained sizes"


def _profile_remark(found: IsoFlop, tolerance: float) -> str:
    text = f"{len(found.used)} of {len(found.profiles)} budgets"
    near, total = (
        sum(counts)
        for counts in zip(*((p.near.sum(), len(p.near)) for p in found.used), strict=True)
    )
    if near < total:
        text += f", {near} of their {total} runs near the minima"
    if found.scatter_p < 0.05:
        text += ", whose minima scatter more than their runs explain"
    if found.skew_p < _SKEW_P:
        text += (
            f"; profiles are no parabolas (cubic part {found.skew:+.2f} of the square one at their ends, p = {found.skew_p:.1g}): "
            "the minimum depends on which sizes were trained"
        )
    steps = np.diff(np.log([profile.budget for profile in found.profiles]))
    if (close := int((steps < np.log1p(2 * tolerance)).sum())) and len(found.used) < len(steps) + 1:
        text += f"; {close} budgets are close to the next: raise the tolerance of {tolerance:g} if their runs belong together"
    interval = found.size.interval
    if interval and abs(found.by_sides - found.size.exponent) > _TOLD * (
        interval.upper - interval.lower
    ):
        text += (
            f"; with sides that rise as powers, as those of the additive law, a is {found.by_sides:.3g}: the sizes lie far apart or "
            "not around the minima, and the intervals hold both"
        )
    if found.n_runs:
        text += (
            f"; no interval, as {found.n_runs} runs (column trajectory) have several rows, whose errors are not independent: "
            "approach 3 has one"
        )
    if found.n_without:
        text += f"; {found.n_without} rows without a value are skipped"
    return text


def exponents_of_law(fit: LawFit, cost: Cost, low: float, high: float) -> tuple[PowerLaw, PowerLaw]:
    """N*(C) and D*(C) of a joint law between two budgets: a power law through its best splits of both.

    Args:
        fit: of a joint law of N and D.
        cost: of a run.
        low: the smaller budget, in the cost's unit.
        high: the larger one.

    Raises:
        UserError: there is no curve, or the law has no best split.
    """
    if not fit.has_curve:
        raise UserError(f"no law to spend a budget by: {fit.message}")
    if not 0 < low < high:
        raise UserError("all runs have one budget; a power law of budgets needs several")
    check_terms(fit, "best split of a budget")

    def slope(theta: FloatArray) -> float:
        ends = [best_log_size(fit, cost, budget, theta) for budget in (low, high)]
        return (ends[1] - ends[0]) / float(np.log(high / low))

    change = np.zeros(len(fit.theta))
    for i, name in enumerate(fit.law.names):
        if name not in fit.fixed:
            step = np.zeros(len(fit.theta))
            step[i] = _STEP
            change[i] = (slope(fit.theta + step) - slope(fit.theta - step)) / (2 * _STEP)
    exponent, half = slope(fit.theta), half_width(fit, change)
    middle = float(np.sqrt(float(low) * float(high)))  # FLOPs of a CSV may be whole numbers
    size = float(np.exp(best_log_size(fit, cost, middle, fit.theta)))
    known = np.isfinite(half)
    own = Interval(exponent - half, exponent + half) if known else None
    # D = C / (factor N^power)
    other, half = 1 - cost.power * exponent, cost.power * half
    theirs = Interval(other - half, other + half) if known else None
    return (
        PowerLaw(exponent, own, middle, size),
        PowerLaw(other, theirs, middle, float(cost.samples(middle, size))),
    )


def envelope(
    table: pd.DataFrame,
    metric: str,
    *,
    x: str = "n_params",
    data: str = "n_samples",
    flops: str = "flops",
    rising: bool = False,
    n_draws: int = 400,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[PowerLaw, PowerLaw]:
    """Approach 1: at each budget the size whose curve is lowest; power laws through these.

    A curve is the metric of one size against FLOPs, along training or of several runs, linear in logs between its
    points. Budgets at which the smallest or the largest of the curves is the lowest do not count. The interval is
    the central part of the slopes with curves resampled.

    Args:
        table: one row per run, or per run and time; rows of equal size and FLOPs count by their mean.
        metric: its column.
        x: column of the model's size.
        data: column of the data size.
        flops: column of the training FLOPs; without a column `flops`, they are 6 N D.
        rising: whether larger is better.
        n_draws: of the bootstrap.
        seed: of the bootstrap.
        level: of the intervals.

    Raises:
        UserError: a column is missing, or there are too few curves that cross.
    """
    table = with_flops(table, x, data, flops)
    require_columns(table, [x, data, flops, metric])
    means = table.groupby([x, flops], as_index=False)[[data, metric]].mean()
    curves = [c for _, c in means.groupby(x) if c[metric].notna().sum() >= _FEWEST_POINTS]
    if len(curves) < _FEWEST_CURVES:
        raise UserError(
            f"{len(curves)} sizes have {_FEWEST_POINTS} or more points along {flops}, expected {_FEWEST_CURVES} or more"
        )
    grid = np.log(np.geomspace(means[flops].min(), means[flops].max(), _BUDGETS))
    sign = -1.0 if rising else 1.0
    values, samples = np.empty((2, len(curves), _BUDGETS))
    for i, curve in enumerate(curves):
        logs = np.log(curve[flops].to_numpy(dtype=float))
        own = sign * curve[metric].to_numpy(dtype=float)
        values[i] = np.interp(grid, logs, own, left=np.nan, right=np.nan)
        samples[i] = np.interp(grid, logs, np.log(curve[data].to_numpy(dtype=float)))
    sizes = np.log([float(curve[x].iloc[0]) for curve in curves])
    best = _winners(values, sizes, samples, np.arange(len(curves)))
    if best is None:
        raise UserError(
            f"fewer than {_FEWEST_WINNERS} sizes are the best of a budget between others"
        )
    at, tops = best
    random = np.random.default_rng(seed)
    drawn: list[list[float]] = [[], []]
    for _ in range(n_draws):
        chosen = np.unique(random.integers(len(curves), size=len(curves)))
        # a slope needs two sizes; a draw has fewer curves than the table
        again = _winners(values, sizes, samples, chosen, 2)
        if again is not None:
            for own_slopes, top in zip(drawn, again[1], strict=True):
                own_slopes.append(_slope(grid[again[0]], top))
    laws = []
    for own_slopes, top in zip(drawn, tops, strict=True):
        enough = len(own_slopes) > n_draws / 2
        ends = np.quantile(own_slopes or [0.0], [0.5 - level / 2, 0.5 + level / 2])
        interval = Interval(float(ends[0]), float(ends[1])) if enough else None
        middle = float(np.exp(grid[at].mean())), float(np.exp(top.mean()))
        laws.append(PowerLaw(_slope(grid[at], top), interval, *middle))
    return laws[0], laws[1]


def _slope(logs: FloatArray, values: FloatArray) -> float:
    return float(slopes(logs, values[None], np.ones((1, len(logs))))[0])


def _winners(
    values: FloatArray,
    sizes: FloatArray,
    samples: FloatArray,
    chosen: IntArray,
    fewest: int = _FEWEST_WINNERS,
) -> tuple[IntArray, tuple[FloatArray, FloatArray]] | None:
    """Budgets at which a size between two others is best, and logs of its size and samples; None if too few win."""
    own = values[chosen]
    there = np.isfinite(own)
    at = np.flatnonzero(there.sum(axis=0) >= 3)
    if not len(at):
        return None
    order = np.where(there, own, np.inf)[:, at].argmin(axis=0)
    first = there[:, at].argmax(axis=0)
    last = len(own) - 1 - there[::-1, at].argmax(axis=0)
    inside = (order > first) & (order < last)
    winners = chosen[order[inside]]
    if len(np.unique(winners)) < fewest:
        return None
    at = at[inside]
    return at, (sizes[winners], samples[winners, at])
