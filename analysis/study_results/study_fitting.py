"""All fits of one table: the study's law of each metric, laws of single sizes, rival laws, held-out cells."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.budget import read_cost, with_advice
from analysis.fit import LawFit, fit_law
from analysis.gain import GainsFrom, gains
from analysis.laws import Saturating, build_law
from analysis.study_results.extrapolation import Cut, holdout, options_for, score_holdout
from analysis.study_results.study_fits import (
    MetricFits,
    StudyFits,
    StudyLaw,
    joint_laws,
    single_laws,
)
from analysis.table import (
    cell_table,
    check_runs,
    grade_column,
    is_foreign,
    place_of,
    require_columns,
    rises,
    size_of,
    source_of,
    value_text,
)
from scaling.errors import UserError

__all__ = ["fit_study"]


_TRUTH = {"logloss": "bayes_logloss", "auc": "bayes_auc"}
_ADDITIVE = StudyLaw()


def fit_study(
    table: pd.DataFrame,
    metrics: Sequence[str],
    label: str = "",
    *,
    x: str = "n_params",
    data: str = "n_samples",
    rising: Mapping[str, bool] | None = None,
    law: StudyLaw = _ADDITIVE,
    extrapolate: bool = True,
) -> StudyFits:
    """Fit everything that a report shows.

    Args:
        table: one row per run, of one variant.
        metrics: columns to fit.
        label: of the variant.
        x: column of the model's size, or of the size of a law of one size.
        data: column of the data size; a law of one size does not use it.
        rising: whether larger is better, for metrics whose names do not tell it.
        law: the law of all rows, and the options of every fit.
        extrapolate: fit rival laws and held-out cells, too, which takes as long as all the rest together.

    Raises:
        UserError: a column is missing, a run is counted twice, one has no grade while others do, or the law is of other
            sizes.
    """
    variables = build_law(law.name).variables
    if variables not in (("N", "D"), ("x",)):
        raise UserError(
            f"{law.name} law: expected a law of model size and data size, or of one size"
        )
    if variables == ("x",):
        data = x
    check_runs(table, x, data)
    grade = grade_column(table, x, metrics)
    if grade != x and (absent := table[grade].isna()).any():
        row = table.index[absent][0]
        raise UserError(
            f"{source_of(table)}: {grade} is empty in {place_of(table, row)}; name all, or leave the column out"
        )
    if grade != x:  # grades are names, even if they are written as numbers
        table = table.assign(**{grade: table[grade].map(value_text)})
    require_columns(table, [*dict.fromkeys([x, data]), *metrics])
    empty = [metric for metric in metrics if not np.isfinite(table[metric]).any()]
    if empty:
        raise UserError(f"table: no row has a finite {' or '.join(empty)}")
    up = {metric: rises(metric) for metric in metrics} | dict(rising or {})
    fitted = {
        metric: _fit_metric(table, metric, x, data, grade, up[metric], law, extrapolate)
        for metric in metrics
    }
    cells = cell_table(table, metrics, x=x, data=data, grade=grade)
    size, samples = (size_of(column, foreign=is_foreign(table)) for column in (x, data))
    return StudyFits(label, table, cells, fitted, size, samples, grade)


def _fit_metric(
    table: pd.DataFrame,
    metric: str,
    x: str,
    data: str,
    grade: str,
    rising: bool,
    law: StudyLaw,
    extrapolate: bool,
) -> MetricFits:
    truth = _truth(table, metric)
    form = build_law(law.name, rising=rising, limit=law.limit)
    both: dict[str, Any] = {"x": x, "data": data, "y": metric}
    joint = with_advice(fit_law(form, table, **both, options=law.options))
    known = None
    if truth is not None and "E" not in joint.fixed:
        held = replace(law.options, fixed={**law.options.fixed, "E": truth})
        known = with_advice(fit_law(form, table, **both, options=held))
    by_data, by_size = {}, {}
    if x != data:
        # E of one group includes the other size's share, so nothing is held
        single = Saturating(rising, law.limit)
        how: dict[str, Any] = {"y": metric, "options": replace(law.options, fixed={})}
        by_data = {
            name: fit_law(single, part, x=data, **how)
            for name, part in table.sort_values(x).groupby(grade, sort=False)
        }
        by_size = {
            _plain(size): fit_law(single, part, x=x, **how) for size, part in table.groupby(data)
        }
    every = joint_laws if x != data else single_laws
    laws = [replace(one, limit=law.limit) for one in every(rising=rising)] if extrapolate else []
    quick = replace(law.options, interval="none", n_draws=None)
    rivals = {
        one.name: fit_law(one, table, **both, options=options_for(one, quick)) for one in laws
    }
    cuts: tuple[Cut, ...] = ("data", "size", "corner") if x != data else ("size",)
    cuts = cuts if extrapolate else ()
    held_out = holdout(laws, table, **both, cuts=cuts, options=quick)
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
    # with the cost as an axis, or with one size, there is nothing to split
    if "flops" in (x, data) or x == data:
        return gains(joint)
    try:
        return gains(joint, read_cost(table, "flops", x=x, data=data))
    except UserError as error:
        if "no best split" not in str(error):
            raise
        return gains(joint)


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
