"""The role of a column in the runs table: a size or a metric."""

from collections.abc import Sequence

import pandas as pd

from analysis.table.collect import RUN_COLUMNS
from analysis.table.directions import rises
from analysis.table.places import header_of, place_of, source_of
from scaling.errors import UserError, nearest

__all__ = [
    "check_sizes",
    "default_metrics",
    "grade_column",
    "require_columns",
    "sized_rows",
]


def require_columns(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Check that the columns differ, exist and contain numbers.

    Raises:
        UserError: one does not; the message names the first such column and the nearest existing name.
    """
    twice = next((name for i, name in enumerate(columns) if name in columns[:i]), None)
    if twice is not None:
        raise UserError(f"column {twice} is named for two things: sizes and metric must differ")
    for column in columns:
        if column not in table.columns:
            known = [str(name) for name in table.columns]
            raise UserError(f"{header_of(table)}: no column {column}{nearest(column, known)}")
        kind = table[column].dtype
        if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind):
            # One word in a column of a CSV turns all its numbers into text.
            bad = pd.to_numeric(table[column], errors="coerce").isna() & table[column].notna()
            row = table.index[bad][0] if bad.any() else table.index[0]
            found = table[column][row]
            hint = (
                "; write numbers as 1200000 or 1.2e6, without units or thousands separators, and leave the cell of "
                "a missing value empty"
            )
            raise UserError(
                f"{source_of(table)}: column {column} holds {found!r} in {place_of(table, row)}, expected "
                f"numbers{hint if isinstance(found, str) else ''}"
            )


# Sizes of the student alone; `flops` covers both models.
_STUDENT_SIZES = (
    "n_params",
    "n_layers",
    "n_heads",
    "d",
    "max_len",
    "n_embedding_params",
    "flops_per_sample",
)


def default_metrics(table: pd.DataFrame) -> list[str]:
    """A falling and a rising metric to fit; those without label noise if the true probabilities are known."""
    chosen = []
    for name in ("logloss", "auc"):
        candidates = [column for column in (f"soft_{name}", name) if column in table.columns]
        complete = [column for column in candidates if table[column].notna().all()]
        chosen += (complete or candidates)[:1]
    # A column without any value is returned only if there is no other.
    return [column for column in chosen if table[column].notna().any()] or chosen


def check_sizes(table: pd.DataFrame, x: str, data: str, metrics: Sequence[str] = ()) -> None:
    """Check that both columns are sizes.

    Args:
        table: one row per run.
        x: column of the model's size.
        data: column of the data size; `x` again if there is only one size.
        metrics: columns that are metrics, in addition to those whose names say so.

    Raises:
        UserError: there is no such column, it contains no numbers, or it is a metric.
    """
    require_columns(table, list(dict.fromkeys([x, data])))
    for name in (x, data):
        if name in metrics or _is_metric(table, name):
            raise UserError(f"table: column {name} is a metric, not a size")


def grade_column(table: pd.DataFrame, x: str, metrics: Sequence[str] = ()) -> str:
    """The column that names the models of each size `x`: the grade, the teacher's grade, or `x` itself."""
    if _is_teachers(table, x):
        return "teacher_grade"
    return "grade" if "grade" in table.columns and "grade" not in metrics else x


def sized_rows(table: pd.DataFrame, x: str, data: str, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """The rows that have both sizes; columns keep their names.

    If `x` is a size of the teacher, rows without a teacher and the other sizes of the student are left out.

    Args:
        table: one row per run.
        x: column of the model's size.
        data: column of the data size.
        metrics: columns that are metrics, in addition to those whose names say so.

    Raises:
        UserError: as `check_sizes`, or no run has a teacher.
    """
    check_sizes(table, x, data, metrics)
    if not _is_teachers(table, x):
        return table
    table = table[table[x].notna()].reset_index(drop=True)
    if table.empty:
        raise UserError(f"table: no run has a teacher, so none has a {x}")
    student = [c for c in _STUDENT_SIZES if c in table.columns and c not in (x, data)]
    table = table.drop(columns=student)
    if table[x].mod(1).eq(0).all():  # a float only because of the runs without a teacher
        table[x] = table[x].astype(int)
    return table


def _is_teachers(table: pd.DataFrame, x: str) -> bool:
    return x.startswith("teacher_") and {"grade", "teacher_grade"} <= set(table.columns)


def _is_metric(table: pd.DataFrame, name: str) -> bool:
    """Whether the name is a metric's, or the teacher's value of a column that is not a size."""
    own = name.removeprefix("teacher_")
    teachers = own != name and own in table.columns and own not in RUN_COLUMNS
    # only the last word: map_size is a size
    return teachers or rises(own.split("_")[-1]) or own.endswith("logloss")
