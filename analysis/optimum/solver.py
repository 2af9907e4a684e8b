"""Many small bounded minimisations at once: BFGS with a given starting metric, in plain NumPy.

Bootstrap draws, profile points and multiple starts are the same problem with other weights, fixed parameters
or starts, so one call solves them together. About ten steps are enough because the caller passes the inverse
curvature at the start: BFGS is invariant under linear maps, so this equals working in whitened coordinates.

Legend: P problems, p parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaling.arrays import BoolArray, FloatArray, IndexArray

__all__ = ["Solution", "minimise"]


# Values (Q,) and gradients (Q, p) at x (Q, p) of the problems with these indices (Q,).
Function = Callable[[FloatArray, IndexArray], tuple[FloatArray, FloatArray]]

_ARMIJO = 1e-4
_EPSILON = float(np.finfo(float).eps)
_MAX_STEPS = 400
# Newton decrements, relative to the objective: the first ends a problem; the second is accepted if rounding
# stops the descent earlier (nearly L1 objectives have kinks on the scale of delta).
_DECREMENT = 1e-15
_STALLED = 1e-9


@dataclass(frozen=True)
class Solution:
    """The results of the minimisations.

    Attributes:
        x: (P, p) minimisers.
        value: (P,) objectives.
        converged: (P,) whether no further descent is possible within the bounds.
        n_evaluations: of the objective, summed over problems.
    """

    x: FloatArray
    value: FloatArray
    converged: BoolArray
    n_evaluations: int


def minimise(
    function: Function,
    start: FloatArray,
    inverse_metric: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    fixed: BoolArray | None = None,
    floor: float = 0.0,
) -> Solution:
    """Minimise P problems within box bounds.

    Args:
        function: objectives and gradients.
        start: (P, p).
        inverse_metric: (P, p, p), the inverse curvature at the start, or a guess of it.
        lower: (p,) bounds; infinite if there is none.
        upper: (p,) likewise.
        fixed: (P, p), parameters that stay at their start.
        floor: descents this small count as none (noiseless data).
    """
    x = np.clip(start, lower, upper)
    held = np.zeros(x.shape, dtype=bool) if fixed is None else fixed
    inverse = inverse_metric.copy()
    index = np.arange(len(x))
    value, gradient = function(x, index)
    n_evaluations = len(x)
    # A start with an infinite objective has no gradient to follow.
    index = index[np.isfinite(value)]
    converged = np.zeros(len(x), dtype=bool)
    resets = np.zeros(len(x), dtype=int)
    for _ in range(_MAX_STEPS):
        if not len(index):
            break
        direction, stuck = _direction(
            x[index], gradient[index], inverse[index], held[index], lower, upper
        )
        # A point is done once the predicted descent is below the rounding of the objective.
        decrement = -np.einsum("pi,pi->p", gradient[index], direction)
        done = decrement <= _DECREMENT * value[index] + floor
        blocked = done & stuck
        if blocked.any():
            _reset(inverse, inverse_metric, resets, index[blocked])
            done &= ~(blocked & (resets[index] < 3))
        converged[index[done]] = True
        moving = ~done & ~blocked
        keep = ~done
        moved, count, failed = _step(
            function, x, value, gradient, inverse, index[moving], direction[moving], lower, upper
        )
        n_evaluations += count
        # No decrease along a descent direction: blame the metric once or twice, then rounding.
        given_up = moved[failed]
        _reset(inverse, inverse_metric, resets, given_up)
        final = given_up[resets[given_up] >= 3]
        small = decrement[np.searchsorted(index, final)] <= _STALLED * value[final] + floor
        converged[final[small]] = True
        index = np.setdiff1d(index[keep], final, assume_unique=True)
    return Solution(x, value, converged, n_evaluations)


def _direction(
    x: FloatArray,
    gradient: FloatArray,
    inverse: FloatArray,
    held: BoolArray,
    lower: FloatArray,
    upper: FloatArray,
) -> tuple[FloatArray, BoolArray]:
    """Quasi-Newton directions that stay in the box, and whether an inward gradient was ignored, (P,)."""
    at_lower, at_upper = x <= lower, x >= upper
    blocked = held | (at_lower & (gradient > 0)) | (at_upper & (gradient < 0))
    pulled = blocked
    while True:
        direction = _reduced_step(inverse, gradient, blocked)
        outward = ~blocked & ((at_lower & (direction < 0)) | (at_upper & (direction > 0)))
        if not outward.any():
            return direction, np.asarray((blocked & ~pulled).any(axis=1))
        blocked = blocked | outward


def _reduced_step(inverse: FloatArray, gradient: FloatArray, blocked: BoolArray) -> FloatArray:
    """Minus the inverse curvature on the free coordinates times the gradient."""
    if blocked.any():
        inverse = inverse.copy()
        # The inverse of a sub-block follows from the whole inverse by one downdate per coordinate.
        for i in np.flatnonzero(blocked.any(axis=0)):
            rows = blocked[:, i]
            column = inverse[rows, :, i]
            pivot = np.where(column[:, i] > 0, column[:, i], np.inf)
            inverse[rows] -= column[:, :, None] * (column / pivot[:, None])[:, None, :]
            inverse[rows, i, :] = 0.0
            inverse[rows, :, i] = 0.0
    return np.asarray(-np.einsum("pij,pj->pi", inverse, np.where(blocked, 0.0, gradient)))


def _step(
    function: Function,
    x: FloatArray,
    value: FloatArray,
    gradient: FloatArray,
    inverse: FloatArray,
    index: IndexArray,
    direction: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
) -> tuple[IndexArray, int, BoolArray]:
    """Backtrack along each direction and update x, value, gradient and inverse in place."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        room = np.where(direction < 0, lower - x[index], upper - x[index]) / direction
    room = np.where(direction == 0, np.inf, room)
    length = np.minimum(1.0, room.min(axis=1, initial=np.inf))
    slope = np.einsum("pi,pi->p", gradient[index], direction)
    pending = np.arange(len(index))
    failed = np.zeros(len(index), dtype=bool)
    count = 0
    while len(pending):
        rows = index[pending]
        step = length[pending, None] * direction[pending]
        trial = _snapped(x[rows] + step, lower, upper)
        new_value, new_gradient = function(trial, rows)
        count += len(pending)
        change = new_value - value[rows]
        expected = length[pending] * slope[pending]
        accept = (change <= _ARMIJO * expected) & (change < 0)
        taken = rows[accept]
        if len(taken):
            moved = trial[accept] - x[taken]
            bend = new_gradient[accept] - gradient[taken]
            inverse[taken] = _updated(inverse[taken], moved, bend)
            x[taken], value[taken] = trial[accept], new_value[accept]
            gradient[taken] = new_gradient[accept]
        pending, change, expected = pending[~accept], change[~accept], expected[~accept]
        with np.errstate(divide="ignore", invalid="ignore"):
            shorter = -expected / (2 * (change - expected))
        length[pending] *= np.where(np.isfinite(shorter), np.clip(shorter, 0.1, 0.5), 0.1)
        # a descent below the rounding of the objective could not be seen
        unseen = -length[pending] * slope[pending] < _EPSILON * np.abs(value[index[pending]])
        hopeless = unseen | (length[pending] < 1e-10)
        failed[pending[hopeless]] = True
        pending = pending[~hopeless]
    return index, count, failed


