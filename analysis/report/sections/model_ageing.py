"""The report's section on ageing: the largest model's loss by day after the last training impression."""

import pandas as pd

from analysis.plots import draw_ageing
from analysis.report.page import Figure, Paragraph, Section, Table
from analysis.study_results import find_ageing
from analysis.table import size_label

__all__ = ["ageing_section"]


def ageing_section(days: pd.DataFrame) -> Section:
    """How fast a model ages; empty if the log is not split by time or the test part has a single day."""
    title = "How fast a model ages"
    found = find_ageing(days)
    if found is None:
        return Section(title, [])
    picture = draw_ageing(found)
    header = ["order", "D", *(f"day {day}" for day in found.by_day.columns), "% per day"]
    rows = [
        [
            str(order),
            size_label(float(size)),
            *(f"{value:.4f}" for value in values),
            f"{found.lost[order, size]:+.2f}",
        ]
        for (order, size), values in zip(found.by_day.index, found.by_day.to_numpy(), strict=True)
    ]
    return Section(
        title,
        [
            Paragraph(
                f"{found.metric} of {found.grade} by day of 24 hours after the boundary of the split, means over seeds. Days "
                "differ in difficulty for every model, so compare rows within a day. The last column is the slope of the "
                "metric over the entropy of the day's share of clicks, in percent of that entropy."
            ),
            Figure(picture.svg, picture.finding, picture.caption),
            Table(header, rows),
        ],
    )
