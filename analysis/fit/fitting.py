"""Fit a law to a table: the global optimum, intervals, and a status that says what they are worth.

`fit_law` is a pure function from a table to a frozen `LawFit`. Starts come from variable projection
(`starts`), descent from one batched solver (`solver`), intervals from the profile likelihood or the
bootstrap (`intervals`), and the verdict from `diagnosis`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.fit.law_fit import LawFit
from analysis.fit.verdict import conclude, refuse, without_curve
from analysis.laws import Law
from analysis.optimum import LOG_RANGE, Problem, gather_points, serves_several
from analysis.uncertainty import (
    Interval,
    Part,
    bootstrap_draws,
    bootstrap_summary,
    estimate_variance,
    profile_summary,
    wald_summary,
)
from scaling.errors import UserError, nearest

__all__ = ["fit_law"]


Loss = Literal["gaussian", "huber"]
IntervalMethod = Literal["profile", "bootstrap", "wald", "none"]


def fit_law(
    law: Law,
    table: pd.DataFrame,
    *,
    x: str = "n_params",
    data: str = "n_samples",
    y: str = "logloss",
    loss: Loss = "gaussian",
    delta: float = 1e-3,
    residual: Literal["raw", "log"] | None = None,
    weights: Literal["none", "stderr"] = "none",
    fixed: Mapping[str, float] | None = None,
    length: str = "max_len",
    epochs: str = "epochs",
    excess: str = "excess",
    over: float = 1.0,
    interval: IntervalMethod | None = None,
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> LawFit:
    """Fit `law` to a table with one row per run; rows of equal sizes are seeds of one cell.

    A column `trajectory` names the run that served a row, where one run serves several cells; a column
    `{y}_stderr` holds the test part's sampling error, which all rows share.

    Args:
        law: the form, oriented as the metric is (`rising` for AUC).
        table: any table with the columns named next.
        x: column of a one-variable law's x, or of a joint law's N.
        data: column of a joint law's D.
        y: column of the metric.
        loss: "gaussian" (least squares on the cells' means), or "huber" on every row.
        delta: Huber's threshold, on the scale of the residuals.
        residual: "raw" (default of gaussian) or "log" (default of huber, as Hoffmann et al. 2022).
        weights: "stderr" weighs each row by 1 / `{y}_stderr`^2.
        fixed: parameters to hold, as reported: E (a known Bayes loss), exponents, amplitudes.
        length: column of the sequence length, for laws with L.
        epochs: column of the times that each sample was used, for laws with K.
        excess: column of n_params over what the unique samples support, for laws with X.
        over: with huber, how many times a prediction above the metric weighs.
        interval: "profile" (default of gaussian), "bootstrap" by cell (default of huber), "wald",
            or "none".
        n_draws: bootstrap resamples.
        seed: of the bootstrap.
        level: of the intervals.

    Raises:
        UserError: the table cannot be read as this law's data, or options contradict each other. A
            fit that the data cannot carry is not an error but a status.
    """
    kind = residual or ("log" if loss == "huber" else "raw")
    exact = loss == "gaussian" and kind == "raw"
    method = interval or ("profile" if exact else "bootstrap")
    if method == "profile" and not exact:
        raise UserError("interval: profile needs the gaussian loss of raw residuals; use bootstrap")
    if method == "wald" and loss == "huber":
        raise UserError("interval: wald needs the gaussian loss; use bootstrap")
    held = {**law.fixed, **(fixed or {})}
    _check_held(law, held)
    if not 0 < delta < np.inf:
        raise UserError(f"delta is {delta:g}, expected a positive number")
    if over != 1 and (loss != "huber" or not 0 < over < np.inf):
        raise UserError("over: needs the huber loss, and a positive weight")
    if seed < 0:
        raise UserError(f"seed is {seed}, expected 0 or more")
    roles = {"x": x, "N": x, "D": data, "L": length, "K": epochs, "X": excess}
    columns = {variable: roles[variable] for variable in law.variables}
    stderr = f"{y}_stderr" if weights == "stderr" else None
    # Errors that weigh the rows are their own; otherwise they are the test part's, which all share.
    shared = f"{y}_stderr" if f"{y}_stderr" in table.columns and not stderr else None
    trajectory = "trajectory" if "trajectory" in table.columns else None
    rows = gather_points(
        table,
        list(columns.values()),
        y,
        residual=kind,
        stderr=stderr,
        test_error=shared,
        trajectory=trajectory,
    )
    # What is held as reported holds at sizes of one, so they are then not measured from their mean.
    logged = dict(zip(law.names, law.logged, strict=True))
    absolute = any(logged[name] for name in held)
    rows = replace(rows, centred=tuple(not (absolute or v in law.ratios) for v in law.variables))
    repeats = int(table.duplicated([*columns.values(), y]).sum())
    if repeats and len(rows):
        told = f"{repeats} rows repeat another's sizes and {y} to the last digit: counted twice?"
        rows = replace(rows, left_out=(*rows.left_out, told))
    if rows.run is not None and not serves_several(rows.cell, rows.run):
        rows = replace(rows, run=None)
    # Resampling runs that serve several cells needs their rows; the minimum is the same.
    by_row = loss == "huber" or (method == "bootstrap" and rows.run is not None)
    points = rows if by_row or not len(rows) else rows.means()
    problem = Problem(law, points, delta if loss == "huber" else None, held, over)
    settings: dict[str, Any] = {
        "law": law,
        "columns": columns,
        "y": y,
        "loss": loss,
        "delta": problem.delta,
        "residual": kind,
        "fixed": held,
        "level": level,
        "seed": seed,
    }
    refusal = refuse(problem)
    if refusal:
        return without_curve(problem, settings, *refusal)
    return _fit(problem, settings, method, n_draws)


def _check_held(law: Law, held: Mapping[str, float]) -> None:
    """Check that parameters can be held where they are asked to be.

    Raises:
        UserError: there is no such parameter, or its value is not one that a fit could give.
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


def _fit(
    problem: Problem, settings: dict[str, Any], method: IntervalMethod, n_draws: int
) -> LawFit:
    optimum = problem.solve()
    variance = estimate_variance(problem, optimum.theta)
    level: float = settings["level"]
    intervals: dict[str, Interval] = {}
    if method == "profile" and variance.noise.dof and not problem.vanished(optimum.theta).any():
        intervals, better = profile_summary(problem, optimum.theta, optimum.value, variance, level)
        if better is not None:
            # The search for the intervals walked into a deeper valley: start again from there.
            deeper = problem.solve(better)
            if deeper.value < optimum.value:
                optimum, variance = deeper, estimate_variance(problem, deeper.theta)
            intervals, better = profile_summary(
                problem, optimum.theta, optimum.value, variance, level
            )
            optimum = replace(optimum, converged=optimum.converged and better is None)
    parts = variance.parts
    wald, stderr = wald_summary(problem, optimum.theta, variance, level)
    spent = optimum.n_evaluations
    if method == "bootstrap":
        draws, extra = bootstrap_draws(problem, optimum.theta, n_draws, settings["seed"])
        spent += extra
        parts = (Part("bootstrap", np.atleast_2d(np.cov(draws.T)), variance.noise.dof),)
        intervals, stderr = bootstrap_summary(problem, draws, level)
    elif method == "wald":
        intervals = wald
    return conclude(
        problem,
        optimum,
        variance,
        {
            **settings,
            "intervals": intervals,
            "stderr": stderr,
            "parts": parts,
            "interval_method": method if intervals else "none",
            "n_draws": n_draws if method == "bootstrap" else 0,
            "nfev": spent,
        },
    )
