"""How probable it is that a variant is better than another, or the best of all, at a budget."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from analysis.fit import PairedErrors
from analysis.gain.variant_law import VariantLaw
from analysis.uncertainty import combined
from scaling.arrays import FloatArray

__all__ = ["probabilities"]


_DRAWS = 20_000


def probabilities(
    laws: Sequence[VariantLaw], paired: Mapping[tuple[int, int], PairedErrors], logs: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The probability that each law is better than the first, and that it is the best of all, (laws, m) each."""
    values = [law.at(logs) for law in laws]
    n, sign = len(laws), laws[0].fit.law.sign
    better = np.full((n, len(logs)), np.nan)
    spread = np.zeros((len(logs), n, n))
    fewest = np.full(len(logs), np.inf)
    for j, law in enumerate(laws):
        spread[:, j, j], dof = combined(law.fit.parts, values[j][1])
        fewest = np.minimum(fewest, dof)
    for (i, j), pair in paired.items():
        spread[:, i, j] = spread[:, j, i] = pair.covariance(values[i][1], values[j][1])
        if i == 0:
            ahead = sign * (values[0][0] - values[j][0])
            variance, dof = pair.difference(values[0][1], values[j][1])
            with np.errstate(divide="ignore", invalid="ignore"):
                better[j] = special.stdtr(dof, np.nan_to_num(ahead / np.sqrt(variance), nan=0.0))
    if n == 2:
        return better, np.array([1 - better[1], better[1]])
    rng = np.random.default_rng(0)
    best = np.zeros((n, len(logs)))
    for k in range(len(logs)):
        scales, vectors = np.linalg.eigh(spread[k])
        normal = rng.standard_normal((_DRAWS, n)) * np.sqrt(np.maximum(scales, 0.0)) @ vectors.T
        wide = np.sqrt(fewest[k] / rng.chisquare(fewest[k], _DRAWS))[:, None]
        drawn = sign * (np.array([value[0][k] for value in values]) + normal * wide)
        best[:, k] = np.bincount(np.argmin(drawn, axis=1), minlength=n) / _DRAWS
    return better, best
