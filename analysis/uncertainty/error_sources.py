"""Sources of a fit's uncertainty: seeds, runs that serve several cells, shared shifts, curvature, the test part.

Errors that cells share do not average away. The estimate is still least squares (on a full grid it is also
the best linear one under every effect considered here, Zyskind 1967); its covariance is the sandwich
H S H' with H = (J' W J)^-1 J' W and S the covariance of the cells. Each mean square in S is a separate part,
so that degrees of freedom follow from Satterthwaite's (1946) rule.

Legend: n cells, p parameters, R runs, G groups; cells are multiplied by the root of their weights.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.optimum import inverse_curvature
from analysis.uncertainty.curvature import curvature_columns
from analysis.uncertainty.huber_errors import huber_factor, squared_problem
from analysis.uncertainty.nested_sizes import beyond_law, correlation_factor, nested_variable
from analysis.uncertainty.noise import Noise, estimate_noise
from analysis.uncertainty.variance import CURVATURE_P, Effect, Part, Variance
from scaling.arrays import FloatArray

if TYPE_CHECKING:
    from analysis.optimum import Problem

__all__ = ["estimate_variance"]


# Below this p-value the cells of one size count as sharing a shift. Two sizes are tested, and less than 8 %
# of studies without any shift should be given one.
_EFFECT_P = 0.035
# With more groups than this, or fewer than two cells in each, there is nothing to compare.
_MOST_GROUPS = 64
_SMALL = 1e-9
# Of a shift's columns, the share that must lie outside the law: what shows less would be magnified more than tenfold.
_SEEN = 0.1


def estimate_variance(problem: "Problem", theta: FloatArray) -> Variance:
    """Split the noise around a fit into its sources.

    With Huber's loss, residuals are clipped far off the law, and variances are those of Huber's estimate.

    Args:
        problem: law and loss, with cells' means or rows as points.
        theta: (p,) its optimum around the points' origin.
    """
    squared = squared_problem(problem, theta)
    points = squared.points
    # The origin is that of theta; the mean of the cells may lie elsewhere than that of the rows.
    objective = squared.objective(problem.points.origin)
    jacobian, residual = objective.jacobian(theta), objective.residuals(theta)
    used = np.flatnonzero(problem.free & problem.seen(jacobian))
    root = np.sqrt(points.weights)
    columns, scaled = jacobian[:, used] * root[:, None], residual * root
    variance = _Cells(squared, columns, scaled, root, used, len(theta)).variance()
    if problem.delta is None:
        return variance
    noise = variance.noise
    total = float(np.linalg.norm([noise.sd, noise.run_sd, noise.shared_sd, noise.misfit_sd]))
    return variance.scaled(huber_factor(problem.delta, total))


@dataclass(frozen=True)
class _Deviation:
    """What cells share: directions (n, k) in which it shows, and columns (n, G) that it moves the cells along.

    Attributes:
        variable: whose equal sizes share it.
        p: its p-value.
        directions: orthonormal, at right angles to the law.
        columns: with independent amplitudes of one variance.
        whole: whether the full mean square counts, without the noise subtracted, as for the whole plots of a
            split-plot design.
        resampled: whether resampling runs shows it.
    """

    variable: str
    p: float
    directions: FloatArray
    columns: FloatArray
    whole: bool = False
    resampled: bool = False

    @property
    def dof(self) -> float:
        """Degrees of freedom of the mean square."""
        # Of a sum of squares with unequal variances, e.g. of log residuals; their number if they are equal.
        seen = self.directions.T @ self.columns
        spread = seen @ seen.T
        return float(np.trace(spread) ** 2 / np.sum(spread**2))


@dataclass(frozen=True)
class _Cells:
    """The linearised fit of cells' means, all multiplied by the root of their weights."""

    problem: "Problem"
    columns: FloatArray
    residual: FloatArray
    root: FloatArray
    used: npt.NDArray[np.intp]
    n_theta: int

    @cached_property
    def basis(self) -> FloatArray:
        """Orthonormal columns of the law."""
        return _orthonormal(self.columns)

    @cached_property
    def by_run(self) -> FloatArray:
        """Share of each run in each cell, (n, R)."""
        runs = self.problem.points.runs
        return runs.weighted_shares(self.root) if runs else np.zeros((len(self.root), 0))

    @cached_property
    def seeds(self) -> tuple[float, int]:
        """Sum of squares of the seeds within cells and runs, and its degrees of freedom."""
        points = self.problem.points
        between, dof = (points.runs.between, points.runs.dof) if points.runs else (0.0, 0)
        return points.pure_error - between, points.pure_error_dof - dof

    @cached_property
    def run_variance(self) -> float:
        """Variance between runs."""
        runs = self.problem.points.runs
        return runs.variance(*self.seeds) if runs else 0.0

    def variance(self) -> Variance:
        """The variance by source."""
        points = self.problem.points
        deviations, taken = self._shifts()
        noise = self._noise(taken)
        curvature_p, curvature = self._curvature(taken, noise)
        curved = curvature_p < CURVATURE_P
        if curved:
            noise = self._noise(np.column_stack([taken, curvature]))
        noise = replace(
            noise,
            run_sd=float(np.sqrt(self.run_variance)),
            test_sd=0.0 if "E" in self.problem.fixed else points.test_sd or 0.0,
        )
        inverse = inverse_curvature(self.columns.T @ self.columns)
        gain = inverse @ self.columns.T
        naive = self._whole(inverse * noise.sd**2)
        found = Variance(
            noise,
            (Part(noise.source, naive, noise.dof),),
            self._test_part(gain),
            naive,
            curvature_p=curvature_p,
        )
        if not noise.dof:
            unknown = np.full(naive.shape, np.nan)
            return replace(found, parts=(Part(noise.source, unknown, 0),), naive=unknown)
        found = self._with_deviations(found, deviations, gain)
        return self._with_curvature(found, inverse, curvature) if curved else found

    def _with_curvature(
        self, found: Variance, inverse: FloatArray, directions: FloatArray
    ) -> Variance:
        """The variance if the law errs as much in what it absorbs of a curve as in what it leaves.

        Smooth errors then have the mean square along the curvature's `directions` (n, k) instead of the noise's.
        """
        shown = directions.T @ self.residual
        k = directions.shape[1]
        beyond = max(float(shown @ shown) / k - found.noise.sd**2, 0.0)
        part = Part("lack of fit", self._whole(inverse * beyond), k)
        misfit = float(np.sqrt(shown @ shown / np.sum(self.root**2)))
        return replace(
            found,
            noise=replace(found.noise, misfit_sd=misfit),
            parts=(*found.parts, part),
            shared=(*found.shared, part),
        )

    def _with_deviations(
        self, found: Variance, deviations: list[_Deviation], gain: FloatArray
    ) -> Variance:
        """The variance with a part for each deviation; `gain` (used, n) maps cells to theta."""
        noise, effects, shared = found.noise, [], []
        parts = self._run_parts(found.naive, gain @ self.by_run, noise)
        for deviation in deviations:
            if not deviation.directions.shape[1]:
                continue  # too few sizes to see it; `analysis.fit.remarks` says so
            share = self._moment(deviation, 0.0 if deviation.whole else noise.sd)
            moved = gain @ deviation.columns
            part = Part(deviation.variable, self._whole(moved @ moved.T * share), deviation.dof)
            parts.append(part)
            if not deviation.resampled:
                shared.append(part)
            if deviation.p < _EFFECT_P and not deviation.whole:
                effects.append(Effect(deviation.variable, deviation.p, float(np.sqrt(share))))
        spread = sum(effect.sd**2 for effect in effects)
        return replace(
            found,
            noise=replace(noise, shared_sd=float(np.sqrt(spread))),
            parts=tuple(parts),
            effects=tuple(effects),
            shared=tuple(shared),
        )

    def _whole(self, block: FloatArray) -> FloatArray:
        whole = np.zeros((self.n_theta, self.n_theta))
        whole[np.ix_(self.used, self.used)] = block
        return whole

    def _shifts(self) -> tuple[list[_Deviation], FloatArray]:
        """Shifts of equal sizes that count, and orthonormal directions (n, k) that say nothing about the noise."""
        basis, runs = self.basis, self.problem.points.runs
        nested = nested_variable(self.problem, self.seeds[1])
        found, taken = [], [basis]
        for variable, group in self._groups(nested):
            if variable == nested:
                shift = beyond_law(group, basis)
                sizes = np.unique(self.problem.points.sizes[self.problem.points.nested or 0])
                correlated = group @ correlation_factor(sizes)
                found.append(_Deviation(variable, 1.0, shift, correlated, whole=True))
                taken.append(shift)
                continue
            shift = _seen_beyond(basis, group)
            p = self._test(basis, shift, *self.seeds)
            # If no two runs serve the same cells, only the shifts show the variance between runs.
            alone = runs is not None and not runs.dof and runs.serves(group)
            if p < _EFFECT_P or alone:
                found.append(_Deviation(variable, p, shift, group, whole=alone, resampled=alone))
            # Shifts that runs may cause say nothing about the fit of the law.
            if p < _EFFECT_P or (runs is not None and runs.serves(group)):
                taken.append(shift)
        return found, _orthonormal(np.column_stack(taken))

    def _curvature(self, taken: FloatArray, noise: Noise) -> tuple[float, FloatArray]:
        """P-value of curvature that the law leaves, and its orthonormal directions (n, k) beyond `taken`.

        NaN if the seeds judge the law, or nothing is left to judge it by.
        """
        law, sizes = self.problem.law, self.problem.points.sizes
        if noise.source != "residuals" or not noise.fits:
            return float("nan"), np.zeros((len(self.root), 0))
        varied = [s for v, s in zip(law.variables, sizes, strict=True) if v not in law.ratios]
        columns = curvature_columns(varied) * self.root[:, None]
        directions = _orthonormal(columns - taken @ (taken.T @ columns))
        return self._test(taken, directions, 0.0, 0), directions

    def _groups(self, nested: str | None) -> list[tuple[str, FloatArray]]:
        """Indicators (n, G) of equal sizes, for each variable that can be tested or is `nested`."""
        law, points = self.problem.law, self.problem.points
        found = []
        for variable, size in zip(law.variables, points.sizes, strict=True):
            if variable != nested and (len(law.variables) < 2 or variable in law.ratios):
                continue
            levels, code = np.unique(size, return_inverse=True)
            if variable == nested or 2 <= len(levels) <= min(_MOST_GROUPS, len(size) // 2):
                found.append((variable, np.eye(len(levels))[code] * self.root[:, None]))
        return found

    def _test(
        self, taken: FloatArray, directions: FloatArray, seeds_ss: float, seeds: int
    ) -> float:
        """P-value of the F test that the residual along `directions` (n, k), at right angles to `taken`, is noise."""
        extra = directions.shape[1]
        moved = directions.T @ self.residual
        rest = self.residual - taken @ (taken.T @ self.residual) - directions @ moved
        left = len(rest) - taken.shape[1] - extra
        if extra < 1 or (left < 1 and seeds < 1):
            return float("nan")
        noise = estimate_noise(float(rest @ rest), left, seeds_ss, seeds)
        by_runs = self.run_variance * float(np.sum((directions.T @ self.by_run) ** 2))
        expected = extra * noise.sd**2 + by_runs
        if not noise.dof or expected <= 0:
            return float("nan")
        # If the runs' variance dominates, its degrees of freedom decide.
        own = extra * noise.sd**2 / expected
        runs = self.problem.points.runs
        dof = 1 / (own**2 / noise.dof + ((1 - own) ** 2 / runs.dof if runs and runs.dof else 0.0))
        total = float(moved @ moved)
        return float(special.fdtrc(extra, dof, total / expected))

    def _noise(self, taken: FloatArray) -> Noise:
        """Independent noise of one run, from the residuals beyond the directions `taken` (n, k)."""
        taken = _orthonormal(taken)
        rest = self.residual - taken @ (taken.T @ self.residual)
        squares, dof = float(rest @ rest), len(rest) - taken.shape[1]
        beyond = self.by_run - taken @ (taken.T @ self.by_run)
        # At most half is attributed to the runs, so that the rest can still show a misfit.
        return estimate_noise(
            max(squares - self.run_variance * float(np.sum(beyond**2)), 0.5 * squares),
            dof,
            *self.seeds,
        )

    def _run_parts(self, naive: FloatArray, moved: FloatArray, noise: Noise) -> list[Part]:
        runs = self.problem.points.runs
        if not runs or not self.run_variance:
            return [Part(noise.source, naive, noise.dof)]
        unit = self._whole(moved @ moved.T)
        # The run's variance is a difference of mean squares: (between - seeds) / cells of a run.
        between = self.run_variance + noise.sd**2 / runs.cells_per_run
        own = naive - unit * noise.sd**2 / runs.cells_per_run
        return [Part(noise.source, own, noise.dof), Part("runs", unit * between, runs.dof)]

    def _moment(self, deviation: _Deviation, sd: float) -> float:
        """Variance of the amplitudes of a deviation's columns by the method of moments."""
        directions = deviation.directions
        moved = directions.T @ self.residual
        by_runs = self.run_variance * float(np.sum((directions.T @ self.by_run) ** 2))
        beyond = max(float(moved @ moved) - directions.shape[1] * sd**2 - by_runs, 0.0)
        return float(beyond / np.sum((directions.T @ deviation.columns) ** 2))

    def _test_part(self, gain: FloatArray) -> Part | None:
        error = self.problem.points.test_sd
        # A held E is taken as the value on this test part, so it contains the sampling error.
        if not error or "E" in self.problem.fixed:
            return None
        moved = gain @ self.root
        return Part("test", self._whole(np.outer(moved, moved) * error**2), float("inf"))


def _seen_beyond(basis: FloatArray, group: FloatArray) -> FloatArray:
    """Orthonormal directions (n, k), at right angles to `basis`, in which the columns of a group show."""
    length = np.linalg.norm(group, axis=0).max()
    left, values, _ = np.linalg.svd(group - basis @ (basis.T @ group), full_matrices=False)
    return np.asarray(left[:, values > _SEEN * length])


def _orthonormal(matrix: FloatArray) -> FloatArray:
    """Columns (n, rank) that span those of `matrix`, whose lengths are comparable or zero."""
    size = np.linalg.norm(matrix, axis=0)
    kept = matrix[:, size > _SMALL * max(float(size.max(initial=0.0)), 1e-300)]
    if not kept.shape[1]:
        return np.zeros((len(matrix), 0))
    left, values, _ = np.linalg.svd(kept / np.linalg.norm(kept, axis=0), full_matrices=False)
    return np.asarray(left[:, values > _SMALL * values[0]])
