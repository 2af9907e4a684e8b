"""Gains: what more of each size buys (by a law of all sizes, or of one), the compute that a variant saves, where the laws of two variants cross.

Not here: the best split of a budget (`analysis.budget`), what the errors of two fits share (`analysis.fit`).
"""

from analysis.gain.compute_gain import (
    ComputeGains,
    GainAt,
    check_comparable,
    compute_gains,
)
from analysis.gain.crossings import Crossing
from analysis.gain.single_axis import AxisGain, axis_gain, loss_with
from analysis.gain.size_gains import GainsFrom, gains
from analysis.gain.variant_law import VariantLaw

__all__ = [
    "AxisGain",
    "ComputeGains",
    "Crossing",
    "GainAt",
    "GainsFrom",
    "VariantLaw",
    "axis_gain",
    "check_comparable",
    "compute_gains",
    "gains",
    "loss_with",
]
