"""Law, points and loss together: bounds, refits, the global optimum, and which parameters the points determine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.laws import Law
from analysis.optimum.initial_shapes import starting_shapes
from analysis.optimum.objective import Objective, inverse_curvature
from analysis.optimum.points import Points
from analysis.optimum.projection import Projection
from analysis.optimum.solver import Solution, minimise
from scaling.arrays import BoolArray, FloatArray

__all__ = ["Optimum", "Problem"]


# Number of starts; more for laws whose grid has to be coarse.
_N_STARTS = (4, 32)
# As shares of the metric's range: below the first an amplitude counts as vanished; the second is its bound.
_VANISHED, _LOWEST_AMPLITUDE = 1e-6, 1e-9
# Losses below this share of the response's sum of squares are rounding (noiseless data).
_ROUNDING = 1e-28
# Most points for scoring the grid of starts.
_GRID_POINTS = 2000
# Minima that differ by less than this share count as equal.
_SAME = 1e-12
# With a tiny delta Huber's loss is nearly L1; minimising with a larger delta first finds its valley.
_FIRST_DELTA, _NEXT_DELTA = 1e-2, 0.02
# Log amplitudes for sizes in their own units lie within these; beyond, the square of exp overflows.
LOG_RANGE = 345.0


@dataclass(frozen=True)
class Optimum:
    """The minimiser theta (p,), the loss there, whether the descent converged, the number of evaluations."""

    theta: FloatArray
    value: float
    converged: bool
    n_evaluations: int


@dataclass(frozen=True)
class Problem:
    """A minimisation: law, points and loss.

    Attributes:
        law: the form.
        points: the data.
        delta: Huber's threshold, or None for the squared loss.
        fixed: parameters that are held, by name.
        over: with Huber's loss, the weight of a prediction above the metric.
    """

    law: Law
    points: Points
    delta: float | None
    fixed: Mapping[str, float]
    over: float = 1.0

    @property
    def free(self) -> BoolArray:
        """Which parameters are estimated, (p,)."""
        return np.array([name not in self.fixed for name in self.law.names])

    @property
    def projects(self) -> bool:
        """Whether the linear part can be solved exactly."""
        return self.delta is None and self.points.residual == "raw"

    @property
    def _n_linear(self) -> int:
        return 1 + len(self.law.amplitudes)

    def objective(self, origin: Sequence[float]) -> Objective:
        """The loss, with log sizes measured from `origin`."""
        points = self.points
        is_log = points.residual == "log"
        logs = points.logs(origin)
        return Objective(
            self.law, logs, points.response, points.weights, is_log, self.delta, self.over
        )

    def bounds(self, own_units: bool = False) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bounds (p,) of theta around the points' origin, or at sizes of one."""
        law, m = self.law, self._n_linear
        lower, upper = np.full(len(law.names), -np.inf), np.full(len(law.names), np.inf)
        (upper if law.rising else lower)[0] = law.bound
        spread = max(float(np.ptp(self.points.metric)), 1e-300)
        lower[1:m], upper[1:m] = np.log(_LOWEST_AMPLITUDE * spread), LOG_RANGE
        for k, shape in enumerate(law.shapes):
            lower[m + k], upper[m + k] = shape.inside(shape.lower), shape.inside(shape.upper)
        if own_units or not any(self.points.origin):
            lower[law.logged], upper[law.logged] = -LOG_RANGE, LOG_RANGE
        for name, value in self.fixed.items():
            i = law.names.index(name)
            lower[i] = upper[i] = np.log(value) if law.logged[i] else value
        return lower, upper

    def refit(
        self,
        guess: FloatArray,
        held: BoolArray | None = None,
        weights: FloatArray | None = None,
        own_units: bool = False,
    ) -> Solution:
        """Minimise the loss near each guess (P, p), optionally with held parameters or other weights.

        Args:
            guess: (P, p); parameters that this problem fixes get their fixed values.
            held: (P, p) parameters that stay as guessed.
            weights: (P, n) weights of the problems, or None for the points' own.
            own_units: whether theta is for sizes in their own units instead of around the points' origin.
        """
        origin = [0.0] * len(self.points.sizes) if own_units else self.points.origin
        lower, upper = self.bounds(own_units)
        if held is None:
            held = np.zeros(guess.shape, dtype=bool)
        guess = np.where(held, guess, np.clip(guess, lower, upper))
        held = held | ~self.free
        m = self._n_linear
        dropped = (held & (guess < lower + 1e-9))[:, 1:m].any(axis=1)
        # A held value may lie beyond the bounds of an estimate.
        lower, upper = np.minimum(lower, guess.min(axis=0)), np.maximum(upper, guess.max(axis=0))
        objective = self.objective(origin)
        if weights is not None:
            objective = replace(objective, weights=weights)
        if self.projects:
            return self._refit_shape(objective, guess, held, lower, upper)
        curvatures = objective.curvatures(guess)
        metric = inverse_curvature(curvatures)
        # A term that shows at no point has no curvature, and rounding would spread it over the other parameters.
        for i in np.flatnonzero(dropped):
            free = np.ix_(~held[i], ~held[i])
            metric[i] = 0.0
            metric[i][free] = inverse_curvature(curvatures[i][free])
        return minimise(objective, guess, metric, lower, upper, held, self.floor)

    def solve(self, start: FloatArray | None = None) -> Optimum:
        """Find the global optimum around the points' origin, or the optimum near `start` (p,)."""
        x = self._starts() if start is None else start[None]
        spent = 0
        if self.delta is not None:
            softened, delta = x, _FIRST_DELTA
            while delta > self.delta:
                softer = replace(self, delta=delta).refit(softened)
                softened, spent = softer.x, spent + softer.n_evaluations
                delta *= _NEXT_DELTA
            # The sharper loss may have several valleys even if the softer one has a single valley.
            x = np.concatenate([softened, x])
        solution = self.refit(x)
        # Among minima that differ by rounding, prefer one whose descent converged.
        lowest = float(np.min(solution.value))
        ended = solution.converged & (solution.value <= lowest * (1 + _SAME) + self.floor)
        best = int(np.argmin(np.where(ended, lowest, solution.value)))
        return Optimum(
            solution.x[best],
            float(solution.value[best]),
            bool(solution.converged[best]),
            spent + solution.n_evaluations,
        )

    @property
    def floor(self) -> float:
        """The loss that rounding leaves."""
        return _ROUNDING * float(np.sum(self.points.weights * self.points.response**2))

    def vanished(self, theta: FloatArray) -> BoolArray:
        """Whether each free amplitude (J,) of theta (p,) is too small to affect the points."""
        shown = self.seen(self.objective(self.points.origin).jacobian(theta))
        return np.asarray((self.free & ~shown)[1 : self._n_linear])

    def seen(self, jacobian: FloatArray) -> BoolArray:
        """Whether each parameter (p,) affects the law at the points; a vanished amplitude hides its exponent.

        Args:
            jacobian: (n, p) of the law's values at the optimum.
        """
        spread = float(np.ptp(self.points.response))
        reach = np.abs(jacobian).max(axis=0)
        # The offset is scaled by the range of the metric, every other entry of theta by one.
        reach[0] *= np.ptp(self.points.metric)
        return np.asarray(reach > _VANISHED * spread)

    def _projection(
        self, objective: Objective, weights: FloatArray, held: FloatArray | None
    ) -> Projection:
        return Projection(self.law, objective.logs, self.points.metric, weights, held)

    def _linear(self, theta: FloatArray) -> FloatArray:
        """The linear coefficients (P, m) of theta, as `Projection` counts them."""
        offset = self.law.sign * (theta[:, :1] - self.law.bound)
        return np.column_stack([offset, np.exp(theta[:, 1 : self._n_linear])])

    def _refit_shape(
        self,
        objective: Objective,
        guess: FloatArray,
        held: BoolArray,
        lower: FloatArray,
        upper: FloatArray,
    ) -> Solution:
        m, index = self._n_linear, np.arange(len(guess))
        given = np.where(held[:, :m], self._linear(guess), np.nan)
        projection = self._projection(objective, objective.weights, given)
        shape = guess[:, m:]
        metric = inverse_curvature(projection.curvature(shape, index))
        solution = minimise(
            projection, shape, metric, lower[m:], upper[m:], held[:, m:], self.floor
        )
        coefficients = projection.coefficients(solution.x, index)
        theta = np.column_stack([coefficients, solution.x])
        theta[:, 0] = self.law.bound + self.law.sign * coefficients[:, 0]
        # An amplitude of zero must not show at any point, however steep its term is.
        phi, _ = self.law.basis(objective.logs, solution.x)
        reach = np.column_stack([np.max(np.abs(one), axis=1) for one in phi])
        smallest = lower[1:m] - np.log(np.maximum(reach, 1.0))
        theta[:, 1:m] = np.log(np.maximum(coefficients[:, 1:], np.exp(smallest)))
        return replace(solution, x=np.where(held, guess, theta))

    def _starts(self) -> FloatArray:
        """The best few points of the shape grid, (S, p)."""
        points, m = self.points, self._n_linear
        weights = points.weights
        if points.residual == "log":
            weights = weights / points.metric**2
        given = np.full((1, m), np.nan)
        if "E" in self.fixed:
            given[0, 0] = self.law.sign * (self.fixed["E"] - self.law.bound)
        for j, name in enumerate(self.law.amplitudes):
            given[0, 1 + j] = self.fixed.get(name, np.nan)
        # A few thousand points are enough to find the basin.
        some = np.arange(len(points))
        if len(some) > _GRID_POINTS:
            some = np.random.default_rng(0).permutation(some)[:_GRID_POINTS]
        logs = [log[some] for log in points.logs(points.origin)]
        projection = Projection(self.law, logs, points.metric[some], weights[some], given)
        shape = starting_shapes(projection, self.fixed, _N_STARTS[len(self.law.shapes) > 3])
        coefficients = projection.coefficients(shape, np.zeros(len(shape), dtype=np.intp))
        offset = self.law.bound + self.law.sign * coefficients[:, 0]
        # A vanished amplitude starts at a value at which it still has a gradient.
        smallest = 1e-3 * max(float(np.ptp(points.metric)), 1e-300)
        amplitudes = np.log(np.maximum(coefficients[:, 1:], smallest))
        return np.column_stack([offset, amplitudes, shape])
