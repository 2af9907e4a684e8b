"""The figure of held-out cells: predicted against measured."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import GREY, MARKERS, colour_of, dress, new_axes

__all__ = ["plot_holdout"]


def plot_holdout(
    rows: pd.DataFrame, *, law: str = "additive", ax: Axes | None = None, **point_kws: Any
) -> Axes:
    """Held-out cells: predicted with its 95 % prediction interval against measured.

    Args:
        rows: from `analysis.study_results.extrapolation.holdout`.
        law: the law to plot.
        ax: axes to plot on; default: those of a new figure.
        point_kws: passed to matplotlib for the points.
    """
    if ax is None:
        ax = new_axes()
    rows = rows[(rows["law"] == law) & rows["predicted"].notna()]
    cuts = list(dict.fromkeys(rows["cut"]))
    for i, cut in enumerate(cuts):
        part = rows[rows["cut"] == cut]
        ends = np.abs(part[["lower", "upper"]].to_numpy().T - part["predicted"].to_numpy())
        ax.errorbar(
            part["measured"], part["predicted"], yerr=np.nan_to_num(ends),
            **{
                "fmt": MARKERS[i], "color": colour_of(i, len(cuts)), "ms": 6, "mec": "white",
                "elinewidth": 1.0, "capsize": 2.0, "label": _CUT_LABELS.get(cut, cut), **point_kws,
            },
        )  # fmt: skip
    if len(rows):
        both = rows[["measured", "predicted"]].to_numpy()
        margin = 0.08 * max(float(np.ptp(both)), 1e-6)
        ends = [float(both.min()) - margin, float(both.max()) + margin]
        ax.plot(ends, ends, color=GREY, lw=1.0, zorder=1)
        ax.legend(title="held out", frameon=False, loc="upper left", fontsize=9)
    ax.set_xlabel("measured")
    ax.set_ylabel(f"predicted by the {law} law")
    dress(ax)
    return ax


_CUT_LABELS = {
    "data": "largest data size",
    "size": "largest model",
    "corner": "both",
    "flops": "most FLOPs",
}
