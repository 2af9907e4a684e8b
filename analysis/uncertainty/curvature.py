"""Curvature in the logs of the sizes: what a law of another form leaves in the residuals (Ramsey 1969)."""

import itertools
from collections.abc import Sequence

import numpy as np

from scaling.arrays import FloatArray

__all__ = ["curvature_columns"]


def curvature_columns(sizes: Sequence[FloatArray]) -> FloatArray:
    """Squares and products of log sizes, each of mean 0 and standard deviation 1, (n, k).

    A size that does not vary has no columns.

    Args:
        sizes: one (n,) array for each variable.
    """
    logs = [np.log(size) for size in sizes if len(np.unique(size)) > 1]
    logs = [(log - log.mean()) / log.std() for log in logs]
    pairs = itertools.combinations_with_replacement(logs, 2)
    columns = [product - product.mean() for product in (a * b for a, b in pairs)]
    # On two levels a square is constant.
    columns = [column / column.std() for column in columns if column.std() > 1e-6]
    return np.column_stack(columns) if columns else np.zeros((len(sizes[0]), 0))
