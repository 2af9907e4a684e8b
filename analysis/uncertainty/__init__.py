"""Sources of a fit's error, and intervals: noise, variance, profile likelihood, bootstrap.

Not here: whether a fit can be used (`analysis.fit`).
"""

from analysis.uncertainty.bootstrap import bootstrap_draws
from analysis.uncertainty.error_sources import estimate_variance
from analysis.uncertainty.interval import Band, Interval, format_change, format_estimate
from analysis.uncertainty.noise import Noise, outlier
from analysis.uncertainty.parameter_summaries import (
    bootstrap_summary,
    profile_summary,
    wald_summary,
)
from analysis.uncertainty.variance import Part, Variance, combined

__all__ = [
    "Band",
    "Interval",
    "Noise",
    "Part",
    "Variance",
    "bootstrap_draws",
    "bootstrap_summary",
    "combined",
    "estimate_variance",
    "format_change",
    "format_estimate",
    "outlier",
    "profile_summary",
    "wald_summary",
]
