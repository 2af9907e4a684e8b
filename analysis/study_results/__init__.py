"""The results of a whole study: all its fits, held-out cells, paired differences between its variants.

Not here: one fit (`analysis.fit`), the page that shows them (`analysis.report`).
"""

from analysis.study_results.ageing import Ageing, find_ageing
from analysis.study_results.best_rates import (
    BestRate,
    RateFit,
    ScannedRates,
    find_best_rates,
    fit_rate_law,
)
from analysis.study_results.component_slopes import LearnedParts, learned_parts
from analysis.study_results.extrapolation import CUTS, Cut, holdout, largest_cells, score_holdout
from analysis.study_results.fits_as_text import study_text, truth_verdict
from analysis.study_results.paired_runs import paired_differences
from analysis.study_results.pairing import LostPair
from analysis.study_results.race import CellDifference, Contest, Race, run_race
from analysis.study_results.rate_choice import why_keep
from analysis.study_results.study_fits import (
    MetricFits,
    StudyFits,
    StudyLaw,
    grade_label,
    joint_laws,
    single_laws,
)
from analysis.study_results.study_fitting import fit_study

__all__ = [
    "CUTS",
    "Ageing",
    "BestRate",
    "CellDifference",
    "Contest",
    "Cut",
    "LearnedParts",
    "LostPair",
    "MetricFits",
    "Race",
    "RateFit",
    "ScannedRates",
    "StudyFits",
    "StudyLaw",
    "find_ageing",
    "find_best_rates",
    "fit_rate_law",
    "fit_study",
    "grade_label",
    "holdout",
    "joint_laws",
    "largest_cells",
    "learned_parts",
    "paired_differences",
    "run_race",
    "score_holdout",
    "single_laws",
    "study_text",
    "truth_verdict",
    "why_keep",
]
