"""Sources of a fit's uncertainty: seeds, runs that serve several cells, shared shifts, the test part.

Errors that cells share do not average away. The estimate is still least squares (on a full grid it is also
the best linear one under every effect considered here, Zyskind 1967); its covariance is the sandwich
H S H' with H = (J' W J)^-1 J' W and S the covariance of the cells. Each mean square in S is a separate part,
so that degrees of freedom follow from Satterthwaite's (1946) rule.

Legend: n cells, p parameters, R runs, G groups; cells are multiplied by the root of their weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.optimum import inverse_curvature
from analysis.uncertainty.nested_sizes import beyond_law, correlation_factor, nested_variable
from analysis.uncertainty.noise import Noise, estimate_noise
from scaling.arrays import FloatArray

if TYPE_CHECKING:
    from analysis.optimum import Problem

__all__ = ["Effect", "Part", "Variance", "combined", "estimate_variance"]


# Below this p-value the cells of one size count as sharing a shift. Two sizes are tested, and less than 8 %
# of studies without any shift should be given one.
_EFFECT_P = 0.035
# With more groups than this, or fewer than two cells in each, there is nothing to compare.
_MOST_GROUPS = 64
_SMALL = 1e-9


@dataclass(frozen=True)
class Part:
    """One source's covariance (p, p) of theta, and the degrees of freedom of its mean square."""

    source: str
    covariance: FloatArray
    dof: float


@dataclass(frozen=True)
class Effect:
    """A shift that cells of equal size share: the variable of the size, the p-value, the standard deviation."""

    variable: str
    p: float
    sd: float


