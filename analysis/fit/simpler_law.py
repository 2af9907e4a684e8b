"""Whether the simpler law that a law contains would be good enough: an F test on the same points."""

from dataclasses import replace

import numpy as np
from scipy import special

from analysis.optimum import Optimum, Problem
from analysis.uncertainty import Variance

__all__ = ["simpler_law_note", "simpler_law_p"]


# Below this p-value the simpler law is refused.
_REJECT = 0.05


def simpler_law_p(problem: Problem, optimum: Optimum, variance: Variance) -> float:
    """The p-value of `Law.simpler`; NaN if the law contains none, holds its parameter, or cannot be tested.

    The statistic is the rise of the sum of squares if the parameter is held, over the noise of the larger law
    (Seber & Wild 1989, 5.3.3). It is divided by the square of the factor by which errors that cells share widen the
    parameter's interval, so that the test refuses exactly the values outside the profile interval.

    Args:
        problem: law, points and loss.
        optimum: of the problem.
        variance: around the optimum.
    """
    law = problem.law
    if law.simpler is None or problem.delta is not None or not variance.noise.dof:
        return float("nan")
    _, name, value = law.simpler
    index = law.names.index(name)
    jacobian = problem.objective(problem.points.origin).jacobian(optimum.theta)
    if name in problem.fixed or not problem.seen(jacobian)[index] or variance.noise.sd <= 0:
        return float("nan")
    held = replace(problem, fixed={**problem.fixed, name: value}).solve()
    factors, dofs = variance.inflation(np.eye(len(law.names)))
    rise = 2 * max(held.value - optimum.value, 0.0)
    f = rise / (variance.noise.sd * factors[index]) ** 2
    return float(special.fdtrc(1, dofs[index], f))


def simpler_law_note(problem: Problem, p: float) -> str:
    """The test in words; empty without a p-value."""
    if problem.law.simpler is None or np.isnan(p):
        return ""
    other, name, value = problem.law.simpler
    verdict = "refused" if p < _REJECT else "good enough"
    return f"the {other} law ({name} = {value:g}) is {verdict}: F test, p = {p:.2g}"
