"""One page as frozen values (`blocks`), and what is made of it: HTML (`html`), Markdown (`markdown`).

Not here: what a report says (`analysis.report.sections`).
"""

from analysis.report.page.blocks import (
    Answer,
    Answers,
    Block,
    Commands,
    Definitions,
    Details,
    Figure,
    Page,
    Paragraph,
    Section,
    Table,
    Value,
)
from analysis.report.page.html import render_html
from analysis.report.page.markdown import render_markdown
from analysis.report.page.numbers import decimals_of, number, percent, readable, to_decimals

__all__ = [
    "Answer",
    "Answers",
    "Block",
    "Commands",
    "Definitions",
    "Details",
    "Figure",
    "Page",
    "Paragraph",
    "Section",
    "Table",
    "Value",
    "decimals_of",
    "number",
    "percent",
    "readable",
    "render_html",
    "render_markdown",
    "to_decimals",
]
