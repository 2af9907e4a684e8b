"""Laws of one variable x: a model size, a data size or a cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.laws.base import Basis, Shape
from analysis.laws.power_terms import EffectiveSizes, SumOfPowers, Term
from scaling.arrays import FloatArray

__all__ = ["Broken", "Power", "Saturating", "Shifted"]


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
        bend, slope = width * np.logaddexp(0.0, past), special.expit(past)
        return [logs[0], bend], {(1, 2): -slope, (1, 3): bend - width * slope * past}
