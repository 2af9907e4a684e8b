"""The interface of a scaling law: its parameters with their bounds, its formula and its evaluation.

With its shape parameters (exponents, breaks) fixed, every law is linear in an offset E and amplitudes
A, B, ...: y = E +- sum_j A_j phi_j(sizes; shape), with + for metrics that fall and - for metrics that
rise. The fitter relies on nothing else, so a new law is one class; most are declared by their terms
(`analysis.laws.power_terms`).

Internally the parameters of a law are one vector theta = (E, log A_j ..., shape ...), and sizes are logs.
Shapes: P parameter vectors evaluated together, n points, p parameters, J amplitudes, K shape parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from scaling.arrays import FloatArray

__all__ = ["Basis", "Law", "Shape"]


Basis = tuple[list[FloatArray], dict[tuple[int, int], FloatArray]]


@dataclass(frozen=True)
class Shape:
    """A parameter that enters a law non-linearly.

    Attributes:
        name: reported name.
        lower, upper: bounds of the reported value; a fit that ends at one reports it. Up to an exponent of 6,
            squares of powers of sizes up to 1e24 stay within the range of floats.
        first, last: ends of the starting grid, which is even in logs; of a signed parameter, even in its value.
        log: whether theta holds the logarithm of the value.
        unit: the variable in whose unit the parameter is measured, e.g. x for a break at x1; needs `log`.
        scale: whether it is the ratio of two terms at sizes of one: as an amplitude, it means little by itself.
    """

    name: str
    lower: float = 1e-3
    upper: float = 6.0
    first: float = 0.02
    last: float = 2.0
    log: bool = False
    unit: str | None = None
    scale: bool = False

    @property
    def signed(self) -> bool:
        """Whether the value may be negative."""
        return self.lower < 0

    def inside(self, value: float) -> float:
        """Convert a reported value to the entry of theta."""
        return float(np.log(value)) if self.log else value


@dataclass(frozen=True)
class Law:
    """Base of all laws.

    Attributes:
        rising: whether a larger value of the metric is better (AUC), not a smaller one (logloss).
        limit: physical limit of the metric, which E cannot pass; None is 0 for falling metrics and 1
            for rising ones.
    """

    rising: bool = False
    limit: float | None = None

    name: ClassVar[str]
    formula: ClassVar[str]
    variables: ClassVar[tuple[str, ...]]
    amplitudes: ClassVar[tuple[str, ...]]
    shapes: ClassVar[tuple[Shape, ...]]
    # Variables that are ratios: the fitter does not centre their logs, since the form depends on their zero.
    ratios: ClassVar[tuple[str, ...]] = ()
    saturates: ClassVar[bool] = True
    # Whether residuals are taken in logs by default.
    in_logs: ClassVar[bool] = False
    # Whether x is another metric, not a size; then `rising` is whether y rises with it.
    of_metric: ClassVar[bool] = False
    # A simpler law that this one contains: its name, and the parameter and value that give it.
    simpler: ClassVar[tuple[str, str, float] | None] = None

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """Evaluate phi_j and its non-zero derivatives by shape parameter.

        Args:
            logs: one (n,) array of log sizes for each of `variables`.
            shape: (P, K).

        Returns:
            J arrays (P, n), and arrays (P, n) by (j, k).
        """
        raise NotImplementedError

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """Convert theta (P, p) for log sizes measured from `origin` to theta for the log sizes themselves.

        `origin` has one entry for each of `variables`, 0 for `ratios`. The result must be at most bilinear
        in theta: intervals take its derivatives from differences over whole units.
        """
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of theta."""
        return ("E", *self.amplitudes, *(shape.name for shape in self.shapes))

    @property
    def scales(self) -> tuple[str, ...]:
        """Parameters that hold for sizes of one, far from the runs: the amplitudes and their ratios."""
        return (*self.amplitudes, *(shape.name for shape in self.shapes if shape.scale))

    @property
    def logged(self) -> npt.NDArray[np.bool_]:
        """Which entries of theta are logarithms of the reported values, (p,)."""
        return np.array([False, *(True for _ in self.amplitudes), *(s.log for s in self.shapes)])

    @property
    def sign(self) -> float:
        """+1 for falling metrics, -1 for rising ones."""
        return -1.0 if self.rising else 1.0

    @property
    def bound(self) -> float:
        """The limit of E: `limit`, or its default."""
        return self.limit if self.limit is not None else (1.0 if self.rising else 0.0)

    @property
    def fixed(self) -> dict[str, float]:
        """Parameters that the form itself fixes: without an offset, E is the limit of the metric."""
        return {} if self.saturates else {"E": self.bound}

    @property
    def equation(self) -> str:
        """The formula with its signs, e.g. `E - A N^-alpha` for a rising metric."""
        text = self.formula.replace("±", "-" if self.rising else "+")
        if self.saturates:
            return text
        return (
            text.removeprefix("E + ") if self.bound == 0 else text.replace("E", f"{self.bound:g}")
        )

    def oriented(self, rising: bool) -> Self:
        """The same form for a rising or falling metric."""
        return replace(self, rising=rising)

    def to_theta(self, params: Mapping[str, float]) -> FloatArray:
        """Convert reported parameters to theta (p,)."""
        values = [params[name] for name in self.names]
        return np.array(
            [np.log(v) if log else v for v, log in zip(values, self.logged, strict=True)]
        )

    def to_params(self, theta: FloatArray) -> dict[str, float]:
        """Convert theta (p,) to reported parameters."""
        return {
            name: float(np.exp(min(value, 700.0)) if log else value)
            for name, value, log in zip(self.names, theta, self.logged, strict=True)
        }

    def evaluate(self, logs: Sequence[FloatArray], theta: FloatArray) -> FloatArray:
        """Evaluate the law (P, n) at theta (P, p)."""
        n_amplitudes = len(self.amplitudes)
        phi, _ = self.basis(logs, theta[:, 1 + n_amplitudes :])
        scale = self.sign * np.exp(theta[:, 1 : 1 + n_amplitudes])
        value = theta[:, :1] + scale[:, :1] * phi[0]
        for j in range(1, n_amplitudes):
            value = value + scale[:, j, None] * phi[j]
        return value

    def jacobian(self, logs: Sequence[FloatArray], theta: FloatArray) -> FloatArray:
        """Evaluate the derivatives (n, p) of the law by theta (p,)."""
        n_amplitudes = len(self.amplitudes)
        phi, slopes = self.basis(logs, theta[None, 1 + n_amplitudes :])
        scale = self.sign * np.exp(theta[1 : 1 + n_amplitudes])
        columns = np.zeros((len(logs[0]), len(theta)))
        columns[:, 0] = 1.0
        for j in range(n_amplitudes):
            columns[:, 1 + j] = scale[j] * phi[j][0]
        for (j, k), slope in slopes.items():
            columns[:, 1 + n_amplitudes + k] += scale[j] * slope[0]
        return columns

    def __call__(self, params: Mapping[str, float], *sizes: npt.ArrayLike) -> FloatArray:
        """Evaluate the law at reported parameters and sizes, one array for each of `variables`."""
        grids = np.broadcast_arrays(*(np.asarray(size, dtype=float) for size in sizes))
        logs = [np.log(grid).ravel() for grid in grids]
        value = self.evaluate(logs, self.to_theta(params)[None])[0]
        return np.asarray(value.reshape(grids[0].shape))
