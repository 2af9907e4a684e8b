"""Cells of a runs table (runs of equal sizes): their mean and their scatter."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scaling.errors import UserError

__all__ = ["cell_table", "check_runs"]


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
        row = table.loc[twice, keys].iloc[0]
        run = ", ".join(f"{key} {value}" for key, value in row.items())
        raise UserError(f"table: {run} stands twice; keep one row, or number the seeds")


def cell_table(
    table: pd.DataFrame,
    metrics: Sequence[str],
    *,
    x: str = "n_params",
    data: str = "n_samples",
    grade: str = "grade",
) -> pd.DataFrame:
    """One row per cell: means over seeds, with standard errors pooled over the seeds of all cells.

    Args:
        table: one row per run.
        metrics: columns to average.
        x: column of the model's size.
        data: column of the data size.
        grade: column that names the models, if there is one.

    Returns:
        The sizes, `n_seeds`, and for each metric its mean, `METRIC_seed_sd` (within the cell, NaN for one
        seed) and `METRIC_mean_stderr` (pooled seed standard deviation over the root of the cell's seeds,
        NaN if no cell has two). Ordered by size and data size.
    """
    known = (grade, x, "flops_per_sample", "flops", "max_len", data)
    keys = [c for c in dict.fromkeys(known) if c in table.columns]
    groups = table.groupby(keys, sort=False, dropna=False)
    cells = groups.size().rename("n_seeds").reset_index()
    for metric in metrics:
        grouped = groups[metric]
        count, sd = grouped.count().to_numpy(), grouped.std().to_numpy()
        cells[metric] = grouped.mean().to_numpy()
        cells[f"{metric}_seed_sd"] = sd
        pooled = _pooled_sd(sd, count)
        cells[f"{metric}_mean_stderr"] = pooled / np.sqrt(np.maximum(count, 1))
    order = [c for c in dict.fromkeys((x, "flops_per_sample", data)) if c in keys]
    return cells.sort_values(order, kind="stable", ignore_index=True)


def _pooled_sd(sd: np.ndarray, count: np.ndarray) -> float:
    dof = np.where(count > 1, count - 1, 0)
    if not dof.sum():
        return float("nan")
    return float(np.sqrt(np.sum(dof * np.nan_to_num(sd) ** 2) / dof.sum()))
