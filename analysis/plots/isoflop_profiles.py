"""The figure of IsoFLOP profiles: the metric against model size, one curve per budget, minima marked."""

import numpy as np
from matplotlib.axes import Axes

from analysis.budget import IsoFlop
from analysis.plots.style import GREY, MARKERS, colour_of, dress, new_axes
from analysis.table import LABELS, Size
from scaling.arrays import FloatArray

__all__ = ["plot_isoflop"]


def plot_isoflop(found: IsoFlop, metric: str, size: Size, *, ax: Axes | None = None) -> Axes:
    """Plot the profiles; a budget that does not count is grey, without a curve.

    Args:
        found: the profiles.
        metric: their column, for the label.
        size: the model's size, for the label.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    for i, profile in enumerate(found.profiles):
        label = f"{profile.budget:.2g}"
        if profile.left_out:
            ax.plot(
                profile.sizes, profile.metric, "x", color=GREY, ms=4, label=f"{label}, left out"
            )
            continue
        colour = colour_of(i, len(found.profiles))
        marker = MARKERS[i % len(MARKERS)]
        ax.plot(profile.sizes, profile.metric, marker, color=colour, ms=5, mec="white", mew=0.5, label=label)  # fmt: skip
        grid: FloatArray = np.geomspace(profile.sizes.min(), profile.sizes.max(), 100)
        ax.plot(grid, profile.value(grid), color=colour, lw=1.3)
    used = found.used
    ax.plot(
        [p.best_size for p in used], [p.best_metric for p in used], "*", color="black", ms=10,
        mec="white", mew=0.6, zorder=5, label="best size",
    )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlabel(size.label)
    ax.set_ylabel(LABELS.get(metric, metric))
    dress(ax)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9,
              title="training FLOPs", alignment="left")  # fmt: skip
    return ax
