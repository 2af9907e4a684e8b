"""The metrics by day of the test part: one row per finished run and day, long form."""

from pathlib import Path

import pandas as pd

from scaling.records import RunStore, ordered_records

__all__ = ["DAY_COLUMNS", "days_table"]


# Columns that name the run of a row; `day` (from 1, after the boundary of the split) and the day's metrics follow.
DAY_COLUMNS = ("grade", "n_params", "n_samples", "seed", "data_order", "signature")


def days_table(*folders: Path) -> pd.DataFrame:
    """One row per finished run and day of the test part; empty if no run has days.

    Runs on a log that is split by user have none, nor have records of versions before the metrics by day. Damaged records
    are left out; `runs_table` warns of them.
    """
    records = {r.signature: r for folder in folders for r in RunStore(folder).read_all()}
    rows = [
        {
            "grade": record.config.grade_name,
            "n_params": record.n_params,
            "n_samples": record.config.n_samples,
            "seed": record.config.seed,
            "data_order": record.config.data_order,
            "signature": record.signature,
            "day": day.day,
            **day.metrics,
        }
        for record in ordered_records(records.values())
        for day in record.by_day
    ]
    return pd.DataFrame(rows, columns=None if rows else [*DAY_COLUMNS, "day"])
