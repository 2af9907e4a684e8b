"""The runs table: one row per finished run, long form, from a study's folder or any CSV.

Missing is NaN. Everything downstream (fits, plots, report) reads such a table and nothing else of a run.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.points import require_columns
from scaling.distillation import NO_TEACHER
from scaling.errors import UserError
from scaling.files import write_text
from scaling.records import RunRecord, RunStore, ordered_records
from scaling.trajectory import lease_key

__all__ = [
    "RUN_COLUMNS",
    "TEACHER_COLUMNS",
    "cell_table",
    "check_runs",
    "default_metrics",
    "first_few",
    "named_sizes",
    "read_table",
    "rises",
    "runs_table",
    "size_label",
    "write_table",
]

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
    "seed": "of initialisation, order and dropout",
    "data_order": "independent: nested order drawn for each (grade, seed); shared: one for all grades",
    "packing": "impressions that shared a pass in training: none, those of a request, of a stretch",
    "precision": "of products in training: float32, tf32, bf16",
    "schedule": "learning-rate schedule",
    "batch_size": "impressions per step",
    "learning_rate": "peak rate of the dense parameters",
    "train_loss": "mean logloss over the epoch, each sample before it was trained on",
    "bayes_logloss": "logloss of the true probabilities on the test part (generated data)",
    "bayes_auc": "AUC of the true probabilities on the test part (generated data)",
    "train_seconds": "wall-clock seconds of the training loop",
    "samples_per_second": "of the training loop",
    "peak_memory_gib": "resident memory at its highest, GiB",
    "data_fingerprint": "first 12 digits of the event store's fingerprint",
    "signature": "the run's identity",
    "trajectory": "names the training that runs of several data sizes begin with; empty where none shares it",
}

# Where a run of the table is distilled; the teacher's metrics follow as `teacher_METRIC`.
TEACHER_COLUMNS = {
    "distill": "how the teacher comes by what it knows: none (no teacher), cold, warm, frozen",
    "distill_weight": "lambda, of the distillation term",
    "distill_temperature": "t, which divides the logits that are compared",
    "distill_share_embeddings": "whether both read one feature table",
    "teacher_grade": "name of the teacher's grade; none without one",
    "teacher_max_len": "latest behaviours that the teacher reads",
    "teacher_n_params": "the teacher's parameters without its embedding tables",
    "teacher_flops_per_sample": "the teacher's forward FLOPs of one sample",
    "teacher_n_samples": "impressions that the teacher was trained on before the run; 0: from scratch",
    "teacher_n_new_samples": "how many of these the student does not see",
    "teacher_data": "none, same (as many as the student's), or their number",
}

# Of a run's own model; its training FLOPs are of both.
_STUDENT_SIZES = ("n_layers", "n_heads", "d", "max_len", "n_embedding_params", "flops_per_sample")
_RISING = ("auc", "accuracy", "ndcg", "recall", "hit_rate", "hr", "map", "mrr", "precision", "r2")


def runs_table(*folders: Path) -> pd.DataFrame:
    """One row per finished run of a study's folder, or of several studies', ordered by size, data and seed.

    A run that stands in two folders is one row.

    Columns are `RUN_COLUMNS`, then `TEACHER_COLUMNS` if a run is distilled, then `model.OPTION` for each
    option that differs between runs, then the metrics.

    Raises:
        UserError: there is no such folder, no finished run in it, or a record is damaged.
    """
    found: dict[str, RunRecord] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; `scaling run` makes it")
        own = {record.signature: record for record in RunStore(folder).read_all()}
        if not own:
            raise UserError(
                f"{folder}: no finished run yet; `scaling status` tells where they stand"
            )
        found = own | found
    records = ordered_records(found.values())
    table = pd.DataFrame([_row(record) for record in records])
    # one run's luck is its own; said of every run it would only fill the column
    table["trajectory"] = table["trajectory"].where(table["trajectory"].duplicated(keep=False))
    options = [column for column in table.columns if column.startswith("model.")]
    varied = [column for column in options if len(table[column].unique()) > 1]
    metrics = sorted({name for record in records for name in record.metrics})
    taught = [record.teacher for record in records if record.teacher is not None]
    metrics += sorted({f"teacher_{name}" for teacher in taught for name in teacher.metrics})
    return table[[*RUN_COLUMNS, *(TEACHER_COLUMNS if taught else ()), *varied, *metrics]]


def _row(record: RunRecord) -> dict[str, object]:
    config = record.config
    truth = record.provenance.get("truth") or {}
    row: dict[str, object] = {
        "grade": config.grade_name,
        **asdict(config.grade),
        "n_params": record.n_params,
        "n_embedding_params": record.n_embedding_params,
        "flops_per_sample": record.flops_per_sample,
        "flops": record.flops,
        "n_samples": config.n_samples,
        "seed": config.seed,
        "data_order": config.data_order,
        "packing": config.packing,
        "precision": config.precision,
        "schedule": config.schedule,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "train_loss": record.train_loss,
        "bayes_logloss": truth.get("bayes_logloss", np.nan),
        "bayes_auc": truth.get("bayes_auc", np.nan),
        "train_seconds": record.train_seconds,
        "samples_per_second": record.samples_per_second,
        "peak_memory_gib": record.peak_memory_gib,
        "data_fingerprint": config.data_fingerprint[:12],
        "signature": record.signature,
        "trajectory": lease_key(config, share_prefix=True),
    }
    row |= {f"model.{name}": value for name, value in asdict(config.model).items()}
    return row | _teacher_cells(record) | record.metrics


def _teacher_cells(record: RunRecord) -> dict[str, object]:
    settings, teacher = record.config.distill, record.teacher
    if settings is None or teacher is None:
        return {"distill": NO_TEACHER, "teacher_grade": NO_TEACHER, "teacher_data": NO_TEACHER}
    # by the number alone: one setting of a study stays one value, whatever order its runs saw their data in
    data = "same" if teacher.n_samples == record.config.n_samples else str(teacher.n_samples)
    return {
        "distill": settings.way,
        "distill_weight": settings.weight,
        "distill_temperature": settings.temperature,
        "distill_share_embeddings": settings.share_embeddings,
        "teacher_grade": settings.teacher_name,
        "teacher_max_len": settings.teacher.max_len,
        "teacher_n_params": teacher.n_params,
        "teacher_flops_per_sample": teacher.flops_per_sample,
        "teacher_n_samples": teacher.n_samples,
        "teacher_n_new_samples": teacher.n_new_samples,
        "teacher_data": data if teacher.n_samples else NO_TEACHER,
        **{f"teacher_{name}": value for name, value in teacher.metrics.items()},
    }


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV with a header; `-` is stdin.

    Raises:
        UserError: it cannot be read, is not a table, or has no row.
    """
    try:
        table = pd.read_csv(sys.stdin if str(path) == "-" else path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not a CSV table: {error}") from error
    if table.empty:
        raise UserError(f"{path}: the table has no row")
    return table


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically; numbers keep all their digits."""
    write_text(path, table.to_csv(index=False))


def rises(metric: str) -> bool:
    """Whether larger is better, by the metric's name (`auc`, `soft_auc`, `ndcg`, ...)."""
    return metric.lower().split("@")[0].split("_")[-1] in {name.split("_")[-1] for name in _RISING}


def default_metrics(table: pd.DataFrame) -> list[str]:
    """A falling and a rising metric to fit: without label noise where the log's truth is known."""
    chosen = []
    for name in ("logloss", "auc"):
        candidates = [column for column in (f"soft_{name}", name) if column in table.columns]
        complete = [column for column in candidates if table[column].notna().all()]
        chosen += (complete or candidates)[:1]
    # A column that no run fills is named only where nothing else is there.
    return [column for column in chosen if table[column].notna().any()] or chosen


def named_sizes(
    table: pd.DataFrame, x: str, data: str, metrics: Sequence[str] = ()
) -> pd.DataFrame:
    """The table with its sizes, and the grades that have them, under the names that figures and reports use.

    Where the size is the teacher's, runs without one are left out, and so are the student's other sizes.

    Args:
        table: one row per run.
        x: column of the model's size.
        data: column of the data size.
        metrics: columns that are no size, beside those that are metrics by their name.

    Raises:
        UserError: there is no such column, it holds no numbers or a metric, or no run has a teacher.
    """
    require_columns(table, [x, data])
    for name in (x, data):
        if name in metrics or _is_metric(table, name):
            raise UserError(f"table: column {name} is a metric, not a size")
    if x.startswith("teacher_") and {"grade", "teacher_grade"} <= set(table.columns):
        table = table[table[x].notna()].reset_index(drop=True)
        if table.empty:
            raise UserError(f"table: no run has a teacher, so none has a {x}")
        student = [c for c in _STUDENT_SIZES if c in table.columns and c != data]
        table = table.drop(columns=student)
        table = table.rename(columns={"grade": "student_grade", "teacher_grade": "grade"})
        if table[x].mod(1).eq(0).all():  # a float only for the runs without a teacher
            table[x] = table[x].astype(int)
    clash = [c for c in ("n_params", "n_samples") if c not in (x, data)]
    kept = table.drop(columns=[c for c in clash if c in table.columns])
    return kept.rename(columns={x: "n_params", data: "n_samples"})


def _is_metric(table: pd.DataFrame, name: str) -> bool:
    """Whether a column is a metric by its name, or a teacher's value of a column that is no size."""
    own = name.removeprefix("teacher_")
    teachers = own != name and own in table.columns and own not in RUN_COLUMNS
    return teachers or rises(own) or own.endswith("logloss")


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


def first_few(names: Iterable[str], most: int) -> str:
    """The first names, for people, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return "; ".join(known[:most]) + more


def size_label(value: float) -> str:
    """A size in two or three digits: 4.1k, 65.5k, 131k, 2B."""
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        scaled = value / unit
        if scaled >= 0.9995:
            return (
                f"{scaled:.{2 if scaled < 9.95 else 3}g}{suffix}"
                if scaled < 999.5
                else (f"{scaled:.0f}{suffix}")
            )
    return f"{value:.3g}"


def _pooled_sd(sd: np.ndarray, count: np.ndarray) -> float:
    dof = np.where(count > 1, count - 1, 0)
    if not dof.sum():
        return float("nan")
    return float(np.sqrt(np.sum(dof * np.nan_to_num(sd) ** 2) / dof.sum()))
