"""A table of values with a header, and its plain text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from scaling.aligned_text import aligned, printable

__all__ = ["Table", "style_of"]


# What the words for states look like on a terminal.
_STYLES = {
    "green": ("ok", "done", "converged", "hit", "best"),
    "yellow": ("warn", "running", "queued", "preempted", "changed", "at_bound", "not_identified"),
    "red": (
        "fail",
        "failed",
        "damaged",
        "lost",
        "error",
        "not_converged",
        "too_few_points",
        "miss",
    ),
}
# Columns of such words.
_OF_STATES = ("state", "status", "verdict")


@dataclass(frozen=True)
class Table:
    """A header and rows of values; `str(table)` is its plain text, aligned by spaces.

    Attributes:
        header: names of the columns.
        rows: values. Columns that contain only numbers (or None) are aligned right.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]

    @cached_property
    def cells(self) -> list[list[str]]:
        """The formatted values."""
        return [[_format(value) for value in row] for row in self.rows]

    @cached_property
    def numeric(self) -> list[bool]:
        """For each column, whether it contains only numbers."""
        return [
            bool(self.rows) and all(isinstance(row[i], int | float | None) for row in self.rows)
            for i in range(len(self.header))
        ]

    def style(self, column: int, text: str) -> str:
        """The style of a cell on a terminal: the colour of a state; empty for other cells."""
        return (style_of(text) or "") if self.header[column] in _OF_STATES else ""

    def __str__(self) -> str:
        """Return the plain text."""
        return aligned([list(map(printable, self.header)), *self.cells], self.numeric)


def style_of(state: str) -> str | None:
    """The colour of a state's word, of which the first one counts; None if it has none."""
    word = state.split()[0].rstrip(",:") if state.split() else ""
    return next((style for style, words in _STYLES.items() if word in words), None)


def _format(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value != value:
            return "-"
        if value == 0 or 1e-3 <= abs(value) < 1e5:
            return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
        return f"{value:.3g}"
    return printable(str(value))
