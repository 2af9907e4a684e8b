"""The global minimum of a loss over a law's parameters: points, objective, projection, solver.

Not here: intervals (`analysis.uncertainty`), verdicts (`analysis.fit`).
"""

from analysis.optimum.objective import Objective, inverse_curvature
from analysis.optimum.points import Points, gather_points
from analysis.optimum.problem import LOG_RANGE, Optimum, Problem
from analysis.optimum.shared_runs import serves_several

__all__ = [
    "LOG_RANGE",
    "Objective",
    "Optimum",
    "Points",
    "Problem",
    "gather_points",
    "inverse_curvature",
    "serves_several",
]
