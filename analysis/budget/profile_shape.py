"""How much the exponents depend on the parabola: the same profiles with sides that rise as powers of the size.

Along a budget, an additive law is level + P N^-alpha + Q N^beta'. All profiles share both exponents, so they are searched
together, and each profile keeps three coefficients, as with a parabola.
"""

from collections.abc import Sequence

import numpy as np
from scipy import optimize

from analysis.budget.budget_profile import Profile
from scaling.arrays import FloatArray

__all__ = ["minima_by_sides"]


# Exponents of the sides; with small ones the curve is a parabola.
_LOW, _HIGH = 0.02, 3.0
_GRID = 7


def minima_by_sides(used: Sequence[Profile]) -> FloatArray:
    """Logs of the best sizes (n,) by curves with power-law sides through the runs near each parabola's minimum.

    NaN for a profile whose curve has no minimum, and for all if there are fewer than three runs more than coefficients.
    """
    parts = [
        (np.log(profile.sizes[profile.near]) - profile.centre, profile.metric[profile.near])
        for profile in used
    ]
    if sum(len(u) for u, _ in parts) < 3 * len(parts) + 2 + 3:
        return np.full(len(used), np.nan)

    def solved(logs: FloatArray) -> tuple[float, FloatArray]:
        falls, rises = np.exp(np.clip(logs, np.log(_LOW), np.log(_HIGH)))
        total, minima = 0.0, np.full(len(parts), np.nan)
        for i, (u, metric) in enumerate(parts):
            # their limits for small exponents are straight lines, which the level's column does not hold
            columns = np.column_stack(
                [np.ones_like(u), np.expm1(-falls * u) / falls, np.expm1(rises * u) / rises]
            )
            curve = np.linalg.lstsq(columns, metric, rcond=None)[0]
            total += float(((metric - columns @ curve) ** 2).sum())
            # both sides have the sign of a minimum or both that of a maximum
            if curve[1] * curve[2] > 0:
                best = np.log(curve[1] / curve[2]) / (falls + rises)
                minima[i] = used[i].centre + np.clip(best, u.min(), u.max())
        return total, minima

    steps = np.log(np.geomspace(_LOW, 1.0, _GRID))
    start = min((np.array([a, b]) for a in steps for b in steps), key=lambda logs: solved(logs)[0])
    scale = solved(start)[0] or 1.0

    def share(logs: FloatArray) -> float:
        return solved(logs)[0] / scale

    return solved(optimize.minimize(share, start, method="Nelder-Mead", tol=1e-6).x)[1]
