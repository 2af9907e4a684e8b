"""The tables, laws and options of variants, for the verbs that compare them."""

from __future__ import annotations

import logging
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.fit_inputs import (
    LawName,
    load_table,
    load_tables,
    matching,
    metrics_of,
    rows_of_law,
    size_columns,
)
from scaling.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fit import FitOptions
    from analysis.gain import VariantLaw

__all__ = [
    "AtMultiple",
    "HoldInEach",
    "LawOfVariants",
    "combined_table",
    "default_reference",
    "laws_of",
    "metric_of",
    "variants_of",
]


logger = logging.getLogger(__name__)


AtMultiple = Annotated[
    list[float] | None,
    typer.Option(
        "--at-multiple",
        min=0,
        help="Budget as a multiple of the largest one that the runs of all variants cover; repeatable [default: five "
        "budgets among the runs and one ten times beyond].",
    ),
]
LawOfVariants = Annotated[
    LawName | None,
    typer.Option(
        help="A law of model size and data size, or of one size: then the budget is --x [default: additive; "
        "saturating for tables with one size]."
    ),
]
HoldInEach = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Hold a parameter of every law, e.g. E; repeatable."),
]


# Of several tables, the column that names each row's.
_TABLE = "table"
# Names that other tables have for the column model.kind.
_KINDS = ("kind", "model")
# Rows without a metric that are named.
_SHOWN = 5


def combined_table(
    sources: list[Path],
    runs: Path | None,
    where: list[str] | None,
    overrides: list[str] | None,
    whole_folder: bool,
) -> pd.DataFrame:
    """All runs of studies, or all rows of CSVs, which the column `table` then tells apart.

    Raises:
        UserError: studies and CSVs are mixed, or two CSVs have one name.
    """
    import pandas as pd

    texts = [source for source in sources if source.suffix != ".toml" and not source.is_dir()]
    if len(sources) == 1 or not texts:
        return load_tables(sources, runs, where, overrides=overrides, whole_folder=whole_folder)
    if len(texts) < len(sources):
        raise UserError(
            f"{texts[0]}: a CSV cannot be combined with studies; write theirs with `scaling table -o FILE.csv`"
        )
    names = [source.stem for source in sources]
    if len(set(names)) < len(names):  # e.g. runs.csv of several folders
        names = [source.resolve().parent.name for source in sources]
    if len(set(names)) < len(names):
        raise UserError(f"several tables have the name {max(names, key=names.count)}; rename one")
    loaded = [
        load_table(one, runs, None).table.assign(**{_TABLE: name})
        for one, name in zip(sources, names, strict=True)
    ]
    rows = pd.concat(loaded, ignore_index=True)
    return rows[matching(rows, where or [])]


def default_reference(table: pd.DataFrame, x: str) -> list[str]:
    """The conditions of the model that the others are compared with if none is named: SUAN.

    Raises:
        UserError: the runs differ in other columns than the kind, or in none; the message names them.
    """
    from analysis.table import describe_differences, largest_variant, law_columns, source_of

    if "model.kind" in table.columns and (table["model.kind"] == "suan").any():
        return ["model.kind=suan"]
    # a table of others may name the kind otherwise
    column = next((name for name in _KINDS if name in table and len(set(table[name])) > 1), None)
    if column is not None and "model.kind" not in table.columns:
        values = table[column].astype(str)
        value = "suan" if (values == "suan").any() else values.mode().iloc[0]
        raise UserError(
            f"{source_of(table)}: no column model.kind; name the model to compare with, e.g. "
            f"--reference {shlex.quote(f'{column}={value}')}"
        )
    varied = x in table.columns and law_columns(table, x)
    if not varied:
        raise UserError("a race needs runs of two models, but these differ in sizes and seed only")
    largest = " ".join(
        f"--reference {shlex.quote(f'{column}={value}')}"
        for column, value in largest_variant(table, x).items()
    )
    raise UserError(
        f"no run is of model.kind=suan; the runs differ in {describe_differences(table, x)}: name the model to compare with, "
        f"e.g. {largest}"
    )


def metric_of(table: pd.DataFrame, y: str | None) -> str:
    """The metric to compare by: `y`, or the table's first.

    Raises:
        UserError: as `metrics_of`.
    """
    return metrics_of(table, [y] if y else None)[0]


def variants_of(
    table: pd.DataFrame, reference: list[str], x: str
) -> tuple[dict[str, pd.DataFrame], str]:
    """The rows of each variant by its name, and the name of the reference.

    Variants differ in the columns of the reference's conditions, and in settings that one law must not mix.

    Raises:
        UserError: there is only one variant, or the reference is not one.
    """
    from analysis.table import (
        describe_differences,
        distinguishing_columns,
        law_columns,
        variant_label,
    )

    is_reference = matching(table, reference, "--reference")
    named = [condition.partition("=")[0] for condition in reference]
    columns = distinguishing_columns(table, list(dict.fromkeys([*named, *law_columns(table, x)])))
    parts = {}
    for values, rows in table.groupby(columns, sort=True, dropna=False):
        here = is_reference[rows.index]
        label = variant_label(columns, values)
        if here.all() and rows[columns].isna().all(axis=None):  # as SUAN has no window
            label = variant_label(named, rows.iloc[0][named])
        parts[label] = (rows, here)
    found = [label for label, (_, chosen) in parts.items() if chosen.any()]
    if len(parts) < 2:
        raise UserError(
            f"--reference {shlex.join(reference)}: all rows are this variant; a comparison needs two"
        )
    if len(found) > 1:
        raise UserError(
            f"--reference {shlex.join(reference)}: the reference is of {len(found)} variants, which differ in "
            f"{describe_differences(table[is_reference], x)}; add conditions"
        )
    return {label: rows for label, (rows, _) in parts.items()}, found[0]


def laws_of(
    variants: dict[str, pd.DataFrame],
    law: str,
    columns: tuple[str, str, str],
    options: FitOptions,
    *,
    rising: bool | None,
    limit: float | None,
    best_of: str | None,
) -> list[VariantLaw]:
    """Fit the law of each variant; `columns` are those of model size, data size and metric."""
    import numpy as np

    from analysis.budget import read_cost
    from analysis.fit import fit_law
    from analysis.gain import VariantLaw
    from analysis.laws import build_law
    from analysis.table import first_few, place_of

    x, data, metric = columns
    laws: list[VariantLaw] = []
    said: set[str] = set()
    for name, table in variants.items():
        sizes = size_columns(law, x, data)
        rows = rows_of_law(table, sizes, metric, rising=rising, best_of=best_of)
        rows = replace(rows, notes=tuple(note for note in rows.notes if note not in said))
        said.update(rows.notes)
        rows.warn()
        empty = rows.table.index[~np.isfinite(rows.table[metric].astype(float))]
        if len(empty):
            places = first_few((place_of(rows.table, row) for row in empty), _SHOWN)
            logger.warning(
                "%s: %d of %d rows have no %s and are left out: %s",
                *(name, len(empty), len(rows.table), metric, places),
            )
        form = build_law(law, rising=rows.rising[metric], limit=limit)
        fit = fit_law(form, rows.table, x=x, data=data, y=metric, options=options)
        joint = form.variables == ("N", "D")
        cost = read_cost(rows.table, "flops", x=x, data=data) if joint else None
        laws.append(VariantLaw(name, fit, rows.table, cost))
    return laws
