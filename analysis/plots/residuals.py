"""The figure of residuals: the distance of each cell from the fitted law."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, TwoSlopeNorm
from matplotlib.ticker import NullFormatter

from analysis.fit import LawFit
from analysis.plots.style import GREY, dress, law_title, log_ticks, new_axes, set_title, sizes_map
from analysis.table import Size, size_label, size_of

__all__ = ["plot_residuals"]


# Text of a map's cells.
_DARK = 0.65


def plot_residuals(
    fit: LawFit,
    *,
    sizes: Sequence[Size] | None = None,
    ax: Axes | None = None,
    **image_kws: Any,
) -> Axes:
    """Residuals of a law in units of their noise: a map if the sizes form a grid, else points.

    A row or column of one colour is a model size or a data size that the law misses as a whole.

    Args:
        fit: of a law of one size or of two, with a curve.
        sizes: of the law, for the labels; default: by the names of their columns.
        ax: axes to plot on; default: those of a new figure.
        image_kws: passed to matplotlib for the map.

    Raises:
        ValueError: the fit has no curve or more than two variables.
    """
    if not fit.has_curve or len(fit.law.variables) > 2:
        raise ValueError("residuals are drawn for laws of one or two sizes with a curve")
    if ax is None:
        ax = new_axes()
    sizes = sizes or [size_of(fit.columns[v]) for v in fit.law.variables]
    values = fit.cell_sizes
    cells = pd.DataFrame({"N": values[:, 0], "D": values[:, -1], "scaled": fit.scaled_residuals})
    difference = (
        "log of measured / fitted" if fit.options.residual_scale == "log" else "measured − fitted"
    )
    label = f"({difference} {fit.y}) / its noise sd"
    columns, rows = np.unique(cells["D"]), np.unique(cells["N"])
    title = law_title(fit, curves=False)
    if len(cells) > 2 * max(len(columns), len(rows)) and len(columns) <= 12 and len(rows) <= 12:
        if _draw_map(ax, cells, label, image_kws):
            title += "\ngrey: no run"
        ax.set_yticks(range(len(rows)), [size_label(v) for v in rows])
        ax.set_xticks(range(len(columns)), [size_label(v) for v in columns])
        ax.set_ylabel(sizes[0].label)
    else:
        _draw_points(ax, cells, sizes[0] if len(sizes) == 2 else None)
        ax.set_ylabel(label)
    ax.set_xlabel(sizes[-1].label)
    set_title(ax, title, doubtful=not fit.success)
    return ax


def _draw_map(ax: Axes, cells: pd.DataFrame, label: str, image_kws: dict[str, Any]) -> bool:
    """Draw a cell for each pair of sizes; whether some have no run."""
    grid = cells.pivot_table(index="N", columns="D", values="scaled").to_numpy()
    top = max(3.0, float(np.nanmax(np.abs(grid))))
    image = ax.imshow(
        grid, origin="lower", aspect="auto",
        **{"cmap": "PuOr", "norm": TwoSlopeNorm(0.0, -top, top), **image_kws},
    )  # fmt: skip
    for (i, j), value in np.ndenumerate(grid):
        if np.isfinite(value):
            ax.text(
                j, i, f"{value:+.1f}", ha="center", va="center", fontsize=9 if grid.shape[1] < 9 else 7,
                color="white" if abs(value) > _DARK * top else "black",
            )  # fmt: skip
    ax.set_facecolor("#e6e6e6")  # a cell without a run is not a residual of 0
    ax.figure.colorbar(image, ax=ax, label=label)
    return bool(np.isnan(grid).any())


def _draw_points(ax: Axes, cells: pd.DataFrame, colour: Size | None) -> None:
    """Draw a point for each cell; colour shows the model's size, if the law has two sizes."""
    if colour is None:
        ax.plot(cells["D"], cells["scaled"], "o", color="black", ms=4)
    else:
        points = ax.scatter(
            cells["D"], cells["scaled"], c=cells["N"], norm=LogNorm(), cmap=sizes_map(), s=16
        )
        bar = ax.figure.colorbar(points, ax=ax, label=colour.label)
        bar.ax.yaxis.set_major_formatter(lambda value, _: size_label(value))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    ax.axhline(0.0, color=GREY, lw=1.0)
    ax.set_xscale("log")
    log_ticks(ax.xaxis, size_label)
    dress(ax)
