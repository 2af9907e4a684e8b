"""Runs that serve several cells, e.g. one run evaluated at several data sizes, and the errors their cells share."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from scaling.arrays import FloatArray, IndexArray

__all__ = ["SharedRuns", "serves_several", "shared_runs"]


@dataclass(frozen=True)
class SharedRuns:
    """The assignment of rows to runs and cells, and the differences between runs within cells.

    Attributes:
        cell, run: (rows,) indices.
        share: (rows,) of the row in its cell's mean.
        between: sum of squares of the runs around their cells.
        dof: its degrees of freedom; 0 if no two runs serve the same cells.
        cells_per_run: on average.
    """

    cell: IndexArray
    run: IndexArray
    share: FloatArray
    between: float
    dof: int
    cells_per_run: float

    def variance(self, seeds_ss: float, seeds_dof: int) -> float:
        """Variance between runs by the method of moments; 0 if it cannot be estimated."""
        if not self.dof or seeds_dof < 1:
            return 0.0
        beyond = self.between / self.dof - seeds_ss / seeds_dof
        return max(beyond, 0.0) / self.cells_per_run

    def weighted_shares(self, root: FloatArray) -> FloatArray:
        """Share of each run in each cell's mean, times the root of the cell's weight, (n, R)."""
        matrix = np.zeros((len(root), int(self.run.max()) + 1))
        np.add.at(matrix, (self.cell, self.run), self.share)
        return matrix * root[:, None]

    def serves(self, group: FloatArray) -> bool:
        """Whether every run stays within one of the groups, columns of (n, G)."""
        code = np.argmax(group != 0, axis=1)[self.cell]
        runs = np.unique(np.column_stack([self.run, code]), axis=0)
        return len(runs) == int(self.run.max()) + 1


def serves_several(cell: IndexArray, run: IndexArray) -> bool:
    """Whether any run serves more than one cell."""
    pairs = np.unique(np.column_stack([cell, run]), axis=0)
    return bool(len(pairs) > len(np.unique(run)))


def shared_runs(
    cell: IndexArray, run: IndexArray, weights: FloatArray, response: FloatArray
) -> SharedRuns:
    """Describe the runs of a table in which some serve several cells.

    Args:
        cell: (rows,) index of the cell.
        run: (rows,) index of the run.
        weights: (rows,).
        response: (rows,).
    """
    total = np.bincount(cell, weights)
    around = response - (np.bincount(cell, weights * response) / total)[cell]
    held = np.bincount(run, weights)
    between = float(np.sum(np.bincount(run, weights * around) ** 2 / held))
    size = (int(cell.max()) + 1, int(run.max()) + 1)
    links = coo_array((np.ones(len(cell)), (cell, run + size[0])), shape=(sum(size),) * 2)
    separate = connected_components(links, directed=False)[0]
    return SharedRuns(
        cell, run, weights / total[cell], between, size[1] - separate, len(cell) / size[1]
    )
