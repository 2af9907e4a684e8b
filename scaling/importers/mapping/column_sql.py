"""Columns and conditions of a table file's sections as SQL, with a record of which columns are used."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from scaling.errors import UserError, nearest
from scaling.importers.declaration import Check, ListFeature
from scaling.importers.list_cells import weight_check, weighted_cell
from scaling.importers.mapping.file_sections import Condition, ImpressionsSection
from scaling.importers.mapping.table_file import TableFile
from scaling.importers.sql import quoted, text
from scaling.importers.times import seconds

__all__ = [
    "SectionColumns",
    "column_of",
    "condition_sql",
    "feature_sql",
    "filled_sql",
    "given_test_sql",
    "history_sql",
    "label_sql",
    "list_feature",
    "number_sql",
]


# The column with the name of a row's file; no raw column is called so.
FILE_NAME = "%file name"


_SHAPE = {"list?": "list", "numbers?": "list", "cell?": "cell"}
_FAMILY = {
    **dict.fromkeys(("text", "text?"), "text"),
    **dict.fromkeys(("float", "float?"), "number"),
    **dict.fromkeys(("int", "timestamp"), "whole"),
    "list?": "list",
    "numbers?": "numbers",
    "cell?": "cell",
}
# Numbers lose the text of an id (007), and texts are no numbers; other kinds can be read as what the first use needs.
_READ_TWICE = ({"text", "number"}, {"list", "numbers"})


@dataclass(frozen=True)
class SectionColumns:
    """The columns of a section's files.

    Attributes:
        name: name of the section.
        section: the section itself.
        available: all columns of the files.
        first_file: the file, or one of them, for messages.
        file_names: names of all files.
        kinds: kinds of the columns used so far, see `declaration.Table`; `use` adds to it.
        again: columns that are read a second time so far, by the name of the second reading.
        checks: checks of the weights used so far, by feature; `feature_sql` adds to it.
    """

    name: str
    section: Any
    available: tuple[str, ...]
    first_file: str
    file_names: tuple[str, ...]
    kinds: dict[str, str] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)
    checks: dict[str, Check] = field(default_factory=dict)

    def use(self, column: str, kind: str, key: str) -> str:
        """Return the column as SQL, to be read as `kind`; a column that is a text and a number is read twice.

        A number or a text from a time or a label is that of the whole number.

        Raises:
            UserError: there is no such column, or it is also read as a list; the message starts with `key`, the key of the TOML.
        """
        if column not in self.available:
            near = nearest(column, self.available)
            if len(self.available) == 1:
                near = f"; are the columns really separated by {self.section.separator!r}?"
            elif len(self.file_names) > 1 and self.section.absent == "refuse":
                near += (
                    f'; if only some of the files have it, set absent = "empty" in [{self.name}]'
                )
            raise UserError(f"{key}: no column {column!r} in {self.first_file}{near}")
        other = self.kinds.setdefault(column, kind)
        if _SHAPE.get(other) != _SHAPE.get(kind):
            raise UserError(
                f"{key}: column {column!r} of [{self.name}] is also read in another way: once it has several values, once it "
                "is one value; expected one of the two"
            )
        if {_FAMILY[other], _FAMILY[kind]} in _READ_TWICE:
            again = f"%{_FAMILY[kind]} {column}"
            self.kinds.setdefault(again, kind)
            self.again[again] = column
            return quoted(again)
        return quoted(column)

    def use_keys(self) -> "SectionColumns":
        """Use the times, labels and ids first, so that their kinds do not depend on other uses; return these columns."""
        section = self.section
        for key, kind in (("time", ""), ("label", "int"), ("user", "text"), ("item", "text")):
            column = getattr(section, key, None)
            if column is None or (key == "time" and section.is_row_order):
                continue
            of_time = "timestamp" if key == "time" and section.unit == "timestamp" else "int"
            self.use(column, kind or of_time, f"{self.name}.{key}")
        return self


def column_of(spec: TableFile, feature: str) -> str:
    """Return the column of a feature: that of `features.columns`, else the one of its name."""
    return spec.features.columns.get(feature, feature)


def label_sql(columns: SectionColumns, section: ImpressionsSection) -> str:
    """Return the label of `[impressions]` as SQL: its column, or whether its condition holds.

    Raises:
        UserError: there is no such column.
    """
    if section.label is not None:
        return columns.use(section.label, "int", "impressions.label")
    assert section.label_when is not None
    return (
        f"coalesce({condition_sql(columns, section.label_when, 'impressions.label_when')}, false)"
    )


def feature_sql(spec: TableFile, columns: SectionColumns, name: str, key: str) -> str:
    """Return SQL for the values of a feature as texts, or for its cells if it has several values.

    Raises:
        UserError: there is no such column.
    """
    column = column_of(spec, name)
    if name not in spec.lists:
        return f"{columns.use(column, 'text?', key)}::VARCHAR"
    rule = list_feature(spec, name, columns.section.null)
    values = columns.use(column, "cell?", key)
    if not rule.weighted:
        return values
    if rule.weight_separator:
        columns.checks[name] = weight_check(column, values, values, rule)
        return values
    other = spec.lists[name].weights or ""
    weights = columns.use(other, "cell?", f"lists.{name}.weights")
    columns.checks[name] = weight_check(other, values, weights, rule)
    return weighted_cell(values, weights)


def list_feature(spec: TableFile, name: str, nulls: Iterable[str]) -> ListFeature:
    """Return how the cells of the feature in `[lists.NAME]` are split; `nulls` are texts that are no values."""
    own = spec.lists[name]
    return ListFeature(
        own.max_values,
        own.separator,
        own.pooling,
        own.weights is not None or bool(own.weight_separator),
        own.weight_separator,
        tuple(sorted(nulls)),
    )


def number_sql(spec: TableFile, columns: SectionColumns, name: str) -> str:
    """Return SQL for the numeric feature `name`, with its fill value for empty cells.

    Raises:
        UserError: there is no such column.
    """
    kind = "float?" if name in spec.features.fill else "float"
    return filled_sql(spec, name, columns.use(column_of(spec, name), kind, "features.numeric"))


def filled_sql(spec: TableFile, name: str, number: str) -> str:
    """Return SQL for the numeric feature `name` from SQL for its number, with its fill value for empty ones."""
    fill = spec.features.fill.get(name)
    value = number if fill is None else f"coalesce({number}, {fill!r})"
    return f"{value}::DOUBLE AS {quoted(name)}"


def given_test_sql(spec: TableFile, columns: SectionColumns) -> list[str]:
    """Return SQL for whether a row is in the test part, if the log brings its split; else nothing.

    Raises:
        UserError: there is no such column, or a test file is none of the files.
    """
    split = spec.split
    if split.kind == "column":
        given = Condition(column=split.column, equals=split.test or ("test",))
        test = condition_sql(columns, given, "split.column")
    elif split.kind == "file":
        names = [str(name) for name in split.test]
        for name in names:
            if name not in columns.file_names:
                raise UserError(
                    f"split.test: no file {name!r} in [{columns.name}]{nearest(name, columns.file_names)}"
                )
        columns.kinds[FILE_NAME] = "file"
        test = f"{quoted(FILE_NAME)} IN ({', '.join(map(text, names))})"
    else:
        return []
    return [f"coalesce({test}, false) AS __given_test"]


def history_sql(
    spec: TableFile, columns: SectionColumns, time: str
) -> tuple[str, str, list[Check]]:
    """Return SQL for the user of a row and for the events of lists in rows, and the checks of these lists.

    A user of the store is one (user, lists) pair, so that each row has its own lists.

    Raises:
        UserError: there is no such column.
    """
    history = spec.history
    assert history is not None
    lists = {
        name: columns.use(
            column,
            "numbers?" if name in spec.features.behaviour_numeric else "list?",
            f"history.columns.{name}",
        )
        for name, column in history.columns.items()
    }
    if history.time is not None:
        lists["time"] = columns.use(history.time, "numbers?", "history.time")
    user = columns.use(columns.section.user, "text", f"{columns.name}.user")
    # the function leaves out nulls
    filled = [f"list_transform({one}, lambda x: coalesce(x, ''))" for one in lists.values()]
    whole = " || chr(30) || ".join(f"array_to_string({one}, chr(31))" for one in filled)
    first, *others = lists.values()
    key = f"{user}::VARCHAR || CASE WHEN len({first}) = 0 THEN '' ELSE ' ' || md5({whole}) END"
    kept = ", ".join(f"any_value({one}) AS {quoted(f'list {name}')}" for name, one in lists.items())
    entry = {name: f"{quoted(f'list {name}')}[position]" for name in lists}
    n = f"len({quoted(f'list {next(iter(lists))}')})"
    if history.time is not None:
        moment = seconds(f"({entry.pop('time')}::BIGINT)", columns.section.unit)
        moment = f"{columns.section.epoch_seconds(spec.zone)} + {moment}"
    else:
        moment = "first - position" if history.latest_first else f"first - ({n} + 1 - position)"
    numbers = {name: entry[name] for name in spec.features.behaviour_numeric if name in entry}
    entry |= {name: f"TRY_CAST({value} AS DOUBLE)" for name, value in numbers.items()}
    values = ", ".join(f"{value} AS {quoted(name)}" for name, value in entry.items())
    events = (
        f"SELECT user, {moment} AS time, {values} FROM (SELECT *, unnest(generate_series(1, {n})) AS position "
        f"FROM (SELECT {key} AS user, min({time}) AS first, {kept} FROM {columns.name} GROUP BY 1))"
    )
    checks = [
        Check(
            one.strip('"'),
            f"len({one}) = len({first})",
            f"as many entries as {first.strip(chr(34))} (empty and null ones of both are left out)",
        )
        for one in others
    ]
    for name in numbers:
        wrong = f"list_filter({lists[name]}, lambda x: x IS NOT NULL AND NOT coalesce(isfinite(TRY_CAST(x AS FLOAT)), false))"
        checks.append(Check(history.columns[name], f"len({wrong}) = 0", "numbers of 32 bits"))
    if history.time is not None:
        others_than_numbers = f"list_filter({lists['time']}, lambda x: NOT coalesce(regexp_full_match(x, '[0-9]+'), false))"
        checks.append(Check(history.time, f"len({others_than_numbers}) = 0", "whole numbers"))
    return key, events, checks


def condition_sql(columns: SectionColumns, condition: Condition, key: str) -> str:
    """Return a condition as SQL; it is NULL if a bound is compared with a cell that is not a number.

    Raises:
        UserError: there is no such column; the message starts with `key`.
    """
    is_number = condition.at_least is not None or condition.below is not None
    is_text = any(isinstance(option, str) for option in condition.equals or ())
    kind = "float" if is_number else "text?"
    if not is_text and columns.kinds.get(condition.column, "") in (
        "text",
        "text?",
        "float",
        "float?",
    ):
        kind = columns.kinds[condition.column]  # either tells
    column = columns.use(condition.column, kind, key)
    if condition.empty is not None:
        return f"{column} IS {'' if condition.empty else 'NOT '}NULL"
    if condition.at_least is not None:
        return f"TRY_CAST({column} AS DOUBLE) >= {condition.at_least!r}"
    if condition.below is not None:
        return f"TRY_CAST({column} AS DOUBLE) < {condition.below!r}"
    options = condition.equals or ()
    words = [text(option) for option in options if isinstance(option, str)]
    numbers = [repr(option) for option in options if not isinstance(option, str)]
    tests = [f"{column}::VARCHAR IN ({', '.join(words)})"] if words else []
    tests += [f"TRY_CAST({column} AS DOUBLE) IN ({', '.join(numbers)})"] if numbers else []
    return f"({' OR '.join(tests) or 'false'})"
