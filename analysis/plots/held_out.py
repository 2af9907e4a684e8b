"""The figure of held-out cells: the error of each prediction, with its interval."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.plots.style import GREY, MARKERS, colour_of, dress, new_axes, set_title
from analysis.table import LABELS, Size, size_label, size_of

__all__ = ["plot_holdout"]


# Distance of two cuts of one cell, of 1 between cells.
_DODGE = 0.26
# More names of cells than this overlap.
_NAMED_CELLS = 30


def plot_holdout(
    rows: pd.DataFrame,
    *,
    law: str = "additive",
    y: str = "logloss",
    sizes: tuple[Size, Size] | None = None,
    ax: Axes | None = None,
    **point_kws: Any,
) -> Axes:
    """Held-out cells: predicted less measured, with the 95 % prediction interval, from the smallest cell up.

    Each cell has a place of its own, in which the cuts that hold it out stand side by side. Open grey
    points come from training cells that do not determine the law.

    Args:
        rows: from `analysis.study_results.extrapolation.holdout`.
        law: the law to plot.
        y: column of the metric, for the label.
        sizes: N and D; default: n_params and n_samples.
        ax: axes to plot on; default: those of a new figure.
        point_kws: passed to matplotlib for the points.
    """
    if ax is None:
        ax = new_axes()
    sizes = sizes or (size_of("n_params"), size_of("n_samples"))
    columns = [s.column if s.column in rows else f"{s.column} (size)" for s in sizes]
    rows = rows[(rows["law"] == law) & rows["predicted"].notna()].sort_values(columns)
    keys = list(zip(*(rows[column] for column in columns), strict=True))
    cells = list(dict.fromkeys(keys))
    at = np.array([cells.index(key) for key in keys], dtype=float)
    cuts = [cut for cut in _CUT_LABELS if cut in set(rows["cut"])]
    for i, cut in enumerate(cuts):
        for sound in (True, False):
            chosen = ((rows["cut"] == cut) & ((rows["status"] == "converged") == sound)).to_numpy()
            if not chosen.any():
                continue
            part, colour = rows[chosen], colour_of(i, len(cuts)) if sound else GREY
            ends = np.abs(part[["lower", "upper"]].to_numpy().T - part["predicted"].to_numpy())
            label = _CUT_LABELS[cut] + ("" if sound else " (law not determined)")
            ax.errorbar(
                at[chosen] + _DODGE * (i - (len(cuts) - 1) / 2), part["predicted"] - part["measured"],
                yerr=np.nan_to_num(ends),
                **{
                    "fmt": MARKERS[i], "color": colour, "ms": 5, "mec": colour,
                    "mfc": colour if sound else "white", "elinewidth": 1.0, "capsize": 2.0,
                    "label": label, **point_kws,
                },
            )  # fmt: skip
    ax.axhline(0.0, color=GREY, lw=1.0, zorder=1)
    if len(rows):
        ax.legend(title="held out", frameon=False, fontsize=9, alignment="left",
                  loc="upper left", bbox_to_anchor=(1.01, 1.0))  # fmt: skip
    step = -(-len(cells) // _NAMED_CELLS) or 1
    named = [" / ".join(size_label(float(v)) for v in cell) for cell in cells[::step]]
    ax.set_xticks(range(0, len(cells), step), named, rotation=90, fontsize=8)
    ax.set_xlabel(" / ".join(size.label for size in sizes))
    ax.set_ylabel(f"predicted − measured\n{LABELS.get(y, y)}")
    set_title(ax, _title(rows, law))
    dress(ax)
    ax.grid(False, axis="x")
    return ax


def _title(rows: pd.DataFrame, law: str) -> str:
    by_cut = rows.drop_duplicates("cut")
    doubtful = by_cut[by_cut["status"] != "converged"]
    said = f"{law} law, fitted to the smaller cells"
    if doubtful.empty:
        return f"{said}, converged"
    names = ", ".join(
        f"{_CUT_LABELS[cut]}: {status.replace('_', ' ').upper()}"
        for cut, status in zip(doubtful["cut"], doubtful["status"], strict=True)
    )
    return f"{said} (without {names}; grey)"


_CUT_LABELS = {
    "data": "largest data size",
    "size": "largest model",
    "corner": "both",
    "flops": "most FLOPs",
}
