"""Columns and conditions of a table file's sections as SQL, with a record of which columns are used."""

from dataclasses import dataclass, field
from typing import Any

from scaling.errors import UserError, nearest
from scaling.importers.datasets.column_mapping import Condition, ImpressionsSection, TableFile
from scaling.importers.sql import quoted, text

__all__ = ["SectionColumns", "column_of", "condition_sql", "label_sql", "number_sql"]


@dataclass(frozen=True)
class SectionColumns:
    """The columns of a section's files.

    Attributes:
        name: name of the section.
        section: the section itself.
        available: all columns of the files.
        kinds: kinds of the columns used so far, see `declaration.Table`; `use` adds to it.
    """

    name: str
    section: Any
    available: tuple[str, ...]
    kinds: dict[str, str] = field(default_factory=dict)

    def use(self, column: str, kind: str, key: str) -> str:
        """Return the column as SQL, to be read as `kind` unless an earlier use set another kind.

        Raises:
            UserError: there is no such column; the message starts with `key`, the key of the TOML.
        """
        if column not in self.available:
            near = nearest(column, self.available)
            if len(self.available) == 1:
                near = f"; are the columns really separated by {self.section.separator!r}?"
            raise UserError(f"{key}: no column {column!r} in {self.section.files[0]}{near}")
        self.kinds.setdefault(column, kind)
        return quoted(column)


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


def number_sql(spec: TableFile, columns: SectionColumns, name: str) -> str:
    """Return SQL for the numeric feature `name`, with its fill value for empty cells.

    Raises:
        UserError: there is no such column.
    """
    fill = spec.features.fill.get(name)
    kind = "float" if fill is None else "float?"
    column = columns.use(column_of(spec, name), kind, "features.numeric")
    value = column if fill is None else f"coalesce({column}, {fill!r})"
    return f"{value}::DOUBLE AS {quoted(name)}"


def condition_sql(columns: SectionColumns, condition: Condition, key: str) -> str:
    """Return a condition as SQL; it is NULL if a bound is compared with a cell that is not a number.

    Raises:
        UserError: there is no such column; the message starts with `key`.
    """
    is_number = condition.at_least is not None or condition.below is not None
    column = columns.use(condition.column, "float" if is_number else "text?", key)
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
