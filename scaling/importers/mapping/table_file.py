"""The TOML of `scaling data import table`: its sections and keys, which name the files and their columns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scaling.documents import read_toml
from scaling.errors import UserError
from scaling.importers.mapping.file_sections import (
    Condition,
    EventsSection,
    ImpressionsSection,
    ItemsSection,
    UsersSection,
)
from scaling.strict_values import from_document

__all__ = ["TableFile", "read_table_file"]


MOST_BUCKETS = 2**32 - 2  # ids have 32 bits, and two ids are reserved
FLOAT32_MAX = 3.4028234663852886e38
MOST_VALUES = 256


@dataclass(frozen=True, kw_only=True)
class HistorySection:
    """`[history]`: behaviours that come as lists in the rows of the impressions, in place of `[events]`.

    Attributes:
        columns: the column with the list of each behaviour feature; those of `[items]` follow from the list of `item`.
        separator: text between two entries of a list that is a text; Parquet's own lists need none.
        time: column with the list of times, in the unit of the impressions; without it the entries are in order.
        latest_first: whether the first entry is the latest.
    """

    columns: dict[str, str]
    separator: str = ","
    time: str | None = None
    latest_first: bool = False

    def __post_init__(self) -> None:
        """Refuse histories of nothing, and settings that contradict each other."""
        if not self.columns:
            raise ValueError("columns: empty, expected the column of each behaviour feature")
        if not self.separator:
            raise ValueError("separator is empty, expected the text between two entries")
        if self.time is not None and self.latest_first:
            raise ValueError("latest_first: the times tell the order; expected one of the two")


@dataclass(frozen=True, kw_only=True)
class ListSection:
    """`[lists.NAME]`: the feature NAME has several values in each cell.

    Attributes:
        max_values: the most values of a cell that are kept: the first distinct ones.
        separator: text between two entries of a text; Parquet's own lists need none.
        pooling: a model takes the "mean" or the "sum" of the values.
        weights: column with a number for each value, as lists like those of the values.
        weight_separator: text between a value and its weight, if both stand in one entry, e.g. ":" for `rock:0.7|pop:0.2`.
    """

    max_values: int
    separator: str = ","
    pooling: Literal["mean", "sum"] = "mean"
    weights: str | None = None
    weight_separator: str = ""

    def __post_init__(self) -> None:
        """Refuse lists that a store cannot hold or that cannot be split."""
        if not 2 <= self.max_values <= MOST_VALUES:
            raise ValueError(f"max_values is {self.max_values}, expected 2 to {MOST_VALUES}")
        if not self.separator:
            raise ValueError("separator is empty, expected the text between two entries")
        if self.weights is not None and self.weight_separator:
            raise ValueError("weights and weight_separator: expected one of them")
        if self.weight_separator == self.separator:
            raise ValueError(
                f"weight_separator is {self.separator!r}, which also separates entries"
            )


@dataclass(frozen=True, kw_only=True)
class FeaturesSection:
    """`[features]`: feature names by role; each is a column of the impressions or events, else of the items or users.

    `hour` and `weekday` are computed from the time, unless there is a column of that name.

    Attributes:
        columns: column of each feature whose column has another name.
        numeric: numbers of impressions, or of the items and users joined to them.
        behaviour_numeric: numbers of events, or of the items joined to them; candidates have those of items and those in `numeric`, too.
        fill: number that replaces empty cells, by numeric feature.
        vocabularies: vocabulary of each feature whose vocabulary has another name; features with the same
            vocabulary share ids.
    """

    behaviour: tuple[str, ...]
    candidate: tuple[str, ...]
    context: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    behaviour_numeric: tuple[str, ...] = ()
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
    """`[split]`: the same settings as the options of the other importers, or the split that the log brings.

    Attributes:
        kind: `time`, `user`, `column` (test rows have one of the values `test` in `column`) or `file` (test rows are in the files
            with the names `test`).
        column: for `column`.
        test: values, by default "test", or names of files; for `column` and `file`.
    """

    kind: Literal["time", "user", "column", "file"] = "time"
    test_fraction: float = 0.2
    test_from: str = ""
    seed: int = 0
    column: str = ""
    test: tuple[str | int | float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a split that the log brings without its column or values, and these with another split."""
        if (self.kind == "column") != bool(self.column):
            raise ValueError('column: needed for kind = "column", and for no other')
        if self.kind == "file" and not self.test:
            raise ValueError('test: the names of the test files are needed for kind = "file"')
        if self.test and self.kind not in ("column", "file"):
            raise ValueError(
                f'test: expected with kind = "column" or "file" only, not "{self.kind}"'
            )


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
    history: HistorySection | None = None
    users: UsersSection | None = None
    items: ItemsSection | None = None
    lists: dict[str, ListSection] = field(default_factory=dict)
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
        if self.history is not None:
            self._check_history(self.history)
        sections = [one for one in (self.impressions, self.events) if one is not None]
        if len(sections) == 2 and any(one.is_row_order for one in sections):
            raise ValueError(
                'time = "row order": the rows of [impressions] and [events] have no common order; give both a time, or leave out '
                "[events]"
            )
        clockless = [name for name in ("hour", "weekday") if name in self.features.context]
        if sections[0].is_row_order and set(clockless) - set(self.features.columns):
            raise ValueError(
                f'features.context: {clockless[0]} comes from the time, but time = "row order" is no clock; remove it'
            )

    def _check_history(self, history: HistorySection) -> None:
        if self.impressions is None or self.events is not None:
            raise ValueError("[history] is a part of [impressions], in place of [events]")
        if self.impressions.explode:
            raise ValueError("[history] and impressions.explode: expected one of them")
        if history.time is not None and self.impressions.unit == "timestamp":
            raise ValueError("history.time: expected numbers; lists of dates are not read")
        if history.time is not None and self.impressions.is_row_order:
            raise ValueError(
                'history.time: rows in order (time = "row order") have no clock to compare it with'
            )
        for name in history.columns:
            if name not in (*self.features.behaviour, *self.features.behaviour_numeric):
                raise ValueError(f"history.columns.{name}: no behaviour feature has this name")
            if name in self.lists:
                raise ValueError(
                    f"history.columns.{name}: each entry is one value; remove [lists.{name}], or join the feature by item"
                )


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
        document = read_toml(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{file}: not valid TOML: {error}") from error
    return file, from_document(TableFile, document, str(file))
