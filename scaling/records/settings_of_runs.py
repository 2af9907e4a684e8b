"""The settings of finished runs as columns, and the columns in which runs differ.

Two runs are variants of one cell, or two models, if they differ in such a column. Columns are plain values
(name -> one value per run), so that run records and data frames follow the same rule.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from models.model_options import settings_of_model
from scaling.records.record import RunRecord
from scaling.study import NO_TEACHER

__all__ = [
    "Columns",
    "distinguishing_settings",
    "run_settings",
    "settings_columns",
    "value_text",
    "varied_settings",
]


# Name -> one value per run; a missing value is None.
Columns = Mapping[str, Sequence[Any]]

# Two runs that differ in one of these, or in an option of the model, are never fitted together.
_VARIANT = (
    *("data_fingerprint", "schedule", "batch_schedule", "data_order", "packing", "precision"),
    *("distill", "distill_weight", "distill_temperature", "distill_share_embeddings"),
    "teacher_data",
    "student_grade",  # in a table whose sizes are the teachers'
)
# These follow from the recipe, unless the study varies them within a cell.
_RECIPE = ("batch_size", "learning_rate", "embedding_rate")
_CELL = ("grade", "n_params", "teacher_grade", "n_samples", "seed")
# A reader wants to see these even if they follow from other columns.
_ALWAYS = ("grade", "distill", "teacher_grade")


# The order decides which of two equivalent settings a name contains.
_TEACHER_SETTINGS = (
    *("distill", "distill_weight", "distill_temperature", "distill_share_embeddings"),
    *("teacher_grade", "teacher_max_len", "teacher_n_params", "teacher_flops_per_sample"),
    *("teacher_n_samples", "teacher_n_new_samples", "teacher_data"),
)


def run_settings(record: RunRecord) -> dict[str, object]:
    """Return a run's settings by column: grade, data, recipe, teacher, and `model.OPTION` for each option.

    Settings of a teacher are None in a run without one, except `distill`, `teacher_grade` and `teacher_data`.
    """
    config = record.config
    return {
        "grade": config.grade_name,
        **asdict(config.grade),
        "n_params": record.n_params,
        "n_samples": config.n_samples,
        "seed": config.seed,
        "data_order": config.data_order,
        "packing": config.packing,
        "precision": config.precision,
        "schedule": config.schedule,
        "batch_size": config.batch_size,
        "batch_schedule": config.batch_schedule,
        "learning_rate": config.learning_rate,
        "embedding_rate": config.table_rate,
        "data_fingerprint": config.data_fingerprint[:12],
        **_teacher_settings(record),
        **{f"model.{name}": value for name, value in settings_of_model(config.model).items()},
    }


def _teacher_settings(record: RunRecord) -> dict[str, object]:
    settings, teacher = record.config.distill, record.teacher
    if settings is None or teacher is None:
        none = dict.fromkeys(("distill", "teacher_grade", "teacher_data"), NO_TEACHER)
        return {**dict.fromkeys(_TEACHER_SETTINGS), **none}
    # decided by the number alone, so that one setting is one value whatever order its runs read the data in
    data = "same" if teacher.n_samples == record.config.n_samples else str(teacher.n_samples)
    values = (
        settings.way,
        settings.weight,
        settings.temperature,
        settings.share_embeddings,
        settings.teacher_name,
        settings.teacher.max_len,
        teacher.n_params,
        teacher.flops_per_sample,
        teacher.n_samples,
        teacher.n_new_samples,
        data if teacher.n_samples else NO_TEACHER,
    )
    return dict(zip(_TEACHER_SETTINGS, values, strict=True))


def settings_columns(records: Iterable[RunRecord]) -> dict[str, list[Any]]:
    """Return `run_settings` of several runs as columns."""
    rows = [run_settings(record) for record in records]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def varied_settings(runs: Columns, *more: str) -> list[str]:
    """Return the columns in which runs differ that no law describes together, and `more` if these vary."""
    names = [c for c in runs if c in (*_VARIANT, *more) or str(c).startswith("model.")]
    varied = [name for name in names if len(set(runs[name])) > 1]
    cell = [*(name for name in _CELL if name in runs and name not in varied), *varied]
    n_cells = _count(runs, cell) if cell else len(next(iter(runs.values()), ()))
    return varied + [
        name for name in _RECIPE if name in runs and _count(runs, [*cell, name]) > n_cells
    ]


def distinguishing_settings(runs: Columns, names: Sequence[str]) -> list[str]:
    """Return `names` without the columns that follow from the others; of equivalent ones the first stays."""
    remaining = list(names)
    for name in reversed(names):
        rest = [other for other in remaining if other != name]
        if name in _ALWAYS or not rest:
            continue
        if _count(runs, rest) == _count(runs, remaining):
            remaining = rest
    return remaining


def _count(runs: Columns, names: Sequence[str]) -> int:
    """The number of distinct rows of some columns."""
    return len(set(zip(*(runs[name] for name in names), strict=True)))


def value_text(value: object) -> str:
    """Return a value as a condition COLUMN=VALUE has it; whole numbers have no decimal point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
