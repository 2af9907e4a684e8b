"""The figure of what models have learned of the truth of a generated log: the gap and its parts."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.style import GREY, MARKERS, colour_of, dress, plain
from analysis.study_results import LearnedParts
from analysis.table import Size

__all__ = ["plot_learned"]


def plot_learned(parts: LearnedParts) -> Figure:
    """Draw three panels: the excess logloss and the floor by model size, and the learned components by both sizes."""
    figure = Figure(figsize=(11.0, 4.0), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_excess(left, parts)
    _draw_shares(middle, parts, parts.by_size, parts.size)
    _draw_shares(right, parts, parts.by_data, parts.data)
    right.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    return figure


def _draw_excess(ax: Axes, parts: LearnedParts) -> None:
    x = parts.by_size[parts.size.column]
    names = {
        "excess_logloss": "excess logloss",
        "unexplained_excess": "of it outside the components",
        "rank_floor": "floor of d numbers per item",
    }
    for i, name in enumerate(n for n in names if n in parts.by_size.columns):
        style = "--" if name == "rank_floor" else "-"
        values = parts.by_size[name].where(parts.by_size[name] > 0)
        colour = GREY if name == "rank_floor" else colour_of(i, 3)
        ax.plot(x, values, style, marker=MARKERS[i], color=colour, ms=4, label=names[name])
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(plain)
    ax.yaxis.set_minor_formatter(plain)
    ax.set_ylabel("excess logloss (nats)")
    ax.legend(frameon=False, fontsize=8)
    _finish(ax, parts.by_size, parts.size, parts.data)


def _draw_shares(ax: Axes, parts: LearnedParts, cells: pd.DataFrame, along: Size) -> None:
    n = len(parts.components)
    for i, name in enumerate(parts.components):
        ax.plot(
            cells[along.column], cells[name], "-", marker=MARKERS[i % len(MARKERS)],
            color=colour_of(i, n), ms=4, label=name,
        )  # fmt: skip
    ax.axhline(1.0, color=GREY, lw=0.8, ls=":")
    ax.set_xscale("log")
    low, high = np.nanmin(cells[list(parts.components)]), np.nanmax(cells[list(parts.components)])
    ax.set_ylim(min(-0.1, low), max(1.1, high))
    ax.set_ylabel("learned share of the true weight")
    _finish(ax, cells, along, parts.data if along == parts.size else parts.size)


def _finish(ax: Axes, cells: pd.DataFrame, along: Size, other: Size) -> None:
    at = cells[other.column].iloc[0]
    ax.set_xlabel(along.label)
    ax.set_title(f"{other.name} = {at:,.0f}", fontsize=9, loc="left")
    dress(ax)
