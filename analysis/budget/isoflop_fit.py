"""IsoFLOP profiles: the best model size of each budget by a parabola, and its power law (Hoffmann et al. 2022, approach 2)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from analysis.budget.budget_profile import (
    FEWEST_SIZES,
    WITHIN,
    Profile,
    at_budgets,
    check_apart,
    extreme,
    powers,
    profile_of,
    split_budgets,
)
from analysis.budget.profile_shape import minima_by_sides
from analysis.table import place_of, require_columns, source_of
from analysis.uncertainty import Interval
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["IsoFlop", "PowerLaw", "isoflop", "slopes", "with_flops"]


_FEWEST_BUDGETS = 3
# Below this p-value the budgets' minima scatter more than the runs within them explain.
_SCATTER_P = 0.05


@dataclass(frozen=True)
class PowerLaw:
    """value = level x (C / budget)^exponent.

    Attributes:
        exponent, interval: the slope in logs; None if there is no measure of its error.
        budget: geometric mean of the budgets.
        level: at that budget.
    """

    exponent: float
    interval: Interval | None
    budget: float
    level: float

    def __call__(self, budget: float) -> float:
        """The value at a budget."""
        return float(self.level * (budget / self.budget) ** self.exponent)


@dataclass(frozen=True)
class IsoFlop:
    """The profiles of a table, and the power laws of their minima.

    Attributes:
        profiles: by budget, smallest first, those that do not count included.
        size, samples: the laws N*(C) and D*(C).
        scatter_p: p-value of minima that scatter around N*(C) no more than the runs within a budget explain; NaN
            if it cannot be tested.
        skew: mean over the budgets of the cubic's part at the ends of a profile, relative to the parabola's; NaN if
            no budget has five sizes.
        skew_p: p-value of no cubic part in any profile.
        by_sides: exponent of N* by profiles whose sides rise as powers of the size, as those of an additive law do;
            the intervals hold it. NaN if there are too few runs for it.
        n_runs: that gave several rows; such rows share an error, so the laws have no intervals.
        n_without: runs without a value of one of the columns, which are skipped.
    """

    profiles: tuple[Profile, ...]
    size: PowerLaw
    samples: PowerLaw
    scatter_p: float
    skew: float
    skew_p: float
    by_sides: float
    n_runs: int = 0
    n_without: int = 0

    @property
    def used(self) -> tuple[Profile, ...]:
        """The profiles that count."""
        return tuple(profile for profile in self.profiles if not profile.left_out)


def isoflop(
    table: pd.DataFrame,
    metric: str,
    *,
    x: str = "n_params",
    data: str = "n_samples",
    flops: str = "flops",
    rising: bool = False,
    tolerance: float = 0.1,
    within: float = WITHIN,
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> IsoFlop:
    """Group runs by budget, fit a parabola to each group, and fit power laws to the minima.

    A profile is a parabola only near its minimum, so runs whose sizes lie further away are not fitted, but at least
    five sizes are. Runs of a group whose FLOPs differ are first brought to the budget: their samples in proportion, their
    metric along the curve of the best metric against FLOPs, whose slope is that of any run's metric at the best size.

    Intervals are t intervals with the bootstrap's standard error: residuals of the parabolas are drawn within each
    budget. If the minima scatter more than these residuals explain (F test at 5 %), whole budgets are drawn instead.
    A profile of fitted laws is no parabola, so the minimum depends on where the sizes lie around it: each interval is
    extended by the difference to profiles with sides that rise as powers (`analysis.budget.profile_shape`).

    Args:
        table: one row per run. If a run has several (column `trajectory`), there are no intervals.
        metric: its column.
        x: column of the model's size.
        data: column of the data size.
        flops: column of the runs' training FLOPs; without a column `flops`, they are 6 N D.
        rising: whether larger is better.
        tolerance: runs of one budget differ by at most this share of their FLOPs.
        within: the parabola is fitted to sizes within this factor of its minimum.
        n_draws: of the bootstrap.
        seed: of the bootstrap.
        level: of the intervals.

    Raises:
        UserError: a column is missing, FLOPs are not positive, they form no budgets (checkpoints), or fewer than three
            budgets have a minimum among their runs.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"the tolerance is {tolerance:g}, expected a number from 0 to below 1")
    if not within > 1:
        raise UserError(
            f"sizes within a factor of {within:g} of the best, expected a number above 1"
        )
    table = with_flops(table, x, data, flops)
    require_columns(table, [x, data, flops, metric])
    values = table[[flops, x, data, metric]].to_numpy(dtype=float)
    complete = np.isfinite(values).all(axis=1)
    rows = values[complete]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    sign = -1.0 if rising else 1.0
    groups = split_budgets(rows, 1 + tolerance)
    check_apart(groups, 1 + tolerance, f"{source_of(table)}: the {flops}")
    profiles = tuple(profile_of(group, sign, within) for group in groups)
    groups = at_budgets(groups, [profile for profile in profiles if not profile.left_out])
    profiles = tuple(profile_of(group, sign, within) for group in groups)
    used = [profile for profile in profiles if not profile.left_out]
    if len(used) < _FEWEST_BUDGETS:
        raise UserError(
            f"{source_of(table)}: {len(used)} of {len(profiles)} budgets have a {extreme(sign)} among their runs, expected at least "
            f"{_FEWEST_BUDGETS}{_reasons(profiles)}: train {FEWEST_SIZES} or more sizes on both sides of it at equal {flops}, or "
            f"raise the tolerance of {tolerance:g} if the {flops} of a budget differ by more"
        )
    size, samples, p, by_sides = _laws(used, n_draws, seed, level)
    names = table["trajectory"][complete].dropna() if "trajectory" in table.columns else []
    n_runs = len({name for name, count in Counter(names).items() if count > 1})
    if n_runs:
        size, samples = replace(size, interval=None), replace(samples, interval=None)
    left_out = len(values) - len(rows)
    return IsoFlop(profiles, size, samples, p, *_skew(used), by_sides, n_runs, left_out)


