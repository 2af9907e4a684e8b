"""Joint laws with a variable beyond N and D: sequence length, and data used more than once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.laws.base import Basis, Law, Shape
from scaling.arrays import FloatArray

__all__ = ["DataConstrained", "Repeated", "SequenceLength"]


@dataclass(frozen=True)
class SequenceLength(Law):
    """The additive law with the length L of the behaviour sequence as a third size."""

    name = "length"
    formula = "E ± A N^-alpha ± B D^-beta ± F L^-gamma"
    variables = ("N", "D", "L")
    amplitudes = ("A", "B", "F")
    shapes = (Shape("alpha"), Shape("beta"), Shape("gamma"))

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        phi = [np.exp(-shape[:, k, None] * logs[k]) for k in range(3)]
        return phi, {(k, k): -logs[k] * phi[k] for k in range(3)}

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1:4] += theta[:, 4:7] * np.asarray(origin)
        return moved


def _worth(log_repeats: FloatArray, log_decay: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log of what a size is worth per first use, when used exp(log_repeats) times; and its slope.

    Each further use is worth a share exp(-1 / R) of the one before (Muennighoff et al. 2023, eq. 5):
    u uses are worth 1 + R (1 - exp(-(u - 1) / R)). The slope is by log R.
    """
    decay = np.exp(log_decay)
    spent = np.expm1(log_repeats) / decay
    left = np.exp(-spent)
    worth = 1 + decay * (1 - left)
    return np.log(worth), decay * (1 - left * (1 + spent)) / worth


_DECAY: dict[str, Any] = {"lower": 1e-3, "upper": 1e6, "first": 0.5, "last": 200.0, "log": True}


@dataclass(frozen=True)
class Repeated(Law):
    """Data used for K epochs: E +- A N^-alpha +- B D'^-beta (Muennighoff et al. 2023, eq. 5).

    D counts every use of a sample; D' = D / K (1 + R_D (1 - exp(-(K - 1) / R_D))) is what they are worth.
    """

    name = "repeated"
    formula = "E ± A N^-alpha ± B [D/K (1 + R_D (1 - e^((1 - K) / R_D)))]^-beta"
    variables = ("N", "D", "K")
    amplitudes = ("A", "B")
    shapes = (Shape("alpha"), Shape("beta"), Shape("R_D", **_DECAY))
    ratios = ("K",)

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        alpha, beta, log_decay = (shape[:, k, None] for k in range(3))
        worth, slope = _worth(logs[2], log_decay)
        log_data = logs[1] - logs[2] + worth
        size, data = np.exp(-alpha * logs[0]), np.exp(-beta * log_data)
        return [size, data], {
            (0, 0): -logs[0] * size,
            (1, 1): -log_data * data,
            (1, 2): -beta * slope * data,
        }

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 3] * origin[0]
        moved[:, 2] += theta[:, 4] * origin[1]
        return moved


@dataclass(frozen=True)
class DataConstrained(Law):
    """Repeated data and models larger than the unique data support (Muennighoff et al. 2023, eq. 6).

    X >= 1 is N over the size that the unique samples support; what lies above it decays by R_N as
    repeated data do by R_D.
    """

    name = "data-constrained"
    formula = (
        "E ± A [N/X (1 + R_N (1 - e^((1 - X) / R_N)))]^-alpha"
        " ± B [D/K (1 + R_D (1 - e^((1 - K) / R_D)))]^-beta"
    )
    variables = ("N", "D", "K", "X")
    amplitudes = ("A", "B")
    shapes = (Shape("alpha"), Shape("beta"), Shape("R_D", **_DECAY), Shape("R_N", **_DECAY))
    ratios = ("K", "X")

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        alpha, beta, data_decay, size_decay = (shape[:, k, None] for k in range(4))
        data_worth, data_slope = _worth(logs[2], data_decay)
        size_worth, size_slope = _worth(logs[3], size_decay)
        log_data, log_size = logs[1] - logs[2] + data_worth, logs[0] - logs[3] + size_worth
        size, data = np.exp(-alpha * log_size), np.exp(-beta * log_data)
        return [size, data], {
            (0, 0): -log_size * size,
            (0, 3): -alpha * size_slope * size,
            (1, 1): -log_data * data,
            (1, 2): -beta * data_slope * data,
        }

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 3] * origin[0]
        moved[:, 2] += theta[:, 4] * origin[1]
        return moved
