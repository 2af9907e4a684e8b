"""The noise of a cell and tests of it: seeds, lack of fit, outliers.

Everything is linearised at the fit. Residuals and Jacobians are passed in multiplied by the square root of
the weights.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from scaling.arrays import FloatArray

__all__ = ["Noise", "estimate_noise", "outlier"]


# Below this p-value the variance of the seeds does not explain the residuals.
_REJECT = 0.05
_MIN_SEED_DOF = 8


@dataclass(frozen=True)
class Noise:
    """Standard deviation of one run around the law, and its source.

    Attributes:
        sd: on the scale of the residuals.
        dof: its degrees of freedom; 0 if the noise cannot be estimated.
        source: "seeds" (pooled over cells), "settings" (the same, of rows that differ in more than the seed), "residuals", or
            "none".
        seed_sd: pooled standard deviation of seeds within cells; NaN without repeated cells.
        seed_dof: its degrees of freedom, rows less cells.
        lack_of_fit: F of the residual variance over the seeds' variance; NaN if one of them is absent.
        lack_of_fit_p: its p-value.
        run_sd: standard deviation of the error that the cells of one run share; 0 if no run serves several.
        shared_sd: of the error that cells of equal size share; 0 if none was found.
        test_sd: of the sampling error of the test part, which all cells share; 0 if not known.
        misfit_sd: of the curvature that the law leaves; 0 if none was found.
    """

    sd: float
    dof: int
    source: Literal["seeds", "settings", "residuals", "none"]
    seed_sd: float = float("nan")
    seed_dof: int = 0
    lack_of_fit: float = float("nan")
    lack_of_fit_p: float = float("nan")
    run_sd: float = 0.0
    shared_sd: float = 0.0
    test_sd: float = 0.0
    misfit_sd: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether the seeds explain the residuals; true if that cannot be tested."""
        return not self.lack_of_fit_p < _REJECT


def estimate_noise(
    residual_ss: float, residual_dof: int, pure_error: float, pure_error_dof: int
) -> Noise:
    """Choose between the pooled variance of the seeds and that of the residuals.

    The seeds' variance is taken if there are enough seeds and it explains the residuals (lack-of-fit test,
    Draper & Smith 1998, 2.1). Otherwise the misfit of the law counts as noise.

    Args:
        residual_ss: weighted sum of squares of the cells' means around the law.
        residual_dof: cells less free parameters.
        pure_error: weighted sum of squares of rows around their cells' means.
        pure_error_dof: rows less cells.
    """
    seed_sd, f, p = float("nan"), float("nan"), float("nan")
    if pure_error_dof > 0:
        seed_sd = float(np.sqrt(pure_error / pure_error_dof))
        if residual_dof > 0 and pure_error > 0:
            f = residual_ss / residual_dof / (pure_error / pure_error_dof)
            p = float(special.fdtrc(residual_dof, pure_error_dof, f))
    enough = pure_error_dof >= max(min(residual_dof, _MIN_SEED_DOF), 1)
    if enough and pure_error > 0 and not p < _REJECT:
        return Noise(seed_sd, pure_error_dof, "seeds", seed_sd, pure_error_dof, f, p)
    if residual_dof > 0:
        sd = float(np.sqrt(residual_ss / residual_dof))
        return Noise(sd, residual_dof, "residuals", seed_sd, pure_error_dof, f, p)
    return Noise(float("nan"), 0, "none", seed_sd, pure_error_dof, f, p)


def outlier(residual: FloatArray, jacobian: FloatArray) -> tuple[int, float]:
    """The point with the largest deleted residual and its Bonferroni p-value (Cook 1982, 2.2.2).

    Args:
        residual: (n,) weighted residuals.
        jacobian: (n, p) weighted Jacobian of the free parameters.
    """
    n = len(residual)
    dof = n - _rank(jacobian) - 1
    total = float(residual @ residual)
    if dof < 1 or total <= 0:
        return 0, 1.0
    left = np.linalg.svd(_scaled(jacobian), full_matrices=False)[0][:, : _rank(jacobian)]
    room = np.clip(1 - np.einsum("np,np->n", left, left), 1e-9, None)
    deleted = np.clip((total - residual**2 / room) / dof, 1e-300, None)
    t = np.abs(residual) / np.sqrt(deleted * room)
    # A point of leverage one is always fitted exactly, so it cannot be tested.
    t = np.where(room > 1e-6, t, 0.0)
    worst = int(np.argmax(t))
    return worst, float(min(1.0, 2 * n * special.stdtr(dof, -t[worst])))


def _scaled(matrix: FloatArray) -> FloatArray:
    size = np.linalg.norm(matrix, axis=0)
    return np.asarray(matrix / np.where(size > 0, size, 1.0))


def _rank(matrix: FloatArray) -> int:
    return int(np.linalg.matrix_rank(_scaled(matrix), tol=1e-9)) if matrix.size else 0
