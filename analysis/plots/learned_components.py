"""The figure of what models have learned of the truth of a generated log: the gap and its parts."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.style import GREY, MARKERS, colour_of, dress, log_ticks
from analysis.study_results import LearnedParts
from analysis.table import Size, size_label

__all__ = ["learned_finding", "plot_learned"]


def plot_learned(parts: LearnedParts) -> Figure:
    """Draw three panels: the excess logloss and the floor by model size, and the learned components by both sizes."""
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_excess(left, parts)
    _draw_shares(middle, parts, parts.by_size, parts.size)
    _draw_shares(right, parts, parts.by_data, parts.data)
    right.legend(
        title="components", alignment="left", loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False,
        fontsize=9,
    )  # fmt: skip
    return figure


def learned_finding(parts: LearnedParts) -> str:
    """How much of the components' true weights the largest model has learned."""
    last = parts.by_data.iloc[-1]
    values = [float(last[name]) for name in parts.components]
    return (
        f"The largest model has learned {min(values):.2f} to {max(values):.2f} of the components' true weights "
        f"at {last[parts.data.column]:,.0f} {parts.data.name} (1: all)"
    )


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
    log_ticks(ax.yaxis)
    ax.set_ylabel("excess logloss (nats)")
    # below the axes, where it covers no curve
    ax.legend(
        loc="upper left", bbox_to_anchor=(0.0, -0.17), frameon=False, fontsize=8, borderaxespad=0.0
    )
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
    log_ticks(ax.xaxis, size_label)
    ax.set_xlabel(along.label)
    ax.set_title(f"{other.name} = {at:,.0f}", fontsize=9, loc="left")
    dress(ax)
