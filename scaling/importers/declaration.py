"""What an importer declares: raw tables, the rows made from them, features and split, as one frozen value `Log`.

A `Log` is only data; `scaling.importers.pipeline.importing` does the work. Conditions and SELECTs are DuckDB SQL,
with the column names of the files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = [
    "Check",
    "EventNumber",
    "GivenSplit",
    "ListFeature",
    "Log",
    "Negatives",
    "Rows",
    "Table",
    "TimeSplit",
    "UserSplit",
]


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
        files: names or globs in the raw folder; each file may be plain, `.gz`, `.zst` or Parquet. A folder `key=value` on the
            way to a file is a column `key` of it.
        columns: kind of each column: "int", "float", "text", "timestamp", "list" or "numbers" (a list of numbers), followed by "?" if a cell may be
            null (see `pipeline/cell_parsing.py`); "cell?" is the cell of a `ListFeature`. Without a header, all columns in their order; with a
            header, only those that are used. A timestamp is read as unix seconds. The kind "file" stands for the name
            of the file instead of a column, "row" for the number of the row in all files, from 0.
        again: entries of `columns` that read a column a second time, as another kind, with the name of that column.
        separator: text between two fields, one to four bytes.
        list_separator: text between two entries of a list in a text; brackets and quotes around lists and entries are left out.
        explode: columns whose cells are lists of equal lengths; each entry is a row.
        header: whether the first line names the columns.
        quote: the quoting character, or "" if quotes are ordinary text.
        escape: the character before a quote within quotes; "": the quote itself, doubled.
        nulls: texts that are read as null, beside the empty one.
        suspects: texts that are reported where they are values, because other programs write them for empty cells.
        several: how the cells of a `ListFeature` are split, by column; their values may be suspects, too.
        single: columns that are reported if many cells look like lists, with the name of their feature.
        absent_are_empty: whether a column that a file lacks is read as null.
        encoding: "utf-8" or "latin-1".
        checks: conditions on every row that is not dropped.
        drop: SQL condition by reason; a row is dropped for the first condition that holds, before its cells are checked.
        key: columns whose values together must be unique.
        drop_repeats: drop rows that repeat another in every column of `columns` (reason "repeated").
        user: SQL of whose row it is, in a table with rows of users: a person whose rows in all tables give the same text. A sharded
            import keeps the rows of a person together; a table without it is read whole for every shard.
        zone: IANA name of the time zone of timestamps without one.
        time_format: format of timestamps in text or as whole numbers, as for `strptime`; "" means ISO 8601.
    """

    files: tuple[str, ...]
    columns: Mapping[str, str]
    separator: str = ","
    list_separator: str = ","
    explode: tuple[str, ...] = ()
    header: bool = True
    quote: str = '"'
    escape: str = ""
    nulls: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    several: Mapping[str, "ListFeature"] = field(default_factory=dict)
    single: Mapping[str, str] = field(default_factory=dict)
    again: Mapping[str, str] = field(default_factory=dict)
    absent_are_empty: bool = False
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    checks: tuple[Check, ...] = ()
    drop: Mapping[str, str] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    drop_repeats: bool = False
    user: str = ""
    zone: str = "UTC"
    time_format: str = ""

    @property
    def has_row_numbers(self) -> bool:
        """Whether the order of the files and of their rows matters."""
        return "row" in self.columns.values()


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
class GivenSplit:
    """A split that the log brings: the impressions have a column `__given_test`, a boolean.

    If all training times lie before all test times, it becomes a split by time. Events of other rows than the
    impressions are in the training part before the first test impression.
    """


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
class ListFeature:
    """A feature with several values per cell; its cells are texts, see `scaling.importers.list_cells`.

    Attributes:
        max_values: the most values that a cell keeps: the first distinct ones.
        separator: text between two entries; brackets and quotes around lists and entries are left out, and JSON is
            read as such.
        pooling: a model takes the mean or the sum of the values' embeddings.
        weighted: whether each value has a weight.
        weight_separator: text between an entry's value and its weight; "": the cells are those of
            `list_cells.weighted_cell`.
        nulls: texts that are no values.
    """

    max_values: int
    separator: str = ","
    pooling: Literal["mean", "sum"] = "mean"
    weighted: bool = False
    weight_separator: str = ""
    nulls: tuple[str, ...] = ()


class EventNumber(NamedTuple):
    """A number of each event, standardised over the events of the training part.

    Attributes:
        fill: what a missing number is; None: missing.
        of_candidate: whether a candidate has the same number.
    """

    fill: float | None = None
    of_candidate: bool = False


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
        items: SELECT of `item` and features, one row per item. It may depend on no repeats that `drop_repeats` drops.
        items_of_rows: whether `items` only sums up the rows of each item, for drawn ones; rows have features of their own.
        whole: SELECTs of a few rows that depend on rows of all users, under the names by which the SELECTs of rows find them; as
            independent of repeats as `items`. Those of rows, events and users may otherwise relate only rows of the same person.
        behaviour, candidate, context, profile: names of features, in the order in which a model reads them.
        numeric: names of numeric columns of the impressions, which must be finite and not NULL.
        numeric_hints: what to do about an empty number, for the error message, by name.
        lists: features with several values per cell, by name.
        event_numeric: numeric columns of the events, finite or NULL, by name.
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
    split: TimeSplit | UserSplit | GivenSplit
    behaviour: tuple[str, ...]
    candidate: tuple[str, ...]
    events: Rows | None = None
    users: str | None = None
    items: str | None = None
    items_of_rows: bool = False
    whole: Mapping[str, str] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    numeric_hints: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, ListFeature] = field(default_factory=dict)
    event_numeric: Mapping[str, EventNumber] = field(default_factory=dict)
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
