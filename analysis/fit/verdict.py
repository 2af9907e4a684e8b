"""The verdict on a fit: reasons to refuse it, its status and notes, its summary statistics."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.fit.fit_options import FitOptions
from analysis.fit.law_fit import LawFit, Status
from analysis.fit.remarks import condition, decades, fit_notes
from analysis.fit.simpler_law import simpler_law_note, simpler_law_p
from analysis.optimum import Objective, Optimum, Points, Problem
from analysis.table import direction
from analysis.uncertainty import Interval, Noise, Part, Variance
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["Estimates", "Question", "conclude", "refuse", "without_curve"]


# An exponent (or ratio) whose interval spans more than this factor is not identified.
_WIDE = 4.0
# Beyond this condition number only rounding separates the parameters, e.g. if sizes grow together.
_SINGULAR = 1e7


@dataclass(frozen=True)
class Question:
    """The question that a fit answers: the column of each variable, that of the metric, and the options."""

    columns: dict[str, str]
    y: str
    options: FitOptions


@dataclass(frozen=True)
class Estimates:
    """Intervals and standard errors by parameter, the covariance by source, evaluations of the loss."""

    intervals: dict[str, Interval]
    stderr: dict[str, float]
    parts: tuple[Part, ...]
    n_evaluations: int


def refuse(problem: Problem, y: str, source: str) -> tuple[Status, str] | None:
    """The status and message of a fit that cannot have a curve, or None.

    Args:
        problem: law, points and loss.
        y: column of the metric.
        source: name of the table.

    Raises:
        UserError: the metric lies beyond its physical limit.
    """
    law, points = problem.law, problem.points
    if not len(points):
        return "too_few_points", "no usable row"
    needed = 2 if "E" in problem.fixed else 3
    for variable, found in zip(law.variables, points.levels, strict=True):
        if found < needed:
            plural = "" if found == 1 else "s"
            return "too_few_points", f"{found} size{plural} of {variable}, the law needs {needed}"
    n_free = int(problem.free.sum())
    if points.n_cells < n_free:
        return "too_few_points", f"{points.n_cells} cells for {n_free} free parameters"
    metric = points.metric
    if np.ptp(metric) <= 1e-12 * np.abs(metric).max():
        return "not_identified", f"the metric is constant at {metric[0]:g}"
    beyond = law.sign * (metric - law.bound) < 0
    if "E" not in problem.fixed and beyond.any():
        kind, side = ("rising", "above") if law.rising else ("falling", "below")
        worst = float(metric[beyond].max() if law.rising else metric[beyond].min())
        # of a metric whose name says its direction, only the limit can be wrong
        doubt = (
            "" if direction(y) is law.rising else "check its direction (--rising, --falling), or "
        )
        example = "--limit 100 for percent" if law.rising and worst <= 100 else "--limit"
        raise UserError(
            f"{source}: {y} is {worst:g}, and a {kind} metric cannot lie {side} its limit {law.bound:g}; {doubt}give its own "
            f"limit ({example})"
        )
    return None


def without_curve(problem: Problem, question: Question, status: Status, message: str) -> LawFit:
    """A fit without a curve, which says why there is none: every number is NaN."""
    nan = float("nan")
    names, points = problem.law.names, problem.points
    return LawFit(
        law=problem.law,
        columns=question.columns,
        y=question.y,
        options=question.options,
        params=dict.fromkeys(names, nan),
        stderr=dict.fromkeys(names, nan),
        intervals={},
        status=status,
        message=message,
        notes=points.left_out,
        objective=nan,
        n_points=points.n_rows,
        n_cells=points.n_cells,
        n_free=int(problem.free.sum()),
        noise=Noise(nan, 0, "none"),
        r_squared=nan,
        aicc=nan,
        condition=nan,
        spans=_spans(problem),
        at_bound=(),
        unidentified=(),
        nfev=0,
        cells=pd.DataFrame(),
    )


def conclude(
    problem: Problem,
    question: Question,
    optimum: Optimum,
    variance: Variance,
    estimates: Estimates,
) -> LawFit:
    """Judge an optimum and assemble the fit.

    Args:
        problem: law, points and loss.
        question: columns and options of the fit.
        optimum: of the problem.
        variance: around the optimum.
        estimates: intervals and standard errors.
    """
    law, points, theta = problem.law, problem.points, optimum.theta
    noise = variance.noise
    objective = problem.objective(points.origin)
    jacobian, residual = objective.jacobian(theta), objective.residuals(theta)
    seen = problem.seen(jacobian)
    used = problem.free & seen
    weighted = jacobian[:, used] * np.sqrt(points.weights)[:, None]
    params = law.to_params(law.rebased(theta[None], points.origin)[0])
    for name, visible in zip(law.names, seen, strict=True):
        if not visible:
            params[name] = 0.0 if name in law.amplitudes else float("nan")
    n_free = int(problem.free.sum())
    at_bound = _at_bound(problem, theta, seen)
    either_sign = {"E", *(shape.name for shape in law.shapes if shape.signed)}
    unidentified = tuple(
        name
        for name, interval in estimates.intervals.items()
        if name not in law.scales and _is_wide(interval, any_factor=name in either_sign)
    )
    status, message = _status(problem, optimum, noise, at_bound, unidentified, question)
    if status == "converged" and condition(weighted) > _SINGULAR:
        names = " and ".join(question.columns[variable] for variable in law.variables)
        status = "not_identified"
        message = f"the parameters cannot be separated: vary {names} independently, or hold some"
    squares = float(np.sum(points.weights * residual**2))
    simpler_p = simpler_law_p(problem, optimum, variance)
    return LawFit(
        law=law,
        columns=question.columns,
        y=question.y,
        options=question.options,
        params=params,
        stderr=estimates.stderr,
        intervals=estimates.intervals,
        status=status,
        message=message,
        notes=(
            *points.left_out,
            *fit_notes(problem, residual, weighted, variance, question.columns, question.y),
            *filter(None, [simpler_law_note(problem, simpler_p)]),
        ),
        objective=2 * optimum.value + points.pure_error if problem.delta is None else optimum.value,
        n_points=points.n_rows,
        n_cells=points.n_cells,
        n_free=n_free,
        noise=noise,
        r_squared=_r_squared(points, objective, theta),
        aicc=_aicc(squares, len(points), n_free),
        condition=condition(weighted),
        spans=_spans(problem),
        at_bound=at_bound,
        unidentified=unidentified,
        nfev=estimates.n_evaluations,
        cells=_cells(problem, objective, theta, question.columns),
        theta=theta,
        origin=points.origin,
        parts=estimates.parts,
        simpler_p=simpler_p,
    )


def _is_wide(interval: Interval, *, any_factor: bool) -> bool:
    """Whether an interval is too wide to determine its parameter; `any_factor` if it may be near 0."""
    return interval.is_open or (not any_factor and interval.upper > _WIDE * interval.lower)


def _spans(problem: Problem) -> dict[str, tuple[float, float]]:
    if not len(problem.points):
        return {}
    pairs = zip(problem.law.variables, problem.points.sizes, strict=True)
    return {variable: (float(size.min()), float(size.max())) for variable, size in pairs}


def _at_bound(problem: Problem, theta: FloatArray, seen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    law, (lower, upper) = problem.law, problem.bounds()
    spread = float(np.ptp(problem.points.metric))
    names = []
    for i, name in enumerate(law.names):
        if name in problem.fixed:
            continue
        if name in law.amplitudes:
            if not seen[i]:
                names.append(name)
        elif seen[i] or name == "E":
            # An offset this close to its limit counts as at the limit.
            margin = 1e-7 * spread if name == "E" else 1e-7
            if theta[i] <= lower[i] + margin or theta[i] >= upper[i] - margin:
                names.append(name)
    return tuple(names)


def _status(
    problem: Problem,
    optimum: Optimum,
    noise: Noise,
    at_bound: tuple[str, ...],
    unidentified: tuple[str, ...],
    question: Question,
) -> tuple[Status, str]:
    law, columns, y = problem.law, question.columns, question.y
    if not optimum.converged:
        return "not_converged", "the optimiser stopped before the minimum; please report the table"
    if at_bound:
        reasons = []
        for name in at_bound:
            if name in law.amplitudes:
                variable = law.variables[min(law.amplitudes.index(name), len(law.variables) - 1)]
                verb = "rise" if law.rising else "fall"
                reasons.append(
                    f"{name} is 0, as {y} does not {verb} with {columns[variable]} beyond the noise"
                )
            elif name == "E":
                reasons.append(f"E is at its bound {law.bound:g}, as {y} does not level off")
            else:
                reasons.append(f"{name} is at its bound{_other_sign(problem)}")
        return "at_bound", "; ".join(reasons)
    points = problem.points
    if not noise.dof:
        return "too_few_points", (
            f"{points.n_cells} cells for as many parameters: the law passes through every cell"
        )
    if unidentified:
        spans = ", ".join(
            f"{columns[variable]} {decades(size):.1f} decades in {level} sizes"
            for variable, size, level in zip(
                law.variables, points.sizes, points.levels, strict=True
            )
        )
        return "not_identified", (
            f"the data hardly determine {' and '.join(unidentified)} ({spans}): "
            f"widen the span{' or add seeds' if 'E' in problem.fixed else ', add seeds, or hold E'}"
        )
    return "converged", "converged"


def _other_sign(problem: Problem) -> str:
    """The law that has exponents of either sign, if this one is a single power."""
    law = problem.law
    if problem.fixed.get("E") != 0 or len(law.amplitudes) > 1 or len(law.variables) > 2:
        return ""
    name = "log-linear" if len(law.variables) == 1 else "log-linear-joint"
    return "" if law.in_logs else f"; the law {name} has exponents of either sign"


def _r_squared(points: Points, objective: Objective, theta: FloatArray) -> float:
    """Explained share of the variance of the rows, on the scale of the residuals."""
    residual = objective.residuals(theta)
    mean = np.average(points.response, weights=points.weights)
    left = float(np.sum(points.weights * residual**2)) + points.pure_error
    total = float(np.sum(points.weights * (points.response - mean) ** 2)) + points.pure_error
    return 1 - left / total


def _aicc(squares: float, n: int, n_free: int) -> float:
    """Corrected Akaike criterion of squared residuals (Hurvich & Tsai 1989)."""
    k = n_free + 1  # the variance is estimated as well
    if n - k - 1 < 1 or squares <= 0:
        return float("nan")
    return n * float(np.log(squares / n)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _cells(
    problem: Problem, objective: Objective, theta: FloatArray, columns: dict[str, str]
) -> pd.DataFrame:
    points = problem.points
    fitted = problem.law.evaluate(objective.logs, theta[None])[0]
    results = {
        "measured": points.metric,
        "fitted": fitted,
        "residual": objective.residuals(theta),
        "n_rows": points.counts.astype(float),
    }
    names = [columns[variable] for variable in problem.law.variables]
    names = [f"{name} (size)" if name in results else name for name in names]
    return pd.DataFrame({**dict(zip(names, points.sizes, strict=True)), **results})
