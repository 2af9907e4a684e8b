"""Cells of a runs table: runs of equal sizes, their mean, their scatter."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scaling.errors import UserError

__all__ = ["cell_table", "check_runs"]


def check_runs(table: pd.DataFrame) -> None:
    """Check that no run is counted twice.

    Raises:
        UserError: two rows have the same sizes and seed, so that one seed's luck would weigh double.
    """
    known = ("grade", "n_params", "teacher_grade", "n_samples", "seed")
    keys = [c for c in known if c in table.columns]
    if not {"n_params", "n_samples", "seed"} <= set(keys):
        return
    twice = table.duplicated(keys)
    if twice.any():
        row = table.loc[twice, keys].iloc[0]
        told = ", ".join(f"{key} {value}" for key, value in row.items())
        raise UserError(f"table: {told} stands twice; keep one row, or number the seeds")


def cell_table(table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One row per cell: means over seeds, with the standard error that all cells' seeds give.

    Columns are the sizes, `n_seeds`, and for each metric its mean, `METRIC_seed_sd` (within the cell,
    NaN for one seed) and `METRIC_mean_stderr` (pooled seed standard deviation over the root of the
    cell's seeds, NaN when no cell has two).
    """
    known = ("grade", "n_params", "flops_per_sample", "flops", "max_len", "n_samples")
    keys = [c for c in known if c in table.columns]
    groups = table.groupby(keys, sort=False, dropna=False)
    cells = groups.size().rename("n_seeds").reset_index()
    for metric in metrics:
        grouped = groups[metric]
        count, sd = grouped.count().to_numpy(), grouped.std().to_numpy()
        cells[metric] = grouped.mean().to_numpy()
        cells[f"{metric}_seed_sd"] = sd
        pooled = _pooled_sd(sd, count)
        cells[f"{metric}_mean_stderr"] = pooled / np.sqrt(np.maximum(count, 1))
    order = [c for c in ("n_params", "flops_per_sample", "n_samples") if c in keys]
    return cells.sort_values(order, kind="stable", ignore_index=True)


def _pooled_sd(sd: np.ndarray, count: np.ndarray) -> float:
    dof = np.where(count > 1, count - 1, 0)
    if not dof.sum():
        return float("nan")
    return float(np.sqrt(np.sum(dof * np.nan_to_num(sd) ** 2) / dof.sum()))
