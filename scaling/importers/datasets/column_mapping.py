"""The TOML of `scaling data import table`: its sections and keys, which name the files and their columns."""

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


MOST_BUCKETS = 2**32 - 2  # ids have 32 bits, and two ids are reserved
FLOAT32_MAX = 3.4028234663852886e38


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
        names: all columns in order, if the files have no header.
        drop: rules for rows to drop.
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
        user, time, item: names of columns; features of `[items]` need `item`.
        unit: unit of the time: s, ms, us or ns since 1970, or "timestamp" for dates and times.
        format: format of timestamps in text, as for strptime; default: ISO 8601.
    """

    user: str
    time: str
    item: str | None = None
    unit: Literal["s", "ms", "us", "ns", "timestamp"] = "s"
    format: str = ""


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


@dataclass(frozen=True, kw_only=True)
class FeaturesSection:
    """`[features]`: feature names by role; each is a column of the impressions or events, else of the items or users.

    `hour` and `weekday` are computed from the time, unless there is a column of that name.

    Attributes:
        columns: column of each feature whose column has another name.
        fill: number that replaces empty cells, by numeric feature.
        vocabularies: vocabulary of each feature whose vocabulary has another name; features with the same
            vocabulary share ids.
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
        """Refuse numbers that a store cannot represent."""
        for name, number in self.fill.items():
            if not abs(number) <= FLOAT32_MAX:
                raise ValueError(f"fill.{name} is {number}, expected a finite 32-bit number")


@dataclass(frozen=True, kw_only=True)
class VocabulariesSection:
    """`[vocabularies]`: how ids are assigned.

    Attributes:
        min_count: number of training rows in which a value must occur to have its own id.
        hashed: number of buckets of each hashed vocabulary.
    """

    min_count: int = 1
    hashed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse sizes that are too small or too large."""
        for name, size in {"min_count": self.min_count, **self.hashed}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}, expected 1 or more")
            if size > MOST_BUCKETS:
                raise ValueError(f"{name} is {size}, expected {MOST_BUCKETS} or less")


@dataclass(frozen=True, kw_only=True)
class SplitSection:
    """`[split]`: the same settings as the options of the other importers."""

    kind: Literal["time", "user"] = "time"
    test_fraction: float = 0.2
    test_from: str = ""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class NegativesSection:
    """`[negatives]`: draws negatives for a log without impressions.

    Attributes:
        positive: condition on the events that become clicked impressions; default: all of them.
        per_positive: number of items drawn for each of these events.
        draw: "popularity" or "uniform", see `declaration.Negatives`.
        seed: seed of the draws.
    """

    positive: Condition | None = None
    per_positive: int = 4
    draw: Literal["popularity", "uniform"] = "popularity"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that draw nothing, and seeds out of range."""
        if self.per_positive < 1:
            raise ValueError(f"per_positive is {self.per_positive}, expected 1 or more")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}, expected 0 or more, below 2^63")


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """The whole file; `zone` is the IANA name of the log's own time zone."""

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
            raise ValueError(
                "neither [impressions] nor [negatives], expected one: [negatives] turns [events] into impressions"
            )
        if self.impressions is not None and self.negatives is not None:
            raise ValueError("[negatives] are for logs without [impressions]; remove one of them")
        if self.impressions is None and self.events is None:
            raise ValueError("neither [impressions] nor [events], expected one")


def read_table_file(raw: Path) -> tuple[Path, TableFile]:
    """Return the path and the checked content of the TOML at `raw`, or of the only TOML in the folder `raw`.

    Raises:
        UserError: there is no such file, it is not TOML, or a key is wrong.
    """
    file = raw
    if raw.is_dir():
        found = sorted(raw.glob("*.toml"))
        if len(found) != 1:
            raise UserError(
                f"{raw}: {len(found)} TOML files, expected one that names the columns; "
                "or give the path of the TOML instead"
            )
        file = found[0]
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{file}: not valid TOML: {error}") from error
    return file, from_document(TableFile, document, str(file))
