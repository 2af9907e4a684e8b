"""The report's section on forecasts: what was forecast before it was trained, and what came of it."""

from collections.abc import Sequence

from analysis.forecasts import Score, score_table, score_text
from analysis.report.html_page import Paragraph, Section, Table

__all__ = ["forecast_section"]


def forecast_section(scores: Sequence[Score]) -> Section:
    """The whole ledger, misses included; empty without a forecast."""
    if not scores:
        return Section("Forecasts", [])
    header, rows = score_table(scores)
    tally, *reasons = score_text(scores)
    return Section(
        "Forecasts",
        [
            Paragraph(f"{tally[0].upper()}{tally[1:]}."),
            Table(header, rows),
            *(Paragraph(f"{reason}.", "warn") for reason in reasons),
            Paragraph(
                "A forecast counts only if it is older than its target's runs, and is kept unchanged. It hits if the mean of "
                "the target's runs lies in the 95 % prediction interval of the mean of as many runs. The error is "
                "measured minus forecast, in half widths of that interval. Beyond the runs: the target's size over the "
                "largest one that the law was fitted to. Compute of the runs: the training FLOPs of all runs behind the "
                "law over those of one run at the target.",
                "note",
            ),
        ],
    )
