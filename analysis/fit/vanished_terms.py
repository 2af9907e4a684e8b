"""Whether a term of a law is more than noise: without a term that the noise explains, the metric does not depend on it."""

from dataclasses import replace

import numpy as np
from scipy import special

from analysis.optimum import Optimum, Problem
from analysis.uncertainty import Variance
from scaling.arrays import BoolArray

__all__ = ["without_vanished"]


# Above this p-value, noise explains a term.
_NOISE = 0.05
# An exponent known better than this share of itself belongs to a term that is there.
_KNOWN = 0.2
_AT_BOUND = 1e-7


def without_vanished(problem: Problem, optimum: Optimum, variance: Variance) -> Optimum:
    """The optimum without the terms that noise explains, the least significant first.

    A metric that does not fall with a size leaves the size's term to the noise: its amplitude may become zero, or its
    exponent runs to a bound, where the term is a straight line in logs or a step at the smallest size. The test is the
    same for all: the rise of the sum of squares without the term, over the noise (F test at 5 %; errors that cells share
    are allowed for as in `simpler_law_p`). That allowance is the widest of any parameter, with the fewest degrees of
    freedom; so the errors that were found, cell by cell, must explain the term as well.

    Args:
        problem: law, points and loss.
        optimum: of the problem.
        variance: around the optimum.
    """
    law, free = problem.law, problem.free
    linear = 1 + len(law.amplitudes)
    if problem.delta is not None or not variance.noise.dof or variance.noise.sd <= 0:
        return optimum
    if law.of_metric or "E" in problem.fixed:
        return optimum
    _, slopes = law.basis(problem.points.logs(problem.points.origin), optimum.theta[None, linear:])
    lower, upper = problem.bounds()
    naive = np.sqrt(np.maximum(np.diag(variance.naive), 0.0))
    factors, dofs = variance.inflation(np.eye(len(law.names)))
    candidates: list[list[int]] = []
    for j in range(len(law.amplitudes)):
        own = [k for k in range(len(law.shapes)) if {i for i, kk in slopes if kk == k} == {j}]
        own = [linear + k for k in own if free[linear + k]]
        theta = optimum.theta
        at_bound = [
            not lower[k] + _AT_BOUND < theta[k] < upper[k] - _AT_BOUND
            or naive[k] > _KNOWN * abs(theta[k])
            for k in own
        ]
        if free[1 + j] and any(at_bound) and not problem.vanished(theta)[j]:
            candidates.append([1 + j, *own])
    found, dropped = optimum, np.zeros(len(law.names), dtype=bool)
    gone = problem.vanished(optimum.theta)
    if gone.any() and not optimum.converged:
        # an amplitude that falls without end keeps the descent from ending
        dropped[1:linear] = gone
        found = _without(problem, optimum, dropped)
    while candidates:
        tried = []
        for term in candidates:
            held = dropped.copy()
            held[term] = True
            without = _without(problem, found, held)
            rise = 2 * max(without.value - found.value, 0.0)
            f = rise / len(term) / (variance.noise.sd * factors[term].max()) ** 2
            tried.append((float(special.fdtrc(len(term), dofs[term].min(), f)), without))
        best = int(np.argmax([p for p, _ in tried]))
        if tried[best][0] < _NOISE:
            break
        without, n_free = tried[best][1], len(candidates[best])
        if _rise_p(problem, variance, found, without, n_free) < _NOISE:
            break
        found = without
        dropped[candidates.pop(best)] = True
    return found


def _rise_p(
    problem: Problem, variance: Variance, found: Optimum, without: Optimum, n_free: int
) -> float:
    """P-value of the rise of the squares without a term, in units of the cells' covariance (generalised least squares)."""
    points, noise, law = problem.points, variance.noise, problem.law
    root = np.sqrt(points.weights)
    covariance = np.diag(noise.sd**2 + (noise.misfit_sd * root) ** 2)
    for effect in variance.effects:
        size = points.sizes[law.variables.index(effect.variable)]
        covariance += (effect.sd**2 * (size[:, None] == size)) * np.outer(root, root)
    if points.runs is not None:
        shares = points.runs.weighted_shares(root)
        covariance += noise.run_sd**2 * shares @ shares.T
    objective, factor = problem.objective(points.origin), np.linalg.cholesky(covariance)
    squares = [
        float(np.sum(np.linalg.solve(factor, objective.residuals(one.theta) * root) ** 2))
        for one in (without, found)
    ]
    return float(special.fdtrc(n_free, noise.dof, max(squares[0] - squares[1], 0.0) / n_free))


def _without(problem: Problem, optimum: Optimum, held: BoolArray) -> Optimum:
    """The optimum with held parameters (p,), whose amplitudes are so small that they show at no point."""
    linear = 1 + len(problem.law.amplitudes)
    logs = problem.points.logs(problem.points.origin)
    phi, _ = problem.law.basis(logs, optimum.theta[None, linear:])
    reach = np.array([np.abs(one).max() for one in phi])
    smallest = problem.bounds()[0][1:linear] - np.log(np.maximum(reach, 1.0))
    theta = optimum.theta.copy()
    theta[1:linear] = np.where(held[1:linear], smallest, theta[1:linear])
    solution = problem.refit(theta[None], held[None])
    return replace(
        optimum,
        theta=solution.x[0],
        value=float(solution.value[0]),
        converged=bool(solution.converged[0]),
        n_evaluations=optimum.n_evaluations + solution.n_evaluations,
    )