@dataclass(frozen=True)
class Variance:
    """The uncertainty of a fit, by source.

    Attributes:
        noise: of one run.
        parts: of theta's covariance around the points' origin, without the test part's error.
        test: the part of the test part's sampling error, or None if it is not known.
        naive: (p, p) covariance if the errors of all runs were independent, as the plain profile assumes.
        effects: shared shifts found.
    """

    noise: Noise
    parts: tuple[Part, ...]
    test: Part | None
    naive: FloatArray
    effects: tuple[Effect, ...] = ()

    @property
    def covariance(self) -> FloatArray:
        """Covariance (p, p) of theta for predictions on the same test part."""
        return np.asarray(sum(part.covariance for part in self.parts))

    def spread(self, turn: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Variances and degrees of freedom (p,) of turn @ theta, the test part's error included."""
        every = (*self.parts, self.test) if self.test else self.parts
        return combined(every, turn)

    def inflation(self, turn: FloatArray) -> tuple[FloatArray, FloatArray]:
        """How many times wider than naive each interval of turn @ theta is, and its dof, (p,)."""
        variance, dof = self.spread(turn)
        naive = np.einsum("ip,pq,iq->i", turn, self.naive, turn)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.sqrt(variance / naive)
        return np.where(naive > 0, np.maximum(ratio, 1e-3), 1.0), dof


def combined(parts: Sequence[Part], directions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variance along each direction (m, p) of theta, and its Satterthwaite degrees of freedom, (m,)."""
    variance, uncertain = np.zeros(len(directions)), np.zeros(len(directions))
    for part in parts:
        share = np.einsum("ip,pq,iq->i", directions, part.covariance, directions)
        variance += share
        if part.dof:
            uncertain += share**2 / part.dof
    variance = np.maximum(variance, 0.0)
    most = max((part.dof for part in parts if np.isfinite(part.dof)), default=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        dof = variance**2 / uncertain
    return variance, np.where(uncertain > 0, np.clip(dof, 1.0, 1e6), most)


def estimate_variance(problem: "Problem", theta: FloatArray) -> Variance:
    """Split the noise around a fit into its sources.

    Args:
        problem: law and loss, with cells' means as points (rows with Huber's loss).
        theta: (p,) its optimum around the points' origin.
    """
    points = problem.points
    objective = problem.objective(points.origin)
    jacobian, residual = objective.jacobian(theta), objective.residuals(theta)
    used = np.flatnonzero(problem.free & problem.seen(jacobian))
    if problem.delta is not None:
        noise = _robust(residual, len(points) - int(problem.free.sum()))
        naive = _spread_out(
            inverse_curvature(objective.curvature(theta)[np.ix_(used, used)]), used, theta
        )
        return _simple(noise, naive * noise.sd**2)  # fmt: skip
    root = np.sqrt(points.weights)
    columns, scaled = jacobian[:, used] * root[:, None], residual * root
    return _Cells(problem, columns, scaled, root, used, len(theta)).variance()


def _simple(noise: Noise, naive: FloatArray) -> Variance:
    if not noise.dof:
        naive = np.full(naive.shape, np.nan)
    return Variance(noise, (Part(noise.source, naive, noise.dof),), None, naive)


def _spread_out(block: FloatArray, used: npt.NDArray[np.intp], theta: FloatArray) -> FloatArray:
    whole = np.zeros((len(theta), len(theta)))
    whole[np.ix_(used, used)] = block
    return whole


def _robust(residual: FloatArray, dof: int) -> Noise:
    # Huber's loss is chosen because of outliers, so the scale comes from the central 95 %.
    if dof < 1:
        return Noise(float("nan"), 0, "none")
    scale = float(np.quantile(np.abs(residual), 0.95)) / 1.96
    return Noise(scale * float(np.sqrt(len(residual) / dof)), dof, "residuals")


@dataclass(frozen=True)
class _Cells:
    """The linearised fit of cells' means, all multiplied by the root of their weights."""

    problem: "Problem"
    columns: FloatArray
    residual: FloatArray
    root: FloatArray
    used: npt.NDArray[np.intp]
    n_theta: int

    def variance(self) -> Variance:
        points = self.problem.points
        basis = _orthonormal(self.columns)
        none = np.zeros((len(self.root), 0))
        by_run = points.runs.weighted_shares(self.root) if points.runs else none
        seeds = points.pure_error_dof - (points.runs.dof if points.runs else 0)
        seeds_ss = points.pure_error - (points.runs.between if points.runs else 0.0)
        run_variance = points.runs.variance(seeds_ss, seeds) if points.runs else 0.0
        effects, shifts, moments = [], [np.zeros((len(self.root), 0))], []
        runs = points.runs
        nested = nested_variable(self.problem, seeds)
        for variable, group in self._groups(nested):
            shift = _orthonormal(group - basis @ (basis.T @ group))
            if variable == nested:
                shift = beyond_law(group, basis)
                sizes = np.unique(points.sizes[points.nested or 0])
                group = group @ correlation_factor(sizes)
                moments.append((variable, 1.0, shift, group, True))
                shifts.append(shift)
                continue
            p = self._test(basis, shift, by_run, run_variance, seeds_ss, seeds)
            # If no two runs serve the same cells, only the shifts show the variance between runs.
            alone = runs is not None and not runs.dof and runs.serves(group)
            if p < _EFFECT_P or alone:
                moments.append((variable, p, shift, group, alone))
            # Shifts that runs may cause say nothing about the fit of the law.
            if p < _EFFECT_P or (runs is not None and runs.serves(group)):
                shifts.append(shift)
        found = _orthonormal(np.column_stack(shifts))
        noise = self._noise(basis, found, by_run, run_variance, seeds_ss, seeds)
        noise = replace(
            noise,
            run_sd=float(np.sqrt(run_variance)),
            test_sd=0.0 if "E" in self.problem.fixed else points.test_sd or 0.0,
        )
        inverse = inverse_curvature(self.columns.T @ self.columns)
        gain = inverse @ self.columns.T
        naive = self._whole(inverse * noise.sd**2)
        if not noise.dof:
            return replace(_simple(noise, naive), test=self._shared_test(gain))
        parts = self._run_parts(naive, gain @ by_run, run_variance, noise)
        for variable, p, shift, group, alone in moments:
            if not shift.shape[1]:
                continue  # too few sizes to see it; `analysis.fit.remarks` says so
            # As for the whole plots of a split-plot design: the full mean square, no noise subtracted.
            own = 0.0 if alone else noise.sd
            share = self._moment(shift, group, by_run, run_variance, own)
            if p < _EFFECT_P and not alone:
                effects.append(Effect(variable, p, float(np.sqrt(share))))
            moved = gain @ group
            seen = shift.T @ group
            spread = seen @ seen.T
            # Of a sum of squares with unequal variances; their number if they are equal.
            dof = float(np.trace(spread) ** 2 / np.sum(spread**2))
            dof = dof if variable == nested else float(shift.shape[1])
            parts.append(Part(variable, self._whole(moved @ moved.T * share), dof))
        noise = replace(noise, shared_sd=float(np.sqrt(sum(e.sd**2 for e in effects))))
        return Variance(noise, tuple(parts), self._shared_test(gain), naive, tuple(effects))

    def _whole(self, block: FloatArray) -> FloatArray:
        whole = np.zeros((self.n_theta, self.n_theta))
        whole[np.ix_(self.used, self.used)] = block
        return whole

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
        self,
        basis: FloatArray,
        shift: FloatArray,
        by_run: FloatArray,
        run_variance: float,
        seeds_ss: float,
        seeds: int,
    ) -> float:
        """P-value of the F test that the groups' shifts are noise."""
        extra = shift.shape[1]
        moved = shift.T @ self.residual
        rest = self.residual - basis @ (basis.T @ self.residual) - shift @ moved
        left = len(rest) - basis.shape[1] - extra
        if extra < 1 or (left < 1 and seeds < 1):
            return float("nan")
        noise = estimate_noise(float(rest @ rest), left, seeds_ss, seeds)
        expected = extra * noise.sd**2 + run_variance * float(np.sum((shift.T @ by_run) ** 2))
        if not noise.dof or expected <= 0:
            return float("nan")
        # If the runs' variance dominates, its degrees of freedom decide.
        own = extra * noise.sd**2 / expected
        runs = self.problem.points.runs
        dof = 1 / (own**2 / noise.dof + ((1 - own) ** 2 / runs.dof if runs and runs.dof else 0.0))
        total = float(moved @ moved)
        return float(special.fdtrc(extra, dof, total / expected))

    def _noise(
        self,
        basis: FloatArray,
        found: FloatArray,
        by_run: FloatArray,
        run_variance: float,
        seeds_ss: float,
        seeds: int,
    ) -> Noise:
        """Independent noise of one run, from the residuals of the law and of the shifts."""
        taken = np.column_stack([basis, found])
        rest = self.residual - taken @ (taken.T @ self.residual)
        squares, dof = float(rest @ rest), len(rest) - taken.shape[1]
        beyond = by_run - taken @ (taken.T @ by_run)
        # At most half is attributed to the runs, so that the rest can still show a misfit.
        return estimate_noise(
            max(squares - run_variance * float(np.sum(beyond**2)), 0.5 * squares),
            dof,
            seeds_ss,
            seeds,
        )

    def _run_parts(
        self, naive: FloatArray, moved: FloatArray, run_variance: float, noise: Noise
    ) -> list[Part]:
        runs = self.problem.points.runs
        if not runs or not run_variance:
            return [Part(noise.source, naive, noise.dof)]
        unit = self._whole(moved @ moved.T)
        # The run's variance is a difference of mean squares: (between - seeds) / cells of a run.
        between = run_variance + noise.sd**2 / runs.cells_per_run
        own = naive - unit * noise.sd**2 / runs.cells_per_run
        return [Part(noise.source, own, noise.dof), Part("runs", unit * between, runs.dof)]

    def _moment(
        self,
        shift: FloatArray,
        group: FloatArray,
        by_run: FloatArray,
        run_variance: float,
        sd: float,
    ) -> float:
        """Variance of one group's shift by the method of moments."""
        moved = shift.T @ self.residual
        expected = shift.shape[1] * sd**2 + run_variance * float(np.sum((shift.T @ by_run) ** 2))
        beyond = max(float(moved @ moved) - expected, 0.0)
        return float(beyond / np.sum((shift.T @ group) ** 2))

    def _shared_test(self, gain: FloatArray) -> Part | None:
        error = self.problem.points.test_sd
        # A held E is taken as the value on this test part, so it contains the sampling error.
        if not error or "E" in self.problem.fixed:
            return None
        moved = gain @ self.root
        return Part("test", self._whole(np.outer(moved, moved) * error**2), float("inf"))


def _orthonormal(matrix: FloatArray) -> FloatArray:
    """Columns (n, rank) that span those of `matrix`, whose lengths are comparable or zero."""
    size = np.linalg.norm(matrix, axis=0)
    kept = matrix[:, size > _SMALL * max(float(size.max(initial=0.0)), 1e-300)]
    if not kept.shape[1]:
        return np.zeros((len(matrix), 0))
    left, values, _ = np.linalg.svd(kept / np.linalg.norm(kept, axis=0), full_matrices=False)
    return np.asarray(left[:, values > _SMALL * values[0]])
