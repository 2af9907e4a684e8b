"""Variants: the runs that one law, one comparison or one served model must not mix, and their names."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from scaling.records import distinguishing_settings, value_text, varied_settings
from scaling.study import NO_TEACHER

__all__ = [
    "describe_differences",
    "describe_variants",
    "distinguishing_columns",
    "largest_variant",
    "law_columns",
    "plain_columns",
    "split_variants",
    "value_text",
    "variant_columns",
    "variant_label",
]


def split_variants(table: pd.DataFrame, x: str = "n_params") -> dict[str, pd.DataFrame]:
    """Split a table into parts that one law may describe, by a label such as `model.norm=rms`.

    Runs are in different parts if they differ in data, schedule, order, model options or distillation.
    Different teachers also make different parts. If `x`, the law's size, is the teacher's, different students
    do instead. A table without such differences is one part with an empty label.
    """
    columns = law_columns(table, x)
    if not columns:
        return {"": table}
    always = _varied_without_teacher(table, columns)
    parts: dict[str, list[pd.DataFrame]] = {}
    for values, part in table.groupby(columns, sort=True, dropna=False):
        parts.setdefault(variant_label(columns, values, always), []).append(part)
    # values with the same text, such as 1 and "1", are one variant
    return {label: pd.concat(same, ignore_index=True) for label, same in parts.items()}


def law_columns(table: pd.DataFrame, x: str = "n_params") -> list[str]:
    """Return the columns that distinguish variants for a law of the size `x`; empty if one law may describe all."""
    other = "grade" if x.startswith("teacher_") else "teacher_grade"
    return distinguishing_columns(table, variant_columns(table, other))


def largest_variant(table: pd.DataFrame, x: str = "n_params") -> dict[str, str]:
    """Return the columns and values that select the variant with the most runs, values as text."""
    columns = law_columns(table, x)
    part = max(split_variants(table, x).values(), key=len)
    values = [part[column].iloc[0] for column in columns]
    return _variant_values(columns, values, _varied_without_teacher(table, columns))


def describe_differences(table: pd.DataFrame, x: str = "n_params", *, most: int = 3) -> str:
    """Return the columns in which variants differ, e.g. `distill (2: cold, none), packing (2: none, request)`.

    Args:
        table: one row per run.
        x: the column of the law's size.
        most: values shown of each column.
    """
    parts = []
    texts = {
        column: sorted({value_text(value) for value in table[column].dropna()})
        for column in law_columns(table, x)
    }
    # an option that some models lack says less than one with several values
    several = {column: values for column, values in texts.items() if len(values) > 1}
    for column, values in (several or texts).items():
        more = ", ..." if len(values) > most else ""
        parts.append(f"{column} ({len(values)}: {', '.join(values[:most])}{more})")
    return ", ".join(parts)


def plain_columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the table as `scaling.serving` takes it: plain values by column, None for a missing value."""
    return {str(c): table[c].astype(object).where(table[c].notna(), None).tolist() for c in table}


def variant_columns(table: pd.DataFrame, *more: str) -> list[str]:
    """Return the columns in which runs differ that no law describes together, and `more` if these vary."""
    return varied_settings(plain_columns(table), *more)


def distinguishing_columns(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return `names` without the columns that follow from the others; of equivalent ones the first stays."""
    return distinguishing_settings(plain_columns(table[list(names)]), names)


def describe_variants(table: pd.DataFrame) -> list[str]:
    """Return the columns that name a variant: its grade, its teacher's, and others that distinguish some variants.

    They include the model's size only if no other column distinguishes it.
    """
    names = ["grade", *variant_columns(table, "teacher_grade"), "n_params"]
    return distinguishing_columns(
        table, [n for n in names if n in table.columns and n != "data_fingerprint"]
    )


def _varied_without_teacher(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return the columns in which runs without a teacher differ; in a foreign table, even a lambda may be one."""
    if "distill" not in table.columns:
        return []
    plain = table[table["distill"] == NO_TEACHER]
    return [column for column in columns if len(plain[column].unique()) > 1]


def variant_label(
    columns: Sequence[str], values: Iterable[object], always: Sequence[str] = ()
) -> str:
    """Name a variant by its values, e.g. `distill=cold, teacher_grade=SUAN-3`."""
    shown = _variant_values(columns, values, always)
    return ", ".join(f"{column}={value}" for column, value in shown.items())


def _variant_values(
    columns: Sequence[str], values: Iterable[object], always: Sequence[str] = ()
) -> dict[str, str]:
    """Return the columns and values that name a variant, values as text.

    Columns that do not apply are left out: a run without a teacher has neither a teacher's grade nor a
    lambda. Those in `always` are never left out.
    """
    shown = dict(zip(columns, values, strict=True))
    if shown.get("distill") == NO_TEACHER:
        of_teacher = [
            c for c in columns if c.startswith(("distill_", "teacher_")) and c not in always
        ]
        shown = {c: v for c, v in shown.items() if c not in of_teacher}
    known = {c: v for c, v in shown.items() if not pd.isna(v)} or shown  # type: ignore[call-overload]
    return {column: value_text(value) for column, value in known.items()}
