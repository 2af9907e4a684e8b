"""Cells of a runs table (runs of equal sizes): their mean and their scatter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.table.places import place_of, source_of
from analysis.table.settings_in_cells import differing_settings
from scaling.errors import UserError
from scaling.records import value_text

__all__ = ["Cells", "cell_table", "check_runs"]


def check_runs(table: pd.DataFrame, x: str = "n_params", data: str = "n_samples") -> None:
    """Check that no run is counted twice.

    Args:
        table: one row per run.
        x: column of the model's size.
        data: column of the data size.

    Raises:
        UserError: two rows have the same sizes and seed, so that one seed would count twice.
    """
    known = ("grade", "n_params", x, "teacher_grade", "n_samples", data, "seed")
    keys = [c for c in dict.fromkeys(known) if c in table.columns]
    if not {x, data, "seed"} <= set(keys):
        return
    twice = table.duplicated(keys)
    if twice.any():
        again = table.index[twice][0]
        row = table.loc[twice, keys].iloc[0]
        run = ", ".join(f"{key} {value_text(value)}" for key, value in row.items())
        settings = differing_settings(table, keys, ())
        remedy = "keep one row, or number the seeds"
        if settings:
            remedy = (
                f"rows differ in {', '.join(settings)}, too: choose some with --where, or the best of each cell with --best-of "
                f"{','.join(settings)}"
            )
        raise UserError(
            f"{source_of(table)}: {run} stands twice, again in {place_of(table, again)}; {remedy}"
        )


@dataclass(frozen=True)
class Cells:
    """The cells of a runs table: one row each, ordered by size and data size.

    The sizes keep the names of the table's columns, which may be any; so nothing else is stored beside them.

    Attributes:
        sizes: (cells, columns): grade, sizes and what follows from them, indexed 0, 1, ...
        n_seeds: (cells,) runs of each cell.
        metrics: for each metric the columns `mean`, `seed_sd` (within the cell, NaN for one seed) and
            `mean_stderr` (pooled seed standard deviation over the root of the cell's seeds, NaN if no
            cell has two), indexed as `sizes`.
    """

    sizes: pd.DataFrame
    n_seeds: "pd.Series[int]"
    metrics: dict[str, pd.DataFrame]

    def __len__(self) -> int:
        return len(self.sizes)


def cell_table(
    table: pd.DataFrame,
    metrics: Sequence[str],
    *,
    x: str = "n_params",
    data: str = "n_samples",
    grade: str = "grade",
) -> Cells:
    """Return the cells: means over seeds, with standard errors pooled over the seeds of all cells.

    Args:
        table: one row per run.
        metrics: columns to average.
        x: column of the model's size.
        data: column of the data size.
        grade: column that names the models, if there is one.
    """
    known = (grade, x, "flops_per_sample", "flops", "max_len", data)
    keys = [c for c in dict.fromkeys(known) if c in table.columns and c not in metrics]
    order = [c for c in dict.fromkeys((x, "flops_per_sample", data)) if c in keys]
    groups = table.groupby(keys, sort=False, dropna=False)
    sizes = groups[keys].first().reset_index(drop=True).sort_values(order, kind="stable")
    place = sizes.index.to_numpy()

    def ordered(values: pd.Series) -> Any:
        return values.to_numpy()[place]

    means = {}
    for metric in metrics:
        grouped = groups[metric]
        count, sd = ordered(grouped.count()), ordered(grouped.std())
        error = _pooled_sd(sd, count) / np.sqrt(np.maximum(count, 1))
        means[metric] = pd.DataFrame(
            {"mean": ordered(grouped.mean()), "seed_sd": sd, "mean_stderr": error}
        )
    return Cells(sizes.reset_index(drop=True), pd.Series(ordered(groups.size())), means)


def _pooled_sd(sd: np.ndarray, count: np.ndarray) -> float:
    dof = np.where(count > 1, count - 1, 0)
    if not dof.sum():
        return float("nan")
    return float(np.sqrt(np.sum(dof * np.nan_to_num(sd) ** 2) / dof.sum()))
