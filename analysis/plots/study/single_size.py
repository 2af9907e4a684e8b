"""Figures of a law of one size: the metric with the fitted curve, its distance to E, residuals, held-out cells."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.fit import LawFit
from analysis.plots.held_out import plot_holdout
from analysis.plots.residuals import plot_residuals
from analysis.plots.style import (
    DOUBTFUL,
    GREY,
    colour_of,
    dress,
    law_facts,
    law_title,
    log_ticks,
    metric_label,
    new_axes,
    set_title,
)
from analysis.study_results import (
    MetricFits,
    StudyFits,
    growth_finding,
    holdout_finding,
    residual_finding,
)
from analysis.table import Size, is_foreign, size_label

__all__ = ["draw_single", "plot_size"]


# How far the curve runs beyond the largest size.
_REACH = 10.0
# A metric that changes by more than this factor is read better on a logarithmic axis.
_WIDE = 10.0


def draw_single(
    study: StudyFits, fits: MetricFits, kind: str
) -> tuple[Axes | Figure, str, str] | None:
    """A figure of a study whose laws are of one size, what it shows, and its caption; None for a kind that needs two sizes.

    Args:
        study: the table and its fits.
        fits: of one metric.
        kind: one of `analysis.plots.figures.KINDS`.
    """
    fit, foreign = fits.joint, is_foreign(study.table)
    if kind == "size":
        curve = "the fitted law with its 95 % confidence band" if fit.success else "no trusted law"
        caption = f"{fits.metric} against {study.size.column}; curve: {curve}, dashed beyond the runs. {law_facts(fit)}."
        return plot_size(fit, study.size, foreign=foreign), growth_finding(fits, "x"), caption
    if kind == "excess" and fit.success and fit.law.saturates:
        ax = plot_size(fit, study.size, foreign=foreign, minus=fit.params["E"])
        finding = f"{fits.metric} approaches E with exponent {fit.estimate(fit.law.shapes[0].name)}"
        caption = (
            f"Distance of {fits.metric} to the fitted E, on logarithmic axes. {law_facts(fit)}."
        )
        return ax, finding, caption
    if kind == "residuals" and fit.has_curve:
        caption = f"Residuals of the law of {fits.metric}, in units of the noise. {law_facts(fit)}."
        return plot_residuals(fit, sizes=(study.size,)), residual_finding(fits), caption
    rows = fits.held_out
    if kind == "holdout" and not rows.empty and rows["predicted"][rows["law"] == fit.law.name].notna().any():  # fmt: skip
        figure = plot_holdout(
            rows, law=fit.law.name, y=fits.metric, sizes=(study.size,), whole=fit, foreign=foreign
        )
        return (
            figure,
            holdout_finding(fits),
            (
                f"Held-out cells of {fits.metric}: prediction from the smaller sizes less measurement, with 95 % prediction "
                "intervals."
            ),
        )
    return None


def plot_size(
    fit: LawFit,
    size: Size,
    *,
    foreign: bool = False,
    minus: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot the points of a fit of one size and its curve, dashed beyond the runs, grey if the data do not determine it.

    Args:
        fit: of a law of one variable.
        size: that variable.
        foreign: the table is not of our runs, so that the metric's unit is not known.
        minus: plot the distance to this offset on logarithmic axes instead of the metric.
        ax: axes to plot on; default: those of a new figure.
    """
    if ax is None:
        ax = new_axes()
    name = metric_label(fit.y, foreign=foreign)
    ax.set_xscale("log")
    ax.set_xlabel(size.label)
    sign = -1.0 if minus is not None and fit.law.rising else 1.0
    ax.set_ylabel(name if minus is None else f"{minus:.4f} − {name}" if sign < 0 else f"{name} − {minus:.4f}")  # fmt: skip
    dress(ax)
    if fit.has_curve:
        values = fit.cells["measured"].to_numpy()
        if minus is not None or (values.min() > 0 and values.max() > _WIDE * values.min()):
            ax.set_yscale("log")
        _draw(ax, fit, sign, minus or 0.0)
        log_ticks(ax.xaxis)
        ax.xaxis.set_major_formatter(lambda value, _: size_label(value))
        if ax.get_yscale() == "log":
            log_ticks(ax.yaxis)
    set_title(ax, law_title(fit), doubtful=not fit.success)
    return ax


def _draw(ax: Axes, fit: LawFit, sign: float, offset: float) -> None:
    sizes, values = fit.cell_sizes[:, 0], fit.cells["measured"].to_numpy()
    seeds = np.sqrt(fit.cells["n_rows"].to_numpy())
    # a residual of logs is relative
    scale = values if fit.options.residual_scale == "log" else 1.0
    error = fit.noise.sd / seeds * scale if fit.noise.dof else None
    heights = sign * (values - offset)
    ax.errorbar(
        sizes, heights, yerr=error, fmt="o", color=colour_of(0, 2), ms=6.0, mec="white", mew=0.6,
        elinewidth=1.0, capsize=2.0, zorder=3,
    )  # fmt: skip
    last = float(sizes.max())
    along = np.unique([*np.geomspace(float(sizes.min()), last * _REACH, 160), last])
    band = fit.band(along)
    curve = sign * (band.mean - offset)
    colour = colour_of(1, 2) if fit.success else DOUBTFUL
    for part, line in ((along <= last, "-"), (along >= last, "--")):
        look: dict[str, Any] = {"color": colour, "lw": 1.5, "ls": line if fit.success else "--"}
        ax.plot(along[part], curve[part], zorder=2, **look)
    low, high = ax.get_ylim()
    one, other = (np.clip(sign * (side - offset), low, high) for side in (band.lower, band.upper))
    if fit.success and np.isfinite([one, other]).all():
        ax.fill_between(along, one, other, color=colour, alpha=0.13, lw=0, zorder=1)
    ax.set_ylim(low, high)
    ax.axvspan(last, along[-1], color="black", alpha=0.045, lw=0, zorder=0)
    ax.annotate(
        "extrapolated", (along[-1], 1.0), (-4, -4), xycoords=("data", "axes fraction"),
        textcoords="offset points", ha="right", va="top", fontsize=8, color=GREY,
    )  # fmt: skip
