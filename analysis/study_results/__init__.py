"""What a whole study says: all its fits, held-out cells, paired differences between its variants.

Not here: one fit (`analysis.fit`), the page that shows them (`analysis.report`).
"""

from analysis.study_results.extrapolation import CUTS, holdout, score_holdout
from analysis.study_results.paired_runs import paired_differences
from analysis.study_results.study_fits import (
    MetricFits,
    StudyFits,
    fit_study,
    joint_laws,
    truth_verdict,
)

__all__ = [
    "CUTS",
    "MetricFits",
    "StudyFits",
    "fit_study",
    "holdout",
    "joint_laws",
    "paired_differences",
    "score_holdout",
    "truth_verdict",
]
