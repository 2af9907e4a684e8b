"""Variable projection: the squared loss as a function of a law's shape alone.

For a fixed shape the best offset and amplitudes follow from a small non-negative least-squares problem
(Golub & Pereyra 1973), so the search is over exponents only. This removes the curved valley in which
E, A and alpha compensate each other, which slows down a search over all parameters.

Legend: Q problems, n points, m = 1 + J linear coefficients, K shape parameters.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.laws import Law
from scaling.arrays import BoolArray, FloatArray, IndexArray

__all__ = ["Projection"]


# Keeps exactly collinear columns (an exponent of zero) solvable; negligible for all others.
_RIDGE = 1e-15


@dataclass(frozen=True)
class Projection:
    """The squared loss of P problems, minimised over the linear coefficients.

    With z = +-(y - limit) and e = +-(E - limit), the law reads z = e + sum_j a_j phi_j, and every
    coefficient is >= 0 for both directions of the metric.

    Attributes:
        law: the form.
        logs: log sizes, one (n,) array for each variable.
        response: (n,) metric.
        weights: (n,), or (P, n) if they differ between problems.
        held: (P, m) held coefficients e, a_1, ..., NaN for free ones; None if all are free.
    """

    law: Law
    logs: Sequence[FloatArray]
    response: FloatArray
    weights: FloatArray
    held: FloatArray | None = None

    def __call__(self, shape: FloatArray, index: IndexArray) -> tuple[FloatArray, FloatArray]:
        """Losses (Q,) and gradients (Q, K) at shapes (Q, K) of the problems `index` (Q,)."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            loss, gradient = self._evaluate(shape, index)
        # Extreme shapes overflow; their loss counts as infinite.
        finite = np.isfinite(loss) & np.isfinite(gradient).all(axis=1)
        return np.where(finite, loss, np.inf), gradient

    def coefficients(self, shape: FloatArray, index: IndexArray) -> FloatArray:
        """The best coefficients (Q, m) at shapes (Q, K)."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._solve(shape, index)[2]

    def curvature(self, shape: FloatArray, index: IndexArray) -> FloatArray:
        """Gauss-Newton curvatures (Q, K, K) of the projected loss (Kaufman 1975)."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return np.nan_to_num(self._curvature(shape, index), posinf=0.0, neginf=0.0)

    def _evaluate(self, shape: FloatArray, index: IndexArray) -> tuple[FloatArray, FloatArray]:
        columns, slopes, coefficients = self._solve(shape, index)
        weights = self.weights if self.weights.ndim == 1 else self.weights[index]
        residual = self._target - np.einsum("qmn,qm->qn", columns, coefficients)
        pull = weights * residual
        loss = 0.5 * np.einsum("qn,qn->q", pull, residual)
        gradient = np.zeros(shape.shape)
        # Only the explicit dependence counts: at the solution the linear part has no slope left.
        for (j, k), slope in slopes.items():
            gradient[:, k] -= coefficients[:, 1 + j] * np.einsum("qn,qn->q", pull, slope)
        return loss, gradient

    def _curvature(self, shape: FloatArray, index: IndexArray) -> FloatArray:
        columns, slopes, coefficients = self._solve(shape, index)
        weights = self.weights if self.weights.ndim == 1 else self.weights[index]
        root = np.sqrt(np.broadcast_to(weights, columns[:, 0].shape))[:, None, :]
        moves = np.zeros((*shape.shape, len(self.response)))
        for (j, k), slope in slopes.items():
            moves[:, k] += coefficients[:, 1 + j, None] * slope
        moves *= root
        # What the free coefficients would take up again does not count.
        active = (coefficients > 0) & self._free(index)
        base = columns * root * active[:, :, None]
        base /= np.maximum(np.linalg.norm(base, axis=2, keepdims=True), 1e-300)
        normal = base @ base.transpose(0, 2, 1)
        normal += np.einsum("qm,mk->qmk", np.where(active, 1e-12, 1.0), np.eye(columns.shape[1]))
        cross = base @ moves.transpose(0, 2, 1)
        taken = cross.transpose(0, 2, 1) @ np.linalg.solve(normal, cross)
        return np.asarray(moves @ moves.transpose(0, 2, 1) - taken)

    @property
    def _target(self) -> FloatArray:
        return self.law.sign * (self.response - self.law.bound)

    def _free(self, index: IndexArray) -> BoolArray:
        n_linear = 1 + len(self.law.amplitudes)
        if self.held is None:
            return np.ones((len(index), n_linear), dtype=bool)
        return np.isnan(self.held[index])

    def _solve(
        self, shape: FloatArray, index: IndexArray
    ) -> tuple[FloatArray, dict[tuple[int, int], FloatArray], FloatArray]:
        """Columns (Q, m, n), their slopes by (j, k), and the best coefficients (Q, m)."""
        phi, slopes = self.law.basis(self.logs, shape)
        columns = np.stack([np.ones_like(phi[0]), *phi], axis=1)
        weights = self.weights if self.weights.ndim == 1 else self.weights[index][:, None, :]
        weighted = columns * weights
        normal = weighted @ columns.transpose(0, 2, 1)
        right = weighted @ self._target
        free = self._free(index)
        given = np.zeros(free.shape)
        if self.held is not None:
            given = np.where(free, 0.0, self.held[index])
            right = right - np.einsum("qmk,qk->qm", normal, given)
        return columns, slopes, given + _non_negative(normal, right, free)


def _non_negative(normal: FloatArray, right: FloatArray, free: BoolArray) -> FloatArray:
    """Minimise c' normal c / 2 - right' c over c >= 0, with c = 0 for held coefficients, (Q, m)."""
    size = np.sqrt(np.maximum(np.einsum("qmm->qm", normal), 1e-300))
    normal = normal / (size[:, :, None] * size[:, None, :])
    right = right / size
    best = _solve_subset(normal, right, free)
    bad = np.flatnonzero((best < 0).any(axis=1))
    if len(bad):
        n_linear = right.shape[1]
        gain = np.full(len(bad), -np.inf)
        for kept in itertools.product([False, True], repeat=n_linear):
            values = _solve_subset(normal[bad], right[bad], free[bad] & np.array(kept))
            value = np.where(
                (values >= 0).all(axis=1), np.sum(values * right[bad], axis=1), -np.inf
            )
            better = value > gain
            best[bad[better]] = values[better]
            gain = np.maximum(gain, value)
    return np.asarray(best / size)


def _solve_subset(normal: FloatArray, right: FloatArray, used: BoolArray) -> FloatArray:
    """Solve for the coefficients in use; the others are zero."""
    block = normal * (used[:, :, None] & used[:, None, :])
    diagonal = np.arange(right.shape[1])
    block[:, diagonal, diagonal] += np.where(used, _RIDGE, 1.0)
    return np.asarray(np.linalg.solve(block, (right * used)[:, :, None])[:, :, 0], dtype=float)
