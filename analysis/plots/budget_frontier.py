"""The figure of a budget: curves of equal metric and of equal cost over both sizes, and the frontier."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from analysis.budget import Cost, frontier
from analysis.fit import LawFit
from analysis.plots.style import (
    ACCENT,
    DOUBTFUL,
    GREY,
    colour_of,
    dress,
    key_label,
    law_title,
    log_ticks,
    metric_label,
    new_axes,
    set_title,
)
from analysis.table import LABELS, Size, size_label, size_of
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["plot_frontier"]


# The map ends at this many times the largest sizes.
_REACH = 10.0
_CONTOURS = 9
_FONT = 7.5
_CLEAR = 3.0  # pixels around a label


def plot_frontier(
    fit: LawFit,
    cost: Cost,
    *,
    sizes: tuple[Size, Size] | None = None,
    cost_label: str | None = None,
    foreign: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Plot a joint law as a map: iso-metric curves, iso-cost lines, the frontier with its interval, the runs.

    Args:
        fit: of a joint law of N and D, with a curve.
        cost: of a run.
        sizes: N and D, for the labels; default: by the names of their columns.
        cost_label: of the cost; default: by its unit.
        foreign: the table is not of our runs, so that the metric's unit is not known.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    n_size, d_size = sizes or (size_of(fit.columns[v]) for v in fit.law.variables)
    (n_low, n_high), (d_low, d_high) = fit.spans["N"], fit.spans["D"]
    n = np.geomspace(n_low / 1.5, n_high * _REACH, 120)
    d = np.geomspace(d_low / 1.5, d_high * _REACH, 120)
    # Before the contours: their labels are placed, and the gaps for them cut, on the axes of that moment.
    ax.set(xscale="log", yscale="log", xlim=(n[0], n[-1]), ylim=(d[0], d[-1]))
    log_ticks(ax.xaxis, size_label)
    log_ticks(ax.yaxis, size_label)
    low, high = (float(cost(n[k], d[k])) for k in (0, -1))
    for budget in 10.0 ** np.arange(np.ceil(np.log10(low)), np.log10(high)):
        ax.plot(n, cost.samples(budget, n), color=GREY, lw=0.6, ls=":", zorder=1)
    lines = _draw_frontier(ax, fit, cost, np.geomspace(low, high, 13))
    ax.plot(
        fit.cell_sizes[:, 0], fit.cell_sizes[:, 1], "o", color="black", ms=3.5, ls="",
        label="runs", zorder=4,
    )  # fmt: skip
    ax.set_xlabel(n_size.label)
    ax.set_ylabel(d_size.label)
    dress(ax)
    set_title(ax, law_title(fit), doubtful=not fit.success)
    budgets = key_label(f"equal {cost_label or LABELS.get(cost.unit, cost.unit)}, by decades")
    ax.plot([], [], color=GREY, lw=0.6, ls=":", label=budgets)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9,
              title=key_label(f"curves: equal {metric_label(fit.y, foreign=foreign)}"), alignment="left")  # fmt: skip
    _draw_contours(ax, fit, n, d, np.concatenate([fit.cell_sizes, *lines]))
    return ax


def _draw_contours(ax: Axes, fit: LawFit, n: FloatArray, d: FloatArray, busy: FloatArray) -> None:
    """Curves of equal metric, each with a label that covers no other; a curve without room for one is left out.

    Args:
        ax: complete but for the contours, so that its layout is known.
        fit: of the law.
        n: (k,) model sizes of the map.
        d: (k,) data sizes of the map.
        busy: (m, 2) what the labels should keep clear of.
    """
    levels, digits = _levels(fit.predict(n, d))
    size, data = np.meshgrid(n, d)
    values = fit.predict(size, data)

    def draw(levels: FloatArray) -> QuadContourSet:
        look: dict[str, Any] = (
            {"colors": [colour_of(i, len(levels)) for i in range(len(levels))]}
            if fit.success
            else {"colors": DOUBTFUL, "linestyles": "--"}
        )
        return ax.contour(size, data, values, levels=levels, linewidths=1.1, **look)

    drawn = draw(levels)
    places = _label_places(ax, drawn, digits, busy)
    if len(places) < len(levels):
        drawn.remove()
        levels = np.array(sorted(places))
        drawn = draw(levels)
    # all in one call: matplotlib 3.10.0 finds no label for a part of the levels
    ax.clabel(drawn, manual=[places[level] for level in levels], fontsize=_FONT, fmt=f"%.{digits}f",
              colors="black", inline_spacing=2)  # fmt: skip


def _label_places(
    ax: Axes, drawn: QuadContourSet, digits: int, busy: FloatArray
) -> dict[float, tuple[float, float]]:
    """For each level with room, the place of its label: no two overlap, and few runs and lines lie beneath."""
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    if not hasattr(figure.canvas, "get_renderer"):
        FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # lays the axes out
    busy = ax.transData.transform(busy)
    frame, taken = ax.bbox.padded(-2), list[tuple[FloatArray, FloatArray]]()
    places = {}
    for level, path in zip(drawn.levels, drawn.get_paths(), strict=True):
        text = ax.text(0, 0, f"{level:.{digits}f}", fontsize=_FONT)
        box = text.get_window_extent()
        text.remove()
        vertices = np.asarray(path.vertices, dtype=float)
        line = ax.transData.transform(vertices) if len(vertices) > 4 else np.empty((0, 2))
        at = np.arange(2, len(line) - 2)
        along = np.abs(line[at + 2] - line[at - 2])
        cos, sin = (along / np.maximum(np.hypot(*along.T), 1e-9)[:, None]).T
        extent = np.column_stack(
            [box.width * cos + box.height * sin, box.width * sin + box.height * cos]
        )
        low, high = line[at] - extent / 2 - _CLEAR, line[at] + extent / 2 + _CLEAR
        room = ((low >= frame.min) & (high <= frame.max)).all(axis=1)
        for other_low, other_high in taken:
            room &= ~((low <= other_high) & (high >= other_low)).all(axis=1)
        if room.any():
            at, low, high = at[room], low[room], high[room]
            covered = (busy >= low[:, None]) & (busy <= high[:, None])
            beneath = covered.all(axis=2).sum(axis=1)
            best = np.lexsort((np.abs(at / len(line) - 0.7), beneath))[0]
            taken.append((low[best], high[best]))
            places[float(level)] = (float(vertices[at[best], 0]), float(vertices[at[best], 1]))
    return places


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


def _draw_frontier(ax: Axes, fit: LawFit, cost: Cost, budgets: FloatArray) -> list[FloatArray]:
    """Draw the best split of each budget with its interval; points (k, 2) along the lines."""
    try:
        points = frontier(fit, cost, budgets.tolist())
    except UserError:
        return []  # the law has no best split, so there is no frontier
    look: dict[str, Any] = {"color": ACCENT if fit.success else DOUBTFUL}
    ends = np.array([[*point.n_params, *point.n_samples] for point in points])
    # Along one budget the upper end of N belongs to the lower end of D.
    lines = [ends[:, [0, 3]]]
    ax.plot(
        *lines[0].T, lw=2.0, ls="-" if fit.success else "--", label="best split", zorder=3, **look
    )
    if np.isfinite(ends).all():
        lines += [ends[:, [1, 5]], ends[:, [2, 4]]]
        for line, label in zip(
            lines[1:], (f"its {100 * fit.options.level:g} % interval", None), strict=True
        ):
            ax.plot(*line.T, lw=0.9, ls="--", label=label, **look)
    fine = np.linspace(0, len(budgets) - 1, 300)
    at = np.arange(len(budgets))
    return [
        np.exp(np.column_stack([np.interp(fine, at, np.log(line[:, k])) for k in (0, 1)]))
        for line in lines
    ]
