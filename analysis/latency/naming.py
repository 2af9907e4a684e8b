"""What people call a served model: its family, and what tells it from the study's other models."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.table import telling_columns, value_text
from scaling.study import NO_TEACHER

__all__ = ["family", "model_names"]


# How a column's value is told of a model; others are told as `column value`.
_WORDS = {
    "distill": "{}",
    "distill_weight": "lambda {}",
    "distill_temperature": "temperature {}",
    "data_order": "{} order",
    "data_fingerprint": "data {}",
    "n_params": "{} parameters",
    "max_len": "L {}",
}


def family(run: Mapping[Any, Any]) -> str:
    """The family of a run's model, e.g. distilled LightSUAN; runs as `analysis.latency.served` has them."""
    kind = "LightSUAN" if run["is_light"] else "SUAN"
    return f"distilled {kind}" if _is_distilled(run) else kind


def _is_distilled(run: Mapping[Any, Any]) -> bool:
    return bool(run.get("distill", NO_TEACHER) != NO_TEACHER)


def model_names(runs: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Name each run's model by those of the columns in which these runs' models differ.

    Args:
        runs: with `is_light`.
        columns: that tell models apart.
    """
    taught = runs[runs["distill"] != NO_TEACHER] if "distill" in runs.columns else runs[:0]
    told = [
        column
        for column in telling_columns(runs, columns)
        if column not in ("distill", "teacher_grade") or len(taught[column].unique()) > 1
    ]
    return [_name(run, told) for run in runs.to_dict("records")]


def _name(run: Mapping[Any, Any], columns: Sequence[str]) -> str:
    """A model by what tells it from the others, e.g. LightSUAN-1 after SUAN-2, frozen, same data."""
    name = str(run.get("grade", "SUAN"))
    if run["is_light"] and not name.startswith("Light"):
        name = f"Light{name}" if name.startswith("SUAN") else f"LightSUAN {name}"
    if _is_distilled(run):
        teacher = "teacher_grade" in columns
        name = f"{name} after {run['teacher_grade']}" if teacher else f"distilled {name}"
    else:
        columns = [c for c in columns if not c.startswith(("distill", "teacher_"))]
    told = [_told(run, column) for column in columns if not pd.isna(run[column])]
    return ", ".join([name, *filter(None, told)])


def _told(run: Mapping[Any, Any], column: str) -> str:
    value = run[column]
    if column in ("grade", "teacher_grade", "model.kind"):
        return ""  # in the name already
    if column == "teacher_data":
        # as many impressions are the same ones only where both runs took them in one order
        same = "as many seen" if run.get("teacher_n_new_samples", 0) > 0 else "same data"
        known = {NO_TEACHER: "", "same": same}
        return known[value] if value in known else f"{int(value):,} seen"
    if column == "distill_share_embeddings":
        return "shared embeddings" if value else "own embeddings"
    text = f"{int(value):,}" if column == "n_params" else value_text(value)
    plain = column.removeprefix("model.").replace("_", " ")
    return _WORDS.get(column, f"{plain} {{}}").format(text)
