"""The fits of one table, as values: joint and one-variable laws of each metric, rival laws, held-out scores."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.fit import FitOptions, LawFit
from analysis.gain import GainsFrom
from analysis.laws import LAWS, Law
from analysis.table import Cells, Size, size_label, value_text

__all__ = ["MetricFits", "StudyFits", "StudyLaw", "grade_label", "joint_laws", "single_laws"]


_DEFAULTS = FitOptions()


@dataclass(frozen=True)
class StudyLaw:
    """The law that a study is fitted with, and how.

    Attributes:
        name: of a law of model size and data size, or of one size.
        limit: of the metric, which E cannot cross; None for the default.
        options: of the fits; what is held is held in every fit of a law that has the parameter.
    """

    name: str = "additive"
    limit: float | None = None
    options: FitOptions = _DEFAULTS


@dataclass(frozen=True)
class MetricFits:
    """Everything fitted to one metric.

    Attributes:
        metric: column.
        truth: the metric of the true probabilities (generated data), or None.
        joint: the study's law of all its rows.
        known: the same with E held at the truth, or None.
        by_data: the saturating law of the data size, for each grade (or model size, without grades); empty with one size.
        by_size: the saturating law of the model size, for each data size; empty with one size.
        rivals: every law of the same sizes, by name; without intervals.
        held_out: rows of `holdout`.
        scores: its summary by `score_holdout`.
        tenfold: what ten times each size buys by the joint law (`analysis.gain.size_gains`); empty unless it converged.
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
        for grade, fit in self.by_data.items():
            group = grade if isinstance(grade, str) else f"N{value_text(grade)}"
            fits[f"{self.metric}-{self.joint.columns['D']}-{group}"] = fit
        for size, fit in self.by_size.items():
            fits[f"{self.metric}-{self.joint.columns['N']}-D{size}"] = fit
        return fits


@dataclass(frozen=True)
class StudyFits:
    """One table (a variant of a study) and the fits of its metrics.

    Attributes:
        label: of the variant; empty if there is only one.
        table: one row per run.
        cells: `cell_table` of it.
        metrics: fits by metric.
        size: the model's size, N of the laws; of laws of one size, that.
        data: the data size, D of the laws; of laws of one size, the same as `size`.
        grade: column that names the models; that of the model's size if the table has no grades.
    """

    label: str
    table: pd.DataFrame
    cells: Cells
    metrics: dict[str, MetricFits]
    size: Size
    data: Size
    grade: str

    @property
    def has_both(self) -> bool:
        """Whether the laws are of model size and data size, not of one size."""
        return self.size.column != self.data.column

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


def single_laws(*, rising: bool = False) -> list[Law]:
    """Every law of one size, for a metric that rises or falls."""
    laws = [law(rising=rising) for law in LAWS.values() if not (law.of_metric or law.in_logs)]
    return [law for law in laws if law.variables == ("x",)]
