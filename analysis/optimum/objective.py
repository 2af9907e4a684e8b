"""The loss that a fit minimises, with its gradient and curvature; independent of any optimiser.

Sum over points of weight x rho(residual), residual = response - law (or their logs), with
rho(r) = r^2 / 2, or Huber's (1964): r^2 / 2 up to delta and delta (|r| - delta / 2) beyond. With Huber's
loss, predictions above the response may have another weight than those below.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.laws import Law
from scaling.arrays import FloatArray

__all__ = ["Objective", "inverse_curvature"]


# Lower limits: of a parameter's scale, as a share of the largest, and of an eigenvalue, because of rounding.
_LEAST_SCALE, _LEAST_EIGENVALUE = 1e-10, 1e-14
# Products of two scales below it underflow; a problem with none above it has no curvature at all.
_NO_SCALE = 1e-100


@dataclass(frozen=True)
class Objective:
    """A loss, evaluated for P parameter vectors at once.

    Attributes:
        law: the form.
        logs: log sizes, one (n,) array for each variable.
        response: (n,), or (P, n) if it differs between problems.
        weights: (n,), or (P, n) if they differ between problems (bootstrap draws).
        log: whether residuals are taken in logs.
        delta: Huber's threshold; None is the squared loss.
        over: with Huber's loss, the weight of a prediction above the response.
    """

    law: Law
    logs: Sequence[FloatArray]
    response: FloatArray
    weights: FloatArray
    log: bool = False
    delta: float | None = None
    over: float = 1.0

    def __call__(
        self, theta: FloatArray, index: npt.NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        """Losses (Q,) and gradients (Q, p) at theta (Q, p) of the problems `index` (Q,)."""
        law = self.law
        n_amplitudes = len(law.amplitudes)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            phi, slopes = law.basis(self.logs, theta[:, 1 + n_amplitudes :])
            scale = law.sign * np.exp(theta[:, 1 : 1 + n_amplitudes])
            value = theta[:, :1] + scale[:, :1] * phi[0]
            for j in range(1, n_amplitudes):
                value += scale[:, j, None] * phi[j]
            loss, pull = self._loss(value, index)
            gradient = np.empty(theta.shape)
            gradient[:, 0] = pull.sum(axis=1)
            for j in range(n_amplitudes):
                gradient[:, 1 + j] = scale[:, j] * np.einsum("pn,pn->p", pull, phi[j])
            gradient[:, 1 + n_amplitudes :] = 0.0
            for (j, k), slope in slopes.items():
                gradient[:, 1 + n_amplitudes + k] += scale[:, j] * np.einsum(
                    "pn,pn->p", pull, slope
                )
        loss = np.where(np.isfinite(loss) & np.isfinite(gradient).all(axis=1), loss, np.inf)
        return loss, gradient

    def _loss(
        self, value: FloatArray, index: npt.NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        """Losses (Q,) and their derivatives (Q, n) by the law's values."""
        weights = self.weights if self.weights.ndim == 1 else self.weights[index]
        response = self.response if self.response.ndim == 1 else self.response[index]
        residual = response - (np.log(value) if self.log else value)
        if self.delta is None:
            pull = weights * residual
            loss = 0.5 * np.einsum("pn,pn->p", pull, residual)
        else:
            inner = np.clip(residual, -self.delta, self.delta)
            pull = self._sided(weights, residual) * inner
            # Huber's rho is inner * (residual - inner / 2) on both branches.
            loss = np.einsum("pn,pn->p", pull, residual - 0.5 * inner)
        return loss, -(pull / value if self.log else pull)

    def _sided(self, weights: FloatArray, residual: FloatArray) -> FloatArray:
        return weights if self.over == 1 else weights * np.where(residual < 0, self.over, 1.0)

    def residuals(self, theta: FloatArray) -> FloatArray:
        """Residuals (n,) at theta (p,)."""
        value = self.law.evaluate(self.logs, theta[None])[0]
        return np.asarray(self.response - (np.log(value) if self.log else value))

    def jacobian(self, theta: FloatArray) -> FloatArray:
        """Derivatives (n, p) of the law's values, or of their logs, at theta (p,)."""
        columns = self.law.jacobian(self.logs, theta)
        if self.log:
            columns /= self.law.evaluate(self.logs, theta[None])[0][:, None]
        return columns

    def curvature(self, theta: FloatArray) -> FloatArray:
        """Gauss-Newton (Huber: reweighted) curvature (p, p) at theta (p,)."""
        columns = self.jacobian(theta)
        weights = self.weights
        if self.delta is not None:
            residual = self.residuals(theta)
            weights = self._sided(weights, residual)
            weights = weights * self.delta / np.maximum(np.abs(residual), self.delta)
        return np.asarray(columns.T @ (weights[:, None] * columns))

    def curvatures(self, theta: FloatArray) -> FloatArray:
        """Curvatures (P, p, p) at each theta (P, p), with weights (n,) or one problem's (P, n)."""
        if self.weights.ndim == 1:
            return np.array([self.curvature(row) for row in theta])
        pairs = zip(theta, self.weights, strict=True)
        return np.array([replace(self, weights=w).curvature(row) for row, w in pairs])


def inverse_curvature(curvature: FloatArray) -> FloatArray:
    """Invert curvatures (..., p, p) whose parameters differ in scale and may be nearly collinear.

    Directions without curvature get a large finite variance instead of an infinite one.
    """
    scale = np.sqrt(np.maximum(np.einsum("...ii->...i", curvature), 0.0))
    top = scale.max(axis=-1, keepdims=True, initial=0.0)
    scale = np.maximum(scale, _LEAST_SCALE * np.where(top > _NO_SCALE, top, 1.0))
    outer = scale[..., :, None] * scale[..., None, :]
    values, vectors = np.linalg.eigh(curvature / outer)
    values = np.maximum(values, _LEAST_EIGENVALUE)
    inverse = (vectors / values[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    with np.errstate(over="ignore"):  # a direction without curvature in both factors
        return np.asarray(inverse / outer)
