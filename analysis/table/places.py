"""Where a value of a table stands, for messages: file, line and column, as far as they are known."""

from collections.abc import Hashable

import pandas as pd

__all__ = ["HEADER", "LINE", "SOURCE", "header_of", "is_foreign", "place_of", "source_of"]


# Name of an index that holds the line numbers of a file, and the keys of `attrs` that hold the file's name and the line of its
# header.
LINE = "line"
SOURCE = "source"
HEADER = "header"


def source_of(table: pd.DataFrame) -> str:
    """The file that a table was read from; `table` for any other."""
    return str(table.attrs.get(SOURCE, "table"))


def header_of(table: pd.DataFrame) -> str:
    """The place of the names of the columns: `runs.csv: line 1`; `table` for a table that is of no file."""
    line = table.attrs.get(HEADER)
    return source_of(table) if line is None else f"{source_of(table)}: line {line}"


def place_of(table: pd.DataFrame, row: Hashable) -> str:
    """The place of a row, by its label in the index: `line 7` of a file, `row 5` of any other table."""
    return f"{LINE if table.index.name == LINE else 'row'} {row}"


def is_foreign(table: pd.DataFrame) -> bool:
    """Whether a table is not of our runs, whose columns mean what `RUN_COLUMNS` says."""
    return "signature" not in table.columns
