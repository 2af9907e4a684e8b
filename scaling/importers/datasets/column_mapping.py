"""The TOML of `scaling data import table`: which files there are and which of their columns mean what."""

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scaling.errors import UserError
from scaling.strict_values import from_document

__all__ = [
    "Condition",
    "EventsSection",
    "FilesSection",
    "ImpressionsSection",
    "NegativesSection",
    "TableFile",
    "read_table_file",
]


LARGEST = 2**32 - 2  # buckets: ids have 32 bits, and two are taken
FLOAT32_MAX = 3.4028234663852886e38


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is asked of a column's cell; one of the four keys beside `column`.

    Attributes:
        equals: any of these texts or numbers.
        at_least, below: numbers.
        empty: whether the cell has nothing in it.
    """

    column: str
    equals: tuple[str | int | float, ...] | None = None
    at_least: float | None = None
    below: float | None = None
    empty: bool | None = None

    def __post_init__(self) -> None:
        """Refuse a condition that asks nothing or two things."""
        asked = (self.equals, self.at_least, self.below, self.empty)
        if sum(x is not None for x in asked) != 1:
            raise ValueError("expected one of equals, at_least, below and empty beside column")
        for bound in (self.at_least, self.below):
            if bound is not None and not math.isfinite(bound):
                raise ValueError(f"{bound} is no bound, expected a finite number")


@dataclass(frozen=True, kw_only=True)
class DropRule(Condition):
    """Rows to drop, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class FilesSection:
    """Files of one layout.

    Attributes:
        files: names, globs or folders beside the TOML; CSV or Parquet, `.gz` and `.zst` as they are.
        separator, quote, encoding: of text files.
        names: all columns in order, where the files have no header.
        drop: rows to drop, by reason.
        drop_repeats: drop rows that repeat another in every column that is used.
    """

    files: tuple[str, ...]
    separator: str = ","
    quote: str = '"'
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    names: tuple[str, ...] = ()
    drop: tuple[DropRule, ...] = ()
    drop_repeats: bool = False

    def __post_init__(self) -> None:
        """Refuse what no text file can be read with."""
        if not self.files:
            raise ValueError("files: there are none, expected names, globs or folders")
        if not 1 <= len(self.separator.encode()) <= 4 or set(self.separator) & set("\r\n"):
            raise ValueError(
                f"separator is {self.separator!r}, expected one to four bytes on a line"
            )
        if len(self.quote.encode()) > 1 or self.quote in (*self.separator, "\r", "\n"):
            raise ValueError(
                f"quote is {self.quote!r}, expected one character that is no separator, or none"
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
        user, time, item: names of columns; `item` is needed for features of `[items]`.
        unit: of the time: s, ms, us or ns since 1970, or "timestamp" for dates and times.
        format: of timestamps in text, as for strptime; ISO 8601 where it is missing.
    """

    user: str
    time: str
    item: str | None = None
    unit: Literal["s", "ms", "us", "ns", "timestamp"] = "s"
    format: str = ""


@dataclass(frozen=True, kw_only=True)
class ImpressionsSection(EventsSection):
    """`[impressions]`: what users were shown; one of `label`, a column of 0 and 1, and `label_when`, what a click is."""

    label: str | None = None
    label_when: Condition | None = None

    def __post_init__(self) -> None:
        """Refuse impressions without a label, or with two."""
        super().__post_init__()
        if (self.label is None) == (self.label_when is None):
            raise ValueError("expected one of label and label_when")


@dataclass(frozen=True, kw_only=True)
class FeaturesSection:
    """`[features]`: names by role; each is a column of the impressions or events, else of the items or users.

    `hour` and `weekday` are those of the time, unless there is a column of that name.

    Attributes:
        columns: feature to column, where the names differ.
        fill: numeric feature to the number that stands for an empty cell.
        vocabularies: feature to vocabulary: features of one vocabulary share ids.
    """

    behaviour: tuple[str, ...]
    candidate: tuple[str, ...]
    context: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    fill: dict[str, float] = field(default_factory=dict)
    vocabularies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers that a store cannot hold."""
        for name, number in self.fill.items():
            if not abs(number) <= FLOAT32_MAX:
                raise ValueError(f"fill.{name} is {number}, expected a finite 32-bit number")


@dataclass(frozen=True, kw_only=True)
class VocabulariesSection:
    """`[vocabularies]`: rows of the training part that a value needs; vocabulary to number of buckets."""

    min_count: int = 1
    hashed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sizes below one."""
        for name, size in {"min_count": self.min_count, **self.hashed}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, expected 1 or more")
            if size > LARGEST:
                raise ValueError(f"{name} is {size}, expected {LARGEST} or less")


@dataclass(frozen=True, kw_only=True)
class SplitSection:
    """`[split]`: as the options of the other importers."""

    kind: Literal["time", "user"] = "time"
    test_fraction: float = 0.2
    test_from: str = ""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class NegativesSection:
    """`[negatives]`, for events without impressions: each event that fulfils `positive` is one, with drawn items."""

    positive: Condition | None = None
    per_positive: int = 4
    draw: Literal["popularity", "uniform"] = "popularity"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse counts that draw nothing."""
        if self.per_positive < 1:
            raise ValueError(f"per_positive is {self.per_positive}, expected 1 or more")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}, expected 0 or more, below 2^63")


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """The whole file; `zone` is the IANA name of the log's own zone."""

    features: FeaturesSection
    zone: str = "UTC"
    impressions: ImpressionsSection | None = None
    events: EventsSection | None = None
    users: UsersSection | None = None
    items: ItemsSection | None = None
    vocabularies: VocabulariesSection = field(default_factory=VocabulariesSection)
    split: SplitSection = field(default_factory=SplitSection)
    negatives: NegativesSection | None = None

    def __post_init__(self) -> None:
        """Refuse logs without impressions, or with two kinds of them."""
        if self.impressions is None and self.negatives is None:
            raise ValueError("no [impressions], and no [negatives] to draw beside [events]")
        if self.impressions is not None and self.negatives is not None:
            raise ValueError("[negatives] are for logs without [impressions]; leave one out")
        if self.impressions is None and self.events is None:
            raise ValueError("neither [impressions] nor [events]")


def read_table_file(raw: Path) -> tuple[Path, TableFile]:
    """Return the TOML at `raw`, or the only one in the folder `raw`, checked.

    Raises:
        UserError: no such file, no TOML, or the first key that is wrong.
    """
    file = raw
    if raw.is_dir():
        found = sorted(raw.glob("*.toml"))
        if len(found) != 1:
            raise UserError(
                f"{raw}: {len(found)} TOML files, expected one that names the columns; or give its own path"
            )
        file = found[0]
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{file}: not valid TOML: {error}") from error
    return file, from_document(TableFile, document, str(file))
