"""Settings that differ between rows of equal sizes, such as a swept learning rate, and the best of them in each cell.

A fit takes rows of equal sizes for seeds: it would call the effect of such settings noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.table.collect import RUN_COLUMNS, TEACHER_COLUMNS
from analysis.table.directions import direction
from analysis.table.places import header_of, source_of
from scaling.errors import UserError, nearest
from scaling.metrics import is_stderr

__all__ = ["SETTINGS", "BestSettings", "best_settings", "differing_settings", "possible_sizes"]


# Known columns of settings that a study may sweep within a cell.
SETTINGS = frozenset(("batch_size", "learning_rate", "embedding_rate"))
# Known columns that are results, names, or follow from the sizes of a run.
_KNOWN = frozenset(
    {*RUN_COLUMNS, *TEACHER_COLUMNS} - {*SETTINGS, "n_params", "n_samples", "max_len"}
)
_NAMES = frozenset(
    ("run", "run_id", "run_name", "id", "index", "name", "exp", "exp_name", "experiment", "random_seed", "replicate")
)  # fmt: skip


def differing_settings(
    table: pd.DataFrame, sizes: Sequence[str], metrics: Sequence[str]
) -> list[str]:
    """The columns in which rows of equal sizes differ, as far as they may be settings.

    Seeds, names of runs, metrics and measured columns of our own runs are none, nor is a column without two equal values (it is
    measured, or numbers the rows).

    Args:
        table: one row per run.
        sizes: columns whose values make a cell.
        metrics: columns of metrics.
    """
    groups = table.groupby(list(sizes), dropna=False)
    found = []
    for name in map(str, table.columns):
        if name in (*sizes, *metrics) or _is_result(name):
            continue
        values = table[name]
        if values.nunique() < len(values.dropna()) and groups[name].nunique(dropna=False).max() > 1:
            found.append(name)
    return found


def possible_sizes(table: pd.DataFrame, known: Sequence[str]) -> list[str]:
    """The columns that may be a size, beside the known ones: positive numbers that differ, and no result, seed or name.

    Args:
        table: one row per run.
        known: columns whose role is known.
    """
    found = []
    for name in map(str, table.columns):
        values = table[name]
        if name in known or (_is_result(name) and name != "flops"):
            continue
        if (
            pd.api.types.is_numeric_dtype(values)
            and not pd.api.types.is_bool_dtype(values)
            and len(values.unique()) > 1
            and (values.dropna() > 0).all()
        ):
            found.append(name)
    return found


def _is_result(name: str) -> bool:
    """Whether a column is known to be a result, a metric, a seed or a name, or follows from the sizes of a run."""
    return (
        name in _KNOWN
        or name.lower() in _NAMES
        or is_stderr(name)
        or direction(name) is not None
        or name.startswith("model.")
    )


@dataclass(frozen=True)
class BestSettings:
    """The rows of the best setting of each cell.

    Attributes:
        table: these rows, in their order.
        fewest, most: settings compared in a cell.
    """

    table: pd.DataFrame
    fewest: int
    most: int


def best_settings(
    table: pd.DataFrame,
    settings: Sequence[str],
    *,
    sizes: Sequence[str],
    metric: str,
    rising: bool,
) -> BestSettings:
    """Keep the rows of the setting with the best mean of the metric in each cell.

    Args:
        table: one row per run.
        settings: columns, e.g. of the learning rate and the batch.
        sizes: columns whose values make a cell.
        metric: column that decides; rows without a finite value cannot win.
        rising: whether larger is better.

    Raises:
        UserError: there is no such column, or one is a size or the metric.
    """
    known = [str(name) for name in table.columns]
    for name in settings:
        if name not in known:
            raise UserError(f"{header_of(table)}: no column {name}{nearest(name, known)}")
        if name in (*sizes, metric):
            raise UserError(
                f"{source_of(table)}: column {name} is a size or the metric, no setting"
            )
    values = table[metric].astype(float)
    values = values.where(np.isfinite(values))
    keys = [table[name] for name in (*sizes, *settings)]
    means = values.groupby(keys, dropna=False).transform("mean") * (1 if rising else -1)
    means = means.fillna(-np.inf)
    setting = table.groupby(list(settings), dropna=False).ngroup()
    cells = [table[name] for name in sizes]
    best = means == means.groupby(cells, dropna=False).transform("max")
    # of two equally good settings the first
    first = setting.where(best).groupby(cells, dropna=False).transform("min")
    counts = setting.groupby(cells, dropna=False).nunique()
    return BestSettings(table[setting == first], int(counts.min()), int(counts.max()))
