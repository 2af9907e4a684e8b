"""All figures of a study, by name, drawn as PNG."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.budget import isoflop, read_cost
from analysis.fit import LawFit
from analysis.gain import ComputeGains
from analysis.latency import Served, best_under
from analysis.plots.accuracy_latency import plot_latency
from analysis.plots.ageing_days import plot_ageing
from analysis.plots.budget_frontier import plot_frontier
from analysis.plots.contest import plot_race
from analysis.plots.gain_bands import gain_text, plot_gains
from analysis.plots.held_out import plot_holdout
from analysis.plots.isoflop_profiles import plot_isoflop
from analysis.plots.law_curves import plot_curves
from analysis.plots.learned_components import plot_learned
from analysis.plots.residuals import plot_residuals
from analysis.plots.single_size import draw_single
from analysis.study_results import Ageing, LearnedParts, MetricFits, Race, StudyFits
from analysis.table import is_foreign, size_of
from analysis.uncertainty import format_estimate
from scaling.errors import UserError

__all__ = [
    "KINDS",
    "Picture",
    "draw_ageing",
    "draw_figures",
    "draw_gains",
    "draw_latency",
    "draw_learned",
    "draw_race",
]


_DPI = 150


@dataclass(frozen=True)
class Picture:
    """A figure as PNG with its caption."""

    png: bytes
    caption: str


def draw_figures(study: StudyFits, kinds: Sequence[str] | None = None) -> dict[str, Picture]:
    """Draw a study's figures by name, e.g. `logloss-data`.

    A figure whose fit does not exist is left out. If the joint law could not be fitted, the curves are
    fits of single groups.

    Args:
        study: the table and its fits.
        kinds: of `KINDS`, all by default.
    """
    pictures = {}
    for metric, fits in study.metrics.items():
        for kind in kinds or tuple(KINDS):
            drawn = KINDS[kind](study, fits) if study.has_both else draw_single(study, fits, kind)
            if drawn is not None:
                pictures[f"{metric}-{kind}"] = _picture(*drawn)
    return pictures


def draw_latency(served: Sequence[Served], *, budget_ms: float = 10.0) -> dict[str, Picture]:
    """Draw each metric against the latency that `scaling serve-bench` measured, e.g. `auc-latency`."""
    pictures = {}
    for one in served:
        ax = plot_latency(one.models, one.metric, budget_ms=budget_ms)
        caption = (
            f"{one.metric} against the p99 latency of a request of {one.n_candidates} candidates, "
            f"{int(one.models['n_samples'].iloc[0]):,} training samples; "
            f"{best_under(one.models, one.metric, budget_ms)}."
        )
        caption += "".join(f" {note[0].upper()}{note[1:]}." for note in one.notes)
        pictures[f"{one.metric}-latency"] = _picture(ax, caption)
    return pictures


def draw_gains(
    found: ComputeGains, unit: str, metric: str, fits: Mapping[str, LawFit] | None = None
) -> Picture:
    """Draw the share of a reference's budget with which variants reach its metric, against the budget.

    Args:
        found: at a grid of budgets.
        unit: column or unit of the budget.
        metric: that is reached.
        fits: the law of each variant, for its name and status.
    """
    caption = f"Share of the {unit} with which variants reach the {metric} of {found.reference}, {100 * found.level:g} % bands."
    inside = [gain for gain in found.gains if gain.beyond == 1 and gain.variant != found.reference]
    last = {gain.variant: gain for gain in inside}
    caption += "".join(f" {gain_text(gain, found, unit, metric)}." for gain in last.values())
    return _picture(plot_gains(found, unit, metric, fits=fits), caption)


def draw_race(race: Race) -> Picture:
    """Draw the metric of all variants against the budget: runs, laws with bands, who is best."""
    left = ", ".join(race.left_out)
    caption = f"{race.metric} of {len(race.laws)} models against the budget; curves: best split, {100 * race.level:g} % bands."
    caption += f" Without a law that can be compared: {left}." if left else ""
    return _picture(plot_race(race), caption)


def draw_learned(parts: LearnedParts) -> Picture:
    """Draw what models on a generated log have learned of its truth."""
    last = parts.by_data.iloc[-1]
    learned = ", ".join(f"{name} {last[name]:.2f}" for name in parts.components)
    caption = f"Slopes of the largest model at {last[parts.data.column]:,.0f} {parts.data.name}: {learned}."
    return _picture(plot_learned(parts), caption)


def draw_ageing(found: Ageing) -> Picture:
    """Draw the largest model's loss by day after the last training impression."""
    caption = f"{found.metric} of {found.grade} by day; on the right over the entropy of the day's share of clicks."
    return _picture(plot_ageing(found), caption)


def _picture(drawn: Axes | Figure, caption: str) -> Picture:
    png = io.BytesIO()
    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    figure.savefig(png, format="png", dpi=_DPI)  # type: ignore[union-attr]
    return Picture(png.getvalue(), caption)


def _curves_of(
    study: StudyFits, fits: MetricFits, fit: LawFit | Mapping[Any, LawFit] | None, **how: Any
) -> Axes:
    return plot_curves(
        study.table,
        fit,
        y=fits.metric,
        size=study.size.column,
        data=study.data.column,
        rising=fits.joint.law.rising,
        **how,
    )


def _against_data(study: StudyFits, fits: MetricFits) -> tuple[Axes, str]:
    fit = fits.joint if fits.joint.has_curve else fits.by_data
    ax = _curves_of(study, fits, fit, x=study.data.column, truth=fits.truth)
    groups = study.grade if study.grade == study.size.column else "grade"
    return ax, f"{fits.metric} against {study.data.name}, one colour per {groups}. {_curves(fits)}"


