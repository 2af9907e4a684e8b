"""Forecasts of cells that are not trained yet: made, kept unchanged in a ledger, scored by the records that came later.

Not here: the law behind a forecast (`analysis.fit`), cells held out of one table (`analysis.study_results`).
"""

from analysis.forecasts.forecast import Forecast, Spent, make_forecast
from analysis.forecasts.ledger import LEDGER_FOLDER, Entry, add_forecast, read_ledger
from analysis.forecasts.scored_ledger import score_table, score_text
from analysis.forecasts.scoring import NOT_DATED, Score, score_forecasts, score_rows
from analysis.forecasts.targets import cell_rows, settings_of

__all__ = [
    "LEDGER_FOLDER",
    "NOT_DATED",
    "Entry",
    "Forecast",
    "Score",
    "Spent",
    "add_forecast",
    "cell_rows",
    "make_forecast",
    "read_ledger",
    "score_forecasts",
    "score_rows",
    "score_table",
    "score_text",
    "settings_of",
]
