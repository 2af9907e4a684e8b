"""Variants: which runs one law, one comparison or one served model must not mix, and how people call them."""

from collections.abc import Iterable, Sequence

import pandas as pd

from scaling.study import NO_TEACHER

__all__ = [
    "describe_variants",
    "largest_variant",
    "law_columns",
    "split_variants",
    "telling_columns",
    "value_text",
    "variant_columns",
    "variant_label",
]


# Two runs that differ in one of these are never fitted together, nor are those of other options.
_APART = (
    *("data_fingerprint", "schedule", "data_order", "packing", "precision"),
    *(
        "distill",
        "distill_weight",
        "distill_temperature",
        "distill_share_embeddings",
        "teacher_data",
    ),
    "student_grade",  # of a table whose sizes are the teachers'
)
# These follow from the recipe, unless the study varies them within a cell.
_RECIPE = ("batch_size", "learning_rate")
_CELL = ("grade", "n_params", "teacher_grade", "n_samples", "seed")
# Told even where they follow from other columns: what a reader asks for first.
_ALWAYS = ("grade", "distill", "teacher_grade")


def split_variants(table: pd.DataFrame, x: str = "n_params") -> dict[str, pd.DataFrame]:
    """Split a table into parts that one law may describe, by a label such as `model.norm=rms`.

    Runs on other data, of another schedule or order, with other model options or taught otherwise are kept
    apart. So are those of other teachers, unless `x`, the law's size, is the teacher's: then it is those of
    other students. A table that holds nothing to split is one part, labelled with the empty string.
    """
    columns = law_columns(table, x)
    if not columns:
        return {"": table}
    told = _varied_without_teacher(table, columns)
    parts: dict[str, list[pd.DataFrame]] = {}
    for values, part in table.groupby(columns, sort=True, dropna=False):
        parts.setdefault(variant_label(columns, values, told), []).append(part)
    # values of one text, such as 1 and "1", are one variant
    return {label: pd.concat(same, ignore_index=True) for label, same in parts.items()}


def law_columns(table: pd.DataFrame, x: str = "n_params") -> list[str]:
    """The columns that tell variants of a law of the size `x` apart; empty where one law may describe all."""
    apart = variant_columns(table, "grade" if x.startswith("teacher_") else "teacher_grade")
    return telling_columns(table, apart)


def largest_variant(table: pd.DataFrame, x: str = "n_params") -> dict[str, str]:
    """The columns and values that choose the variant of most runs, as `--where COLUMN=VALUE` takes them."""
    columns = law_columns(table, x)
    part = max(split_variants(table, x).values(), key=len)
    values = [part[column].iloc[0] for column in columns]
    return _variant_values(columns, values, _varied_without_teacher(table, columns))


def variant_columns(table: pd.DataFrame, *more: str) -> list[str]:
    """The columns in which runs differ that no law describes together, with `more` if these vary."""
    columns = [c for c in table.columns if c in (*_APART, *more) or str(c).startswith("model.")]
    varied = [str(c) for c in columns if len(table[c].unique()) > 1]
    cell = [*(c for c in _CELL if c in table.columns and c not in varied), *varied]
    n_cells = len(table.drop_duplicates(cell)) if cell else len(table)
    return varied + [
        column
        for column in _RECIPE
        if column in table.columns and len(table.drop_duplicates([*cell, column])) > n_cells
    ]


def telling_columns(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """The columns without those whose values follow from the others', the later ones first."""
    names = list(columns)
    for name in reversed(columns):
        rest = [other for other in names if other != name]
        if name in _ALWAYS or not rest:
            continue
        if len(table[rest].drop_duplicates()) == len(table[names].drop_duplicates()):
            names = rest
    return names


def describe_variants(table: pd.DataFrame) -> list[str]:
    """The columns that name a variant: its grade, its teacher's, and what else tells some of them apart.

    The model's size is one where neither a grade nor anything else tells it.
    """
    names = ["grade", *variant_columns(table, "teacher_grade"), "n_params"]
    return telling_columns(
        table, [n for n in names if n in table.columns and n != "data_fingerprint"]
    )


def _varied_without_teacher(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """The columns in which runs without a teacher differ; in a foreign table also a lambda may be one."""
    if "distill" not in table.columns:
        return []
    plain = table[table["distill"] == NO_TEACHER]
    return [column for column in columns if len(plain[column].unique()) > 1]


def variant_label(
    columns: Sequence[str], values: Iterable[object], always: Sequence[str] = ()
) -> str:
    """Name a variant by its values, e.g. `distill=cold, teacher_grade=SUAN-3`."""
    told = _variant_values(columns, values, always)
    return ", ".join(f"{column}={value}" for column, value in told.items())


def _variant_values(
    columns: Sequence[str], values: Iterable[object], always: Sequence[str] = ()
) -> dict[str, str]:
    """The columns and values that name a variant, as `--where COLUMN=VALUE` takes them.

    What it does not have is not told: a run without a teacher has neither a teacher's grade nor a lambda,
    unless these columns are among those that are told `always`.
    """
    told = dict(zip(columns, values, strict=True))
    if told.get("distill") == NO_TEACHER:
        taught = [c for c in columns if c.startswith(("distill_", "teacher_")) and c not in always]
        told = {c: v for c, v in told.items() if c not in taught}
    known = {c: v for c, v in told.items() if not pd.isna(v)} or told  # type: ignore[call-overload]
    return {column: value_text(value) for column, value in known.items()}


def value_text(value: object) -> str:
    """A value as `--where COLUMN=VALUE` takes it; whole numbers without a point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
