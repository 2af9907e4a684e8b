"""The report of a study: its table, fits, figures and one self-contained HTML page.

Not here: numbers of its own; all come from `analysis.study_results` and `analysis.latency`.
"""

from analysis.report.safe_names import FIGURE_BYTES, file_names
from analysis.report.study_report import analyse, analyse_table

__all__ = ["FIGURE_BYTES", "analyse", "analyse_table", "file_names"]
