"""What a grid of runs can tell of a law before any run: how wide its intervals would be, and what could not be tested.

Linearised at assumed parameters (D-optimal designs, Fedorov 1972), as `analysis.budget.further_cells` is at a fit. Only the
noise of the runs themselves counts: what all cells share, such as the error of the test part, is left out. Fast to import.
"""

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from analysis.laws.base import Law
from scaling.arrays import FloatArray

__all__ = ["expected_widths", "limits_of_grid"]


_LEVELS = 3  # E and a power law need so many sizes
_DECADE = 10.0
_NAMES = ("N", "D")
_WORDS = ("model sizes", "data sizes")


def expected_widths(
    law: Law, params: Mapping[str, float], runs: FloatArray, run_sd: float, level: float = 0.95
) -> dict[str, float]:
    """Return half the width of the interval of each parameter that is no amplitude; infinite if the grid cannot tell it.

    Args:
        law: of as many sizes as `runs` has columns.
        params: its assumed parameters.
        runs: (n, sizes), a row for each run.
        run_sd: standard deviation of one run around the law.
        level: of the intervals.
    """
    names = [name for name in law.names if name not in law.scales]
    cells, counts = np.unique(runs, axis=0, return_counts=True)
    dof = _noise_dof(len(cells), len(runs), len(law.names))
    levels = [len(np.unique(column)) for column in cells.T]
    if dof < 1 or min(levels) < _LEVELS:
        return dict.fromkeys(names, float("inf"))
    slopes = law.jacobian(list(np.log(cells).T), law.to_theta(params))
    slopes = slopes * np.sqrt(counts)[:, None]
    size = np.linalg.norm(slopes, axis=0)
    covariance = np.linalg.pinv((slopes / size).T @ (slopes / size)) / np.outer(size, size)
    spread = run_sd * np.sqrt(np.diag(covariance))
    factor = _t_quantile(0.5 + level / 2, dof)
    return {name: factor * float(spread[law.names.index(name)]) for name in names}


def limits_of_grid(runs: FloatArray, n_free: int) -> list[str]:
    """Return a sentence for each thing that no analysis of these runs could tell.

    Args:
        runs: (n, 2), model size and data size of each run.
        n_free: free parameters of the law.
    """
    cells = np.unique(runs, axis=0)
    levels = [np.unique(column) for column in runs.T]
    found = []
    for name, words, sizes in zip(_NAMES, _WORDS, levels, strict=True):
        n, span = len(sizes), sizes[-1] / sizes[0]
        if n < _LEVELS:
            found.append(f"{_counted(n, words)}, a law of {name} needs {_LEVELS}")
        elif n == _LEVELS:
            found.append(
                f"{n} {words}: without the largest, a law of {name} has too few, so no held-out test of its extrapolation"
            )
        if n >= _LEVELS and span < _DECADE:
            found.append(
                f"the {words} span a factor of {span:.2g}; below 10, the exponent of {name} can hardly be told from E"
            )
    if len(cells) < n_free:
        found.append(
            f"{_counted(len(cells), 'cells')} for {n_free} free parameters, too few for a law of both sizes"
        )
    elif len(cells) == n_free:
        found.append(
            f"{len(cells)} cells for {n_free} free parameters, so nothing tests the form of the law"
        )
    if len(cells) == len(runs):
        found.append(
            "one seed in every cell, so the noise of seeds cannot be told from a law of the wrong form"
        )
    return found


def _noise_dof(n_cells: int, n_runs: int, n_free: int) -> int:
    """Degrees of freedom of the noise: those of the seeds, or of the residuals if there are more."""
    return max(n_runs - n_cells, n_cells - n_free)


def _t_quantile(share: float, dof: int) -> float:
    """Student's quantile to 0.2 % from 3 degrees of freedom on (Abramowitz & Stegun 1964, 26.7.5), without scipy."""
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(dof) ** power for power, term in enumerate(terms, 1))


def _counted(n: int, plural: str) -> str:
    return f"{n} {plural[:-1] if n == 1 else plural}"
