"""IsoFLOP profiles: the best model size of each budget by a parabola, and its power law (Hoffmann et al. 2022, approach 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.table import require_columns, source_of
from analysis.uncertainty import Interval
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["IsoFlop", "PowerLaw", "Profile", "isoflop", "slopes", "with_flops"]


# A parabola has three coefficients; the fourth size judges it.
_FEWEST_SIZES = 4
_FEWEST_BUDGETS = 3
# Below this p-value the budgets' minima scatter more than the runs within them explain.
_SCATTER_P = 0.05


@dataclass(frozen=True)
class Profile:
    """The runs of one budget and the parabola of the metric in log size.

    Attributes:
        budget: geometric mean of the runs' FLOPs.
        sizes, samples, metric: (n,) of the runs, ordered by size.
        curve: (3,) coefficients of 1, u and u^2 with u = log size - `centre`; NaN with too few sizes.
        centre: mean of the log sizes.
        best_size, best_samples, best_metric: at the minimum (maximum if the metric rises); NaN if there is none.
        left_out: why this budget does not count; empty if it does.
    """

    budget: float
    sizes: FloatArray
    samples: FloatArray
    metric: FloatArray
    curve: FloatArray
    centre: float
    best_size: float
    best_samples: float
    best_metric: float
    left_out: str

    def value(self, sizes: FloatArray) -> FloatArray:
        """The parabola at model sizes."""
        u = np.log(sizes) - self.centre
        return np.asarray(self.curve[0] + self.curve[1] * u + self.curve[2] * u**2)


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
    """

    profiles: tuple[Profile, ...]
    size: PowerLaw
    samples: PowerLaw
    scatter_p: float
    skew: float
    skew_p: float

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
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> IsoFlop:
    """Group runs by budget, fit a parabola to each group, and fit power laws to the minima.

    Intervals are t intervals with the bootstrap's standard error: residuals of the parabolas are drawn within each
    budget. If the minima scatter more than these residuals explain (F test at 5 %), whole budgets are drawn instead.

    Args:
        table: one row per run.
        metric: its column.
        x: column of the model's size.
        data: column of the data size.
        flops: column of the runs' training FLOPs; without a column `flops`, they are 6 N D.
        rising: whether larger is better.
        tolerance: runs of one budget differ by at most this share of their FLOPs.
        n_draws: of the bootstrap.
        seed: of the bootstrap.
        level: of the intervals.

    Raises:
        UserError: a column is missing, or fewer than three budgets have a minimum among their runs.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"the tolerance is {tolerance:g}, expected a number from 0 to below 1")
    table = with_flops(table, x, data, flops)
    require_columns(table, [x, data, flops, metric])
    rows = table[[flops, x, data, metric]].to_numpy(dtype=float)
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, :3] > 0).all(axis=1)]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    sign = -1.0 if rising else 1.0
    profiles = tuple(_profile(part, sign) for part in _budgets(rows, 1 + tolerance))
    used = [profile for profile in profiles if not profile.left_out]
    if len(used) < _FEWEST_BUDGETS:
        reasons = "; ".join(f"{p.budget:.3g}: {p.left_out}" for p in profiles if p.left_out)
        raise UserError(
            f"{source_of(table)}: {len(used)} of {len(profiles)} budgets of {flops} have a minimum among their runs, expected at "
            f"least {_FEWEST_BUDGETS}; train {_FEWEST_SIZES} or more sizes on both sides of it at equal {flops}"
            + (f" ({reasons})" if 0 < len(reasons) < 200 else "")
        )
    size, samples, p = _laws(used, n_draws, seed, level)
    return IsoFlop(profiles, size, samples, p, *_skew(used))


def with_flops(table: pd.DataFrame, x: str, data: str, flops: str) -> pd.DataFrame:
    """The table, with 6 N D as `flops` if it has no such column."""
    if flops != "flops" or flops in table.columns:
        return table
    require_columns(table, [x, data])
    return table.assign(flops=6.0 * table[x] * table[data])


def _budgets(rows: FloatArray, ratio: float) -> list[FloatArray]:
    """Split rows (n, 4), ordered by FLOPs, into budgets: from the smallest FLOPs on, up to `ratio` times as many."""
    parts, start = [], 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i, 0] > rows[start, 0] * ratio:
            parts.append(rows[start:i])
            start = i
    return parts


def _profile(rows: FloatArray, sign: float) -> Profile:
    """The profile of one budget's rows (n, 4): FLOPs, size, samples, metric."""
    rows = rows[np.argsort(rows[:, 1], kind="stable")]
    budget = float(np.exp(np.log(rows[:, 0]).mean()))
    logs = np.log(rows[:, 1])
    centre, u, nan = float(logs.mean()), logs - logs.mean(), float("nan")
    curve, best, left_out = np.full(3, nan), nan, ""
    n_sizes = len(np.unique(rows[:, 1]))
    if n_sizes < _FEWEST_SIZES:
        left_out = f"{n_sizes} size{'s' * (n_sizes > 1)}, expected {_FEWEST_SIZES} or more"
    else:
        curve = np.linalg.lstsq(_powers(u, 2), rows[:, 3], rcond=None)[0]
        if not sign * curve[2] > 0:
            left_out = "no minimum: the parabola opens to the other side"
        else:
            best = float(-curve[1] / (2 * curve[2]))
            if not u[0] < best < u[-1]:
                side = "below" if best <= u[0] else "above"
                left_out = (
                    f"the minimum lies {side} the sizes {rows[0, 1]:.3g} to {rows[-1, 1]:.3g}"
                )
    if left_out:
        sizes = (nan, nan, nan)
    else:
        # at one budget, log samples are a straight line in log size
        slope, level = np.polyfit(u, np.log(rows[:, 2]), 1)
        value = float(curve @ [1.0, best, best**2])
        sizes = (float(np.exp(centre + best)), float(np.exp(level + slope * best)), value)
    return Profile(budget, rows[:, 1], rows[:, 2], rows[:, 3], curve, centre, *sizes, left_out)


