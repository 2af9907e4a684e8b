"""The law that a verb fits if the caller names none, by the sizes that the table has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaling.cli.fit_inputs.sources import choices
from scaling.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["law_of_table", "need_both"]


# The columns of sizes if the caller names none.
_X, _DATA = "n_params", "n_samples"


def law_of_table(
    law: str | None, table: pd.DataFrame, x: str, data: str, metrics: Sequence[str] | None = None
) -> tuple[str, str]:
    """The name of the law, and the column of its first size.

    Without a name it is the additive law, or for a table with one size only the saturating law of that size. A law of one
    size takes the data size if the table has no model size.

    Args:
        law: as named by the caller, or None.
        table: one row per run.
        x: column of the model's size.
        data: column of the data size.
        metrics: columns that the caller names as metrics.

    Raises:
        UserError: no law is named, one size is missing, and another column may be it.
    """
    from analysis.laws import build_law
    from analysis.table import possible_sizes

    there = [name for name in dict.fromkeys((x, data)) if name in table.columns]
    if law is not None:
        single = build_law(law).variables == ("x",)
        return law, data if single and there == [data] and x == _X else x
    # a column that the caller names must be there
    if x == data or (not (there == [x] and data == _DATA) and not (there == [data] and x == _X)):
        return "additive", x
    others = possible_sizes(table, [there[0], *(metrics or ())])
    if not others:
        return "saturating", there[0]
    missing, option = (data, "--data") if there == [x] else (x, "--x")
    raise _missing(
        table,
        missing,
        others,
        f"name it with {option}, or fit a law of {there[0]} alone with --law saturating",
    )


def need_both(table: pd.DataFrame, x: str, data: str, why: str) -> None:
    """Check that a table has both sizes, for a verb that cannot do with one.

    Raises:
        UserError: it has one of them only; the text says why both are needed.
    """
    from analysis.table import possible_sizes

    there = [name for name in (x, data) if name in table.columns]
    if len(there) == 1:
        missing, option = (data, "--data") if there == [x] else (x, "--x")
        others = possible_sizes(table, there)
        raise _missing(table, missing, others, f"{why}: name it with {option}")


def _missing(table: pd.DataFrame, name: str, others: Sequence[str], what: str) -> UserError:
    from analysis.table import header_of

    hint = choices(name, others) if others else ""
    return UserError(f"{header_of(table)}: no column {name}{hint}; {what}")
