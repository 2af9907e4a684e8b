"""Messages for columns that a table lacks: its file and line, the nearest names, and the option that names another column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaling.cli.fit_inputs.sources import choices
from scaling.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_settings", "check_size_columns", "missing_metric", "missing_size"]


# The option for a size by its place in a law, and for those of three sizes by the default column.
_BY_PLACE = ("--x", "--data")
_BY_NAME = {"max_len": "--length", "epochs": "--epochs", "n_embedding_params": "--embeddings"}
# Parts of names that people give to columns of sizes.
_WORDS = {
    "--x": ("param", "size", "model", "width", "flops"),
    "--data": ("sample", "impression", "example", "token", "data", "event", "row"),
}


def check_size_columns(table: pd.DataFrame, sizes: Sequence[str]) -> None:
    """Check that the columns of a law's sizes are there.

    Raises:
        UserError: one is not; the message names the option with which another column takes its place.
    """
    missing = {
        column: _BY_NAME.get(column, _BY_PLACE[place] if place < len(_BY_PLACE) else "")
        for place, column in enumerate(sizes)
        if column not in table.columns
    }
    if len(missing) > 1:
        raise _missing_sizes(table, missing)
    for column, option in missing.items():
        raise missing_size(table, column, option)


def check_settings(table: pd.DataFrame, settings: Sequence[str]) -> None:
    """Check that the columns of `--best-of` are there.

    Raises:
        UserError: one is not.
    """
    from analysis.table import header_of

    for name in settings:
        if name not in table.columns:
            hint = choices(name, (str(column) for column in table.columns))
            raise UserError(f"{header_of(table)}: --best-of {name}: no column {name}{hint}")


def missing_size(table: pd.DataFrame, column: str, option: str) -> UserError:
    """The error for a column of sizes that is not there, which `option` names."""
    from analysis.table import header_of

    hint = choices(column, (str(name) for name in table.columns))
    guess = _guesses(table).get(option)
    example = f", e.g. {option} {guess}" if guess and "did you mean" not in hint else ""
    advice = f"; name it with {option}{example}" if option else ""
    return UserError(f"{header_of(table)}: no column {column}{hint}{advice}")


def _missing_sizes(table: pd.DataFrame, options: dict[str, str]) -> UserError:
    """The error for several columns of sizes that are not there, with the option of each: one message for all."""
    from analysis.table import header_of

    guesses = _guesses(table)
    named = [f"{one} {guesses[one]}" if one in guesses else one for one in options.values() if one]
    names = choices("", (str(name) for name in table.columns)).removeprefix(", expected one of: ")
    return UserError(
        f"{header_of(table)}: no columns {' and '.join(options)}; name them with {' '.join(named)}; the columns are {names}"
    )


def missing_metric(table: pd.DataFrame) -> UserError:
    """The error for a table that has neither logloss nor AUC."""
    from analysis.table import header_of

    guesses = _guesses(table)
    for option, column in (("--x", "n_params"), ("--data", "n_samples")):
        if column in table.columns:
            guesses.pop(option, None)
    example = " ".join(f"{option} {name}" for option, name in guesses.items())
    names = choices("", (str(name) for name in table.columns))
    known = names.removeprefix(", expected one of: ")
    what = f"e.g. {example}; the columns are {known}" if "--y" in guesses else f"one of {known}"
    return UserError(
        f"{header_of(table)}: no column logloss or auc; name the metric with --y, {what}"
    )


def _guesses(table: pd.DataFrame) -> dict[str, str]:
    """The column that each option may mean, by the names of the columns."""
    import pandas as pd

    from analysis.table import direction, possible_sizes
    from scaling.metrics import is_stderr

    found: dict[str, str] = {}
    sizes = possible_sizes(table, [])
    for option, words in _WORDS.items():
        named = [
            name
            for name in sizes
            if name not in found.values() and any(word in name.lower() for word in words)
        ]
        if named:
            found[option] = named[0]
    metrics = [
        name
        for name in map(str, table.columns)
        if direction(name) is not None
        and not is_stderr(name)
        and pd.api.types.is_numeric_dtype(table[name])
    ]
    if metrics:
        found["--y"] = metrics[0]
    return found
