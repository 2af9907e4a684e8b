"""The figure of residuals: the distance of each cell from the fitted law."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, TwoSlopeNorm

from analysis.fit import LawFit
from analysis.plots.style import GREY, dress, law_title, new_axes, set_title
from analysis.table import Size, size_label, size_of

__all__ = ["plot_residuals"]


def plot_residuals(
    fit: LawFit, *, sizes: tuple[Size, Size] | None = None, ax: Axes | None = None, **image_kws: Any
) -> Axes:
    """Residuals of a joint law in units of their noise: a map if the sizes form a grid, else points.

    A row or column of one colour is a model size or a data size that the law misses as a whole.

    Args:
        fit: of a joint law, with a curve.
        sizes: N and D, for the labels; default: by the names of their columns.
        ax: axes to plot on; default: those of a new figure.
        image_kws: passed to matplotlib for the map.

    Raises:
        ValueError: the fit has no curve or not two variables.
    """
    if not fit.has_curve or len(fit.law.variables) != 2:
        raise ValueError("residuals are mapped for joint laws with a curve")
    if ax is None:
        ax = new_axes()
    n_size, d_size = sizes or (size_of(fit.columns[v]) for v in fit.law.variables)
    cells = fit.cells
    scaled = cells["residual"] * np.sqrt(cells["n_rows"])
    unit = fit.noise.sd if fit.noise.dof else float(scaled.std())
    values = fit.cell_sizes
    cells = pd.DataFrame({"N": values[:, 0], "D": values[:, 1], "scaled": scaled / unit})
    columns, rows = np.unique(cells["D"]), np.unique(cells["N"])
    if len(cells) > 2 * max(len(columns), len(rows)) and len(columns) <= 12 and len(rows) <= 12:
        grid = cells.pivot_table(index="N", columns="D", values="scaled").reindex(rows)
        top = max(3.0, float(np.nanmax(np.abs(grid.to_numpy()))))
        image = ax.imshow(
            grid.to_numpy(), origin="lower", aspect="auto",
            **{"cmap": "PuOr", "norm": TwoSlopeNorm(0.0, -top, top), **image_kws},
        )  # fmt: skip
        for (i, j), value in np.ndenumerate(grid.to_numpy()):
            if np.isfinite(value):
                dark = abs(value) > 0.65 * top
                ax.text(
                    j, i, f"{value:+.1f}", ha="center", va="center", fontsize=9,
                    color="white" if dark else "black",
                )  # fmt: skip
        ax.set_xticks(range(len(columns)), [size_label(v) for v in columns])
        ax.set_yticks(range(len(rows)), [size_label(v) for v in rows])
        ax.set_ylabel(n_size.label)
        ax.set_facecolor("#e6e6e6")  # a cell without a run is not a residual of 0
        ax.figure.colorbar(image, ax=ax, label=f"residual of {fit.y} / its noise sd")
    else:
        points = ax.scatter(
            cells["D"], cells["scaled"], c=cells["N"], norm=LogNorm(), cmap="viridis", s=16
        )
        ax.figure.colorbar(points, ax=ax, label=n_size.label)
        ax.axhline(0.0, color=GREY, lw=1.0)
        ax.set_xscale("log")
        ax.set_ylabel(f"residual of {fit.y} / its noise sd")
        dress(ax)
    ax.set_xlabel(d_size.label)
    set_title(ax, law_title(fit, curves=False))
    return ax
