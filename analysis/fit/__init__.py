"""Fit a law to a table: `fit_law`, its `FitOptions` and its result, with a status that says whether it can be used.

Not here: what to run next (`analysis.budget`), figures (`analysis.plots`).
"""

from analysis.fit.fit_options import FitOptions
from analysis.fit.fitting import fit_law
from analysis.fit.law_fit import LawFit
from analysis.fit.paired_errors import FittedRows, PairedErrors, common_errors

__all__ = ["FitOptions", "FittedRows", "LawFit", "PairedErrors", "common_errors", "fit_law"]
