"""What more of one size buys where no law of both sizes is known: from runs that share the other size."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.budget import Gain
from analysis.fit import LawFit
from analysis.gain.size_gains import gains
from analysis.table import Cells, Size

__all__ = ["AxisGain", "axis_gain", "loss_with"]


@dataclass(frozen=True)
class AxisGain:
    """What more of one size buys among runs that share the other.

    Attributes:
        size: of which there is more.
        other: size that the runs of a comparison share.
        loss: how much worse the metric gets from the smallest to the largest value, on average; None unless it does so
            at every value of the other size.
        told_by: which law gives the gain; empty if more is worse or no law is known.
        gain: by that law, or None.
        reach: how many times the largest size of its runs the gain ends at; NaN without a gain.
        reason: why there is no gain; empty otherwise.
    """

    size: Size
    other: Size
    loss: float | None
    told_by: str
    gain: Gain | None
    reach: float
    reason: str = ""


def axis_gain(
    cells: Cells,
    metric: str,
    size: Size,
    other: Size,
    alone: Mapping[str, LawFit],
    *,
    factor: float = 10.0,
) -> AxisGain:
    """Return what `factor` times a size buys, by the last group whose own law the data determine.

    Args:
        cells: of the runs.
        metric: of the cells.
        size: of which there is more.
        other: shared by the runs of each group.
        alone: laws of `size`, each of a group of runs, by their names; the last one that is known answers.
        factor: above 1.
    """
    rising = any(fit.law.rising for fit in alone.values())
    loss = loss_with(cells, metric, size, other, rising=rising)
    known = [(group, fit) for group, fit in alone.items() if fit.success]
    if loss is not None or not known:
        last = list(alone.items())[-1:]
        why = "".join(f"{group}: {fit.message}" for group, fit in last)
        return AxisGain(size, other, loss, "", None, np.nan, "" if loss is not None else why)
    group, fit = known[-1]
    (gain,) = gains(fit, factor=factor)[0].gains
    reach = float(gain.after[0] / fit.cell_sizes.max())
    return AxisGain(size, other, None, group, gain, reach)


def loss_with(
    cells: Cells, metric: str, size: Size, other: Size, *, rising: bool = False
) -> float | None:
    """How much worse a metric gets from the smallest to the largest value of a size; None unless it does so clearly.

    It does if it is worse at every value of the other size by more than two standard errors of the difference.

    Args:
        cells: of two sizes.
        metric: of the cells.
        size: along which it may get worse.
        other: that is equal in each comparison.
        rising: larger values of the metric are better.
    """
    sizes, means = cells.sizes, cells.metrics[metric]
    sign = -1.0 if rising else 1.0
    losses = []
    for _, part in sizes.groupby(other.column):
        ends = part.sort_values(size.column).index[[0, -1]]
        if part[size.column].nunique() < 2:
            continue
        first, last = sign * means["mean"][ends].to_numpy()
        error = float(np.hypot(*means["mean_stderr"][ends].fillna(0.0)))
        if last - first <= 2 * error:
            return None
        losses.append(last - first)
    return float(np.mean(losses)) if losses else None
