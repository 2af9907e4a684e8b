"""The report of a study: its table, fits, figures and one self-contained HTML page.

The first screen is in `overview`, the markup in `page.html.j2`. Not here: computing numbers
(`analysis.study_results`, `analysis.latency`).
"""

from analysis.report.safe_names import FIGURE_BYTES, file_names
from analysis.report.study_report import analyse, analyse_table

__all__ = ["FIGURE_BYTES", "analyse", "analyse_table", "file_names"]
