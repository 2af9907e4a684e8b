"""The sections of a table file that name files and their columns."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

__all__ = [
    "Condition",
    "EventsSection",
    "FilesSection",
    "ImpressionsSection",
    "ItemsSection",
    "UsersSection",
]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition on a cell of `column`: exactly one of the other keys.

    Attributes:
        equals: the cell is one of these texts or numbers.
        at_least, below: bounds of the cell's number.
        empty: whether the cell is null.
    """

    column: str
    equals: tuple[str | int | float, ...] | None = None
    at_least: float | None = None
    below: float | None = None
    empty: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a condition without a key, or with two."""
        given = (self.equals, self.at_least, self.below, self.empty)
        if sum(x is not None for x in given) != 1:
            raise ValueError("expected one of equals, at_least, below and empty beside column")
        for bound in (self.at_least, self.below):
            if bound is not None and not math.isfinite(bound):
                raise ValueError(f"{bound} is not a bound, expected a finite number")


@dataclass(frozen=True, kw_only=True)
class DropRule(Condition):
    """Rows to drop, and the reason that the row counts show."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class FilesSection:
    """Files of one layout.

    Attributes:
        files: names, globs or folders, relative to the TOML; CSV (also `.gz` and `.zst`) or Parquet.
        separator, quote, encoding: layout of text files.
        escape: the character before a quote within quotes, e.g. a backslash; by default a quote is doubled.
        null: texts that mean an empty cell, e.g. NULL.
        explode: columns whose cells are lists; each entry is a row of its own, with the other cells of its row.
        list_separator: text between two entries of these lists; brackets and quotes are left out.
        absent: what a column that some of the files lack is: an error (`refuse`), or empty in these files (`empty`).
        names: all columns in order, if the files have no header.
        drop: rules for rows to drop.
        drop_repeats: drop rows that repeat another in every column that is used.
    """

    files: tuple[str, ...]
    separator: str = ","
    quote: str = '"'
    escape: str = ""
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    null: tuple[str, ...] = ()
    explode: tuple[str, ...] = ()
    list_separator: str = ","
    absent: Literal["refuse", "empty"] = "refuse"
    names: tuple[str, ...] = ()
    drop: tuple[DropRule, ...] = ()
    drop_repeats: bool = False

    def __post_init__(self) -> None:
        """Refuse values with which no text file can be read."""
        if not self.files:
            raise ValueError("files: the list is empty, expected names, globs or folders")
        if not 1 <= len(self.separator.encode()) <= 4 or set(self.separator) & set("\r\n"):
            raise ValueError(
                f"separator is {self.separator!r}, expected one to four bytes without a line break"
            )
        if len(self.quote.encode()) > 1 or self.quote in (*self.separator, "\r", "\n"):
            raise ValueError(
                f"quote is {self.quote!r}, expected one character that is not in the separator, or none"
            )
        if len(self.escape.encode()) > 1 or self.escape in (*self.separator, "\r", "\n"):
            raise ValueError(
                f"escape is {self.escape!r}, expected one character that is not in the separator, or none"
            )


@dataclass(frozen=True, kw_only=True)
class UsersSection(FilesSection):
    """`[users]`: one row for each user."""

    user: str


@dataclass(frozen=True, kw_only=True)
class ItemsSection(FilesSection):
    """`[items]`: one row for each item."""

    item: str


@dataclass(frozen=True, kw_only=True)
class EventsSection(FilesSection):
    """`[events]`: what users did.

    Attributes:
        user, time, item: names of columns; features of `[items]` need `item`. The time "row order" means that there is no clock, but
            the rows are in order: each is a second later than the one before.
        unit: unit of the time: s, ms, us or ns since 1970 or `epoch`, or "timestamp" for dates and times.
        epoch: date from which the times count, if that is not 1970, e.g. because the start of the log is not told; without an offset, it
            is one of the log's own zone.
        format: format of timestamps in text, as for strptime; default: ISO 8601.
    """

    user: str
    time: str
    item: str | None = None
    unit: Literal["s", "ms", "us", "ns", "timestamp"] = "s"
    format: str = ""
    epoch: str = ""

    def __post_init__(self) -> None:
        """Refuse an epoch that is no date, and settings that row order or timestamps do not have."""
        super().__post_init__()
        if self.is_row_order and (self.unit != "s" or self.format):
            raise ValueError('unit and format: rows in order (time = "row order") have none')
        if self.epoch and self.unit == "timestamp":
            raise ValueError(
                "epoch: timestamps are dates by themselves; expected it with numbers only"
            )
        try:
            datetime.fromisoformat(self.epoch or "2000-01-01")
        except ValueError:
            raise ValueError(
                f"epoch is {self.epoch!r}, expected a date such as 2023-01-01"
            ) from None

    @property
    def is_row_order(self) -> bool:
        """Whether there is no clock."""
        return self.time == "row order"

    def epoch_seconds(self, zone: str) -> int:
        """Return the unix seconds of time 0; `zone` is the IANA name of the log's own time zone."""
        if not self.epoch:
            return 946_684_800 if self.is_row_order else 0  # 2000-01-01
        start = datetime.fromisoformat(self.epoch)
        if start.tzinfo is None:
            start = start.replace(tzinfo=ZoneInfo(zone))
        return int(start.timestamp())


@dataclass(frozen=True, kw_only=True)
class ImpressionsSection(EventsSection):
    """`[impressions]`: what users were shown.

    Attributes:
        label: name of a column with 0 and 1; exactly one of `label` and `label_when` is needed.
        label_when: condition for a click.
    """

    label: str | None = None
    label_when: Condition | None = None

    def __post_init__(self) -> None:
        """Refuse impressions with no label or two labels."""
        super().__post_init__()
        if (self.label is None) == (self.label_when is None):
            raise ValueError("expected one of label and label_when")
