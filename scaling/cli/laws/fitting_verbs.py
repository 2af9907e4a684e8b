"""Verbs on finished runs and any CSV: `scaling table | fit | holdout`."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.atomic_files import json_values
from scaling.cli.fit_inputs import (
    BestOf,
    BootstrapSeed,
    CutName,
    Delta,
    Embeddings,
    Hold,
    IntervalName,
    LawName,
    LimitOfE,
    Loaded,
    Loss,
    LossName,
    Residual,
    Rising,
    SizeLaw,
    Weights,
    WeightsName,
    check_held,
    chosen_options,
    direction_for,
    law_of_table,
    load_table,
    rows_of_law,
    size_columns,
    whole_numbers,
)
from scaling.cli.laws.predictions import predictions
from scaling.cli.options import (
    AsJson,
    Data,
    Output,
    Overrides,
    Runs,
    Source,
    Where,
    WholeFolder,
    X,
    Y,
)
from scaling.cli.output import emit
from scaling.cli.tables import Table
from scaling.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from analysis.study_results import Cut

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)
_TABLE_COLUMNS = (
    "grade",
    "n_params",
    "max_len",
    "n_samples",
    "seed",
    "day",
    "flops",
    "train_seconds",
)


# What the columns of the scores are.
_COLUMNS = (
    "held_out: levels (sizes) above the cut; n_train: runs below it; n_test: cells above it; reach: largest size held out over "
    "the largest below.",
    "mean_absolute_error, mean_error, worst_error: prediction over measurement less 1, of the cells above the cut; fit_error: "
    "the same below it, root mean square.",
    "inside: share of the cells within their 95 % prediction interval; verdict: best, or only fits (as good below the cut, "
    "twice as far off above it).",
)


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    app.command("table")(table)
    app.command("fit")(fit)
    app.command("holdout")(holdout)


def table(
    source: Source,
    runs: Runs = None,
    where: Where = None,
    overrides: Overrides = None,
    whole_folder: WholeFolder = False,
    as_json: AsJson = False,
    output: Output = None,
    by_day: Annotated[
        bool,
        typer.Option(
            "--by-day",
            help="One row per run and day of the test part; for logs that are split by time.",
        ),
    ] = False,
) -> None:
    """Print one row per finished run; with -o FILE.csv write every column as CSV.

    Example: scaling table studies/quickstart.toml -o runs.csv
    """
    from analysis.table import default_metrics, write_table

    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    rows = _days(loaded, source) if by_day else loaded.table
    if output is not None and not as_json and str(output) != "-":
        write_table(rows, output)
        print(output)
        return
    metrics = list(dict.fromkeys(["logloss", "auc", *default_metrics(rows)]))
    wanted = [c for c in (*_TABLE_COLUMNS, *_differing(rows)) if c in rows.columns]
    metrics = [c for c in metrics if c in rows.columns]
    shown = [*dict.fromkeys(wanted), *metrics] or [str(c) for c in rows.columns]
    printed = whole_numbers(rows[shown].drop(columns=metrics)).join(rows[metrics])[shown]
    text = Table(shown, printed.to_numpy(dtype=object).tolist())
    emit(text, json_values(rows.to_dict("records")), as_json=as_json, output=output)


def _days(loaded: Loaded, source: Path) -> pd.DataFrame:
    """The metrics by day of the loaded runs.

    Raises:
        UserError: the source is a CSV, or no run has metrics by day.
    """
    from analysis.table import days_table

    if not loaded.is_study:
        raise UserError(f"{source}: --by-day reads the records of a study or of its folder of runs")
    days = days_table(loaded.folder)
    days = days[days["signature"].isin(loaded.table["signature"])].reset_index(drop=True)
    if days.empty:
        raise UserError(
            f"{loaded.folder}: no run has metrics by day; a log that is split by user has none, nor have runs of "
            "versions before them"
        )
    return days


def _differing(rows: pd.DataFrame) -> list[str]:
    """The columns other than sizes in which runs differ; always the teacher of distilled runs."""
    from analysis.table import variant_columns

    taught = ["distill", "teacher_grade", "teacher_data"]
    varied = [
        c for c in variant_columns(rows, "teacher_grade") if len(rows[c].dropna().unique()) > 1
    ]
    return [*(c for c in taught if c in rows.columns), *varied]


def fit(
    source: Source,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Y = None,
    law: Annotated[
        LawName | None,
        typer.Option(
            help="The law: additive to bottleneck use --x and --data, length to data-constrained "
            "also use a third size, and the others use only --x. For a metric as a function of a loss --x: exponential, "
            "sigmoid. For best sizes, batches and rates: log-linear (--x) and log-linear-joint (--x and --data), exponents "
            "of either sign. [default: additive; saturating for a table with one size]"
        ),
    ] = None,
    loss: Loss = LossName.GAUSSIAN,
    delta: Delta = None,
    over: Annotated[
        float, typer.Option(help="Weight of predictions above the metric, with huber.")
    ] = 1.0,
    residual: Residual = None,
    weights: Weights = WeightsName.NONE,
    hold: Hold = None,
    length: Annotated[
        str, typer.Option(help="Column of the sequence length, for --law length.")
    ] = "max_len",
    epochs: Annotated[
        str, typer.Option(help="Column of the uses of each sample, for --law repeated.")
    ] = "epochs",
    embeddings: Embeddings = "n_embedding_params",
    bootstrap: Annotated[
        int | None,
        typer.Option(min=2, help="Bootstrap intervals from this many resamples of the cells."),
    ] = None,
    seed: BootstrapSeed = 0,
    interval: Annotated[
        IntervalName | None,
        typer.Option(
            help="Kind of the intervals [default: profile with gaussian, bootstrap with huber]."
        ),
    ] = None,
    rising: Rising = None,
    limit: LimitOfE = None,
    best_of: BestOf = None,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="N,D", help="Also predict at these sizes; repeatable."),
    ] = None,
    runs: Runs = None,
    where: Where = None,
    overrides: Overrides = None,
    whole_folder: WholeFolder = False,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Fit one law; exit 1 unless the data determine it.

    Example: scaling fit runs.csv --x n_params --data n_samples --y logloss --law additive
    """
    from analysis.budget import with_advice
    from analysis.fit import fit_law
    from analysis.laws import build_law

    options = chosen_options(
        loss,
        delta,
        residual,
        weights,
        hold,
        over=over,
        interval=interval.value if interval else None,
        n_draws=bootstrap,
        seed=seed,
    )
    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    name, x = law_of_table(law, loaded.table, x, data, [y] if y else [])
    sizes = size_columns(name, x, data, length, epochs, embeddings)
    rising = direction_for(name, rising, loaded.table, x, y)
    rows = rows_of_law(loaded.table, sizes, y, rising=rising, best_of=best_of)
    (metric,) = rows.metrics
    form = build_law(name, rising=rows.rising[metric], limit=limit)
    columns = {"x": x, "data": data, "y": metric, "length": length, "epochs": epochs}
    columns |= {"embeddings": embeddings}
    result = with_advice(fit_law(form, rows.table, **columns, options=options))
    result = replace(result, notes=(*result.notes, *rows.notes))
    predicted = predictions(result, at)
    text = "\n".join([result.summary(), *(line for line, _ in predicted)])
    document = result.to_document()
    if predicted:
        document["predictions"] = [values for _, values in predicted]
    emit(text, document, as_json=as_json, output=output)
    if not result.success:
        raise typer.Exit(1)


