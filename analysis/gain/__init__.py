"""Gains: what more of each size buys, the compute that a variant saves, where the laws of two variants cross.

Not here: the best split of a budget (`analysis.budget`), what the errors of two fits share (`analysis.fit`).
"""

from analysis.gain.compute_gain import (
    ComputeGains,
    GainAt,
    check_comparable,
    compute_gains,
)
from analysis.gain.crossings import Crossing
from analysis.gain.size_gains import GainsFrom, gains
from analysis.gain.variant_law import VariantLaw

__all__ = [
    "ComputeGains",
    "Crossing",
    "GainAt",
    "GainsFrom",
    "VariantLaw",
    "check_comparable",
    "compute_gains",
    "gains",
]
