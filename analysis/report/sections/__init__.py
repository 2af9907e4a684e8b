"""The sections of the report, each a function from results to a `Section` of the page.

Not here: the order of the sections (`analysis.report.study_report`), numbers of their own.
"""

from analysis.report.sections.answer import (
    answer_section,
    gains_section,
    lead_sentence,
    variant_details,
)
from analysis.report.sections.cell_list import cells_section
from analysis.report.sections.fitted_laws import variant_sections
from analysis.report.sections.forecast_ledger import forecast_section
from analysis.report.sections.generated_truth import truth_section
from analysis.report.sections.model_ageing import ageing_section
from analysis.report.sections.overview import absent_text, overview_section
from analysis.report.sections.pursuit_rounds import pursuit_section
from analysis.report.sections.repeatability import (
    checklist_section,
    provenance_section,
    run_provenance,
)
from analysis.report.sections.served_models import served_section, teachers_section
from analysis.report.sections.training_runs import race_section, training_section

__all__ = [
    "absent_text",
    "ageing_section",
    "answer_section",
    "cells_section",
    "checklist_section",
    "forecast_section",
    "gains_section",
    "lead_sentence",
    "overview_section",
    "provenance_section",
    "pursuit_section",
    "race_section",
    "run_provenance",
    "served_section",
    "teachers_section",
    "training_section",
    "truth_section",
    "variant_details",
    "variant_sections",
]
