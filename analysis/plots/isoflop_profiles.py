"""The figure of IsoFLOP profiles: the metric against model size, one curve per budget, minima marked."""

import numpy as np
from matplotlib.axes import Axes

from analysis.budget import IsoFlop
from analysis.plots.style import GREY, MARKERS, colour_of, dress, new_axes
from analysis.table import LABELS, Size
from scaling.arrays import FloatArray

__all__ = ["plot_isoflop"]


_MOST_BUDGETS = 15


def plot_isoflop(found: IsoFlop, metric: str, size: Size, *, ax: Axes | None = None) -> Axes:
    """Plot the profiles; a budget that does not count is grey, without a curve; runs far from a minimum are faint.

    Args:
        found: the profiles.
        metric: their column, for the label.
        size: the model's size, for the label.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    step = -(-len(found.profiles) // _MOST_BUDGETS)
    shown = found.profiles[::step]
    for i, profile in enumerate(shown):
        label = f"{profile.budget:.2g}"
        if profile.left_out:
            ax.plot(
                profile.sizes, profile.metric, "x", color=GREY, ms=4, label=f"{label}, left out"
            )
            continue
        colour, marker = colour_of(i, len(shown)), MARKERS[i % len(MARKERS)]
        near, far = profile.near, ~profile.near
        ax.plot(profile.sizes[near], profile.metric[near], marker, color=colour, ms=5, mec="white", mew=0.5, label=label)  # fmt: skip
        ax.plot(profile.sizes[far], profile.metric[far], marker, color=colour, ms=4, mec="none", alpha=0.35)  # fmt: skip
        grid: FloatArray = np.geomspace(profile.sizes[near].min(), profile.sizes[near].max(), 100)
        ax.plot(grid, profile.value(grid), color=colour, lw=1.3)
    used = found.used
    ax.plot(
        [p.best_size for p in used], [p.best_metric for p in used], "*", color="black",
        ms=10 if step == 1 else 6, mec="white", mew=0.6, zorder=5, label="best size",
    )  # fmt: skip
    # runs far from the best size would press the parabolas flat
    close = np.concatenate([profile.metric[profile.near] for profile in used])
    margin = 0.5 * np.ptp(close)
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, close.min() - margin), min(high, close.max() + margin))
    ax.set_xscale("log")
    ax.set_xlabel(size.label)
    ax.set_ylabel(LABELS.get(metric, metric))
    dress(ax)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9,
              title="training FLOPs" if step == 1 else f"training FLOPs\n(1 of {step} budgets)", alignment="left")  # fmt: skip
    return ax
