"""Laws of one variable x, a model size, a data size or a cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.laws.base import Basis, Law, Shape
from scaling.arrays import FloatArray

__all__ = ["Broken", "Power", "Saturating", "Shifted"]


@dataclass(frozen=True)
class Saturating(Law):
    """One variable x, model size or data size: y = E +- A x^-alpha."""

    name = "saturating"
    formula = "E ± A x^-alpha"
    variables = ("x",)
    amplitudes = ("A",)
    shapes = (Shape("alpha"),)

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        phi = np.exp(-shape[:, :1] * logs[0])
        return [phi], {(0, 0): -logs[0] * phi}

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 2] * origin[0]
        return moved


@dataclass(frozen=True)
class Power(Saturating):
    """One variable x without an offset: y = A x^-alpha, or limit - A x^-alpha for rising metrics."""

    name = "power"
    saturates = False


@dataclass(frozen=True)
class Shifted(Law):
    """A power of x moved by what was there before: y = E +- A (x + x0)^-alpha (Hernandez et al. 2021)."""

    name = "shifted"
    formula = "E ± A (x + x0)^-alpha"
    variables = ("x",)
    amplitudes = ("A",)
    shapes = (
        Shape("alpha"),
        Shape("x0", lower=1e-30, upper=1e30, first=1e-2, last=1e2, log=True),
    )

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        alpha, log_shift = shape[:, :1], shape[:, 1:]
        total = np.logaddexp(logs[0], log_shift)
        phi = np.exp(-alpha * total)
        return [phi], {(0, 0): -total * phi, (0, 1): -alpha * phi * np.exp(log_shift - total)}

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 2] * origin[0]
        moved[:, 3] += origin[0]
        return moved


@dataclass(frozen=True)
class Broken(Law):
    """A power law whose exponent grows from alpha to alpha + gamma around x1 (Caballero et al. 2023, eq. 1).

    w is the width of the bend: 0 is a corner.
    """

    name = "broken"
    formula = "E ± A x^-alpha (1 + (x / x1)^(1 / w))^(-gamma w)"
    variables = ("x",)
    amplitudes = ("A",)
    shapes = (
        Shape("alpha", first=0.02, last=1.0),
        Shape("gamma", upper=20.0, first=0.1, last=10.0),
        Shape("x1", lower=1e-30, upper=1e30, first=0.2, last=5.0, log=True),
        Shape("w", lower=1e-3, upper=20.0, first=0.03, last=2.0, log=True),
    )

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        alpha, gamma, log_break, log_width = (shape[:, k, None] for k in range(4))
        width = np.exp(log_width)
        past = (logs[0] - log_break) / width
        bend, slope = width * np.logaddexp(0.0, past), special.expit(past)
        phi = np.exp(-alpha * logs[0] - gamma * bend)
        return [phi], {
            (0, 0): -logs[0] * phi,
            (0, 1): -bend * phi,
            (0, 2): gamma * slope * phi,
            (0, 3): -gamma * (bend - width * slope * past) * phi,
        }

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 2] * origin[0]
        moved[:, 4] += origin[0]
        return moved
