"""Scaling laws as frozen values: names, bounds, formula and evaluation; knows nothing of fitting.

Every law here is linear in an offset E and in amplitudes (A, B, ...) once its shape parameters
(exponents, breaks) are fixed: y = E +- sum_j A_j phi_j(sizes; shape), + for metrics that fall and - for
metrics that rise. The fitter relies on that and on nothing else, so adding a law is adding one class.

Inside, a law's parameters are one vector theta = (E, log A_j ..., shape ...), and sizes enter as logs.
Legend: P parameter vectors at once, n points, J amplitudes, K shape parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from scaling.errors import UserError, nearest

__all__ = [
    "LAWS",
    "Additive",
    "Basis",
    "Kaplan",
    "Law",
    "Multiplicative",
    "Power",
    "Saturating",
    "Shape",
    "TiedAdditive",
    "build_law",
]

Array = npt.NDArray[np.float64]
Basis = tuple[list[Array], dict[tuple[int, int], Array]]


@dataclass(frozen=True)
class Shape:
    """A parameter that enters a law non-linearly.

    Attributes:
        name: as reported.
        lower, upper: bounds, as reported; a fit that ends there says so.
        first, last: range that the starting grid covers evenly in logs.
        log: whether theta holds its logarithm.
    """

    name: str
    lower: float = 1e-3
    upper: float = 4.0
    first: float = 0.02
    last: float = 2.0
    log: bool = False

    def inside(self, value: float) -> float:
        """The reported value as theta holds it."""
        return float(np.log(value)) if self.log else value


@dataclass(frozen=True)
class Law:
    """Base of all laws.

    Attributes:
        rising: whether the metric improves upwards (AUC) instead of downwards (logloss).
        limit: the metric's physical limit, which E cannot pass: 0 for falling metrics and 1 for
            rising ones unless given.
    """

    rising: bool = False
    limit: float | None = None

    name: ClassVar[str]
    formula: ClassVar[str]
    variables: ClassVar[tuple[str, ...]]
    amplitudes: ClassVar[tuple[str, ...]]
    shapes: ClassVar[tuple[Shape, ...]]
    saturates: ClassVar[bool] = True

    def basis(self, logs: Sequence[Array], shape: Array) -> Basis:
        """Evaluate phi_j and its non-zero derivatives by shape parameter.

        Args:
            logs: one (n,) array of log sizes for each of `variables`.
            shape: (P, K).

        Returns:
            J arrays (P, n), and arrays (P, n) by (j, k).
        """
        raise NotImplementedError

    def rebased(self, theta: Array, origin: Sequence[float]) -> Array:
        """Turn theta (P, p) that holds for log sizes measured from `origin` into that of log sizes."""
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in theta's order."""
        return ("E", *self.amplitudes, *(shape.name for shape in self.shapes))

    @property
    def logged(self) -> npt.NDArray[np.bool_]:
        """Which entries of theta are logarithms of what is reported, (p,)."""
        return np.array([False, *(True for _ in self.amplitudes), *(s.log for s in self.shapes)])

    @property
    def sign(self) -> float:
        """+1 for falling metrics, -1 for rising ones."""
        return -1.0 if self.rising else 1.0

    @property
    def bound(self) -> float:
        """The value that E cannot pass."""
        return self.limit if self.limit is not None else (1.0 if self.rising else 0.0)

    @property
    def fixed(self) -> dict[str, float]:
        """Parameters that the form itself fixes: a law without offset has E at the metric's limit."""
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
        """The same form for a metric of the other direction."""
        return replace(self, rising=rising)

    def to_theta(self, params: Mapping[str, float]) -> Array:
        """Pack reported parameters into theta (p,)."""
        values = [params[name] for name in self.names]
        return np.array(
            [np.log(v) if log else v for v, log in zip(values, self.logged, strict=True)]
        )

    def to_params(self, theta: Array) -> dict[str, float]:
        """Unpack theta (p,) into reported parameters."""
        return {
            name: float(np.exp(min(value, 700.0)) if log else value)
            for name, value, log in zip(self.names, theta, self.logged, strict=True)
        }

    def evaluate(self, logs: Sequence[Array], theta: Array) -> Array:
        """Evaluate (P, n) values at theta (P, p)."""
        n_amplitudes = len(self.amplitudes)
        phi, _ = self.basis(logs, theta[:, 1 + n_amplitudes :])
        scale = self.sign * np.exp(theta[:, 1 : 1 + n_amplitudes])
        value = theta[:, :1] + scale[:, :1] * phi[0]
        for j in range(1, n_amplitudes):
            value = value + scale[:, j, None] * phi[j]
        return value

    def jacobian(self, logs: Sequence[Array], theta: Array) -> Array:
        """Derivatives (n, p) of the values by theta (p,)."""
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

    def __call__(self, params: Mapping[str, float], *sizes: npt.ArrayLike) -> Array:
        """Evaluate the law at reported `params`; one array of sizes for each of `variables`."""
        grids = np.broadcast_arrays(*(np.asarray(size, dtype=float) for size in sizes))
        logs = [np.log(grid).ravel() for grid in grids]
        value = self.evaluate(logs, self.to_theta(params)[None])[0]
        return np.asarray(value.reshape(grids[0].shape))


