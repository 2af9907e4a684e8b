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
from analysis.study_results.headlines import (
    STATUS_WORDS,
    axis_gains,
    cost_finding,
    fit_finding,
    frontier_finding,
    gain_is_clear,
    gain_sentence,
    growth_finding,
    holdout_finding,
    holdout_hits,
    race_headline,
    residual_finding,
)
from analysis.study_results.paired_runs import paired_differences
from analysis.study_results.pairing import LostPair
from analysis.study_results.race import (
    COMPUTED_FLOPS,
    CellDifference,
    Contest,
    Race,
    has_computed_flops,
    race_of_studies,
    run_race,
)
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
    "COMPUTED_FLOPS",
    "CUTS",
    "STATUS_WORDS",
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
    "axis_gains",
    "cost_finding",
    "find_ageing",
    "find_best_rates",
    "fit_finding",
    "fit_rate_law",
    "fit_study",
    "frontier_finding",
    "gain_is_clear",
    "gain_sentence",
    "grade_label",
    "growth_finding",
    "has_computed_flops",
    "holdout",
    "holdout_finding",
    "holdout_hits",
    "joint_laws",
    "largest_cells",
    "learned_parts",
    "paired_differences",
    "race_headline",
    "race_of_studies",
    "residual_finding",
    "run_race",
    "score_holdout",
    "single_laws",
    "study_text",
    "truth_verdict",
    "why_keep",
]
