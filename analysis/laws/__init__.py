"""The laws that can be fitted: one frozen class for each law, and `LAWS`, all laws by name.

Not here: data, losses, optimisers.
"""

from analysis.laws.base import Law
from analysis.laws.one_axis import Broken, Saturating
from analysis.laws.planned_grid import expected_widths, limits_of_grid
from analysis.laws.registry import LAWS, build_law
from analysis.laws.three_axes import DataConstrained
from analysis.laws.two_axes import Additive, TiedAdditive

__all__ = [
    "LAWS",
    "Additive",
    "Broken",
    "DataConstrained",
    "Law",
    "Saturating",
    "TiedAdditive",
    "build_law",
    "expected_widths",
    "limits_of_grid",
]
