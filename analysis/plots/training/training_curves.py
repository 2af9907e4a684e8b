"""The figure of training curves: the training loss of every run against the impressions seen."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.plots.style import colour_of, dress, log_ticks, new_axes
from analysis.table import size_label

__all__ = ["curves_finding", "plot_training"]


_RUN = "signature"
# Points of lines.
_THIN, _THICK = 0.7, 1.8
# Impressions of the first points whose mean loss still falls steeply would set the scale of the axis.
_QUANTILE = 0.995
# A mean loss that rises by less is that of other impressions.
_RISEN = 1.05


def plot_training(curves: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw one line per run, one colour per grade, thicker for more data.

    Args:
        curves: from `analysis.table.curves_table`.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    grades = list(dict.fromkeys(curves.sort_values("n_params")["grade"]))
    sizes = np.unique(curves["n_samples"])
    for _, run in curves.groupby(_RUN, sort=False):
        share = np.searchsorted(sizes, run["n_samples"].iloc[0]) / max(len(sizes) - 1, 1)
        ax.plot(
            run["n_seen"], run["loss"], lw=_THIN + (_THICK - _THIN) * share, alpha=0.75,
            color=colour_of(grades.index(run["grade"].iloc[0]), len(grades)),
        )  # fmt: skip
    ax.set_xscale("log")
    low, high = float(curves["loss"].min()), float(curves["loss"].quantile(_QUANTILE))
    ax.set_ylim(low - 0.03 * (high - low), high + 0.05 * (high - low) or None)
    log_ticks(ax.xaxis, size_label)
    ax.set_xlabel("impressions seen")
    ax.set_ylabel("training logloss (nats)")
    key = [
        Line2D([], [], color=colour_of(i, len(grades)), lw=_THICK, label=str(name))
        for i, name in enumerate(grades)
    ]
    ax.legend(
        handles=key, title="grade", alignment="left", loc="upper left", bbox_to_anchor=(1.01, 1.0),
        frameon=False, fontsize=9,
    )  # fmt: skip
    dress(ax)
    return ax


def curves_finding(curves: pd.DataFrame) -> str:
    """How many runs have a higher training loss in their second half than in their first; single points scatter."""
    halves = curves.assign(late=curves["step"] > curves["n_steps"] / 2)
    means = halves.pivot_table(index=_RUN, columns="late", values="loss")
    n_runs = len(means)
    has_both = means.shape[1] == 2
    n_risen = int((means[True] > _RISEN * means[False]).sum()) if has_both else 0
    if not n_risen:
        return (
            f"The training loss of all {n_runs} runs is lower in the second half than in the first"
        )
    return f"The training loss of {n_risen} of {n_runs} runs is HIGHER in the second half than in the first"
