"""The values that a column of a known name can have: FLOPs, losses and AUCs."""

import numpy as np
import pandas as pd

from analysis.table.places import place_of, source_of
from scaling.errors import UserError

__all__ = ["check_values"]


_FLOPS = ("flops", "computed_flops", "flops_per_sample")
_LOSSES = ("logloss", "soft_logloss", "excess_logloss", "bayes_logloss")
_AUCS = ("auc", "soft_auc", "bayes_auc")


def check_values(table: pd.DataFrame) -> None:
    """Check the columns whose names say what they hold; missing values pass.

    FLOPs are positive, logloss (nats) is not negative, AUC is from 0 to 1 or, in percent, to 100. Sizes are checked where a law takes them.

    Raises:
        UserError: a value is impossible; the message names the file, the line, the column and what is expected.
    """
    for column in table.columns:
        if column not in (*_FLOPS, *_LOSSES, *_AUCS):
            continue
        if not pd.api.types.is_numeric_dtype(table[column]):
            continue  # `require_columns` names the cell if a law takes the column
        values = table[column].to_numpy(dtype=float)
        if column in _FLOPS:
            wrong, expected = values <= 0, "a positive number of FLOPs"
        elif column in _LOSSES:
            wrong, expected = values < 0, "a loss of at least 0"
        else:
            wrong, expected = (values < 0) | (values > 100), "an AUC from 0 to 1, or in percent"
        if wrong.any():
            first = int(np.argmax(wrong))
            raise UserError(
                f"{source_of(table)}: {place_of(table, table.index[first])}, column {column}: {values[first]:g}, "
                f"expected {expected}"
            )
