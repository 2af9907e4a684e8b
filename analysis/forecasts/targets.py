"""Which rows of a table are runs of a forecast's target: those of its sizes, with the settings of its table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.table import law_columns, require_columns, value_text

__all__ = ["cell_rows", "settings_of"]


# Text that names a run or its size, not a setting that one law may not mix.
_NAMES = ("grade", "signature", "trajectory", "started", "teacher_grade")
# What the model and the data size are, if the law has no variable for them.
_SIZES = ("grade", "n_params", "n_samples", "max_len")
# Sizes that differ by less are the same: a CSV may have rounded them.
_SAME_SIZE = 1e-6


def settings_of(rows: pd.DataFrame, table: pd.DataFrame, sizes: Sequence[str]) -> dict[str, str]:
    """The settings that the rows of one law have in common, by column, as text.

    These are the columns in which variants of the whole table differ, columns of text that are constant in `rows`, and
    sizes that the law does not describe, e.g. the grade of a law of the data size alone.

    Args:
        rows: those that a law is fitted to.
        table: the table that they were chosen from.
        sizes: columns of the law's variables.
    """
    text = [c for c in rows.columns if not pd.api.types.is_numeric_dtype(rows[c])]
    held = [c for c in _SIZES if c in rows.columns and c not in sizes]
    if "n_params" in sizes:
        held = [c for c in held if c == "n_samples"]
    columns = [*law_columns(table, sizes[0]), *(c for c in text if c not in _NAMES), *held]
    values = {column: set(rows[column].map(value_text)) for column in dict.fromkeys(columns)}
    return {str(column): found.pop() for column, found in values.items() if len(found) == 1}


def cell_rows(
    table: pd.DataFrame, target: Mapping[str, float], settings: Mapping[str, str], metric: str
) -> pd.DataFrame:
    """The rows at the target that have the settings and a metric.

    Args:
        table: one row per run; settings that it has no column for are not compared.
        target: size by column.
        settings: value by column, see `settings_of`.
        metric: column that must be finite.

    Raises:
        UserError: a column of a size or the metric is missing.
    """
    require_columns(table, [*target, metric])
    found = np.isfinite(table[metric].astype(float))
    for column, size in target.items():
        found &= np.isclose(table[column].astype(float), size, rtol=_SAME_SIZE, atol=0.0)
    for column, value in settings.items():
        if column in table.columns:
            found &= table[column].map(value_text) == value
    return table[found]
