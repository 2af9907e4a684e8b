"""Laws of one variable x: a model size, a data size, a cost, or another metric."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.laws.base import Basis, Law, Shape
from analysis.laws.power_terms import EffectiveSizes, SumOfPowers, Term
from scaling.arrays import FloatArray

__all__ = ["Broken", "Exponential", "Power", "Saturating", "Shifted", "Sigmoid"]


def _logistic(x: FloatArray) -> FloatArray:
    """1 / (1 + e^-x)."""
    from scipy import (
        special,  # here, because a plan needs the laws at once and takes 0.3 s for scipy
    )

    return np.asarray(special.expit(x))


@dataclass(frozen=True)
class Saturating(SumOfPowers):
    """A power law with an offset: y = E +- A x^-alpha."""

    name = "saturating"
    terms = (Term("A", {"x": "alpha"}),)


@dataclass(frozen=True)
class Power(Saturating):
    """A power law without an offset: y = A x^-alpha, or limit - A x^-alpha for rising metrics."""

    name = "power"
    saturates = False


@dataclass(frozen=True)
class Shifted(SumOfPowers):
    """A power of x plus x0, the data that an earlier training is worth (Hernandez et al. 2021)."""

    name = "shifted"
    formula = "E ± A (x + x0)^-alpha"
    terms = (Term("A", {"x": "alpha"}),)
    shapes = (
        Shape("alpha"),
        Shape("x0", lower=1e-30, upper=1e30, first=1e-2, last=1e2, log=True, unit="x"),
    )

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        # Not by `effective_sizes`: it multiplies in another order, which moves fits in the eighth digit.
        alpha, log_shift = shape[:, :1], shape[:, 1:]
        total = np.logaddexp(logs[0], log_shift)
        phi = np.exp(-alpha * total)
        return [phi], {(0, 0): -total * phi, (0, 1): -alpha * phi * np.exp(log_shift - total)}


@dataclass(frozen=True)
class Broken(SumOfPowers):
    """A power law whose exponent grows from alpha to alpha + gamma around x1 (Caballero et al. 2023, eq. 1).

    w is the width of the bend; at 0 the bend is a corner.
    """

    name = "broken"
    formula = "E ± A x^-alpha (1 + (x / x1)^(1 / w))^(-gamma w)"
    variables = ("x",)
    terms = (Term("A", {"x": "alpha", "bend": "gamma"}),)
    shapes = (
        Shape("alpha", first=0.02, last=1.0),
        Shape("gamma", upper=20.0, first=0.1, last=10.0),
        Shape("x1", lower=1e-30, upper=1e30, first=0.2, last=5.0, log=True, unit="x"),
        Shape("w", lower=1e-3, upper=20.0, first=0.03, last=2.0, log=True),
    )

    def effective_sizes(self, logs: Sequence[FloatArray], shape: FloatArray) -> EffectiveSizes:
        """The sizes x and (1 + (x / x1)^(1 / w))^w; the second has no unit."""
        log_break, width = shape[:, 2, None], np.exp(shape[:, 3, None])
        past = (logs[0] - log_break) / width
        bend, slope = width * np.logaddexp(0.0, past), _logistic(past)
        return [logs[0], bend], {(1, 2): -slope, (1, 3): bend - width * slope * past}


_WIDTH = Shape("w", lower=1e-30, upper=1e30, first=1e-2, last=1.0, log=True, unit="x")
# Beyond it, powers of e are 0 or constant, and without a limit they would overflow.
_LARGEST_POWER = 600.0


@dataclass(frozen=True)
class Exponential(Law):
    """A metric as a function of a loss x: y = E +- A e^(-x / w) (Gadre et al. 2024, eq. 5, with gamma = 1 / w).

    It is the sigmoid far above its middle. E is the value at large x, e.g. that of a useless model. `rising` is whether y
    rises with x.
    """

    name = "exponential"
    of_metric = True
    formula = "E ± A e^(-x / w)"
    variables = ("x",)
    amplitudes = ("A",)
    shapes = (_WIDTH,)

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        past = np.exp(np.minimum(logs[0] - shape, _LARGEST_POWER))
        phi = np.exp(-past)
        return [phi], {(0, 0): phi * past}

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 2:] += origin[0]
        return moved


@dataclass(frozen=True)
class Sigmoid(Law):
    """A metric as a function of another one, e.g. AUC of logloss: y = E +- A / (1 + e^((x - x0) / w)).

    Source: the second step of Bhagia et al. 2024 (eq. 2) and Grattafiori et al. 2024 (section 3.2.1), with x the loss.
    E is the value at large x, e.g. the AUC of a useless model, E +- A that at x = 0, and x0 is half way between both.
    `rising` is whether y rises with x.
    """

    name = "sigmoid"
    of_metric = True
    formula = "E ± A / (1 + e^((x - x0) / w))"
    variables = ("x",)
    amplitudes = ("A",)
    shapes = (
        Shape("x0", lower=1e-30, upper=1e30, first=0.5, last=2.0, log=True, unit="x"),
        _WIDTH,
    )

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        log_half, log_width = shape[:, :1], shape[:, 1:]
        middle = np.exp(np.minimum(log_half - log_width, _LARGEST_POWER))
        past = np.exp(np.minimum(logs[0] - log_width, _LARGEST_POWER)) - middle
        phi = _logistic(-past)
        slope = phi * _logistic(past)
        return [phi], {(0, 0): slope * middle, (0, 1): slope * past}

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 2:] += origin[0]
        return moved
