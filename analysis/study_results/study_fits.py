"""All fits of one table: joint and one-variable laws of each metric, rival laws, held-out scores, text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.budget import GainsFrom, gains, read_cost, with_advice
from analysis.fit import FitOptions, LawFit, fit_law
from analysis.laws import LAWS, Additive, Law, Saturating
from analysis.study_results.extrapolation import holdout, score_holdout
from analysis.table import (
    Cells,
    Size,
    cell_table,
    check_runs,
    grade_column,
    is_foreign,
    place_of,
    require_columns,
    rises,
    size_label,
    size_of,
    source_of,
    value_text,
)
from analysis.uncertainty import Interval, format_estimate
from scaling.aligned_text import aligned
from scaling.errors import UserError

__all__ = ["MetricFits", "StudyFits", "fit_study", "grade_label", "joint_laws", "truth_verdict"]


_TRUTH = {"logloss": "bayes_logloss", "auc": "bayes_auc"}


@dataclass(frozen=True)
class MetricFits:
    """Everything fitted to one metric.

    Attributes:
        metric: column.
        truth: the metric of the true probabilities (generated data), or None.
        joint: the additive law with E free.
        known: the additive law with E held at the truth, or None.
        by_data: the saturating law of the data size, for each grade (or model size, without grades).
        by_size: the saturating law of the model size, for each data size.
        rivals: every joint law of model size and data size, by name; without intervals.
        held_out: rows of `holdout`.
        scores: its summary by `score_holdout`.
        tenfold: what ten times each size buys by the joint law (`analysis.budget.size_gains`); empty unless it converged.
    """

    metric: str
    truth: float | None
    joint: LawFit
    known: LawFit | None
    by_data: dict[Any, LawFit]
    by_size: dict[float, LawFit]
    rivals: dict[str, LawFit]
    held_out: pd.DataFrame
    scores: pd.DataFrame
    tenfold: tuple[GainsFrom, ...] = ()

    def named(self) -> dict[str, LawFit]:
        """Every fit with intervals, by a name that can be part of a file name."""
        fits = {f"{self.metric}-joint": self.joint}
        if self.known is not None:
            fits[f"{self.metric}-joint-known-E"] = self.known
        x, data = self.joint.columns["N"], self.joint.columns["D"]
        for grade, fit in self.by_data.items():
            group = grade if isinstance(grade, str) else f"N{value_text(grade)}"
            fits[f"{self.metric}-{data}-{group}"] = fit
        return fits | {f"{self.metric}-{x}-D{size}": fit for size, fit in self.by_size.items()}


@dataclass(frozen=True)
class StudyFits:
    """One table (a variant of a study) and the fits of its metrics.

    Attributes:
        label: of the variant; empty if there is only one.
        table: one row per run.
        cells: `cell_table` of it.
        metrics: fits by metric.
        size: the model's size, N of the laws.
        data: the data size, D of the laws.
        grade: column that names the models; that of the model's size if the table has no grades.
    """

    label: str
    table: pd.DataFrame
    cells: Cells
    metrics: dict[str, MetricFits]
    size: Size
    data: Size
    grade: str

    def text(self) -> str:
        """Cells, exponents and held-out scores as aligned text."""
        parts = [f"[{self.label}]"] if self.label else []
        for fits in self.metrics.values():
            parts += [_cells_text(self, fits.metric), _laws_text(fits)]
        return "\n\n".join(parts)

    def by_grade(self) -> list[tuple[str, pd.DataFrame]]:
        """The rows of `cells.sizes` of each grade and model size, smallest first, with the grade's name."""
        keys = list(dict.fromkeys([self.grade, self.size.column]))
        groups = [part for _, part in self.cells.sizes.groupby(keys, sort=False)]
        return [(grade_label(part[self.grade].iloc[0]), part) for part in groups]


def grade_label(grade: Any) -> str:
    """The name of a grade; without grades the model's size, rounded."""
    return grade if isinstance(grade, str) else size_label(float(grade))


def joint_laws(*, rising: bool = False) -> list[Law]:
    """Every law of model size and data size, for a metric that rises or falls."""
    laws = [law(rising=rising) for law in LAWS.values()]
    return [law for law in laws if law.variables == ("N", "D")]


def fit_study(
    table: pd.DataFrame,
    metrics: Sequence[str],
    label: str = "",
    *,
    x: str = "n_params",
    data: str = "n_samples",
    rising: Mapping[str, bool] | None = None,
) -> StudyFits:
    """Fit everything that a report shows.

    Args:
        table: one row per run, of one variant.
        metrics: columns to fit.
        label: of the variant.
        x: column of the model's size.
        data: column of the data size.
        rising: whether larger is better, for metrics whose names do not tell it.

    Raises:
        UserError: a column is missing, a run is counted twice, or one has no grade while others do.
    """
    check_runs(table, x, data)
    grade = grade_column(table, x, metrics)
    if grade != x and (absent := table[grade].isna()).any():
        row = table.index[absent][0]
        raise UserError(
            f"{source_of(table)}: {grade} is empty in {place_of(table, row)}; name all, or leave the column out"
        )
    if grade != x:  # grades are names, even if they are written as numbers
        table = table.assign(**{grade: table[grade].map(value_text)})
    require_columns(table, [x, data, *metrics])
    empty = [metric for metric in metrics if not np.isfinite(table[metric]).any()]
    if empty:
        raise UserError(f"table: no row has a finite {' or '.join(empty)}")
    up = {metric: rises(metric) for metric in metrics} | dict(rising or {})
    fitted = {metric: _fit_metric(table, metric, x, data, grade, up[metric]) for metric in metrics}
    cells = cell_table(table, metrics, x=x, data=data, grade=grade)
    size, samples = (size_of(column, foreign=is_foreign(table)) for column in (x, data))
    return StudyFits(label, table, cells, fitted, size, samples, grade)


