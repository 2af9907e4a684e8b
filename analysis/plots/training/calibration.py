"""The figure of calibration: predicted over observed clicks of every cell."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import GREY, MARKERS, colour_of, dress, log_ticks, new_axes
from analysis.table import LABELS, size_label

__all__ = ["calibration_finding", "plot_calibration"]


def plot_calibration(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the mean ratio of each cell against the data size with the range of its seeds, one colour per grade.

    Args:
        table: with the columns grade, n_params, n_samples and calibration.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    rows = table[np.isfinite(table["calibration"])]
    grades = list(dict.fromkeys(rows.sort_values("n_params")["grade"]))
    for i, grade in enumerate(grades):
        cells = rows[rows["grade"] == grade].groupby("n_samples")["calibration"]
        mean = cells.mean()
        # beside each other, so that no grade hides another
        at = mean.index.to_numpy(dtype=float) * 1.06 ** (i - (len(grades) - 1) / 2)
        ends = np.array([mean - cells.min(), cells.max() - mean])
        ax.errorbar(
            at, mean, yerr=ends, fmt=MARKERS[i % len(MARKERS)], ls="-", lw=0.8, color=colour_of(i, len(grades)), ms=5.0,
            mec="white", mew=0.6, elinewidth=1.0, capsize=2.0, label=str(grade), zorder=3,
        )  # fmt: skip
    ax.axhline(1.0, color=GREY, lw=1.0, ls=":", zorder=1)
    ax.set_xscale("log")
    log_ticks(ax.xaxis, size_label)
    ax.set_xlabel(LABELS["n_samples"])
    ax.set_ylabel("predicted / observed clicks")
    ax.legend(
        title="grade", alignment="left", loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9
    )  # fmt: skip
    dress(ax)
    return ax


def calibration_finding(table: pd.DataFrame) -> str:
    """The range of the ratio over the runs of the most data."""
    rows = table[np.isfinite(table["calibration"])]
    last = rows[rows["n_samples"] == rows["n_samples"].max()]["calibration"]
    size = size_label(float(rows["n_samples"].max()))
    return f"Models of {size} samples predict {last.min():.2f} to {last.max():.2f} clicks per observed click"