def _reasons(profiles: Sequence[Profile]) -> str:
    """How many budgets are left out for each kind of reason, the text before its bracket."""
    kinds = Counter(profile.left_out.partition(" (")[0] for profile in profiles if profile.left_out)
    return f" ({', '.join(f'{n}: {kind}' for kind, n in kinds.items())})" if kinds else ""


def with_flops(table: pd.DataFrame, x: str, data: str, flops: str) -> pd.DataFrame:
    """The table, with 6 N D as `flops` if it has no such column.

    Raises:
        UserError: a column is missing, or FLOPs are not positive or above the largest number.
    """
    if flops != "flops" or flops in table.columns:
        require_columns(table, [flops])
        bad = table.index[table[flops] <= 0]
        if len(bad):
            raise UserError(
                f"{source_of(table)}: {flops} is {table[flops][bad[0]]:g} in {place_of(table, bad[0])}, expected a positive number"
            )
        return table
    require_columns(table, [x, data])
    computed = table.assign(flops=6.0 * table[x] * table[data])
    bad = table.index[np.isinf(computed["flops"])]
    if len(bad):
        raise UserError(
            f"{source_of(table)}: 6 x {x} x {data} in {place_of(table, bad[0])} is above the largest number, expected smaller sizes"
        )
    return computed


def _laws(
    used: Sequence[Profile], n_draws: int, seed: int, level: float
) -> tuple[PowerLaw, PowerLaw, float, float]:
    """N*(C), D*(C), the p-value of the scatter of the minima, and the exponent of N* by power-law sides."""
    random = np.random.default_rng(seed)
    logs = np.log([profile.budget for profile in used])
    drawn = [_drawn_minima(profile, n_draws, random) for profile in used]
    best_sizes = np.log([profile.best_size for profile in used])
    best_samples = np.log([profile.best_samples for profile in used])
    shifts = np.array([size - best for (size, _), best in zip(drawn, best_sizes, strict=True)])
    dof = sum(int(profile.near.sum()) - 3 for profile in used)
    n = len(used)
    p = _scatter_p(logs, best_sizes, shifts, dof)
    moves = minima_by_sides(used) - best_sizes
    laws, shape = [], float("nan")
    for i, values in enumerate((best_sizes, best_samples)):
        if p < _SCATTER_P:
            weights = random.multinomial(n, np.full(n, 1 / n), size=n_draws).astype(float)
            # two budgets or fewer have no scatter around a line
            weights = weights[(weights > 0).sum(axis=1) >= _FEWEST_BUDGETS]
            resampled = slopes(logs, values[None], weights)
            # the residuals of a line through n budgets have n - 2 of n parts of the variance
            quantile = stats.t.ppf(0.5 + level / 2, n - 2) * np.sqrt(n / (n - 2))
        else:
            resampled = slopes(logs, np.array([pair[i] for pair in drawn]).T, np.ones((1, n)))
            quantile = stats.t.ppf(0.5 + level / 2, _dof_of_slope(logs, shifts, used))
        half = float(quantile * np.std(resampled, ddof=1))
        slope = float(slopes(logs, values[None], np.ones((1, n)))[0])
        moved = moves * (1.0 if i == 0 else _along_budget(used))
        change = _change(logs, moved)
        interval = Interval(slope - half + min(change, 0.0), slope + half + max(change, 0.0))
        if i == 0 and np.isfinite(moves).sum() >= _FEWEST_BUDGETS:
            shape = slope + change
        middle = float(np.exp(logs.mean())), float(np.exp(values.mean()))
        laws.append(PowerLaw(slope, interval, *middle))
    return laws[0], laws[1], p, shape


