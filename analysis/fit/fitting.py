"""Fit a law to a table: the global optimum, intervals, and a status that says whether they can be used.

`fit_law` is a pure function from a table to a frozen `LawFit`. Starts come from variable projection
and the descent from one batched solver (`analysis.optimum`), intervals from the profile likelihood or the
bootstrap (`analysis.uncertainty`), and the status from `verdict`.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.fit.fit_options import FitOptions
from analysis.fit.law_fit import LawFit
from analysis.fit.remarks import named_noise
from analysis.fit.vanished_terms import without_vanished
from analysis.fit.verdict import Estimates, Question, conclude, refuse, without_curve
from analysis.laws import Law
from analysis.optimum import LOG_RANGE, Optimum, Points, Problem, gather_points, serves_several
from analysis.table import source_of
from analysis.uncertainty import (
    Interval,
    Variance,
    bootstrap_draws,
    bootstrap_summary,
    estimate_variance,
    profile_summary,
    wald_summary,
)
from scaling.errors import UserError, nearest
from scaling.metrics import stderr_name

__all__ = ["fit_law"]


_DEFAULTS = FitOptions()


def fit_law(
    law: Law,
    table: pd.DataFrame,
    *,
    x: str = "n_params",
    data: str = "n_samples",
    y: str = "logloss",
    length: str = "max_len",
    epochs: str = "epochs",
    embeddings: str = "n_embedding_params",
    excess: str = "excess",
    options: FitOptions = _DEFAULTS,
) -> LawFit:
    """Fit `law` to a table with one row per run; rows of equal sizes are seeds of one cell.

    If one run serves several cells, a column `trajectory` names the run of each row. If the table has the
    metric's standard error (`scaling.metrics.stderr_name`), it is taken as the sampling error of the test
    part, which all rows share.

    Args:
        law: the form, oriented as the metric is (`rising` for AUC).
        table: any table with the columns named next.
        x: column of the variable of a one-variable law, or of N of a joint law.
        data: column of D of a joint law.
        y: column of the metric.
        length: column of the sequence length, for laws with L.
        epochs: column of how often each sample was used, for laws with K.
        embeddings: column of the size of the embedding tables, for laws with V.
        excess: column of n_params divided by the number that the unique samples support, for laws with X.
        options: loss, weights, held parameters, intervals.

    Raises:
        UserError: the table does not fit the law, or a parameter cannot be held at its value. If the data
            cannot determine the law, the result's status says so; that is not an error.
    """
    if law.in_logs and options.residual is None:
        options = replace(options, residual="log")
    held = {**law.fixed, **options.fixed}
    _check_held(law, held)
    roles = {"x": x, "N": x, "D": data, "L": length, "V": embeddings, "K": epochs, "X": excess}
    question = Question({variable: roles[variable] for variable in law.variables}, y, options)
    rows = _rows(law, table, question, held)
    # Resampling runs that serve several cells needs their rows; the minimum is the same.
    resampled = options.interval_method == "bootstrap" and rows.run is not None
    by_row = options.loss == "huber" or resampled
    points = rows if by_row or not len(rows) else rows.means()
    problem = Problem(law, points, options.threshold, held, options.over)
    refusal = refuse(problem, y, source_of(table))
    if refusal:
        return without_curve(problem, question, *refusal)
    fit = _fit(problem, question)
    return replace(fit, noise=named_noise(fit.noise, table, list(question.columns.values()), y))


def _rows(law: Law, table: pd.DataFrame, question: Question, held: Mapping[str, float]) -> Points:
    """One point for each usable row, with what the rows share and remarks on them."""
    columns, y, options = list(question.columns.values()), question.y, question.options
    error = stderr_name(y)
    weighed = options.weights == "stderr"
    # Errors that weigh the rows are independent; otherwise they are the test part's, which all rows share.
    rows = gather_points(
        table,
        columns,
        y,
        residual=options.residual_scale,
        stderr=error if weighed else None,
        test_error=error if error in table.columns and not weighed else None,
        trajectory="trajectory" if "trajectory" in table.columns else None,
    )
    orders = table["data_order"] if "data_order" in table.columns else pd.Series(dtype=str)
    if "n_samples" in columns and len(orders) and (orders == "recent").all():
        rows = replace(rows, nested=columns.index("n_samples"))
    # A parameter is held as reported, for sizes in their own units; so these sizes are not centred.
    logged = dict(zip(law.names, law.logged, strict=True))
    absolute = any(logged[name] for name in held)
    rows = replace(rows, centred=tuple(not (absolute or v in law.ratios) for v in law.variables))
    # rows without a measurement have their own remark
    repeats = int(table[np.isfinite(table[y].astype(float))].duplicated([*columns, y]).sum())
    if repeats and len(rows):
        remark = f"{repeats} rows repeat another's sizes and {y} to the last digit: counted twice?"
        rows = replace(rows, left_out=(*rows.left_out, remark))
    if rows.run is not None and not serves_several(rows.cell, rows.run):
        rows = replace(rows, run=None)
    return rows


def _check_held(law: Law, held: Mapping[str, float]) -> None:
    """Check that the law has these parameters and that a fit could give their values.

    Raises:
        UserError: there is no such parameter, or its value lies outside the bounds.
    """
    ends = {"E": (-np.inf, law.bound) if law.rising else (law.bound, np.inf)}
    ends |= {s.name: (s.lower, s.upper) for s in law.shapes if not s.log}
    for name, value in held.items():
        if name not in law.names:
            raise UserError(f"{law.name} law: {name} cannot be held{nearest(name, law.names)}")
        where = f"{law.name} law: {name} cannot be held at {value:g}"
        if not np.isfinite(value):
            raise UserError(f"{where}, expected a finite number")
        low, high = ends.get(name, (np.exp(-LOG_RANGE), np.exp(LOG_RANGE)))
        if name not in ends and value <= 0:
            raise UserError(f"{where}, only above 0")
        if not low <= value <= high:
            side = f"from {low:.3g} up" if value < low else f"up to {high:.3g}"
            raise UserError(f"{where}, only {side}")


def _fit(problem: Problem, question: Question) -> LawFit:
    options = question.options
    optimum = problem.solve()
    variance = estimate_variance(problem, optimum.theta)
    kept = without_vanished(problem, optimum, variance)
    if kept is not optimum:
        optimum, variance = kept, estimate_variance(problem, kept.theta)
    intervals: dict[str, Interval] = {}
    if options.interval_method == "profile":
        optimum, variance, intervals = _profiled(problem, optimum, variance, options.level)
    parts = variance.parts
    wald, stderr = wald_summary(problem, optimum.theta, variance, options.level)
    spent = optimum.n_evaluations
    if options.interval_method == "bootstrap":
        draws, extra = bootstrap_draws(problem, optimum.theta, options.resamples, options.seed)
        spent += extra
        intervals, stderr, parts = bootstrap_summary(
            problem, optimum.theta, draws, variance, options.level, options.seed
        )
    elif options.interval_method == "wald":
        intervals = wald
    return conclude(
        problem, question, optimum, variance, Estimates(intervals, stderr, parts, spent)
    )


def _profiled(
    problem: Problem, optimum: Optimum, variance: Variance, level: float
) -> tuple[Optimum, Variance, dict[str, Interval]]:
    """Profile intervals; if their search finds a lower minimum, start again from there."""
    if not variance.noise.dof or problem.vanished(optimum.theta).any():
        return optimum, variance, {}
    intervals, better = profile_summary(problem, optimum.theta, optimum.value, variance, level)
    if better is not None:
        lower = problem.solve(better)
        if lower.value < optimum.value:
            optimum, variance = lower, estimate_variance(problem, lower.theta)
        intervals, better = profile_summary(problem, optimum.theta, optimum.value, variance, level)
        optimum = replace(optimum, converged=optimum.converged and better is None)
    return optimum, variance, intervals
