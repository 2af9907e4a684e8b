"""All figures of a report, by name, as finished pictures."""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.fit import LawFit
from analysis.gain import ComputeGains
from analysis.latency import Served, best_under
from analysis.plots.accuracy_latency import plot_latency
from analysis.plots.ageing_days import ageing_finding, plot_ageing
from analysis.plots.contest import plot_race
from analysis.plots.gain_bands import gain_text, plot_gains
from analysis.plots.learned_components import learned_finding, plot_learned
from analysis.plots.rendering import Picture, picture_of
from analysis.plots.study import KINDS, draw_single
from analysis.plots.training import (
    calibration_finding,
    curves_finding,
    plot_calibration,
    plot_training,
)
from analysis.study_results import Ageing, LearnedParts, Race, StudyFits, race_headline

__all__ = [
    "draw_ageing",
    "draw_calibration",
    "draw_figures",
    "draw_gains",
    "draw_latency",
    "draw_learned",
    "draw_race",
    "draw_training",
]


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
                pictures[f"{metric}-{kind}"] = picture_of(*drawn)
    return pictures


def draw_latency(served: Sequence[Served], *, budget_ms: float = 10.0) -> dict[str, Picture]:
    """Draw each metric against the latency that `scaling serve-bench` measured, e.g. `auc-latency`."""
    pictures = {}
    for one in served:
        ax = plot_latency(one.models, one.metric, budget_ms=budget_ms)
        caption = (
            f"{one.metric} against the p99 latency of a request of {one.n_candidates} candidates, "
            f"{int(one.models['n_samples'].iloc[0]):,} training samples."
        )
        caption += "".join(f" {note[0].upper()}{note[1:]}." for note in one.notes)
        best = best_under(one.models, one.metric, budget_ms)
        pictures[f"{one.metric}-latency"] = picture_of(
            ax, best[0].upper() + best[1:], caption, is_titled=True
        )
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
    texts = [gain_text(gain, found, unit, metric) for gain in last.values()]
    caption += "".join(f" {text}." for text in texts)
    finding = texts[0] if texts else f"No variant reaches {found.reference} inside the runs"
    return picture_of(plot_gains(found, unit, metric, fits=fits), finding, caption, is_titled=True)


def draw_race(race: Race) -> Picture:
    """Draw the metric of all variants against the budget: runs, laws with bands, who is best."""
    left = ", ".join(race.without_law)
    caption = f"{race.metric} of {len(race.laws)} models against the budget; curves: best split, {100 * race.level:g} % bands."
    caption += f" Without a law that can be compared: {left}." if left else ""
    return picture_of(plot_race(race), race_headline(race), caption, is_titled=True)


def draw_learned(parts: LearnedParts) -> Picture:
    """Draw what models on a generated log have learned of its truth."""
    last = parts.by_data.iloc[-1]
    learned = ", ".join(f"{name} {last[name]:.2f}" for name in parts.components)
    caption = f"Slopes of the largest model at {last[parts.data.column]:,.0f} {parts.data.name}: {learned}."
    return picture_of(plot_learned(parts), learned_finding(parts), caption)


def draw_ageing(found: Ageing) -> Picture:
    """Draw the largest model's loss by day after the last training impression."""
    caption = f"{found.metric} of {found.grade} by day; on the right over the entropy of the day's share of clicks."
    return picture_of(plot_ageing(found), ageing_finding(found), caption)


def draw_training(curves: pd.DataFrame) -> Picture:
    """Draw the training loss of all runs against the impressions seen (`analysis.table.curves_table`)."""
    caption = (
        "Mean training logloss since the point before, against the impressions seen; one line per run, one colour per grade, thicker "
        "for more data. A line that rises or jumps is a run to look at."
    )
    return picture_of(plot_training(curves), curves_finding(curves), caption)


def draw_calibration(table: pd.DataFrame) -> Picture:
    """Draw predicted over observed clicks of all runs against the data size."""
    caption = (
        "Sum of the predicted probabilities over the number of clicks in the test part, means over seeds with the range of the "
        "seeds; at 1 the model is calibrated on average."
    )
    return picture_of(plot_calibration(table), calibration_finding(table), caption)