def _along_budget(used: Sequence[Profile]) -> FloatArray:
    """The slope (n,) of log samples by log size within each budget."""
    logs = [np.log([p.sizes[p.near], p.samples[p.near]]) for p in used]
    return np.array([np.polyfit(size, samples, 1)[0] for size, samples in logs])


def _change(logs: FloatArray, moves: FloatArray) -> float:
    """What moves (n,) of the minima do to the slope; none if fewer than three are known."""
    known = np.isfinite(moves)
    if known.sum() < _FEWEST_BUDGETS:
        return 0.0
    return float(slopes(logs[known], moves[None, known], np.ones((1, int(known.sum()))))[0])


def _dof_of_slope(logs: FloatArray, shifts: FloatArray, used: Sequence[Profile]) -> float:
    """Degrees of freedom of a slope's variance, whose budgets have few each (Welch 1947); shifts (n, m)."""
    u = logs - logs.mean()
    parts = u**2 * shifts.var(axis=1, ddof=1)
    own = np.array([profile.near.sum() - 3 for profile in used])
    if not parts.sum() > 0:
        return float(own.sum())
    return float(parts.sum() ** 2 / (parts**2 / (own + 2)).sum() - 2)


def _drawn_minima(
    profile: Profile, n_draws: int, random: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Logs of the best size and the best samples (n_draws,), with resampled residuals of the parabola."""
    u = np.log(profile.sizes[profile.near]) - profile.centre
    columns = powers(u, 2)
    residual = profile.metric[profile.near] - columns @ profile.curve
    # residuals of a fit are smaller than the errors
    residual = (residual - residual.mean()) * np.sqrt(len(u) / (len(u) - 3))
    drawn = residual[random.integers(len(u), size=(n_draws, len(u)))]
    curves = profile.curve + drawn @ np.linalg.pinv(columns).T
    with np.errstate(divide="ignore", invalid="ignore"):
        best = -curves[:, 1] / (2 * curves[:, 2])
    # a drawn parabola without a minimum among the runs says no more than that it lies at their ends
    best = np.where(np.isfinite(best), np.clip(best, u.min(), u.max()), 0.0)
    slope, level = np.polyfit(u, np.log(profile.samples[profile.near]), 1)
    return profile.centre + best, level + slope * best


def slopes(logs: FloatArray, values: FloatArray, weights: FloatArray) -> FloatArray:
    """Slopes (m,) of weighted regressions of values (m, n) on logs (n,)."""
    total = weights.sum(axis=1, keepdims=True)
    u = logs - weights @ logs[:, None] / total
    return np.asarray((weights * u * values).sum(axis=1) / (weights * u**2).sum(axis=1))


def _scatter_p(logs: FloatArray, values: FloatArray, shifts: FloatArray, dof: int) -> float:
    """The F test of the minima's scatter around a line against what the draws (n, m) show."""
    free = len(logs) - 2
    fitted = np.polyval(np.polyfit(logs, values, 1), logs)
    expected = float(shifts.var(axis=1, ddof=1).mean())
    scatter = float(((values - fitted) ** 2).sum())
    # minima that differ from a line by rounding only show no scatter
    if free < 1 or not expected > 0 or scatter < 1e-18:
        return float("nan")
    ratio = scatter / free / expected
    return float(stats.f.sf(ratio, free, dof))


def _skew(used: Sequence[Profile]) -> tuple[float, float]:
    """The mean relative size of the cubic part, and the p-value of none (F test over all profiles)."""
    ratios, gained, left, n, dof = [], 0.0, 0.0, 0, 0
    for profile in used:
        sizes, metric = profile.sizes[profile.near], profile.metric[profile.near]
        u = np.log(sizes) - np.log(sizes).mean()
        if len(np.unique(u)) < FEWEST_SIZES + 1:
            continue
        cubic = np.linalg.lstsq(powers(u, 3), metric, rcond=None)[0]
        rest = float(((metric - powers(u, 3) @ cubic) ** 2).sum())
        gained += float(((metric - profile.value(sizes)) ** 2).sum()) - rest
        left, n, dof = left + rest, n + 1, dof + len(u) - 4
        ratios.append(cubic[3] / cubic[2] * float(np.ptp(u)) / 2)
    if not n or not left > 0:
        return float("nan"), float("nan")
    return float(np.mean(ratios)), float(stats.f.sf(gained / n / (left / dof), n, dof))
