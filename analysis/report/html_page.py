"""The report as frozen values (page, sections, tables, figures) and their rendering to one HTML file.

The markup and the style are in `page.html.j2`. The file loads nothing from elsewhere: figures are inline.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

__all__ = [
    "Block",
    "Definitions",
    "Figure",
    "Page",
    "Paragraph",
    "Section",
    "Table",
    "number",
    "percent",
    "render",
]


# Columns with longer entries may wrap; names of grades and laws stay on one line.
_LONGEST_LINE = 40


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; notes are grey, warnings are coloured."""

    text: str
    kind: Literal["", "note", "warn"] = ""

    macro: ClassVar[str] = "paragraph"  # of page.html.j2, as in the values below

    @property
    def is_empty(self) -> bool:
        """Whether there is no text."""
        return not self.text


@dataclass(frozen=True)
class Table:
    """A table. Columns of numbers are aligned right, the others left.

    Attributes:
        header: the columns' names.
        rows: one entry per column; numbers are formatted by `number`.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]

    macro: ClassVar[str] = "table"

    @property
    def is_empty(self) -> bool:
        """Whether there is no row."""
        return not self.rows

    @property
    def texts(self) -> list[list[str]]:
        """The rows as text."""
        return [[_text(value) for value in row] for row in self.rows]

    @cached_property
    def css_classes(self) -> list[str]:
        """One per column: empty for numbers, `text`, or `text prose` for entries that may wrap."""
        classes = []
        for column in zip(*self.rows, strict=True):
            if all(_is_number(value) for value in column):
                classes.append("")
            else:
                is_prose = any(len(_text(value)) > _LONGEST_LINE for value in column)
                classes.append("text prose" if is_prose else "text")
        return classes


@dataclass(frozen=True)
class Definitions:
    """Pairs of a term and its meaning."""

    items: Sequence[tuple[str, str]]

    macro: ClassVar[str] = "definitions"

    @property
    def is_empty(self) -> bool:
        """Whether there is no pair."""
        return not self.items


@dataclass(frozen=True)
class Figure:
    """A PNG image and its caption."""

    png: bytes
    caption: str

    macro: ClassVar[str] = "figure"
    is_empty: ClassVar[bool] = False

    @property
    def encoded(self) -> str:
        """The image in base64, as a data URL holds it."""
        return base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Section:
    """A heading and its contents. Empty parts, and sections without any other part, are not rendered."""

    title: str
    parts: "Sequence[Block]"
    level: Literal[2, 3] = 2

    macro: ClassVar[str] = "section"

    @property
    def is_empty(self) -> bool:
        """Whether all parts are empty."""
        return all(part.is_empty for part in self.parts)


Block = Paragraph | Table | Definitions | Figure | Section


@dataclass(frozen=True)
class Page:
    """The whole document: title, one line below it, and sections."""

    title: str
    lead: str
    sections: Sequence[Section]


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(page: Page) -> str:
    """Return the HTML document; every text is escaped."""
    return _ENVIRONMENT.get_template("page.html.j2").render(page=page)


def number(value: float, digits: int = 4) -> str:
    """Format a number for a table: rounded, with thousands separators; a dash for NaN and infinity."""
    if not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value):,}"
    if abs(value) >= 1e5 or abs(value) < 1e-4:
        return f"{value:.{max(digits - 1, 1)}e}"
    return f"{value:.{digits}g}" if abs(value) >= 1 else f"{value:.{digits}f}"


def percent(value: float, *, sign: bool = False, digits: int = 2) -> str:
    """Format a share as a percentage; a dash for NaN and infinity."""
    if not math.isfinite(value):
        return "–"
    return f"{value:+.{digits}%}" if sign else f"{value:.{digits}%}"


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value in ("–", "") or value.lstrip("+-")[:1].isdigit()
    return isinstance(value, int | float)


def _text(value: object) -> str:
    return number(value) if isinstance(value, int | float) else str(value)
