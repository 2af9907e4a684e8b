"""What an importer declares: raw tables, the rows made from them, features and split, as one frozen value `Log`.

A `Log` is only data; `scaling.importers.pipeline.importing` does the work. Conditions and SELECTs are DuckDB SQL,
with the column names of the files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = ["Check", "Log", "Negatives", "Rows", "Table", "TimeSplit", "UserSplit"]


class Check(NamedTuple):
    """A condition on every row that is not dropped; the first row that breaks it stops the import.

    Attributes:
        column: the column that the error message names.
        holds: SQL condition; NULL counts as broken.
        expected: the end of the error message, e.g. "a rating of 1 to 5".
    """

    column: str
    holds: str
    expected: str


@dataclass(frozen=True)
class Table:
    """Raw files of one layout.

    Attributes:
        files: names or globs in the raw folder; each file may be plain, `.gz`, `.zst` or `.parquet`.
        columns: kind of each column: "int", "float", "text" or "timestamp", followed by "?" if a cell may be
            null (see `pipeline/cell_parsing.py`). Without a header, all columns in their order; with a
            header, only those that are used. A timestamp is read as unix seconds. The kind "file" stands for the name
            of the file instead of a column.
        separator: text between two fields, one to four bytes.
        header: whether the first line names the columns.
        quote: the quoting character, or "" if quotes are ordinary text.
        encoding: "utf-8" or "latin-1".
        checks: conditions on every row that is not dropped.
        drop: SQL condition by reason; a row is dropped for the first condition that holds, before the checks.
        key: columns whose values together must be unique.
        drop_repeats: drop rows that repeat another in every column of `columns` (reason "repeated").
        zone: IANA name of the time zone of timestamps without one.
        time_format: format of timestamps in text, as for `strptime`; "" means ISO 8601.
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
        select: a SELECT from the tables, by their names in `Log.tables`.
        drop: SQL condition on the columns of `select`, by reason.
    """

    select: str
    drop: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TimeSplit:
    """A split by time: the test part starts at `boundary` (unix seconds), or is the latest `test_fraction`.

    The fraction is that of the impressions. All impressions in the second of the boundary are in the test part.
    """

    test_fraction: float | None = None
    boundary: int | None = None


@dataclass(frozen=True)
class UserSplit:
    """A split by user: the test part has the users whose md5 of `seed:person` is in the lowest `test_fraction`.

    `person` is `Log.person`.
    """

    test_fraction: float
    seed: int = 0


@dataclass(frozen=True)
class Negatives:
    """Negatives drawn for each impression of a log that has only clicks or purchases.

    A draw depends only on (seed, user, time, item, number of the draw). Items are drawn from the same part, so that an
    item's id reveals almost nothing about its label. A drawn item that the user took in the same second is dropped.

    Attributes:
        per_positive: number of draws for each impression.
        draw: "popularity" draws an item in proportion to its frequency in the part, "uniform" draws all alike.
        seed: seed of the draws.
    """

    per_positive: int = 4
    draw: Literal["popularity", "uniform"] = "popularity"
    seed: int = 0


@dataclass(frozen=True)
class Log:
    """A data set as the pipeline needs it.

    A feature is the column of that name in the impressions or events, or else in `items`, joined by `item`. A profile
    feature is a column of `users`. A feature's ids come from the vocabulary of the same name.

    Attributes:
        tables: raw tables by name.
        impressions: `user`, `time` (unix seconds), `label` (0 or 1; absent with `negatives`) and features.
        events: `user`, `time` and features; None means that every impression is an event of later histories.
        users: SELECT of `user` and the profile features, one row per user; features of other users are unknown.
        items: SELECT of `item` and features, one row per item.
        behaviour, candidate, context, profile: names of features, in the order in which a model reads them.
        numeric: names of numeric columns of the impressions, which must be finite and not NULL.
        vocabularies: vocabulary of each feature whose vocabulary has another name; features with the same
            vocabulary share ids.
        min_count: number of training rows in which a value must occur to have its own id.
        hashed: number of buckets by vocabulary, for an unbounded set of values: an id is the md5 of the value.
        split: how the test part is made.
        own_lists: whether a user's events came as lists in the rows of the impressions. They are then in the training
            part if one of the user's impressions is, whatever their times.
        person: SQL of the person behind a `user`, if one person has several; a split by user keeps all of them in one
            part.
        utc_offset_seconds: seconds from UTC in the log's own time zone, for readers of the store.
        negatives: how negatives are drawn, if the log has no impressions.
        facts: further entries of the store's `source`.
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
        """Return the name of the feature's vocabulary."""
        return self.vocabularies.get(feature, feature)
