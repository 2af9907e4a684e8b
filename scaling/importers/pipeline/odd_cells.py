"""Cells that are values, but that their author may have meant otherwise: texts for empty cells, and lists. They are reported."""

import json
import logging
from collections.abc import Mapping

from scaling.importers.declaration import Table
from scaling.importers.list_cells import cell_values, is_value
from scaling.importers.pipeline.engine import Engine
from scaling.importers.sql import quoted, text

__all__ = ["count_listed", "count_suspects", "report_listed", "report_suspects"]


logger = logging.getLogger(__name__)
# A column of which more than this share look like lists probably holds some.
_MANY_LISTS = 0.1


def count_suspects(engine: Engine, name: str, table: Table) -> dict[str, dict[str, int]]:
    """Count the cells that are a text in `Table.suspects`, or have it as one of several values, by column."""
    texts = [
        column
        for column, kind in table.columns.items()
        if kind.startswith("text") or column in table.several
    ]
    tests = [
        f"count(*) FILTER ({_is_suspect(table, column, suspect)})"
        for column in texts
        for suspect in table.suspects
    ]
    if not tests:
        return {}
    (counts,) = engine.rows(f"SELECT {', '.join(tests)} FROM {quoted(name)}")
    n = len(table.suspects)
    found = {}
    for number, column in enumerate(texts):
        cells = zip(table.suspects, counts[number * n : (number + 1) * n], strict=True)
        found[table.again.get(column, column)] = {
            suspect: count for suspect, count in cells if count
        }
    return found


def _is_suspect(table: Table, column: str, suspect: str) -> str:
    """SQL for whether a cell is a suspect, or has it as a value."""
    cell, wanted = quoted(column), text(suspect)
    if column not in table.several:
        return f"{cell} = {wanted}"
    rule = table.several[column]
    has = f"list_contains({cell_values(cell, rule)}, {wanted}) AND {is_value(wanted, rule)}"
    # splitting takes several times as long as looking for the text
    return f"CASE WHEN contains({cell}, {wanted}) THEN {has} ELSE false END"


def report_suspects(name: str, table: Table, found: Mapping[str, Mapping[str, int]]) -> None:
    """Report what `count_suspects` has found."""
    for column, counts in found.items():
        if counts:
            which = "cells with the value" if column in table.several else "cells"
            shown = ", ".join(f"{count:,} {which} {suspect!r}" for suspect, count in counts.items())
            logger.warning(
                "%s: column %r has %s, which are read as values; if they are empty, set null = %s in [%s]",
                *(name, column, shown, json.dumps(list(counts)), name),
            )


def count_listed(engine: Engine, name: str, table: Table) -> dict[str, tuple[int, int, str]]:
    """Return for each column in `Table.single` how many cells look like lists, how many are filled, and an example."""
    if not table.single:
        return {}
    tests = []
    for column in map(quoted, table.single):
        cell = f"{column}::VARCHAR"
        listed = rf"(contains({cell}, '|') OR regexp_full_match({cell}, '\[.*,.*\]'))"
        tests += [
            f"count(*) FILTER ({listed})",
            f"count({column})",
            f"min({cell}) FILTER ({listed})",
        ]
    (found,) = engine.rows(f"SELECT {', '.join(tests)} FROM {quoted(name)}")
    return {column: found[3 * i : 3 * i + 3] for i, column in enumerate(table.single)}


def report_listed(name: str, table: Table, found: Mapping[str, tuple[int, int, str]]) -> None:
    """Report what `count_listed` has found, where it is more than some cells."""
    for column, (n_lists, n, example) in found.items():
        if n_lists > _MANY_LISTS * n:
            separator = "|" if "|" in example else ","
            logger.warning(
                "%s: %s of %s cells in column %r look like lists, such as %r, and are read as one category each; if they are "
                'lists, add [lists.%s] with separator = "%s" and max_values',
                *(name, f"{n_lists:,}", f"{n:,}", column, example, table.single[column], separator),
            )
