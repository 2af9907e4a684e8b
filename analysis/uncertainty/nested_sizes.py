"""Errors that every run of a data size has in common, when the sizes are nested sets of the same impressions.

With `data_order = "recent"`, D are the latest D impressions for every grade and seed. Neither seeds nor grades draw
them anew, and the smaller sets lie within the larger ones.
"""

from typing import TYPE_CHECKING

import numpy as np

from scaling.arrays import FloatArray

if TYPE_CHECKING:
    from analysis.optimum import Problem

__all__ = ["beyond_law", "correlation_factor", "nested_variable"]


_ROUNDING = 1e-6


def nested_variable(problem: "Problem", seeds: int) -> str | None:
    """The variable whose sizes are nested, or None if there is none or its error cannot be told from the noise.

    Args:
        problem: law and points.
        seeds: degrees of freedom of the seeds' variance.
    """
    law, points = problem.law, problem.points
    if points.nested is None or (len(law.variables) < 2 and not seeds):
        return None
    return law.variables[points.nested]


def correlation_factor(sizes: FloatArray) -> FloatArray:
    """A factor (G, G) of the correlation matrix of means over nested sets of the given sizes (G,).

    D of D' impressions are common to both means, so their correlation is sqrt(D / D').
    """
    ratio = sizes[:, None] / sizes
    return np.linalg.cholesky(np.sqrt(np.minimum(ratio, 1 / ratio)))


def beyond_law(group: FloatArray, basis: FloatArray) -> FloatArray:
    """Orthonormal directions (n, k) of the sizes' shifts that the law cannot follow; none if there are too few sizes.

    Args:
        group: weighted indicators (n, G) of equal sizes.
        basis: orthonormal columns (n, p) of the law's Jacobian.
    """
    left, values, _ = np.linalg.svd(group - basis @ (basis.T @ group), full_matrices=False)
    # Rounding alone leaves less than this of a law that reaches every size.
    return np.asarray(left[:, values > _ROUNDING * np.linalg.norm(group)])
