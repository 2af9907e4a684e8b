"""Starting shapes in the basin of the global optimum: a whole grid of exponents is scored at once.

After solving for the linear part (`projection`) a law has two or three parameters left, few enough for a
grid. With log residuals the weights are divided by y^2, as a relative error is nearly a log error. With
Huber's loss, too, the squared loss finds the basin.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from analysis.laws import Law
from analysis.optimum.projection import Projection
from scaling.arrays import FloatArray

__all__ = ["shape_grid", "starting_shapes"]


# Grid points per shape parameter, by the number of parameters; a few thousand in all at most.
_GRID = (1, 48, 24, 12, 6)


def starting_shapes(projection: Projection, fixed: Mapping[str, float], count: int) -> FloatArray:
    """The `count` best separate shapes (count or fewer, K), best first.

    Args:
        projection: the squared loss; the held coefficients are the same for every shape.
        fixed: values of shape parameters that the fit holds.
        count: number of starts.
    """
    shape = shape_grid(projection.law, fixed)
    loss, _ = projection(shape, np.zeros(len(shape), dtype=np.intp))
    order = np.argsort(loss, kind="stable")
    if not shape.shape[1]:
        return shape
    scaled = shape / np.where(np.ptp(shape, axis=0) > 0, np.ptp(shape, axis=0), 1.0)
    picked: list[int] = []
    for candidate in order[: 50 * count]:
        # Neighbours on the grid lead to the same valley.
        if all(np.abs(scaled[candidate] - scaled[other]).max() > 0.08 for other in picked):
            picked.append(int(candidate))
        if len(picked) == count:
            break
    return shape[picked]


def shape_grid(law: Law, fixed: Mapping[str, float]) -> FloatArray:
    """Shapes to score, (G, K): a grid from `first` to `last` of each parameter, even in logs if it is positive."""
    free = [shape for shape in law.shapes if shape.name not in fixed]
    low = np.array([shape.first if shape.signed else np.log(shape.first) for shape in free])
    high = np.array([shape.last if shape.signed else np.log(shape.last) for shape in free])
    unit = np.linspace(0, 1, _GRID[len(free)])
    rows = list(itertools.product(unit, repeat=len(free)))
    # Without a free shape, the grid is one row without entries.
    points = np.array(rows).reshape(len(rows), len(free))
    grid = iter((low + points * (high - low)).T)
    columns = []
    for shape in law.shapes:
        if shape.name in fixed:
            columns.append(np.full(len(points), shape.inside(fixed[shape.name])))
        else:
            column = next(grid)
            columns.append(column if shape.log or shape.signed else np.exp(column))
    return np.column_stack(columns) if columns else np.empty((1, 0))
