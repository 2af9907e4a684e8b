"""The runs table: one row per finished run, long form, from a study's folder or any CSV.

Missing values are NaN. Fits, plots and the report read only such a table, no other file of a run.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.atomic_files import atomic_path, write_text
from scaling.device_peaks import mfu_of_run
from scaling.errors import UserError
from scaling.records import RunRecord, RunStore, ordered_records, run_settings, value_text
from scaling.study import lease_key

__all__ = ["RUN_COLUMNS", "TEACHER_COLUMNS", "runs_table", "write_table"]


logger = logging.getLogger(__name__)


# Column -> meaning; the metrics of the test part (`scaling.metrics.evaluate`) follow by their names.
RUN_COLUMNS = {
    "grade": "name of the grade",
    "n_layers": "attention blocks",
    "n_heads": "attention heads",
    "d": "embedding width per feature",
    "max_len": "latest behaviours that the model reads",
    "n_params": "parameters without the embedding tables",
    "n_embedding_params": "parameters of the embedding tables",
    "flops_per_sample": "forward FLOPs of one sample, two per multiply-add",
    "flops": "training FLOPs of the run, 3 x forward x samples",
    "n_samples": "training impressions, each seen once",
    "seed": "seed of initialisation, order and dropout",
    "data_order": "independent: nested order drawn for each (grade, seed); shared: one for all grades",
    "packing": "impressions that shared a pass in training: none, those of a request, those of a stretch",
    "precision": "of products in training: float32, tf32, bf16",
    "schedule": "learning-rate schedule",
    "batch_size": "impressions per step",
    "batch_schedule": "fixed, or growing with the samples seen up to batch_size",
    "learning_rate": "peak rate of the dense parameters",
    "embedding_rate": "peak rate of the feature table",
    "computed_flops": "training FLOPs as the code computes them, comparable between kinds of models; empty where not known",
    "train_loss": "mean logloss over the epoch, each sample before it was trained on",
    "bayes_logloss": "logloss of the true probabilities on the test part (generated data)",
    "bayes_auc": "AUC of the true probabilities on the test part (generated data)",
    "rank_floor": "least excess logloss if items are known through d numbers (generated data)",
    "train_seconds": "wall-clock seconds of the training loop",
    "samples_per_second": "of the training loop",
    "mfu": "FLOPs in train_seconds as a share of the peak in the GPU's data sheet; empty on a CPU and where no peak is known",
    "peak_memory_gib": "resident memory at its highest, GiB",
    "data_fingerprint": "first 12 digits of the event store's fingerprint",
    "signature": "the run's identity",
    "started": "UTC time at which its training began, ISO 8601",
    "trajectory": "name of the training that runs of several data sizes share at first; empty if none shares it",
}

# Columns if a run of the table is distilled; the teacher's metrics follow as `teacher_METRIC`.
TEACHER_COLUMNS = {
    "distill": "how the teacher is trained: none (no teacher), cold, warm, frozen",
    "distill_weight": "lambda, the weight of the distillation term",
    "distill_temperature": "t, the divisor of the compared logits",
    "distill_share_embeddings": "whether both read one feature table",
    "teacher_grade": "name of the teacher's grade; none without a teacher",
    "teacher_max_len": "latest behaviours that the teacher reads",
    "teacher_n_params": "the teacher's parameters without its embedding tables",
    "teacher_flops_per_sample": "the teacher's forward FLOPs of one sample",
    "teacher_n_samples": "impressions that the teacher was trained on before the run; 0: from scratch",
    "teacher_n_new_samples": "the number of these that the student does not see",
    "teacher_data": "none, same (as many as the student's), or their number",
}


def runs_table(*folders: Path) -> pd.DataFrame:
    """One row per finished run of a study's folder, or of several studies', ordered by size, data and seed.

    A run that is in two folders gives one row.

    Columns are `RUN_COLUMNS`, then `TEACHER_COLUMNS` if a run is distilled, then `model.OPTION` for each
    option that differs between runs, then the metrics.

    Raises:
        UserError: there is no such folder, or no finished run in it. Damaged records are left out with a warning.
    """
    found: dict[str, RunRecord] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; `scaling run` creates it")
        own = {}
        for one in RunStore(folder).read_each():
            if isinstance(one, str):
                logger.warning("left out: %s", one)
            else:
                own[one.signature] = one
        if not own:
            raise UserError(f"{folder}: no finished run yet; `scaling status` shows their state")
        found = own | found
    records = ordered_records(found.values())
    table = pd.DataFrame([_row(record) for record in records])
    # A trajectory that a single run has is left out, as it says nothing.
    table["trajectory"] = table["trajectory"].where(table["trajectory"].duplicated(keep=False))
    options = [column for column in table.columns if column.startswith("model.")]
    varied = [column for column in options if len(table[column].unique()) > 1]
    metrics = sorted({name for record in records for name in record.metrics})
    taught = [record.teacher for record in records if record.teacher is not None]
    metrics += sorted({f"teacher_{name}" for teacher in taught for name in teacher.metrics})
    return table[[*RUN_COLUMNS, *(TEACHER_COLUMNS if taught else ()), *varied, *metrics]]


def _started(record: RunRecord) -> str | float:
    """When the first attempt began; NaN if the record is too old to tell."""
    attempts = record.provenance.get("attempts") or [record.provenance]
    return attempts[0].get("started") or np.nan


def _mfu(record: RunRecord) -> float:
    found = mfu_of_run(
        record.flops, record.train_seconds, record.config.precision, record.provenance
    )
    return np.nan if found is None else found


def _row(record: RunRecord) -> dict[str, object]:
    truth = record.provenance.get("truth") or {}
    settings = {name: v for name, v in run_settings(record).items() if v is not None}
    teacher = record.teacher.metrics if record.teacher is not None else {}
    return {
        **settings,
        "n_embedding_params": record.n_embedding_params,
        "flops_per_sample": record.flops_per_sample,
        "flops": record.flops,
        "computed_flops": _computed_flops(record),
        "train_loss": record.train_loss,
        "bayes_logloss": truth.get("bayes_logloss", np.nan),
        "bayes_auc": truth.get("bayes_auc", np.nan),
        "rank_floor": _rank_floor(record),
        "train_seconds": record.train_seconds,
        "samples_per_second": record.samples_per_second,
        "mfu": _mfu(record),
        "peak_memory_gib": record.peak_memory_gib,
        "signature": record.signature,
        "started": _started(record),
        "trajectory": lease_key(record.config, share_prefix=True),
        **{f"teacher_{name}": value for name, value in teacher.items()},
        **record.metrics,
    }


def _computed_flops(record: RunRecord) -> float:
    forward = record.computed_flops_per_sample
    return np.nan if forward is None else 3.0 * forward * record.config.n_samples


def _rank_floor(record: RunRecord) -> float:
    """The generated world's floor at the rank of the run's embeddings, between its ranks by a power law."""
    by_rank = record.provenance.get("excess_logloss_by_rank")
    if not by_rank:
        return np.nan
    ranks = np.log([float(rank) for rank in by_rank])
    excess = np.log(np.maximum(list(by_rank.values()), np.finfo(float).tiny))
    return float(np.exp(np.interp(np.log(record.config.grade.d), ranks, excess)))


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet if `path` ends in .parquet, else as CSV, atomically; numbers keep all their digits.

    In Parquet, missing values are nulls, and a column of several types is text.

    Raises:
        StorageError: the file cannot be written.
    """
    if path.suffix != ".parquet":
        write_text(path, table.to_csv(index=False))
        return
    import duckdb  # slow to import, and only needed here

    typed = pd.DataFrame({str(name): _with_nulls(table[name]) for name in table.columns})
    with atomic_path(path) as temporary, duckdb.connect() as connection:
        connection.from_df(typed).write_parquet(str(temporary), compression="zstd")


def _with_nulls(column: pd.Series) -> pd.Series:
    """The column with one type, and with missing values that are no numbers."""
    if pd.api.types.is_float_dtype(column):
        return column.astype("Float64")
    if column.dtype != object:
        return column
    present = column.dropna()
    if len(present) and present.map(lambda value: isinstance(value, bool)).all():
        return column.astype("boolean")
    return present.map(value_text).reindex(column.index).astype("string")