def _powers(u: FloatArray, degree: int) -> FloatArray:
    return np.vander(u, degree + 1, increasing=True)


def _laws(
    used: Sequence[Profile], n_draws: int, seed: int, level: float
) -> tuple[PowerLaw, PowerLaw, float]:
    """N*(C), D*(C), and the p-value of the scatter of the minima."""
    random = np.random.default_rng(seed)
    logs = np.log([profile.budget for profile in used])
    drawn = [_drawn_minima(profile, n_draws, random) for profile in used]
    best_sizes = np.log([profile.best_size for profile in used])
    best_samples = np.log([profile.best_samples for profile in used])
    shifts = np.array([size - best for (size, _), best in zip(drawn, best_sizes, strict=True)])
    dof = sum(len(profile.sizes) - 3 for profile in used)
    n = len(used)
    p = _scatter_p(logs, best_sizes, shifts, dof)
    laws = []
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
            quantile = stats.t.ppf(0.5 + level / 2, dof)
        half = float(quantile * np.std(resampled, ddof=1))
        slope = float(slopes(logs, values[None], np.ones((1, n)))[0])
        interval = Interval(slope - half, slope + half)
        middle = float(np.exp(logs.mean())), float(np.exp(values.mean()))
        laws.append(PowerLaw(slope, interval, *middle))
    return laws[0], laws[1], p


def _drawn_minima(
    profile: Profile, n_draws: int, random: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Logs of the best size and the best samples (n_draws,), with resampled residuals of the parabola."""
    u = np.log(profile.sizes) - profile.centre
    powers = _powers(u, 2)
    residual = profile.metric - powers @ profile.curve
    # residuals of a fit are smaller than the errors
    residual = (residual - residual.mean()) * np.sqrt(len(u) / (len(u) - 3))
    drawn = residual[random.integers(len(u), size=(n_draws, len(u)))]
    curves = profile.curve + drawn @ np.linalg.pinv(powers).T
    with np.errstate(divide="ignore", invalid="ignore"):
        best = -curves[:, 1] / (2 * curves[:, 2])
    # a drawn parabola without a minimum among the runs says no more than that it lies at their ends
    best = np.where(np.isfinite(best), np.clip(best, u.min(), u.max()), 0.0)
    slope, level = np.polyfit(u, np.log(profile.samples), 1)
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
    if free < 1 or not expected > 0:
        return float("nan")
    ratio = float(((values - fitted) ** 2).sum() / free / expected)
    return float(stats.f.sf(ratio, free, dof))


def _skew(used: Sequence[Profile]) -> tuple[float, float]:
    """The mean relative size of the cubic part, and the p-value of none (F test over all profiles)."""
    ratios, gained, left, n, dof = [], 0.0, 0.0, 0, 0
    for profile in used:
        u = np.log(profile.sizes) - profile.centre
        if len(np.unique(u)) < _FEWEST_SIZES + 1:
            continue
        cubic = np.linalg.lstsq(_powers(u, 3), profile.metric, rcond=None)[0]
        rest = float(((profile.metric - _powers(u, 3) @ cubic) ** 2).sum())
        gained += float(((profile.metric - profile.value(profile.sizes)) ** 2).sum()) - rest
        left, n, dof = left + rest, n + 1, dof + len(u) - 4
        ratios.append(cubic[3] / cubic[2] * float(np.ptp(u)) / 2)
    if not n or not left > 0:
        return float("nan"), float("nan")
    return float(np.mean(ratios)), float(stats.f.sf(gained / n / (left / dof), n, dof))
