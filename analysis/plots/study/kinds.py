"""The kinds of figures of a study: which are drawn of a metric, with what they show."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.budget import isoflop, read_cost
from analysis.fit import LawFit
from analysis.plots.budget_frontier import plot_frontier
from analysis.plots.held_out import plot_holdout
from analysis.plots.isoflop_profiles import plot_isoflop
from analysis.plots.law_curves import plot_curves
from analysis.plots.residuals import plot_residuals
from analysis.plots.style import law_facts
from analysis.study_results import (
    STATUS_WORDS,
    MetricFits,
    StudyFits,
    cost_finding,
    frontier_finding,
    growth_finding,
    holdout_finding,
    residual_finding,
)
from analysis.table import is_foreign, size_of
from analysis.uncertainty import format_estimate
from scaling.errors import UserError

__all__ = ["KINDS", "Drawn"]


# A drawing, what it shows, and its caption.
Drawn = tuple[Axes | Figure, str, str]


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


def _against_data(study: StudyFits, fits: MetricFits) -> Drawn:
    fit = fits.joint if fits.joint.has_curve else fits.by_data
    ax = _curves_of(study, fits, fit, x=study.data.column, truth=fits.truth)
    groups = study.grade if study.grade == study.size.column else "grade"
    what = f"{fits.metric} against {study.data.name}, one colour per {groups}"
    return ax, growth_finding(fits, "D"), f"{what}. {_curves(fits)}"


def _against_size(study: StudyFits, fits: MetricFits) -> Drawn:
    fit = fits.joint if fits.joint.has_curve else fits.by_size
    ax = _curves_of(study, fits, fit, x=study.size.column, truth=fits.truth)
    what = f"{fits.metric} against {study.size.name}, one colour per value of {study.data.name}"
    return ax, growth_finding(fits, "N"), f"{what}. {_curves(fits)}"


def _against_flops(study: StudyFits, fits: MetricFits) -> Drawn | None:
    column = "flops_per_sample"
    if column in (study.size.column, study.data.column) or column not in study.table.columns:
        return None
    if len(study.table[column].unique()) < 2:
        return None
    fit = fits.joint if fits.joint.has_curve else None
    ax = _curves_of(study, fits, fit, x=column, truth=fits.truth)
    finding = cost_finding(study, fits, column)
    return ax, finding, f"{fits.metric} against the forward cost of one sample. {_curves(fits)}"


def _excess(study: StudyFits, fits: MetricFits) -> Drawn | None:
    if fits.known is not None and fits.known.has_curve and fits.truth is not None:
        ax = _curves_of(study, fits, fits.known, x=study.data.column, minus=fits.truth)
        known = fits.known
        return (
            ax,
            _decay(known, "the true probabilities"),
            (
                f"Distance of {fits.metric} to that of the true probabilities, on logarithmic axes; "
                f"curves: the joint law with E held there. {law_facts(known)}."
            ),
        )
    if not fits.joint.success:
        return None
    offset = fits.joint.params["E"]
    ax = _curves_of(study, fits, fits.joint, x=study.data.column, minus=offset)
    caption = (
        f"Distance of {fits.metric} to the fitted E, on logarithmic axes. {law_facts(fits.joint)}."
    )
    return ax, _decay(fits.joint, "E"), caption


def _decay(fit: LawFit, limit: str) -> str:
    """How the distance to a limit falls with the data size, for laws with a term of it."""
    if not fit.success:
        return f"{fit.y}: {STATUS_WORDS[fit.status]}"
    if "beta" not in fit.params:
        return f"{fit.y} approaches {limit} by the {fit.law.name} law"
    return f"More data bring {fit.y} towards {limit} with exponent {fit.estimate('beta')}"


def _residuals(study: StudyFits, fits: MetricFits) -> Drawn | None:
    if not fits.joint.has_curve:
        return None
    ax = plot_residuals(fits.joint, sizes=(study.size, study.data))
    return (
        ax,
        residual_finding(fits),
        (
            f"Residuals of the joint law of {fits.metric}, in units of each cell's noise. A row or a "
            "column of one colour is a model size or a data size that the law misses as a whole. "
            f"{law_facts(fits.joint)}."
        ),
    )


def _holdout(study: StudyFits, fits: MetricFits) -> Drawn | None:
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
    return (
        figure,
        holdout_finding(fits),
        (
            f"Held-out cells of {fits.metric}: prediction from the smaller cells less measurement, with "
            "95 % prediction intervals, from the smallest cell up; a panel for each choice of what was held out."
        ),
    )


def _flops_label(study: StudyFits) -> str:
    """The label of training FLOPs; without their column, they are 6 N D."""
    if "flops" in study.table.columns:
        return size_of("flops", foreign=is_foreign(study.table)).label
    return "FLOPs $6\\,N\\,D$"


def _frontier(study: StudyFits, fits: MetricFits) -> Drawn | None:
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
    return (
        ax,
        frontier_finding(study, fits),
        (
            f"Curves of equal {fits.metric} by the joint law, and the best model and data size for each "
            "training cost with its 95 % interval; everything beyond the runs is extrapolated. "
            f"{law_facts(fits.joint)}."
        ),
    )


def _isoflop(study: StudyFits, fits: MetricFits) -> Drawn | None:
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
    finding = f"The best model of a budget grows as training FLOPs to the power {exponent}"
    return (
        figure,
        finding,
        (
            "Runs of equal training FLOPs with a parabola in log size for each budget, and the best sizes with their power law; "
            f"N* grows as C^a with a = {exponent}."
        ),
    )


def _curves(fits: MetricFits) -> str:
    joint = fits.joint
    if not joint.has_curve:
        return f"No joint law: {joint.message}; curves are fitted to each group alone."
    points = "Points: means over seeds with pooled standard errors; curves: the joint law"
    facts = f" {law_facts(joint)}."
    if not joint.success:
        status = joint.status.replace("_", " ")
        return f"{points}, whose status is {status}, so that they are dashed and grey and have no band.{facts}"
    level = f"{100 * joint.options.level:g} %"
    return f"{points} with its {level} confidence band, dashed beyond the largest size of each colour.{facts}"


# Name -> how it is drawn; the names are those of `scaling plot --kind`.
KINDS: dict[str, Callable[[StudyFits, MetricFits], Drawn | None]] = {
    "data": _against_data,
    "size": _against_size,
    "flops": _against_flops,
    "excess": _excess,
    "residuals": _residuals,
    "holdout": _holdout,
    "frontier": _frontier,
    "isoflop": _isoflop,
}