def _snapped(x: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Put x into the box, and on a bound if only rounding separates them."""
    near = 1e-12 * (1 + np.abs(x))
    return np.where(x <= lower + near, lower, np.where(x >= upper - near, upper, x))


def _updated(inverse: FloatArray, step: FloatArray, bend: FloatArray) -> FloatArray:
    """BFGS update of the inverse curvature; skipped if the observed curvature is not positive."""
    curvature = np.einsum("pi,pi->p", step, bend)
    mapped = np.einsum("pij,pj->pi", inverse, bend)
    scale = np.einsum("pi,pi->p", bend, mapped)
    seen = curvature > 1e-12 * np.sqrt(np.maximum(scale, 0) * np.einsum("pi,pi->p", step, step))
    safe = np.where(seen, curvature, 1.0)
    cross = mapped[:, :, None] * step[:, None, :]
    outer = step[:, :, None] * step[:, None, :]
    growth = (1 + scale / safe) / safe
    change = (
        growth[:, None, None] * outer - (cross + cross.transpose(0, 2, 1)) / safe[:, None, None]
    )
    return np.where(seen[:, None, None], inverse + change, inverse)


def _reset(
    inverse: FloatArray, metric: FloatArray, resets: npt.NDArray[np.int_], rows: IndexArray
) -> None:
    """Return to the starting metric; from the second time on, to its diagonal."""
    for row in rows:
        resets[row] += 1
        inverse[row] = metric[row] if resets[row] == 1 else np.diag(np.diag(metric[row]))
