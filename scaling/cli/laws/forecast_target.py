"""What `--at` of a forecast means: a grade or a model size, and a data size."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scaling.cli.fit_inputs import choices, is_number, parse_sizes
from scaling.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from analysis.fit import LawFit
    from scaling.cli.fit_inputs import Loaded
    from scaling.study import StudyConfig

__all__ = ["parse_target", "refuse_if_training", "target_flops"]


logger = logging.getLogger(__name__)
# If the sizes of a planned cell differ by less in all, it is probably the one that is meant.
_NEAR = 0.1


def parse_target(text: str, fit: LawFit, loaded: Loaded) -> tuple[str | None, dict[str, float]]:
    """The grade, if named, and the size by column that an `--at` means.

    A grade is one of the table, of the plan, or, for a study, of the ladder.

    Raises:
        UserError: the text is not one size for each variable, or there is no such grade.
    """
    table, planned = loaded.table, loaded.planned
    columns = list(fit.columns.values())
    first, comma, rest = text.partition(",")
    if is_number(first) or (not comma and len(columns) > 1):
        target = dict(zip(columns, parse_sizes(text, len(columns)), strict=True))
        _warn_if_not_planned(text, target, planned)
        return _grade_of(target, table, planned), target
    sizes: dict[str, float] = {}
    for known in (table, planned):
        if known is not None and {"grade", columns[0]} <= set(known.columns):
            sizes = _sizes_of_grades(known, columns[0]) | sizes
    if first not in sizes:
        sizes |= _size_in_ladder(text, first, columns[0], loaded.study, sizes)
    if (rest.count(",") + 1 if comma else 0) != len(columns) - 1:
        raise UserError(
            f"--at {text}: expected {' and a size for '.join(['a grade', *columns[1:]])}"
        )
    others = parse_sizes(rest, len(columns) - 1) if comma else []
    target = dict(zip(columns, [sizes[first], *others], strict=True))
    _warn_if_not_planned(text, target, planned)
    return first, target


def _sizes_of_grades(table: pd.DataFrame, column: str) -> dict[str, float]:
    """The size of each grade; empty if the column, such as that of the data size, is none of a model."""
    sizes = table.groupby("grade")[column].agg(["min", "max"])
    if (sizes["min"] != sizes["max"]).any():
        return {}
    return {str(grade): float(size) for grade, size in sizes["min"].items()}


def _size_in_ladder(
    text: str, name: str, column: str, study: StudyConfig | None, known: Iterable[str]
) -> dict[str, float]:
    """The size of a grade that no run has, for the features and options of a study.

    Raises:
        UserError: there is no such grade, or the column is no size of a model that follows from its grade.
    """
    from models.grades import GRADES
    from models.kinds import size_of
    from scaling.study import data_facts

    ladder = {**GRADES, **study.grades} if study is not None else {}
    light = study is not None and study.is_light(name)
    if study is None or (name.removeprefix("Light") if light else name) not in ladder:
        valid = dict.fromkeys([*known, *ladder])
        raise UserError(f"--at {text}: no size {column} of {name} is known{choices(name, valid)}")
    grade = study.grade(name, "--at")
    if column == "max_len":
        return {name: float(grade.max_len)}
    size = size_of(grade, study.options(name), data_facts(study.data).schema)
    sizes = {
        one: getattr(size, one) for one in ("n_params", "n_embedding_params", "flops_per_sample")
    }
    if column not in sizes:
        raise UserError(
            f"--at {text}: a grade has no {column}, only {', '.join([*sizes, 'max_len'])}; write the size as a number"
        )
    return {name: float(sizes[column])}


def _grade_of(
    target: dict[str, float], table: pd.DataFrame, planned: pd.DataFrame | None
) -> str | None:
    """The grade of the target's model size, if one is known."""
    column, size = next(iter(target.items()))
    for known in (table, planned):
        if known is not None and {"grade", column} <= set(known.columns) and len(target) > 1:
            same = known.loc[known[column] == size, "grade"]
            if len(same):
                return str(same.iloc[0])
    return None


def _warn_if_not_planned(text: str, target: dict[str, float], planned: pd.DataFrame | None) -> None:
    """Log that no planned run can ever score this forecast, and the cell that is probably meant."""
    import numpy as np

    if planned is None or not set(target) <= set(planned.columns):
        return
    shares = [np.abs(planned[column] / size - 1) for column, size in target.items()]
    off = np.sum(shares, axis=0)
    best = int(np.argmin(off))
    if off[best] > 0:
        nearest = planned.iloc[best]
        cell = ",".join(str(nearest[column]) for column in target)
        hint = f"; the nearest is {cell} ({nearest['grade']})" if off[best] < _NEAR else ""
        logger.warning("--at %s: the study plans no such cell%s", text, hint)


def refuse_if_training(text: str, target: dict[str, float], planned: pd.DataFrame | None) -> None:
    """Refuse a target whose run is in training.

    Raises:
        UserError: a planned run of these sizes has begun.
    """
    if planned is None or not {"state", *target} <= set(planned.columns):
        return
    same = (planned[list(target)] == list(target.values())).all(axis=1)
    begun = planned[same & (planned["state"] == "running")]
    if len(begun):
        raise UserError(f"--at {text}: a run at this size is in training, so this is no forecast")


def target_flops(
    target: dict[str, float], rows: pd.DataFrame, planned: pd.DataFrame | None
) -> float | None:
    """Training FLOPs of a run at the target: as planned, else by the cost fitted to the table's FLOPs."""
    from analysis.budget import read_cost

    if planned is not None and set(target) <= set(planned.columns):
        same = (planned[list(target)] == list(target.values())).all(axis=1)
        if same.any():
            return float(planned.loc[same, "flops"].mean())
    if "flops" not in rows.columns or len(target) != 2 or "flops" in target:
        return None
    x, data = target
    return float(read_cost(rows, "flops", x=x, data=data)(*target.values()))
