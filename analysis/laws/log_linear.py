"""Laws of optima: straight lines in logs, whose exponents may have either sign."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.laws.base import Basis, Law, Shape
from scaling.arrays import FloatArray
from scaling.errors import UserError

__all__ = ["JointLogLinear", "LogLinear"]


@dataclass(frozen=True)
class LogLinear(Law):
    """y = A x^a, fitted by linear regression in logs.

    For what is best at each size or cost, e.g. a batch size, a learning rate, N* or D* (Kaplan et al. 2020, table 6;
    Hoffmann et al. 2022, eq. 4). Such a y is no metric: it has no direction, no limit and no offset.

    Raises:
        UserError: a limit is given.
    """

    name = "log-linear"
    formula = "A x^a"
    variables: ClassVar[tuple[str, ...]] = ("x",)
    amplitudes = ("A",)
    shapes: ClassVar[tuple[Shape, ...]] = (Shape("a", lower=-6.0, first=-2.0),)
    saturates = False
    in_logs = True

    def __post_init__(self) -> None:
        if self.limit:
            raise UserError(f"{self.name} law: it has no limit, found {self.limit:g}; leave it out")
        # Neither direction is better, so a name that says otherwise counts for nothing.
        object.__setattr__(self, "rising", False)

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        phi = np.exp(sum(shape[:, k : k + 1] * log for k, log in enumerate(logs)))
        return [phi], {(0, k): log * phi for k, log in enumerate(logs)}

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] -= theta[:, 2:] @ np.asarray(origin)
        return moved


@dataclass(frozen=True)
class JointLogLinear(LogLinear):
    """y = A x^a D^b, e.g. the best learning rate as a function of model size and data size (Li et al. 2025)."""

    name = "log-linear-joint"
    formula = "A x^a D^b"
    # Not N: what follows from a law of N and D (an allocation, a comparison of laws) needs a metric.
    variables = ("x", "D")
    shapes = (Shape("a", lower=-6.0, first=-2.0), Shape("b", lower=-6.0, first=-2.0))
