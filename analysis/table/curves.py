"""The training curves: one row per finished run and logged step, long form."""

import logging
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from scaling.errors import UserError
from scaling.records import CURVE_FILE, CurvePoint, RunStore, ordered_records, read_curve

__all__ = ["CURVE_COLUMNS", "curves_table"]


logger = logging.getLogger(__name__)

# Columns that name the run of a row; those of `scaling.records.CurvePoint` follow.
CURVE_COLUMNS = ("grade", "n_params", "n_samples", "seed", "signature")


def curves_table(*folders: Path) -> pd.DataFrame:
    """One row per finished run and line of its `metrics.jsonl`; empty if no run has a line.

    The columns are `CURVE_COLUMNS`, then step, n_steps, n_seen (impressions seen), loss, learning_rate and samples_per_second.

    Damaged records are left out; `runs_table` warns of them. Damaged curves are left out with a warning.
    """
    records = {r.signature: (r, folder) for folder in folders for r in RunStore(folder).read_all()}
    rows = []
    for record in ordered_records(record for record, _ in records.values()):
        run = {
            "grade": record.config.grade_name,
            "n_params": record.n_params,
            "n_samples": record.config.n_samples,
            "seed": record.config.seed,
            "signature": record.signature,
        }
        folder = RunStore(records[record.signature][1]).folder(record.signature)
        try:
            points = read_curve(folder, record.files.get(CURVE_FILE))
        except UserError as error:
            logger.warning("curve left out: %s", error)
            continue
        for point in points:
            values = asdict(point)
            rows.append({**run, "n_seen": values.pop("n_samples"), **values})
    names = [f.name for f in fields(CurvePoint) if f.name != "n_samples"]
    names.insert(2, "n_seen")
    return pd.DataFrame(rows, columns=[*CURVE_COLUMNS, *names])