def _fit_metric(
    table: pd.DataFrame, metric: str, x: str, data: str, grade: str, rising: bool
) -> MetricFits:
    truth = _truth(table, metric)
    both: dict[str, Any] = {"x": x, "data": data, "y": metric}
    joint = with_advice(fit_law(Additive(rising), table, **both))
    known = None
    if truth is not None:
        held = FitOptions(fixed={"E": truth})
        known = with_advice(fit_law(Additive(rising), table, **both, options=held))
    by_data = {
        name: fit_law(Saturating(rising), part, x=data, y=metric)
        for name, part in table.sort_values(x).groupby(grade, sort=False)
    }
    by_size = {
        _plain(size): fit_law(Saturating(rising), part, x=x, y=metric)
        for size, part in table.groupby(data)
    }
    laws = joint_laws(rising=rising)
    quick = FitOptions(interval="none")
    rivals = {law.name: fit_law(law, table, **both, options=quick) for law in laws}
    held_out = holdout(laws, table, **both)
    return MetricFits(
        metric,
        truth,
        joint,
        known,
        by_data,
        by_size,
        rivals,
        held_out,
        score_holdout(held_out),
        _tenfold(table, joint, x, data),
    )


def _tenfold(table: pd.DataFrame, joint: LawFit, x: str, data: str) -> tuple[GainsFrom, ...]:
    if not joint.success:
        return ()
    # with the cost as an axis there is nothing to split
    return gains(joint, None if "flops" in (x, data) else read_cost(table, "flops", x=x, data=data))


def _plain(size: Any) -> float:
    """A size as a Python number, whole ones as int."""
    return int(size) if float(size).is_integer() else float(size)


def _truth(table: pd.DataFrame, metric: str) -> float | None:
    """The limit of a metric without label noise; the metric of drawn labels scatters around it."""
    column = _TRUTH.get(metric.removeprefix("soft_"))
    if column not in table.columns or not metric.startswith("soft_"):
        return None
    values = np.unique(table[column].dropna())
    return float(values[0]) if len(values) == 1 and table[column].notna().all() else None


def _cells_text(study: StudyFits, metric: str) -> str:
    cells, x, data = study.cells, study.size.column, study.data.column
    mean = cells.metrics[metric]["mean"].to_numpy()
    sizes = np.unique(cells.sizes[data])
    own = [] if study.grade == x else ["N"]
    header = [study.grade, *own, *(f"D={size_label(float(size))}" for size in sizes)]
    rows = []
    for grade, part in study.by_grade():
        values = dict(zip(part[data], mean[part.index], strict=True))
        shown = [f"{values[s]:.4f}" if s in values else "-" for s in sizes]
        size = f"{part[x].iloc[0]:,}"
        rows.append([grade, size, *shown] if own else [size, *shown])
    seeds = int(cells.n_seeds.sum())
    title = f"{metric}: {seeds} runs in {len(cells)} cells, means over seeds"
    if (x, data) != ("n_params", "n_samples"):
        title += f"; N = {x}, D = {data}"
    right = [column > 0 for column in range(len(header))]
    return f"{title}\n{aligned([header, *rows], right)}"


def _laws_text(fits: MetricFits) -> str:
    joint = fits.joint
    text = f"{fits.metric} = {joint.law.equation}: {joint.status}"
    lines = [text if joint.success else f"{text}, {joint.message}"]
    if joint.has_curve:
        for name in joint.law.names:
            line = f"  {name:<6} {joint.estimate(name)}"
            if name == "E" and fits.truth is not None:
                line += f"   true {fits.truth:.4f}, {truth_verdict(fits)}"
            lines.append(line)
    if fits.known is not None and fits.known.has_curve:
        exponents = ", ".join(f"{n} {fits.known.estimate(n)}" for n in ("alpha", "beta"))
        lines.append(f"  with E held at the truth: {exponents}")
    own = fits.scores[fits.scores["law"] == joint.law.name] if len(fits.scores) else fits.scores
    for score in own.to_dict("records"):
        if np.isfinite(score["mean_absolute_error"]):
            lines.append(
                f"  held out {score['cut']:<6} {score['mean_absolute_error']:.2%} off on average "
                f"(worst {score['worst_error']:+.2%}), "
                f"{round(score['inside'] * score['n_test'])} of {score['n_test']} cells inside "
                "their 95% prediction interval"
            )
        else:
            lines.append(f"  held out {score['cut']:<6} not possible: {score['status']}")
    lines += [f"  note: {note}" for note in joint.notes]
    lines += _tenfold_lines(fits)
    return "\n".join(lines)


def _tenfold_lines(fits: MetricFits) -> list[str]:
    """One line for each answer of `tenfold`."""
    lines = []
    for found in fits.tenfold:
        at = ", ".join(
            f"{name} = {size_label(size)}"
            for name, size in zip(fits.joint.law.variables, found.sizes, strict=True)
        )
        lines.append(f"  from {found.place}, {at}:")
        for gain in found.gains:
            middle, low, high = gain.improvement
            interval = Interval(low, high) if low == low else None
            text = format_estimate(middle, interval)
            lines.append(f"    {gain.what} improves {fits.metric} by {text}")
    return lines


def truth_verdict(fits: MetricFits) -> str:
    """Whether the fitted E agrees with the known limit."""
    interval = fits.joint.intervals.get("E")
    if fits.truth is None or interval is None:
        return "no interval to compare it with"
    return "inside the interval" if fits.truth in interval else "OUTSIDE the interval"