def _against_size(study: StudyFits, fits: MetricFits) -> tuple[Axes, str]:
    fit = fits.joint if fits.joint.has_curve else fits.by_size
    ax = _curves_of(study, fits, fit, x=study.size.column, truth=fits.truth)
    what = f"{fits.metric} against {study.size.name}, one colour per value of {study.data.name}"
    return ax, f"{what}. {_curves(fits)}"


def _against_flops(study: StudyFits, fits: MetricFits) -> tuple[Axes, str] | None:
    column = "flops_per_sample"
    if column in (study.size.column, study.data.column) or column not in study.table.columns:
        return None
    if len(study.table[column].unique()) < 2:
        return None
    fit = fits.joint if fits.joint.has_curve else None
    ax = _curves_of(study, fits, fit, x=column, truth=fits.truth)
    return ax, f"{fits.metric} against the forward cost of one sample. {_curves(fits)}"


def _excess(study: StudyFits, fits: MetricFits) -> tuple[Axes, str] | None:
    if fits.known is not None and fits.known.has_curve and fits.truth is not None:
        ax = _curves_of(study, fits, fits.known, x=study.data.column, minus=fits.truth)
        return ax, (
            f"Distance of {fits.metric} to that of the true probabilities, on logarithmic axes; "
            f"curves: the joint law with E held there."
        )
    if not fits.joint.success:
        return None
    offset = fits.joint.params["E"]
    ax = _curves_of(study, fits, fits.joint, x=study.data.column, minus=offset)
    return ax, f"Distance of {fits.metric} to the fitted E, on logarithmic axes."


def _residuals(study: StudyFits, fits: MetricFits) -> tuple[Axes, str] | None:
    if not fits.joint.has_curve:
        return None
    return plot_residuals(fits.joint, sizes=(study.size, study.data)), (
        f"Residuals of the joint law of {fits.metric}, in units of each cell's noise. A row or a "
        "column of one colour is a model size or a data size that the law misses as a whole."
    )


def _holdout(study: StudyFits, fits: MetricFits) -> tuple[Figure, str] | None:
    rows = fits.held_out
    law = fits.joint.law.name
    if rows.empty or not (rows["predicted"].notna() & (rows["law"] == law)).any():
        return None
    foreign = is_foreign(study.table)
    figure = plot_holdout(
        rows,
        law=law,
        y=fits.metric,
        sizes=(study.size, study.data),
        whole=fits.joint,
        foreign=foreign,
    )
    return figure, (
        f"Held-out cells of {fits.metric}: prediction from the smaller cells less measurement, with "
        "95 % prediction intervals, from the smallest cell up; a panel for each choice of what was held out."
    )


def _flops_label(study: StudyFits) -> str:
    """The label of training FLOPs; without their column, they are 6 N D."""
    if "flops" in study.table.columns:
        return size_of("flops", foreign=is_foreign(study.table)).label
    return "FLOPs $6\\,N\\,D$"


def _frontier(study: StudyFits, fits: MetricFits) -> tuple[Axes, str] | None:
    if not fits.joint.has_curve or fits.joint.law.variables != ("N", "D"):
        return None
    x, data = study.size.column, study.data.column
    if "flops" in (x, data):
        return None  # the cost is itself an axis, so there is nothing to split
    cost = read_cost(study.table, "flops", x=x, data=data)
    foreign = is_foreign(study.table)
    ax = plot_frontier(
        fits.joint,
        cost,
        sizes=(study.size, study.data),
        cost_label=_flops_label(study),
        foreign=foreign,
    )
    return ax, (
        f"Curves of equal {fits.metric} by the joint law, and the best model and data size for each "
        "training cost with its 95 % interval; everything beyond the runs is extrapolated."
    )


def _isoflop(study: StudyFits, fits: MetricFits) -> tuple[Figure, str] | None:
    x, data = study.size.column, study.data.column
    if "flops" in (x, data):
        return None
    rising = fits.joint.law.rising
    try:
        found = isoflop(study.table, fits.metric, x=x, data=data, rising=rising)
    except UserError:  # most studies are grids, whose runs share no budgets
        return None
    exponent = format_estimate(found.size.exponent, found.size.interval)
    figure = plot_isoflop(
        found, fits.metric, study.size, budget_label=_flops_label(study), rising=rising,
        foreign=is_foreign(study.table),
    )  # fmt: skip
    return figure, (
        "Runs of equal training FLOPs with a parabola in log size for each budget, and the best sizes with their power law; "
        f"N* grows as C^a with a = {exponent}."
    )


def _curves(fits: MetricFits) -> str:
    joint = fits.joint
    if not joint.has_curve:
        return f"No joint law: {joint.message}; curves are fitted to each group alone."
    points = "Points: means over seeds with pooled standard errors; curves: the joint law"
    offset = "" if "E" in joint.fixed else f" E = {joint.estimate('E')}."
    if not joint.success:
        status = joint.status.replace("_", " ")
        return f"{points}, whose status is {status}, so that they are dashed and grey and have no band.{offset}"
    level = f"{100 * joint.options.level:g} %"
    return f"{points} with its {level} confidence band, dashed beyond the largest size of each colour.{offset}"


# Name -> how it is drawn; the names are those of `scaling plot --kind`.
KINDS: dict[str, Callable[[StudyFits, MetricFits], tuple[Axes | Figure, str] | None]] = {
    "data": _against_data,
    "size": _against_size,
    "flops": _against_flops,
    "excess": _excess,
    "residuals": _residuals,
    "holdout": _holdout,
    "frontier": _frontier,
    "isoflop": _isoflop,
}
