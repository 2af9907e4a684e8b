"""The profile of one budget: its runs and the parabola of the metric in log size around the best size."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from scaling.arrays import BoolArray, FloatArray
from scaling.errors import UserError

__all__ = [
    "FEWEST_SIZES",
    "WITHIN",
    "Profile",
    "at_budgets",
    "check_apart",
    "extreme",
    "powers",
    "profile_of",
    "split_budgets",
]


# Further from the minimum than this factor, the profiles of fitted laws are no parabolas.
WITHIN = 5.0
# A parabola has three coefficients; the fourth size judges it.
FEWEST_SIZES = 4
_NEAREST = 5
_ROUNDS = 20


@dataclass(frozen=True)
class Profile:
    """The runs of one budget and the parabola of the metric in log size.

    Attributes:
        budget: geometric mean of the runs' FLOPs.
        sizes, samples, metric: (n,) of the runs, ordered by size; samples and metric as they would be at the budget.
        near: (n,) whether a run lies so near the minimum that the parabola is fitted to it.
        curve: (3,) coefficients of 1, u and u^2 with u = log size - `centre`; NaN with too few sizes.
        centre: mean of the log sizes.
        best_size, best_samples, best_metric: at the minimum (maximum if the metric rises); NaN if there is none.
        left_out: why this budget does not count; empty if it does.
    """

    budget: float
    sizes: FloatArray
    samples: FloatArray
    metric: FloatArray
    near: BoolArray
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


def split_budgets(rows: FloatArray, ratio: float) -> list[FloatArray]:
    """Split rows (n, 4), ordered by FLOPs, into budgets: from the smallest FLOPs on, up to `ratio` times as many."""
    parts, start = [], 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i, 0] > rows[start, 0] * ratio:
            parts.append(rows[start:i])
            start = i
    return parts


def check_apart(groups: Sequence[FloatArray], ratio: float, what: str) -> None:
    """Refuse budgets most of which follow on one another without a gap, so that chance decides which rows meet in one.

    Raises:
        UserError: more than half of the gaps between rows (n, 4) of neighbouring budgets are below `ratio`.
    """
    gaps = [after[0, 0] / before[-1, 0] for before, after in pairwise(groups)]
    close = sum(gap < ratio for gap in gaps)
    if close > len(gaps) / 2:
        raise UserError(
            f"{what} form no budgets: {close} of {len(gaps)} groups follow on the one before by a factor below {ratio:g}, so that "
            "chance decides which rows meet (checkpoints?); a profile needs runs at equal FLOPs, a joint law does not"
        )


def at_budgets(groups: Sequence[FloatArray], used: Sequence[Profile]) -> list[FloatArray]:
    """The rows (n, 4) of each budget as they would be at its FLOPs; unchanged if fewer than two budgets count."""
    if len(used) < 2:
        return list(groups)
    logs = np.log([profile.budget for profile in used])
    slope = np.gradient([profile.best_metric for profile in used], logs)
    moved = []
    for rows in groups:
        offset = np.log(rows[:, 0]) - np.log(rows[:, 0]).mean()
        at = np.interp(np.log(rows[:, 0]).mean(), logs, slope)
        samples, metric = rows[:, 2] / np.exp(offset), rows[:, 3] - at * offset
        moved.append(np.column_stack([rows[:, 0], rows[:, 1], samples, metric]))
    return moved


def profile_of(rows: FloatArray, sign: float, within: float) -> Profile:
    """The profile of one budget's rows (n, 4): FLOPs, size, samples, metric."""
    rows = rows[np.argsort(rows[:, 1], kind="stable")]
    budget = float(np.exp(np.log(rows[:, 0]).mean()))
    logs, nan = np.log(rows[:, 1]), float("nan")
    centre, left_out, best = float(logs.mean()), "", nan
    u, curve, near = logs - centre, np.full(3, nan), np.ones(len(rows), dtype=bool)
    n_sizes = len(np.unique(rows[:, 1]))
    if n_sizes < FEWEST_SIZES:
        left_out = f"fewer than {FEWEST_SIZES} sizes ({n_sizes})"
    else:
        near, curve = _parabola(u, sign * rows[:, 3], within)
        best = float(-curve[1] / (2 * curve[2])) if curve[2] > 0 else nan
        curve = sign * curve
        if not np.isfinite(best):
            left_out = f"no {extreme(sign)} (the parabola opens to the other side)"
        elif not u[0] < best < u[-1]:
            side = "below" if best <= u[0] else "above"
            left_out = (
                f"the {extreme(sign)} lies {side} the sizes ({rows[0, 1]:.3g} to {rows[-1, 1]:.3g})"
            )
    if left_out:
        sizes = (nan, nan, nan)
    else:
        # at one budget, log samples are a straight line in log size
        slope, level = np.polyfit(u[near], np.log(rows[near, 2]), 1)
        value = float(curve @ [1.0, best, best**2])
        sizes = (float(np.exp(centre + best)), float(np.exp(level + slope * best)), value)
    return Profile(
        budget, rows[:, 1], rows[:, 2], rows[:, 3], near, curve, centre, *sizes, left_out
    )


def _parabola(u: FloatArray, falling: FloatArray, within: float) -> tuple[BoolArray, FloatArray]:
    """The runs near the minimum (n,), and the parabola (3,) of the values (n,) through them."""
    every = np.unique(u)
    best = float(every[np.argmin([falling[u == one].mean() for one in every])])
    near: BoolArray | None = None
    curve: FloatArray | None = None
    for _ in range(_ROUNDS):
        reach = max(np.log(within), np.sort(np.abs(every - best))[:_NEAREST][-1])
        before, near = near, np.abs(u - best) <= reach * (1 + 1e-9)
        if before is not None and (near == before).all():
            break
        curve = np.linalg.lstsq(powers(u[near], 2), falling[near], rcond=None)[0]
        if not curve[2] > 0:
            break
        best = float(np.clip(-curve[1] / (2 * curve[2]), u[near].min(), u[near].max()))
    assert near is not None
    assert curve is not None
    return near, curve


def extreme(sign: float) -> str:
    """What a profile has at the best size; the sign is 1 for a metric that falls."""
    return "minimum" if sign > 0 else "maximum"


def powers(u: FloatArray, degree: int) -> FloatArray:
    """The powers (n, degree + 1) of u (n,), from 0 on."""
    return np.vander(u, degree + 1, increasing=True)