def holdout(
    source: Source,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Y = None,
    law: Annotated[
        list[SizeLaw] | None,
        typer.Option(
            help="A law of model size and data size, or of one size; repeatable [default: all of both sizes, or of one "
            "for a table with one]."
        ),
    ] = None,
    cut: Annotated[
        list[CutName] | None,
        typer.Option(
            help="Which largest runs to hold out; repeatable [default: all; a law of one size has only the cut size]."
        ),
    ] = None,
    every_level: Annotated[
        bool,
        typer.Option("--every-level", help="Hold out the largest level, then the two largest, ..."),
    ] = False,
    loss: Loss = LossName.GAUSSIAN,
    delta: Delta = None,
    residual: Residual = None,
    weights: Weights = WeightsName.NONE,
    hold: Hold = None,
    rising: Rising = None,
    limit: LimitOfE = None,
    best_of: BestOf = None,
    runs: Runs = None,
    where: Where = None,
    overrides: Overrides = None,
    whole_folder: WholeFolder = False,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Fit laws below a cut and score them above it; exit 1 if no law can be fitted. --json adds the cells.

    Example: scaling holdout runs.csv --y auc --cut data --every-level
    """
    from analysis.laws import build_law
    from analysis.study_results import holdout as hold_out
    from analysis.study_results import joint_laws, largest_cells, score_holdout, single_laws

    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    first, x = law_of_table(law[0] if law else None, loaded.table, x, data, [y] if y else [])
    sizes = size_columns(first, x, data)
    rows = rows_of_law(loaded.table, sizes, y, rising=rising, best_of=best_of)
    rows.warn()
    (metric,) = rows.metrics
    rises, single = rows.rising[metric], len(sizes) == 1
    every = single_laws if single else joint_laws
    names = [name.value for name in law] if law else [one.name for one in every()]
    laws = [build_law(name, rising=rises, limit=limit) for name in names]
    # only predictions are used, so no intervals of parameters are computed
    options = chosen_options(loss, delta, residual, weights, hold, interval="none")
    check_held(laws, options)
    possible = [CutName.SIZE] if single else list(CutName)
    cuts: list[Cut] = [name.value for name in cut or possible]
    cells = hold_out(
        laws,
        rows.table,
        x=x,
        data=data,
        y=metric,
        cuts=cuts,
        every_level=every_level,
        options=options,
    )
    scores = score_holdout(cells)
    largest = largest_cells(cells)
    parts = {"scores": scores.to_dict("records"), "largest": largest.to_dict("records")}
    document = json_values({"metric": metric, **parts, "cells": cells.to_dict("records")})
    heading = "\nthe largest held-out cell, with 95 % prediction intervals:"
    text = [_as_text(scores), *_COLUMNS, heading, _as_text(_held(largest))]
    emit(text, document, as_json=as_json, output=output)
    if scores.empty or scores["mean_absolute_error"].isna().all():
        logger.error("nothing could be scored: no law can be fitted below a cut")
        raise typer.Exit(1)


def _as_text(rows: pd.DataFrame) -> str | Table:
    return Table([str(c) for c in rows.columns], rows.to_numpy(dtype=object).tolist())


def _held(largest: pd.DataFrame) -> pd.DataFrame:
    """The rows with `inside` in words; a law without an interval has none."""
    words = {1.0: "yes", 0.0: "no"}
    return largest.assign(inside=[words.get(value, "-") for value in largest.get("inside", [])])
