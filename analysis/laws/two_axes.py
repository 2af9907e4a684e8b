"""The laws: joint forms of model size N and data size D, and the registry of every form."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.laws.base import Basis, Law, Shape
from scaling.arrays import FloatArray

__all__ = ["Additive", "Interaction", "Kaplan", "Multiplicative", "TiedAdditive"]


@dataclass(frozen=True)
class Additive(Law):
    """Joint law of model size N and data size D (Hoffmann et al. 2022, eq. 2)."""

    name = "additive"
    formula = "E ± A N^-alpha ± B D^-beta"
    variables = ("N", "D")
    amplitudes = ("A", "B")
    shapes = (Shape("alpha"), Shape("beta"))

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        size = np.exp(-shape[:, 0, None] * logs[0])
        data = np.exp(-shape[:, 1, None] * logs[1])
        return [size, data], {(0, 0): -logs[0] * size, (1, 1): -logs[1] * data}

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 3] * origin[0]
        moved[:, 2] += theta[:, 4] * origin[1]
        return moved


@dataclass(frozen=True)
class TiedAdditive(Law):
    """The additive law with one exponent for both (Gadre et al. 2024, eq. 4)."""

    name = "tied"
    formula = "E ± A N^-alpha ± B D^-alpha"
    variables = ("N", "D")
    amplitudes = ("A", "B")
    shapes = (Shape("alpha"),)

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        size = np.exp(-shape[:, :1] * logs[0])
        data = np.exp(-shape[:, :1] * logs[1])
        return [size, data], {(0, 0): -logs[0] * size, (1, 0): -logs[1] * data}

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 3] * origin[0]
        moved[:, 2] += theta[:, 3] * origin[1]
        return moved


@dataclass(frozen=True)
class Multiplicative(Law):
    """Size and data act as one product: y = E +- A N^-alpha D^-beta."""

    name = "multiplicative"
    formula = "E ± A N^-alpha D^-beta"
    variables = ("N", "D")
    amplitudes = ("A",)
    shapes = (Shape("alpha"), Shape("beta"))

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        phi = np.exp(-shape[:, 0, None] * logs[0] - shape[:, 1, None] * logs[1])
        return [phi], {(0, 0): -logs[0] * phi, (0, 1): -logs[1] * phi}

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 2] * origin[0] + theta[:, 3] * origin[1]
        return moved


@dataclass(frozen=True)
class Kaplan(Law):
    """Kaplan et al. 2020, eq. 1.5, with an offset: y = E +- A (N^-rho + R / D)^beta."""

    name = "kaplan"
    formula = "E ± A (N^-rho + R D^-1)^beta"
    variables = ("N", "D")
    amplitudes = ("A",)
    shapes = (
        Shape("rho"),
        Shape("beta"),
        # Centred logs make R of order one at the start; its bounds are those of a vanished term.
        Shape("R", lower=1e-30, upper=1e30, first=1e-2, last=1e2, log=True),
    )

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        rho, beta, log_ratio = (shape[:, k, None] for k in range(3))
        size = np.exp(-rho * logs[0])
        data = np.exp(log_ratio - logs[1])
        total = size + data
        phi = total**beta
        slope = beta * phi / total
        return [phi], {
            (0, 0): -slope * size * logs[0],
            (0, 1): phi * np.log(total),
            (0, 2): slope * data,
        }

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 2] * theta[:, 3] * origin[0]
        moved[:, 4] += origin[1] - theta[:, 2] * origin[0]
        return moved


@dataclass(frozen=True)
class Interaction(Law):
    """The additive law with a term that needs both sizes: E +- A N^-alpha +- B D^-beta +- G N^-alpha D^-beta."""

    name = "interaction"
    formula = "E ± A N^-alpha ± B D^-beta ± G N^-alpha D^-beta"
    variables = ("N", "D")
    amplitudes = ("A", "B", "G")
    shapes = (Shape("alpha"), Shape("beta"))

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        size = np.exp(-shape[:, 0, None] * logs[0])
        data = np.exp(-shape[:, 1, None] * logs[1])
        both = size * data
        return [size, data, both], {
            (0, 0): -logs[0] * size,
            (1, 1): -logs[1] * data,
            (2, 0): -logs[0] * both,
            (2, 1): -logs[1] * both,
        }

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 4] * origin[0]
        moved[:, 2] += theta[:, 5] * origin[1]
        moved[:, 3] += theta[:, 4] * origin[0] + theta[:, 5] * origin[1]
        return moved
