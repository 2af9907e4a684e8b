"""The figure of compute-equivalent gains: the share of the reference's budget against the budget, a band per variant."""

import numpy as np
from matplotlib.axes import Axes

from analysis.gain import ComputeGains
from analysis.plots.style import GREY, colour_of, dress, new_axes, plain
from analysis.table import LABELS

__all__ = ["plot_gains"]


# Shares outside are cut off: an open interval would press the others flat.
_SHOWN = 1e-2, 1e2


def plot_gains(found: ComputeGains, unit: str, metric: str, *, ax: Axes | None = None) -> Axes:
    """Plot each variant's share with its interval; the part beyond the runs of all variants is shaded.

    Args:
        found: at a grid of budgets.
        unit: column or unit of the budget, for the label.
        metric: that is reached, for the label.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    names = list(found.correlations)
    for i, name in enumerate(names):
        gains = [gain for gain in found.gains if gain.variant == name]
        budgets = np.array([gain.budget for gain in gains])
        share, low, high = np.array([gain.share for gain in gains]).T
        colour = colour_of(i, len(names))
        # an open end runs off the axes, and so does a share that is never reached
        edges = [np.clip(end, _SHOWN[0] / 10, _SHOWN[1] * 10) for end in (low, high)]
        ax.fill_between(budgets, *edges, color=colour, alpha=0.2, lw=0)
        ax.plot(
            budgets, np.where(np.isfinite(share), share, np.nan), color=colour, lw=1.5, label=name
        )
    for crossing in found.crossings:
        colour = colour_of(names.index(crossing.variant), len(names))
        ax.plot(crossing.budget[0], 1.0, "o", color=colour, mec="white", ms=6, zorder=4)
    ax.axhline(1.0, color=GREY, lw=1.0, ls="--", label=f"{found.reference} (reference)")
    ax.set(xscale="log", yscale="log")
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, _SHOWN[0]), min(high, _SHOWN[1]))
    left, right = ax.get_xlim()
    for outer, inner in ((left, found.range[0]), (right, found.range[1])):
        ax.axvspan(outer, inner, color=GREY, alpha=0.08, lw=0)
    ax.set_xlim(left, right)
    ax.set_xlabel(f"{LABELS.get(unit, unit)} of {found.reference}")
    ax.set_ylabel(f"share of the budget for equal {metric}")
    dress(ax)
    ax.yaxis.set_major_formatter(plain)
    ax.yaxis.set_minor_formatter(plain)
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9, alignment="left"
    )
    return ax
