"""The figure of a metric against one size: points and fitted curves by group.

Colour follows the order of the groups (grades or data sizes) on a scale for colour-blind readers; the
marker is the second cue. Whatever lies beyond the measured span is dashed and shaded. The curves of a
fit that the data do not determine are dashed and grey over their whole length, without a band. Of many
groups, some have a curve.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from analysis.fit import LawFit
from analysis.plots.style import (
    DOUBTFUL,
    GREY,
    LEGEND_ENTRIES,
    MARKERS,
    colour_of,
    dress,
    group_bar,
    key_label,
    law_title,
    log_ticks,
    metric_label,
    new_axes,
    set_title,
)
from analysis.table import cell_table, grade_column, is_foreign, rises, size_label, size_of
from scaling.arrays import FloatArray

__all__ = ["plot_curves"]


# How far curves run beyond the largest size.
_REACH = 10.0
# A limit further from the points than this share of their range would set the scale of the axis.
_NEAR = 0.5
# Nor do curves that fall further below the points than this factor, where heights are logarithmic.
_BELOW = 10.0


def plot_curves(
    table: pd.DataFrame,
    fit: LawFit | Mapping[Any, LawFit] | None = None,
    *,
    y: str,
    x: str = "n_samples",
    size: str = "n_params",
    data: str = "n_samples",
    group: str | None = None,
    minus: float | None = None,
    truth: float | None = None,
    rising: bool | None = None,
    ax: Axes | None = None,
    **line_kws: Any,
) -> Axes:
    """Plot a metric against data size or model size, one colour per group, with fitted curves.

    Args:
        table: one row per run.
        fit: a joint law, or one law of x for each group; a fit without a curve is left out.
        y: column of the metric.
        x: column of the horizontal axis: the data size, the model's size or flops_per_sample.
        size: column of the model's size.
        data: column of the data size.
        group: column with one curve per value; default: the grade (or the model's size) against the
            data size, and the data size against anything else.
        minus: plot the distance to this offset on logarithmic axes instead of the metric.
        truth: a known limit of the metric (the Bayes logloss or AUC) to draw.
        rising: whether larger is better; default: by the metric's name.
        ax: axes to plot on; default: those of a new figure.
        line_kws: passed to matplotlib for the curves.
    """
    if ax is None:
        ax = new_axes()
    up = rises(y) if rising is None else rising
    by_data = x == data
    grade = grade_column(table, size, [y])
    if group is None:
        group = grade if by_data else data
    found = cell_table(table, [y], x=size, data=data, grade=grade)
    cells, means = found.sizes, found.metrics[y]
    values = means["mean"].to_numpy()
    levels = list(dict.fromkeys(cells.sort_values(size if by_data else data)[group]))
    sign = -1.0 if up else 1.0

    def height(values: FloatArray) -> FloatArray:
        return values if minus is None else sign * (values - minus)

    end = float(cells[x].max()) * _REACH
    names = [str(v) if isinstance(v, str) else size_label(float(v)) for v in levels]
    many = len(levels) > LEGEND_ENTRIES
    with_curve = _chosen(len(levels))
    heights = height(values)
    curves: list[FloatArray] = []
    for i, level in enumerate(levels):
        part = cells[cells[group] == level].sort_values(x)
        colour, marker = colour_of(i, len(levels)), "o" if many else MARKERS[i % len(MARKERS)]
        ax.errorbar(
            part[x], heights[part.index], yerr=means["mean_stderr"][part.index].fillna(0.0),
            fmt=marker, color=colour, ms=4.5 if many else 6.5, mec="white", mew=0.6, elinewidth=1.0,
            capsize=2.0, label=names[i], zorder=3,
        )  # fmt: skip
        own = fit.get(level) if isinstance(fit, Mapping) else fit
        if own is not None and own.has_curve and i in with_curve:
            look = {"color": colour, **line_kws}
            limits = _limits(heights, minus is not None)
            curves.append(_draw_curve(ax, own, cells, part, x, size, end, height, limits, look))
    ax.set_xscale("log")
    _mark_span(ax, cells, x, end if curves else float(cells[x].max()), foot=up and minus is None)
    foreign = is_foreign(table)
    name = metric_label(y, foreign=foreign)
    if minus is None:
        _draw_limits(ax, fit if isinstance(fit, LawFit) else None, values, truth, y)
        ax.set_ylabel(name)
    else:
        ax.set_ylabel(f"{minus:.4f} − {name}" if up else f"{name} − {minus:.4f}")
        _set_log_height(ax, heights, curves)
    ax.set_xlabel(size_of(x, foreign=foreign).label)
    dress(ax)
    title = size_of(group, foreign=foreign).title
    if fit is not None:
        said = _title(fit, title)
        if curves and many:
            said += f"\ncurves: {len(curves)} of {len(levels)} values of {title}"
        if minus is not None and (below := int((heights <= 0).sum())):
            said += f"\n{below} of {len(heights)} cells lie beyond {minus:.4f} and cannot be shown"
        set_title(ax, said, doubtful=_is_doubtful(fit))
    _key(ax, names, title, upwards=up and minus is None)
    return ax


def _chosen(n: int) -> set[int]:
    """Places of the groups that get a curve: all, or some at even distances."""
    return set(np.linspace(0, n - 1, min(n, LEGEND_ENTRIES)).round().astype(int).tolist())


def _is_doubtful(fit: LawFit | Mapping[Any, LawFit]) -> bool:
    fits = [fit] if isinstance(fit, LawFit) else list(fit.values())
    return not all(one.success for one in fits if one.has_curve or isinstance(fit, LawFit))


def _title(fit: LawFit | Mapping[Any, LawFit], group: str) -> str:
    if isinstance(fit, LawFit):
        return law_title(fit)
    drawn = [one for one in fit.values() if one.has_curve]
    if not drawn:
        return f"no curve: too few sizes to fit each value of {group} alone"
    doubtful = sum(not one.success for one in drawn)
    said = f"{doubtful} of {len(drawn)} NOT DETERMINED (grey)" if doubtful else "converged"
    cells = sorted({one.n_cells for one in drawn})
    count = " to ".join(str(n) for n in dict.fromkeys((cells[0], cells[-1])))
    return (
        f"{drawn[0].law.name} law of each value of {group} alone, {said}\n"
        f"{drawn[0].n_free} parameters from {count} cells each, so a close curve says little"
    )


def _draw_curve(
    ax: Axes,
    fit: LawFit,
    cells: pd.DataFrame,
    part: pd.DataFrame,
    x: str,
    size: str,
    end: float,
    height: Any,
    limits: tuple[float, float],
    kws: dict[str, Any],
) -> FloatArray:
    """Draw one group's curve with its confidence band, dashed beyond the group's largest size; its heights."""
    last = float(part[x].max())
    along = np.unique([*np.geomspace(float(cells[x].min()), end, 120), last])
    sizes = _sizes(fit, cells, part, x, size, along)
    band = fit.band(*sizes)
    inside, beyond = along <= last * (1 + 1e-9), along >= last * (1 - 1e-9)
    style: dict[str, Any] = {"lw": 1.5, "zorder": 2, **kws}
    if not fit.success:
        look = {**style, "color": DOUBTFUL, "ls": "--", "lw": 1.2}
        ax.plot(along, height(band.mean), **look)
        return np.asarray(height(band.mean))
    ax.plot(along[inside], height(band.mean[inside]), **style)
    ax.plot(along[beyond], height(band.mean[beyond]), **{**style, "ls": "--", "lw": 1.2})
    # Far beyond the points the band is very wide and would set the scale of the axis.
    low, high = (np.clip(height(side), *limits) for side in (band.lower, band.upper))
    if np.isfinite(low).all():
        ax.fill_between(along, low, high, color=style["color"], alpha=0.13, lw=0, zorder=1)
    return np.asarray(height(band.mean))


def _sizes(
    fit: LawFit, cells: pd.DataFrame, part: pd.DataFrame, x: str, size: str, along: FloatArray
) -> list[FloatArray]:
    """The law's variables along the horizontal axis."""
    sizes = []
    for variable in fit.law.variables:
        column = fit.columns[variable]
        if column == x:
            sizes.append(along)
        elif x == "flops_per_sample" and column == size:
            sizes.append(_followed(cells, x, column, along))
        elif not (
            part[column] == part[column].iloc[0]
        ).all():  # e.g. training FLOPs along the data sizes of one grade
            sizes.append(_followed(part, x, column, along))
        else:
            sizes.append(np.full(along.shape, float(part[column].iloc[0])))
    return sizes


def _followed(cells: pd.DataFrame, x: str, column: str, along: FloatArray) -> FloatArray:
    """The size in `column` at each x, by a power law between the cells and on average beyond them."""
    known = cells.drop_duplicates(x).sort_values(x)
    logs = np.log(known[x].to_numpy(dtype=float)), np.log(known[column].to_numpy(dtype=float))
    slope = (logs[1][-1] - logs[1][0]) / max(logs[0][-1] - logs[0][0], 1e-9)
    at = np.log(along)
    beyond = np.maximum(at - logs[0][-1], 0.0) + np.minimum(at - logs[0][0], 0.0)
    return np.asarray(np.exp(np.interp(at, *logs) + beyond * slope))


def _limits(heights: FloatArray, is_log: bool) -> tuple[float, float]:
    """How far from the points anything is drawn, so that it does not set the scale of the axis."""
    if is_log:
        seen = heights[heights > 0]
        return (seen.min() / 1e3, seen.max() * 1e3) if len(seen) else (1e-9, 1e9)
    reach = 1.5 * float(np.ptp(heights))
    return float(heights.min()) - reach, float(heights.max()) + reach


def _set_log_height(ax: Axes, heights: FloatArray, curves: Sequence[FloatArray]) -> None:
    """A logarithmic axis for what lies above zero; the bands, whose lower ends may not, do not set its range."""
    ax.set_yscale("log")
    points = heights[heights > 0]
    if len(points):
        seen = np.concatenate([points, *curves])
        seen = seen[np.isfinite(seen) & (seen >= points.min() / _BELOW)]
        ax.set_ylim(seen.min() / 1.25, seen.max() * 1.25)
    log_ticks(ax.yaxis)


def _draw_limits(
    ax: Axes, fit: LawFit | None, values: FloatArray, truth: float | None, y: str
) -> None:
    """Lines of the fitted offset and of the known limit, if they are near the points."""
    reach = _NEAR * float(np.ptp(values))
    low, high = float(values.min()) - reach, float(values.max()) + reach
    if fit is not None and fit.has_curve and low <= fit.params["E"] <= high:
        ax.axhline(fit.params["E"], color=GREY, lw=1.2, ls=":", label="fitted $E$", zorder=1)
    if truth is not None and np.isfinite(truth) and low <= truth <= high:
        kind = "AUC" if rises(y) else "logloss"
        label = key_label(f"true probabilities' {kind} {truth:.4f}")
        ax.axhline(truth, color="black", lw=1.0, ls="-.", label=label)


def _mark_span(ax: Axes, cells: pd.DataFrame, x: str, end: float, *, foot: bool) -> None:
    """Ticks at the measured sizes, and a shade beyond them, named at its foot or its top."""
    levels = np.unique(cells[x].to_numpy(dtype=float))
    last = float(levels[-1])
    if end > last:
        ax.axvspan(last, end, color="black", alpha=0.045, lw=0, zorder=0)
        ax.annotate(
            "extrapolated", (end, 0.0 if foot else 1.0), (-4, 4 if foot else -4), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="right", va="bottom" if foot else "top", fontsize=8, color=GREY,
        )  # fmt: skip
    ax.set_xlim(float(levels[0]) / 1.25, max(end, last * 1.25))
    ticks = _spaced(levels, ax.get_xlim())
    ax.set_xticks(ticks, [size_label(value) for value in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def _spaced(levels: FloatArray, limits: Sequence[float]) -> list[float]:
    """The levels whose labels do not overlap; larger ones take precedence."""
    room = 0.09 * np.log(limits[1] / limits[0])
    kept: list[float] = []
    for level in levels[::-1]:
        if not kept or np.log(kept[-1] / level) >= room:
            kept.append(float(level))
    return kept[::-1]


def _key(ax: Axes, names: Sequence[str], title: str, *, upwards: bool) -> None:
    """Groups in the order of their curves, then the limits; many groups get a colour bar."""
    handles, labels = ax.get_legend_handles_labels()
    groups = [(h, t) for h, t in zip(handles, labels, strict=True) if hasattr(h, "has_yerr")]
    others = [(h, t) for h, t in zip(handles, labels, strict=True) if not hasattr(h, "has_yerr")]
    if len(names) > LEGEND_ENTRIES:
        group_bar(ax, names, title)
        if others:
            ax.legend(
                *zip(*others, strict=True), loc="upper left", bbox_to_anchor=(0.0, -0.15),
                frameon=False, fontsize=9, borderaxespad=0.0,
            )  # fmt: skip
        return
    ordered = [*(groups[::-1] if upwards else groups), *others]
    ax.legend(
        [h for h, _ in ordered], [t for _, t in ordered], title=title, alignment="left",
        loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9,
    )  # fmt: skip
