"""Remarks on a fit that do not change its status: outliers, shared shifts, lack of fit, narrow spans."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.optimum import Problem
from analysis.table import differing_settings
from analysis.uncertainty import Noise, Variance, outlier
from scaling.arrays import FloatArray

__all__ = ["condition", "decades", "fit_notes", "named_noise"]


# A row this unlikely under the law and the other rows is reported.
_OUTLIER_P = 1e-3
# Relative to the metric, a residual this small is one of rounding.
_ROUNDING = 1e-12
# Above this condition number of the scaled Jacobian, parameters trade off against each other (docs/fitting.md).
_ILL_CONDITIONED = 100.0
# With Huber's loss, a row this many robust standard deviations off the law is reported.
_FAR_OFF = 10.0


def decades(size: FloatArray) -> float:
    """The span of sizes in decades."""
    return float(np.log10(size.max() / size.min()))


def fit_notes(
    problem: Problem,
    residual: FloatArray,
    weighted: FloatArray,
    variance: Variance,
    columns: Mapping[str, str],
    y: str,
) -> list[str]:
    """Remarks on a fit, the most serious first.

    Args:
        problem: law, points and loss.
        residual: (n,) at the optimum.
        weighted: Jacobian (n, used) times the root of the weights.
        variance: around the optimum.
        columns: table column of each variable.
        y: column of the metric.
    """
    law, points = problem.law, problem.points
    noise = variance.noise
    notes = []
    if problem.delta is None:
        scaled = residual * np.sqrt(points.weights)
        worst, p = outlier(scaled, weighted)
        if p < _OUTLIER_P and abs(residual[worst]) > _ROUNDING * np.abs(points.response).max():
            where = ", ".join(
                f"{columns[v]} {s[worst]:g}"
                for v, s in zip(law.variables, points.sizes, strict=True)
            )
            notes.append(f"outlier: {y} at {where} is off the law (p = {p:.1e})")
    elif noise.dof and noise.sd > 0:
        far = np.abs(residual) / noise.sd
        if far.max() > _FAR_OFF:
            where = ", ".join(
                f"{columns[v]} {s[int(far.argmax())]:g}"
                for v, s in zip(law.variables, points.sizes, strict=True)
            )
            count = int((far > _FAR_OFF).sum())
            notes.append(
                f"outliers: {count} of {len(far)} rows are more than {_FAR_OFF:g} sd off the law, "
                f"the worst at {where}"
            )
    notes += [
        f"runs of equal {columns[effect.variable]} deviate together (p = {effect.p:.2g}): the law "
        "has another form, or these runs share an error; intervals are widened by a shared shift of "
        f"sd {effect.sd:.2g}, known from a few sizes only"
        for effect in variance.effects
    ]
    if variance.curved:
        names = " and ".join(columns[v] for v in law.variables if v not in law.ratios)
        notes.append(
            f"lack of fit: the residuals are curved in the logs of {names} (F test, p = {variance.curvature_p:.2g}): "
            "the law has another form; intervals are widened as if the law hid as much error as it shows"
        )
    if not noise.fits:
        notes.append(
            f"lack of fit: residuals exceed the seeds' noise (F = {noise.lack_of_fit:.1f}, "
            f"p = {noise.lack_of_fit_p:.2g}); intervals use the residuals' variance"
        )
    if points.nested is not None:
        variable = law.variables[points.nested]
        if all(part.source != variable for part in variance.parts):
            notes.append(
                f"the runs of one {columns[variable]} share their training impressions (data_order recent), but "
                "this table cannot show the error that they share: intervals are too narrow; add data sizes"
            )
    if noise.dof and points.n_cells <= int(problem.free.sum()):
        notes.append("as many parameters as cells: nothing tests the form of the law")
    number = condition(weighted)
    if number > _ILL_CONDITIONED:
        notes.append(f"condition number {number:.0f}: parameters trade off against each other")
    for variable, size in zip(law.variables, points.sizes, strict=True):
        if decades(size) < 1:
            notes.append(f"{columns[variable]} spans only {decades(size):.1f} decades")
    return notes


def named_noise(noise: Noise, table: pd.DataFrame, columns: Sequence[str], y: str) -> Noise:
    """The noise; if it is that of rows of equal sizes that differ in settings, its source is not the seeds.

    Args:
        noise: of a fit.
        table: its rows.
        columns: of the law's sizes.
        y: column of the metric.
    """
    if noise.source == "seeds" and differing_settings(table, columns, [y]):
        return replace(noise, source="settings")
    return noise


def condition(weighted: FloatArray) -> float:
    """Condition number of a Jacobian after scaling its columns to unit length."""
    size = np.linalg.norm(weighted, axis=0)
    return float(np.linalg.cond(weighted / size)) if weighted.size else float("nan")
