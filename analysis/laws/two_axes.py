"""Laws of model size N and data size D."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.laws.base import Basis, Law, Shape
from analysis.laws.power_terms import SumOfPowers, Term
from scaling.arrays import FloatArray

__all__ = ["Additive", "Bottleneck", "Interaction", "Kaplan", "Multiplicative", "TiedAdditive"]


@dataclass(frozen=True)
class Additive(SumOfPowers):
    """One term for the model size and one for the data size (Hoffmann et al. 2022, eq. 2)."""

    name = "additive"
    terms = (Term("A", {"N": "alpha"}), Term("B", {"D": "beta"}))


@dataclass(frozen=True)
class TiedAdditive(SumOfPowers):
    """The additive law with the same exponent for N and D (Gadre et al. 2024, eq. 4)."""

    name = "tied"
    terms = (Term("A", {"N": "alpha"}), Term("B", {"D": "alpha"}))


@dataclass(frozen=True)
class Multiplicative(SumOfPowers):
    """A single term, the product of a power of N and a power of D."""

    name = "multiplicative"
    terms = (Term("A", {"N": "alpha", "D": "beta"}),)


@dataclass(frozen=True)
class Interaction(SumOfPowers):
    """The additive law with a third term that falls with both sizes."""

    name = "interaction"
    terms = (
        Term("A", {"N": "alpha"}),
        Term("B", {"D": "beta"}),
        Term("G", {"N": "alpha", "D": "beta"}),
    )


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
        # With centred logs R starts near 1; at these bounds one of the two summands is negligible.
        Shape("R", lower=1e-30, upper=1e30, first=1e-2, last=1e2, log=True, scale=True),
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
        # N^-rho factors out of the sum: A takes its power beta, and R the rest.
        moved[:, 1] += theta[:, 2] * theta[:, 3] * origin[0]
        moved[:, 4] += origin[1] - theta[:, 2] * origin[0]
        return moved


@dataclass(frozen=True)
class Bottleneck(Law):
    """The terms of the additive law, joined by a power mean: y = E +- A (N^(-alpha/g) + (R D^-beta)^(1/g))^g.

    g = 1 is the additive law with B = A R. Towards g = 0 only the larger of the two terms counts: a size pays only as
    far as the other one allows. g > 1 adds a product of the terms. Kaplan's law is the case beta = g. It is the form
    E + A (N^-a + r D^-b)^g with a = alpha / g, b = beta / g and r = R^(1/g), in parameters that stay apart for small g:
    alpha and beta are the exponents along each axis where the other size is no limit.
    """

    name = "bottleneck"
    simpler = ("additive", "g", 1.0)
    formula = "E ± A (N^(-alpha/g) + (R D^-beta)^(1/g))^g"
    variables = ("N", "D")
    amplitudes = ("A",)
    shapes = (
        Shape("alpha"),
        Shape("beta"),
        # below the lower bound the form is the larger term to within 4 % everywhere
        Shape("g", lower=0.05, upper=3.0, first=0.2, last=1.0),
        # With centred logs R starts near 1; at these bounds one of the two terms is negligible.
        Shape("R", lower=1e-30, upper=1e30, first=1e-1, last=10.0, log=True, scale=True),
    )

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        alpha, beta, g, log_ratio = (shape[:, k, None] for k in range(4))
        size, data = -alpha * logs[0], log_ratio - beta * logs[1]
        joined = np.logaddexp(size / g, data / g)
        share = np.exp(size / g - joined)  # of the size's term; the rest is the data's
        phi = np.exp(g * joined)
        entropy = joined - (share * size + (1 - share) * data) / g
        of_data = phi * (1 - share)
        return [phi], {
            (0, 0): -phi * share * logs[0],
            (0, 1): -of_data * logs[1],
            (0, 2): phi * entropy,
            (0, 3): of_data,
        }

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        # N^-alpha factors out of the mean: A takes it, and R the ratio of both terms.
        moved[:, 1] += theta[:, 2] * origin[0]
        moved[:, 5] += theta[:, 3] * origin[1] - theta[:, 2] * origin[0]
        return moved
