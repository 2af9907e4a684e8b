"""The parts of a page: headings, text, answers, tables, figures, commands, and what is closed at first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from analysis.report.page.numbers import number, readable

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
]


# Columns with longer entries may wrap; names of grades and laws stay on one line.
_LONGEST_LINE = 40
# Characters that a column of long texts needs.
_PROSE = 26
# Width of a character of a table and the padding of a column, in rem of `page.css`.
_CHARACTER, _PADDING = 0.56, 1.1
# Numbers with their intervals, signs and suffixes, but no words.
_NUMBERS = re.compile(r"[+\-−]?\d(?:[\d\s.,\[\]()±×%kMBTx⁰¹²³⁴⁵⁶⁷⁸⁹⁻+\-−]|e[+-]\d|open)*")
# Steps of the widths, so that a page has few rules.
_STEP = 4


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
class Answer:
    """One answer of the first screen.

    Attributes:
        asked: what is answered, e.g. "10 × samples".
        value: the answer in a few words or a number.
        detail: interval, place and reach, one line each.
        mood: whether the data determine it ("sure"), say nothing for it ("open"), or it is missing ("none").
    """

    asked: str
    value: str
    detail: tuple[str, ...] = ()
    mood: Literal["sure", "open", "none"] = "sure"


@dataclass(frozen=True)
class Answers:
    """Answers side by side."""

    answers: Sequence[Answer]

    macro: ClassVar[str] = "answers"

    @property
    def is_empty(self) -> bool:
        """Whether there is no answer."""
        return not self.answers


@dataclass(frozen=True)
class Value:
    """A number of a table with a text of its own; it is sorted as the number."""

    number: float
    text: str


@dataclass(frozen=True)
class Table:
    """A table. Columns of numbers are aligned right, the others left.

    Where it is wider than the page, each row becomes a list of its entries with the names of their columns.

    Attributes:
        header: the columns' names.
        rows: one entry per column; numbers are formatted by `number`.
        caption: what the table shows.
        sortable: whether a reader can sort its rows and filter them.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    sortable: bool = False

    macro: ClassVar[str] = "table"

    @property
    def is_empty(self) -> bool:
        """Whether there is no row."""
        return not self.rows

    @cached_property
    def texts(self) -> list[list[str]]:
        """The rows as text."""
        return [[_text(value) for value in row] for row in self.rows]

    @property
    def keys(self) -> list[list[str]]:
        """What each entry is sorted by: numbers in full, other entries as their text."""
        return [
            [_key(value, text) for value, text in zip(row, texts, strict=True)]
            for row, texts in zip(self.rows, self.texts, strict=True)
        ]  # fmt: skip

    @cached_property
    def css_classes(self) -> list[str]:
        """One per column: empty for numbers, `text`, or `text prose` for entries that may wrap."""
        classes = []
        for column, texts in zip(
            zip(*self.rows, strict=True), zip(*self.texts, strict=True), strict=True
        ):
            if all(_is_number(value) for value in column):
                classes.append("")
            else:
                is_prose = any(len(text) > _LONGEST_LINE for text in texts)
                classes.append("text prose" if is_prose else "text")
        return classes

    @property
    def least_rem(self) -> int:
        """The width in rem below which the columns do not fit side by side."""
        characters = 0
        for name, css, texts in zip(
            self.header, self.css_classes, zip(*self.texts, strict=True), strict=True
        ):
            longest = _PROSE if "prose" in css else max(map(len, texts))
            heading = max((len(word) for word in name.split()), default=0) + 2 * self.sortable
            characters += max(longest, heading)
        width = _CHARACTER * characters + _PADDING * len(self.header)
        return int(-(-width // _STEP) * _STEP)


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
class Commands:
    """Lines to type in a shell."""

    lines: Sequence[str]

    macro: ClassVar[str] = "commands"

    @property
    def is_empty(self) -> bool:
        """Whether there is no line."""
        return not self.lines


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        svg: the drawing, a document of its own.
        finding: what it shows, in one sentence.
        caption: how to read it.
        file: its name beside the page, without ending; empty if there is no file.
    """

    svg: str
    finding: str
    caption: str
    file: str = ""

    macro: ClassVar[str] = "figure"
    is_empty: ClassVar[bool] = False


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


@dataclass(frozen=True)
class Details:
    """Parts that a reader opens; on paper and in Markdown they are open.

    Attributes:
        title: what is inside; the list of contents has it if the first part is a section.
        parts: what is inside.
        remark: what a reader learns without opening it.
    """

    title: str
    parts: "Sequence[Block]"
    remark: str = ""

    macro: ClassVar[str] = "details"

    @property
    def is_empty(self) -> bool:
        """Whether all parts are empty."""
        return all(part.is_empty for part in self.parts)


Block = Paragraph | Answers | Table | Definitions | Commands | Figure | Section | Details


@dataclass(frozen=True)
class Page:
    """The whole document: title, what it says in a sentence, and sections, some of them closed at first."""

    title: str
    lead: str
    sections: Sequence[Section | Details]

    @property
    def shown(self) -> list[Section | Details]:
        """The sections that have contents."""
        return [section for section in self.sections if not section.is_empty]


def _key(value: object, text: str) -> str:
    known = value.number if isinstance(value, Value) else value
    return repr(float(known)) if isinstance(known, int | float) else text


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value in ("–", "") or _NUMBERS.fullmatch(value) is not None
    return isinstance(value, int | float | Value)


def _text(value: object) -> str:
    if isinstance(value, Value):
        return readable(value.text)
    return number(value) if isinstance(value, int | float) else readable(str(value))
