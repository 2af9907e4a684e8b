"""Fit a law to a table: `fit_law` and its frozen result, with a status that says what it is worth.

Not here: what to run next (`analysis.budget`), figures (`analysis.plots`).
"""

from analysis.fit.fitting import fit_law
from analysis.fit.law_fit import LawFit

__all__ = ["LawFit", "fit_law"]
