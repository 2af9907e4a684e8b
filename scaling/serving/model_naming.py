"""The names of a study's models: the grade, and the settings that distinguish it from the other models."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.kinds import KINDS
from scaling.records import (
    Columns,
    distinguishing_settings,
    value_text,
    varied_settings,
)
from scaling.study import NO_TEACHER

__all__ = ["model_columns", "model_family", "model_names"]


# How a name shows the value of a column; the other columns are shown as `column value`.
_WORDS = {
    "distill": "{}",
    "distill_weight": "lambda {}",
    "distill_temperature": "temperature {}",
    "data_order": "{} order",
    "data_fingerprint": "data {}",
    "n_params": "{} parameters",
    "max_len": "L {}",
}
# The name's first words already contain these.
_IN_FIRST_WORDS = ("grade", "teacher_grade", "model.kind")


def model_columns(runs: Columns) -> list[str]:
    """Return the columns whose values together identify a model of the study; seeds of one model agree in them."""
    names = ("grade", *varied_settings(runs, "teacher_grade"), "n_params", "max_len")
    return distinguishing_settings(runs, [name for name in names if name in runs])


def model_names(runs: Columns, kinds: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Name each run's model by the columns in which the models of these runs differ.

    Args:
        runs: the runs to name, usually all of one data size.
        kinds: for each run, the kind of its model.
        columns: `model_columns` of the whole study.
    """
    ways = runs.get("distill", [NO_TEACHER] * len(kinds))
    shown = distinguishing_settings(runs, columns)
    for name in (
        "distill",
        "teacher_grade",
    ):  # a student's first words already say that it has a teacher
        of_students = [
            v for v, way in zip(runs.get(name, ()), ways, strict=False) if way != NO_TEACHER
        ]
        if name in shown and len(set(of_students)) < 2:
            shown.remove(name)
    rows = [dict(zip(runs, values, strict=True)) for values in zip(*runs.values(), strict=True)]
    return [_name(row, kind, shown) for row, kind in zip(rows, kinds, strict=True)]


def model_family(run: Mapping[Any, Any], kind: str) -> str:
    """Return the family of a run's model, e.g. `distilled LightSUAN`."""
    family = _family(kind)
    return f"distilled {family}" if _is_distilled(run) else family


def _family(kind: str) -> str:
    """The name of the kind's class; LightSUAN is a SUAN under its own name."""
    return "LightSUAN" if kind == "lightsuan" else KINDS.get(kind, kind).partition(":")[2] or kind


def _is_distilled(run: Mapping[Any, Any]) -> bool:
    return bool(run.get("distill", NO_TEACHER) != NO_TEACHER)


def _name(run: Mapping[Any, Any], kind: str, columns: Sequence[str]) -> str:
    """Return e.g. `LightSUAN-1 after SUAN-2, frozen, same data`."""
    name = str(run.get("grade", "SUAN"))
    family = _family(kind)
    if kind != "suan" and not (kind == "lightsuan" and name.startswith("Light")):
        # the sizes of a grade of the ladder, e.g. DIN-2
        name = (
            f"{family}{name.removeprefix('SUAN')}"
            if name.startswith("SUAN")
            else f"{family} {name}"
        )
    if _is_distilled(run):
        has_teacher = "teacher_grade" in columns
        name = f"{name} after {run['teacher_grade']}" if has_teacher else f"distilled {name}"
    else:
        columns = [c for c in columns if not c.startswith(("distill", "teacher_"))]
    details = [_detail(run, column) for column in columns if run[column] is not None]
    return ", ".join([name, *filter(None, details)])


def _detail(run: Mapping[Any, Any], column: str) -> str:
    value = run[column]
    if column in _IN_FIRST_WORDS:
        return ""
    if column == "teacher_data":
        return _teacher_data(value, run.get("teacher_n_new_samples"))
    if column == "distill_share_embeddings":
        return "shared embeddings" if value else "own embeddings"
    text = f"{value:,.0f}" if column == "n_params" else value_text(value)
    words = column.removeprefix("model.").replace("_", " ")
    return _WORDS.get(column, f"{words} {{}}").format(text)


def _teacher_data(value: str, n_new_samples: int | None) -> str:
    if value == NO_TEACHER:
        return ""
    if value == "same":
        # as many impressions are the same impressions only if both runs read the data in one order
        return "as many seen" if n_new_samples else "same data"
    return f"{int(value):,} seen"