@dataclass(frozen=True)
class Saturating(Law):
    """One variable x, model size or data size: y = E +- A x^-alpha."""

    name = "saturating"
    formula = "E ± A x^-alpha"
    variables = ("x",)
    amplitudes = ("A",)
    shapes = (Shape("alpha"),)

    def basis(self, logs: Sequence[Array], shape: Array) -> Basis:
        """See `Law.basis`."""
        phi = np.exp(-shape[:, :1] * logs[0])
        return [phi], {(0, 0): -logs[0] * phi}

    def rebased(self, theta: Array, origin: Sequence[float]) -> Array:
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
class Additive(Law):
    """Joint law of model size N and data size D (Hoffmann et al. 2022, eq. 2)."""

    name = "additive"
    formula = "E ± A N^-alpha ± B D^-beta"
    variables = ("N", "D")
    amplitudes = ("A", "B")
    shapes = (Shape("alpha"), Shape("beta"))

    def basis(self, logs: Sequence[Array], shape: Array) -> Basis:
        """See `Law.basis`."""
        size = np.exp(-shape[:, 0, None] * logs[0])
        data = np.exp(-shape[:, 1, None] * logs[1])
        return [size, data], {(0, 0): -logs[0] * size, (1, 1): -logs[1] * data}

    def rebased(self, theta: Array, origin: Sequence[float]) -> Array:
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

    def basis(self, logs: Sequence[Array], shape: Array) -> Basis:
        """See `Law.basis`."""
        size = np.exp(-shape[:, :1] * logs[0])
        data = np.exp(-shape[:, :1] * logs[1])
        return [size, data], {(0, 0): -logs[0] * size, (1, 0): -logs[1] * data}

    def rebased(self, theta: Array, origin: Sequence[float]) -> Array:
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

    def basis(self, logs: Sequence[Array], shape: Array) -> Basis:
        """See `Law.basis`."""
        phi = np.exp(-shape[:, 0, None] * logs[0] - shape[:, 1, None] * logs[1])
        return [phi], {(0, 0): -logs[0] * phi, (0, 1): -logs[1] * phi}

    def rebased(self, theta: Array, origin: Sequence[float]) -> Array:
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

    def basis(self, logs: Sequence[Array], shape: Array) -> Basis:
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

    def rebased(self, theta: Array, origin: Sequence[float]) -> Array:
        """See `Law.rebased`."""
        moved = theta.copy()
        moved[:, 1] += theta[:, 2] * theta[:, 3] * origin[0]
        moved[:, 4] += origin[1] - theta[:, 2] * origin[0]
        return moved


LAWS: dict[str, type[Law]] = {
    law.name: law for law in (Power, Saturating, Additive, TiedAdditive, Multiplicative, Kaplan)
}


def build_law(name: str, *, rising: bool = False, limit: float | None = None) -> Law:
    """Build a law by name.

    Raises:
        UserError: there is no such law.
    """
    if name not in LAWS:
        raise UserError(f"there is no law {name}{nearest(name, LAWS)}")
    return LAWS[name](rising=rising, limit=limit)
