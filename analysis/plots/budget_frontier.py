"""The figure of a budget: curves of equal metric and of equal cost over both sizes, and the frontier."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from analysis.budget import Cost, frontier
from analysis.fit import LawFit
from analysis.plots.style import DOUBTFUL, GREY, colour_of, dress, law_title, new_axes, set_title
from analysis.table import LABELS, Size, size_of
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["plot_frontier"]


# The map ends at this many times the largest sizes.
_REACH = 10.0
_ACCENT = "#c44e52"
_CONTOURS = 10


def plot_frontier(
    fit: LawFit, cost: Cost, *, sizes: tuple[Size, Size] | None = None, ax: Axes | None = None
) -> Axes:
    """Plot a joint law as a map: iso-metric curves, iso-cost lines, the frontier with its interval, the runs.

    Args:
        fit: of a joint law of N and D, with a curve.
        cost: of a run.
        sizes: N and D, for the labels; default: by the names of their columns.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    n_size, d_size = sizes or (size_of(fit.columns[v]) for v in fit.law.variables)
    (n_low, n_high), (d_low, d_high) = fit.spans["N"], fit.spans["D"]
    n = np.geomspace(n_low / 1.5, n_high * _REACH, 120)
    d = np.geomspace(d_low / 1.5, d_high * _REACH, 120)
    size, data = np.meshgrid(n, d)
    # Before the contours: their labels are placed, and the gaps for them cut, on the axes of that moment.
    ax.set(xscale="log", yscale="log", xlim=(n[0], n[-1]), ylim=(d[0], d[-1]))
    levels, digits = _levels(fit.predict(n, d))
    look: dict[str, Any] = (
        {"colors": [colour_of(i, len(levels)) for i in range(len(levels))]}
        if fit.success
        else {"colors": DOUBTFUL, "linestyles": "--"}
    )
    drawn = ax.contour(size, data, fit.predict(size, data), levels=levels, linewidths=1.1, **look)
    ax.clabel(drawn, fontsize=7.5, fmt=f"%.{digits}f")
    low, high = (float(cost(n[k], d[k])) for k in (0, -1))
    for budget in 10.0 ** np.arange(np.ceil(np.log10(low)), np.log10(high)):
        ax.plot(n, cost.samples(budget, n), color=GREY, lw=0.6, ls=":", zorder=1)
    _draw_frontier(ax, fit, cost, np.geomspace(low, high, 13))
    ax.plot(
        fit.cell_sizes[:, 0], fit.cell_sizes[:, 1], "o", color="black", ms=3.5, ls="",
        label="runs", zorder=4,
    )  # fmt: skip
    ax.set_xlabel(n_size.label)
    ax.set_ylabel(d_size.label)
    dress(ax)
    set_title(ax, law_title(fit))
    ax.plot(
        [],
        [],
        color=GREY,
        lw=0.6,
        ls=":",
        label=f"equal {LABELS.get(cost.unit, cost.unit)} (decades)",
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9,
              title=f"curves: {LABELS.get(fit.y, fit.y)}", alignment="left")  # fmt: skip
    return ax


def _levels(along: FloatArray) -> tuple[FloatArray, int]:
    """Values for contours that lie evenly on the map, and the digits that tell them apart.

    Args:
        along: (n,) the law on the diagonal of the map.
    """
    # Not in the corners, where a contour is too short for its label.
    places = (np.linspace(0.16, 0.94, _CONTOURS) * (len(along) - 1)).astype(int)
    values = np.sort(along[places])
    gap = float(np.diff(values).min())
    digits = int(np.clip(np.ceil(-np.log10(gap)), 0, 6)) if gap > 0 else 6
    return np.unique(values.round(digits)), digits


def _draw_frontier(ax: Axes, fit: LawFit, cost: Cost, budgets: FloatArray) -> None:
    try:
        points = frontier(fit, cost, budgets.tolist())
    except UserError:
        return  # the law has no best split, so there is no frontier
    look: dict[str, Any] = {"color": _ACCENT if fit.success else DOUBTFUL}
    ends = np.array([[*point.n_params, *point.n_samples] for point in points])
    ax.plot(
        ends[:, 0], ends[:, 3], lw=2.0, ls="-" if fit.success else "--", label="best split",
        zorder=3, **look,
    )  # fmt: skip
    if np.isfinite(ends).all():
        # Along one budget the upper end of N belongs to the lower end of D.
        ax.plot(ends[:, 1], ends[:, 5], lw=0.9, ls="--", label="its interval", **look)
        ax.plot(ends[:, 2], ends[:, 4], lw=0.9, ls="--", **look)
