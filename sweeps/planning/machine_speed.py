"""The speed of this machine's core, measured in a thirtieth of a second with numpy, because plans need no torch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["REFERENCE", "MachineSpeed", "measure_machine"]


_SLICES = 24  # the fastest one counts, so that other programs disturb little
# small enough that a BLAS uses one thread, as training does
_WIDTH = 64
_N_FLOATS = 1 << 16  # a quarter of a MiB stays in a core's cache


@dataclass(frozen=True)
class MachineSpeed:
    """Seconds of one core for the three kinds of work of a small model.

    Attributes:
        call_seconds: one call of a numpy operation on a few numbers.
        exp_seconds: the exponential of one element of a float32 array.
        flop_seconds: one floating-point operation of a small float32 matrix product.
    """

    call_seconds: float
    exp_seconds: float
    flop_seconds: float


# the machine on which the constants of `sweeps.planning.guessed_cost` were fitted
REFERENCE = MachineSpeed(3.5e-7, 4.55e-10, 1.07e-11)


@cache
def measure_machine() -> MachineSpeed:
    """Measure this machine, once per process."""
    few = np.ones(8, np.float32)
    floats = np.ones(_N_FLOATS, np.float32)
    matrix = np.ones((_WIDTH, _WIDTH), np.float32)
    other_floats, other_matrix = np.empty_like(floats), np.empty_like(matrix)
    return MachineSpeed(
        call_seconds=_fastest(lambda: np.add(few, few), 1000),
        exp_seconds=_fastest(lambda: np.exp(floats, out=other_floats), 8) / _N_FLOATS,
        flop_seconds=_fastest(lambda: np.matmul(matrix, matrix, out=other_matrix), 80)
        / (2 * _WIDTH**3),
    )


def _fastest(action: Callable[[], object], n_calls: int) -> float:
    """Return the seconds of a call in the fastest slice of `n_calls`."""
    times = []
    for _ in range(_SLICES):
        begin = time.perf_counter()
        for _ in range(n_calls):
            action()
        times.append(time.perf_counter() - begin)
    return min(times) / n_calls
