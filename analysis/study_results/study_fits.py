"""All laws of one table: joint and one-variable fits of each metric, rivals, held-out scores, text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.budget import with_advice
from analysis.fit import LawFit, fit_law
from analysis.laws import LAWS, Additive, Law, Saturating
from analysis.study_results.extrapolation import holdout, score_holdout
from analysis.table import cell_table, check_runs, require_columns, rises, size_label
from scaling.errors import UserError

__all__ = ["MetricFits", "StudyFits", "fit_study", "joint_laws"]


_TRUTH = {"logloss": "bayes_logloss", "auc": "bayes_auc"}


@dataclass(frozen=True)
class MetricFits:
    """Everything fitted to one metric.

    Attributes:
        metric: column.
        truth: the metric of the true probabilities (generated data), or None.
        joint: the additive law with E free.
        known: the additive law with E held at the truth, or None.
        by_data: the saturating law of n_samples, for each grade.
        by_size: the saturating law of n_params, for each data size.
        rivals: every joint law with two variables, by name; without intervals.
        held_out: rows of `holdout`.
        scores: its summary by `score_holdout`.
    """

    metric: str
    truth: float | None
    joint: LawFit
    known: LawFit | None
    by_data: dict[str, LawFit]
    by_size: dict[int, LawFit]
    rivals: dict[str, LawFit]
    held_out: pd.DataFrame
    scores: pd.DataFrame

    def named(self) -> dict[str, LawFit]:
        """Every fit with intervals, by a name that does for a file."""
        fits = {f"{self.metric}-joint": self.joint}
        if self.known is not None:
            fits[f"{self.metric}-joint-known-E"] = self.known
        fits |= {f"{self.metric}-n_samples-{grade}": fit for grade, fit in self.by_data.items()}
        return fits | {f"{self.metric}-n_params-D{size}": fit for size, fit in self.by_size.items()}


@dataclass(frozen=True)
class StudyFits:
    """One table (a variant of a study) and the fits of its metrics.

    Attributes:
        label: of the variant; empty where there is only one.
        table: one row per run.
        cells: `cell_table` of it.
        metrics: fits by metric.
    """

    label: str
    table: pd.DataFrame
    cells: pd.DataFrame
    metrics: dict[str, MetricFits]

    def text(self) -> str:
        """Cells, exponents and held-out scores as aligned text."""
        parts = [f"[{self.label}]"] if self.label else []
        for fits in self.metrics.values():
            parts += [_cells_text(self.cells, fits.metric), _laws_text(fits)]
        return "\n\n".join(parts)


def joint_laws(metric: str) -> list[Law]:
    """Every law of model size and data size, oriented as the metric is."""
    laws = [law(rising=rises(metric)) for law in LAWS.values()]
    return [law for law in laws if law.variables == ("N", "D")]


def fit_study(table: pd.DataFrame, metrics: Sequence[str], label: str = "") -> StudyFits:
    """Fit everything that a report shows to a table with n_params, n_samples and the metrics.

    Raises:
        UserError: a column is missing, a run is counted twice, or one has no grade while others do.
    """
    check_runs(table)
    if "grade" in table.columns and (absent := table["grade"].isna()).any():
        row = table.index[absent][0]
        raise UserError(f"table: grade is empty in row {row}; name all, or leave the column out")
    if "grade" not in table.columns:
        table = table.assign(grade=[size_label(float(n)) for n in table["n_params"]])
    require_columns(table, ["n_params", "n_samples", *metrics])
    empty = [metric for metric in metrics if not np.isfinite(table[metric]).any()]
    if empty:
        raise UserError(f"table: no row has a finite {' or '.join(empty)}")
    fitted = {metric: _fit_metric(table, metric) for metric in metrics}
    return StudyFits(label, table, cell_table(table, metrics), fitted)


def _fit_metric(table: pd.DataFrame, metric: str) -> MetricFits:
    rising = rises(metric)
    truth = _truth(table, metric)
    joint = with_advice(fit_law(Additive(rising), table, y=metric))
    known = None
    if truth is not None:
        known = with_advice(fit_law(Additive(rising), table, y=metric, fixed={"E": truth}))
    by_size_order = table.sort_values("n_params")
    by_data = {
        str(grade): fit_law(Saturating(rising), part, x="n_samples", y=metric)
        for grade, part in by_size_order.groupby("grade", sort=False)
    }
    by_size = {
        int(part["n_samples"].iloc[0]): fit_law(Saturating(rising), part, x="n_params", y=metric)
        for _, part in table.groupby("n_samples")
    }
    laws = joint_laws(metric)
    rivals = {law.name: fit_law(law, table, y=metric, interval="none") for law in laws}
    held_out = holdout(laws, table, y=metric)
    return MetricFits(
        metric, truth, joint, known, by_data, by_size, rivals, held_out, score_holdout(held_out)
    )


def _truth(table: pd.DataFrame, metric: str) -> float | None:
    """The limit that the metric's noiseless form has; drawn labels scatter around it."""
    column = _TRUTH.get(metric.removeprefix("soft_"))
    if column not in table.columns or not metric.startswith("soft_"):
        return None
    values = np.unique(table[column].dropna())
    return float(values[0]) if len(values) == 1 and table[column].notna().all() else None


def _cells_text(cells: pd.DataFrame, metric: str) -> str:
    sizes = np.unique(cells["n_samples"])
    header = ["grade", "N", *(f"D={size_label(float(size))}" for size in sizes)]
    rows = []
    for (grade, n_params), part in cells.groupby(["grade", "n_params"], sort=False):
        values = part.set_index("n_samples")[metric]
        shown = [f"{values[s]:.4f}" if s in values.index else "-" for s in sizes]
        rows.append([str(grade), f"{n_params:,}", *shown])
    seeds = int(cells["n_seeds"].sum())
    title = f"{metric}: {seeds} runs in {len(cells)} cells, means over seeds"
    return f"{title}\n{_aligned([header, *rows])}"


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
    return "\n".join(lines)


def truth_verdict(fits: MetricFits) -> str:
    """Whether the fitted E agrees with the known limit."""
    interval = fits.joint.intervals.get("E")
    if fits.truth is None or interval is None:
        return "no interval to hold it against"
    return "inside the interval" if fits.truth in interval else "OUTSIDE the interval"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
