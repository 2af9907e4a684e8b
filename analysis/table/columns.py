"""What a column of the runs table is: a size, a metric, rising or falling."""

from collections.abc import Sequence

import pandas as pd

from analysis.table.collect import RUN_COLUMNS
from scaling.errors import UserError, nearest

__all__ = ["default_metrics", "named_sizes", "require_columns", "rises"]


def require_columns(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Check that the columns differ, exist and hold numbers.

    Raises:
        UserError: naming the first that does not, with the nearest name there is.
    """
    twice = next((name for i, name in enumerate(columns) if name in columns[:i]), None)
    if twice is not None:
        raise UserError(f"column {twice} is named for two things: sizes and metric must differ")
    for column in columns:
        if column not in table.columns:
            known = [str(name) for name in table.columns]
            raise UserError(f"table: no column {column}{nearest(column, known)}")
        if not pd.api.types.is_numeric_dtype(table[column]):
            # One word in a column of a CSV makes every number in it a text.
            bad = pd.to_numeric(table[column], errors="coerce").isna() & table[column].notna()
            row = table.index[bad][0] if bad.any() else table.index[0]
            found = table[column][row]
            raise UserError(
                f"table: column {column} holds {found!r} in row {row}, expected numbers"
            )


# Of a run's own model; its training FLOPs are of both.
_STUDENT_SIZES = ("n_layers", "n_heads", "d", "max_len", "n_embedding_params", "flops_per_sample")
_RISING = ("auc", "accuracy", "ndcg", "recall", "hit_rate", "hr", "map", "mrr", "precision", "r2")


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
