"""What an importer declares: raw tables, the rows made from them, features and split, as one frozen value.

Everything is data: `scaling.importers.pipeline.importing` does the work. Expressions are DuckDB's SQL, over the
columns named as in the files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = ["Check", "Log", "Negatives", "Rows", "Table", "TimeSplit", "UserSplit"]


class Check(NamedTuple):
    """What must hold of every row that is kept; the first that breaks it ends the import, told by file and line.

    Attributes:
        column: the column to name in the message.
        holds: SQL condition; unknown (NULL) counts as broken.
        expected: how the message ends, e.g. "a rating of 1 to 5".
    """

    column: str
    holds: str
    expected: str


@dataclass(frozen=True)
class Table:
    """Raw files of one layout.

    Attributes:
        files: names or globs in the raw folder, each plain, `.gz` or `.zst`; `.parquet` is read as such.
        columns: column to kind: "int", "float", "text" or "timestamp", with "?" at the end if a cell may be
            empty (then NULL). All columns in their order where there is no header; else those that are used.
            A timestamp is read as unix seconds. Kind "file" is no column of the file, but its name.
        separator: between fields, one to four bytes.
        header: whether the first line names the columns.
        quote: the quoting character, or "" where quotes are ordinary text.
        encoding: "utf-8" or "latin-1".
        checks: what every row that is kept must fulfil.
        drop: reason to SQL condition; a row is dropped for the first that holds, before the checks.
        key: columns that no two rows may share.
        drop_repeats: drop rows that repeat another in every column above (reason "repeated").
        zone: IANA name of the zone of timestamps that name none.
        time_format: of timestamps in text, as for `strptime`; "" is ISO 8601.
    """

    files: tuple[str, ...]
    columns: Mapping[str, str]
    separator: str = ","
    header: bool = True
    quote: str = '"'
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    checks: tuple[Check, ...] = ()
    drop: Mapping[str, str] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    drop_repeats: bool = False
    zone: str = "UTC"
    time_format: str = ""


@dataclass(frozen=True)
class Rows:
    """Rows made from tables.

    Attributes:
        select: a SELECT over the tables, by their names in `Log.tables`.
        drop: reason to SQL condition over the columns of `select`.
    """

    select: str
    drop: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TimeSplit:
    """The test part begins at `boundary` (unix seconds), or holds the last `test_fraction` of the impressions.

    All impressions of the boundary's second are in the test part.
    """

    test_fraction: float | None = None
    boundary: int | None = None


@dataclass(frozen=True)
class UserSplit:
    """The users whose md5 of `seed:person` is in the lowest `test_fraction` are the test part (`Log.person`)."""

    test_fraction: float
    seed: int = 0


@dataclass(frozen=True)
class Negatives:
    """Items drawn beside each impression of a log that holds clicks or purchases only.

    Draws depend on (seed, user, time, item, number of the draw) alone, and are from the items of the same part, so
    that an item's id tells next to nothing about its label. One that the user took at the same second is dropped.

    Attributes:
        per_positive: draws for each impression.
        draw: "popularity" draws items as often as the part holds them, "uniform" each alike.
        seed: of the draws.
    """

    per_positive: int = 4
    draw: Literal["popularity", "uniform"] = "popularity"
    seed: int = 0


@dataclass(frozen=True)
class Log:
    """A data set for the pipeline.

    A feature's values are the column of that name of the impressions or events, else of `items`, which is joined by
    `item`; a profile feature's those of `users`. The ids are those of the vocabulary of the same name.

    Attributes:
        tables: raw tables by name.
        impressions: gives `user`, `time` (unix seconds), `label` (0 or 1; none with `negatives`) and features.
        events: gives `user`, `time` and features; None: every impression is an event of later histories.
        users: SELECT of `user` and profile features, one row for each user; unknown where a user has none.
        items: SELECT of `item` and features, one row for each item.
        behaviour, candidate, context, profile: names of features, in the order a model reads them.
        numeric: names of number columns of the impressions; finite, never NULL.
        vocabularies: feature to vocabulary where the names differ: features of one vocabulary share ids.
        min_count: rows of the training part in which a value must occur to have an id of its own.
        hashed: vocabulary to number of buckets, for ids without bound: md5 of the value instead of a list.
        split: how the test part is made.
        own_lists: whether a user's events came as lists in the impressions' own rows; then they are of the training
            part if one of his impressions is, whatever their times.
        person: SQL over `user`: who it is, where one has several; all of a person are in one part of a split by user.
        utc_offset_seconds: of the log's own zone, for readers of the store.
        negatives: how to draw them where a log has no impressions.
        facts: further entries of the store's source.
    """

    tables: Mapping[str, Table]
    impressions: Rows
    split: TimeSplit | UserSplit
    behaviour: tuple[str, ...]
    candidate: tuple[str, ...]
    events: Rows | None = None
    users: str | None = None
    items: str | None = None
    context: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    vocabularies: Mapping[str, str] = field(default_factory=dict)
    min_count: int = 1
    hashed: Mapping[str, int] = field(default_factory=dict)
    own_lists: bool = False
    person: str = "user"
    utc_offset_seconds: int = 0
    negatives: Negatives | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def vocabulary(self, feature: str) -> str:
        """Return the vocabulary that the feature's ids belong to."""
        return self.vocabularies.get(feature, feature)
