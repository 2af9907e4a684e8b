"""The figure of held-out cells: the error of each prediction, with its interval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.fit import LawFit
from analysis.plots.style import ACCENT, GREY, dress, key_label, metric_label, set_figure_title
from analysis.table import Size, size_label, size_of

__all__ = ["plot_holdout"]


# A panel has as many names of cells as do not overlap.
_NAMED_CELLS = 30
_PANEL_WIDTH = 5.0  # inches
_PANEL_HEIGHT = 2.1
# Points between two cells without names; a marker is smaller than its cell is wide.
_LARGEST_MARKER = 5.0
_MISSED = "#d55e00"


def plot_holdout(
    rows: pd.DataFrame,
    *,
    law: str = "additive",
    y: str = "logloss",
    sizes: Sequence[Size] | None = None,
    whole: LawFit | None = None,
    foreign: bool = False,
) -> Figure:
    """Held-out cells: predicted less measured, with the 95 % prediction interval; one panel for each cut.

    In a panel each cell has a place of its own, from the smallest up. Open grey points come from training cells that do
    not determine the law.

    Args:
        rows: from `analysis.study_results.extrapolation.holdout`.
        law: the law to plot.
        y: column of the metric, for the label.
        sizes: of the cells; default: n_params and n_samples.
        whole: the fit to all cells, whose status the title tells as well.
        foreign: the table is not of our runs, so that the metric's unit is not known.
    """
    sizes = sizes or (size_of("n_params"), size_of("n_samples"))
    columns = [s.column if s.column in rows else f"{s.column} (size)" for s in sizes]
    rows = rows[(rows["law"] == law) & rows["predicted"].notna()].sort_values(columns)
    names = _CUT_LABELS if len(sizes) > 1 else _CUT_LABELS | {"size": f"largest {sizes[0].name}"}
    cuts = [cut for cut in _CUT_LABELS if cut in set(rows["cut"])]
    figure = Figure(figsize=(7.2, 1.2 + _PANEL_HEIGHT * max(len(cuts), 1)), layout="constrained")
    panels = list(figure.subplots(max(len(cuts), 1), 1, sharey=True, squeeze=False)[:, 0])
    for ax, cut in zip(panels, cuts, strict=False):
        _draw_panel(ax, rows[rows["cut"] == cut], columns)
        ax.set_title(f"held out: {names[cut]}", fontsize=9, loc="left", color=GREY)
    doubtful = (whole is not None and not whole.success) or bool(
        (rows["status"] != "converged").any()
    )
    set_figure_title(figure, _title(rows, law, whole, names), doubtful=doubtful)
    panels[-1].set_xlabel(" / ".join(size.label for size in sizes))
    figure.supylabel(f"predicted − measured {metric_label(y, foreign=foreign)}", fontsize=10)
    if len(rows):
        handles = {
            label: one
            for ax in panels
            for one, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        panels[0].legend(handles.values(), handles.keys(), title=key_label("95 % prediction interval"), frameon=False, fontsize=9,
                         alignment="left", loc="upper left", bbox_to_anchor=(1.01, 1.0))  # fmt: skip
    return figure


def _draw_panel(ax: Axes, part: pd.DataFrame, columns: Sequence[str]) -> None:
    """The cells of one cut, which may appear several times if several levels are held out."""
    at = np.arange(len(part))
    room = _PANEL_WIDTH * 72 / max(len(part), 1)
    sound, inside = (part["status"] == "converged").to_numpy(), part["inside"].to_numpy() == 1.0
    kinds = (
        ("holds the measurement", sound & inside, ACCENT, "o", ACCENT),
        ("misses it", sound & ~inside, _MISSED, "X", _MISSED),
        ("of a law that is not determined", ~sound, GREY, "o", "white"),
    )
    for label, chosen, colour, marker, face in kinds:
        if not chosen.any():
            continue
        cells = part[chosen]
        ends = np.abs(cells[["lower", "upper"]].to_numpy().T - cells["predicted"].to_numpy())
        ax.errorbar(
            at[chosen], cells["predicted"] - cells["measured"], yerr=np.nan_to_num(ends), fmt=marker,
            color=colour, ms=min(_LARGEST_MARKER, 0.8 * room), mec=colour, mfc=face,
            elinewidth=min(1.0, 0.3 * room), capsize=2.0 if room > 8 else 0.0, label=key_label(label),
        )  # fmt: skip
    ax.axhline(0.0, color=GREY, lw=1.0, zorder=1)
    step = -(-len(part) // _NAMED_CELLS) or 1
    named = [
        " / ".join(size_label(value) for value in cell)
        for cell in part[list(columns)].to_numpy(dtype=float)[::step]
    ]
    ax.set_xticks(at[::step], named, rotation=90, fontsize=8)
    ax.set_xlim(-0.7, len(part) - 0.3)
    dress(ax)
    ax.grid(False, axis="x")


def _title(rows: pd.DataFrame, law: str, whole: LawFit | None, names: Mapping[str, str]) -> str:
    """How many intervals of each cut hold their cell, and the status of the fits below each cut and of that to all cells."""
    known = rows[rows["lower"].notna()] if "lower" in rows else rows
    hits = [
        f"{int((part['inside'] == 1.0).sum())} of {len(part)} ({names[str(cut)]})"
        for cut, part in known.groupby("cut", sort=False)
    ]
    lines = []
    if hits:
        lines.append(f"{law} law: held-out cells inside their 95 % interval: {', '.join(hits)}")
    by_cut = rows.drop_duplicates("cut")
    statuses = {
        names[cut]: _status(status)
        for cut, status in zip(by_cut["cut"], by_cut["status"], strict=True)
    }
    if len(set(statuses.values())) == 1:
        told = next(iter(statuses.values()))
    else:
        told = ", ".join(f"{status} (without {name})" for name, status in statuses.items())
    lines.append(f"fits to the smaller cells: {told or 'none'}")
    if whole is not None:
        which = f" ({', '.join(whole.unidentified)})" if whole.status == "not_identified" else ""
        lines.append(f"fit to all cells: {_status(whole.status)}{which}")
    return "\n".join(lines)


def _status(status: str) -> str:
    return status if status == "converged" else status.replace("_", " ").upper()


_CUT_LABELS = {
    "data": "largest data size",
    "size": "largest model",
    "corner": "largest data size and largest model",
    "flops": "most FLOPs",
}
