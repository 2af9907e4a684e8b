"""Verbs on finished runs and any CSV: `scaling table | fit | holdout`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.laws.sources import (
    json_records,
    load_table,
    metrics_of,
    one_variant,
    parse_numbers,
    predictions,
    whole_numbers,
)
from scaling.cli.options import AsJson, Data, Output, Runs, Source, Where, X, Y
from scaling.cli.output import emit, format_table
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)
_TABLE_COLUMNS = ("grade", "n_params", "max_len", "n_samples", "seed", "flops", "train_seconds")


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    app.command("table")(table)
    app.command("fit")(fit)
    app.command("holdout")(holdout)


def table(
    source: Source,
    runs: Runs = None,
    where: Where = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print one row per finished run; with -o FILE.csv write every column as CSV.

    Example: scaling table studies/quickstart.toml -o runs.csv
    """
    from analysis.table import default_metrics, write_table

    rows = load_table(source, runs, where).table
    if output is not None and not as_json and str(output) != "-":
        write_table(rows, output)
        print(output)
        return
    metrics = list(dict.fromkeys(["logloss", "auc", *default_metrics(rows)]))
    wanted = [c for c in (*_TABLE_COLUMNS, *_told_apart(rows)) if c in rows.columns]
    metrics = [c for c in metrics if c in rows.columns]
    shown = [*dict.fromkeys(wanted), *metrics] or [str(c) for c in rows.columns]
    told = whole_numbers(rows[shown].drop(columns=metrics)).join(rows[metrics])[shown]
    text = format_table(shown, told.to_numpy(dtype=object).tolist())
    emit(text, json_records(rows), as_json=as_json, output=output)


def _told_apart(rows: pd.DataFrame) -> list[str]:
    """The columns in which runs differ beside their sizes; of distilled ones always who taught them."""
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
        str,
        typer.Option(
            help="additive, tied, multiplicative, kaplan, interaction; length, repeated, "
            "data-constrained (a third size); saturating, power, shifted, broken (of --x)."
        ),
    ] = "additive",
    loss: Annotated[
        str, typer.Option(help="gaussian (cells' means) or huber (rows).")
    ] = "gaussian",
    delta: Annotated[float, typer.Option(help="Huber's threshold on the residuals.")] = 1e-3,
    over: Annotated[
        float, typer.Option(help="Weight of predictions above the metric, with huber.")
    ] = 1.0,
    residual: Annotated[
        str | None, typer.Option(help="raw or log [default: raw with gaussian, log with huber].")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="none, or stderr: weigh rows by 1 / Y_stderr squared.")
    ] = "none",
    hold: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Hold a parameter; repeatable."),
    ] = None,
    length: Annotated[
        str, typer.Option(help="Column of the sequence length, for --law length.")
    ] = "max_len",
    epochs: Annotated[
        str, typer.Option(help="Column of the uses of each sample, for --law repeated.")
    ] = "epochs",
    bootstrap: Annotated[
        int | None, typer.Option(min=2, help="Intervals from this many resamples of the cells.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    interval: Annotated[
        str | None,
        typer.Option(
            help="profile, bootstrap, wald or none "
            "[default: profile with gaussian, bootstrap with huber]."
        ),
    ] = None,
    rising: Annotated[
        bool | None,
        typer.Option("--rising/--falling", help="The metric's direction [default: by its name]."),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(help="Limit that E cannot pass [default: 0 falling, 1 rising]."),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="N,D", help="Also predict at these sizes; repeatable."),
    ] = None,
    runs: Runs = None,
    where: Where = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Fit one law; exit 1 unless the data determine it.

    Example: scaling fit runs.csv --x n_params --data n_samples --y logloss --law additive
    """
    from analysis.budget import with_advice
    from analysis.fit import fit_law
    from analysis.laws import build_law
    from analysis.table import rises

    rows = one_variant(load_table(source, runs, where).table, x)
    metric = metrics_of(rows, [y] if y else None)[0]
    for name, value, valid in (
        ("loss", loss, ("gaussian", "huber")),
        ("residual", residual or "raw", ("raw", "log")),
        ("weights", weights, ("none", "stderr")),
        ("interval", interval or "none", ("profile", "bootstrap", "wald", "none")),
    ):
        if value not in valid:
            raise UserError(f"--{name} {value}: no such choice{nearest(value, valid)}")
    form = build_law(law, rising=rises(metric) if rising is None else rising, limit=limit)
    options: dict[str, Any] = {"loss": loss, "residual": residual, "weights": weights}
    options |= {"over": over, "length": length, "epochs": epochs}
    options["interval"] = interval
    if bootstrap is not None:
        options |= {"interval": "bootstrap", "n_draws": bootstrap, "seed": seed}
    result = with_advice(
        fit_law(
            form, rows, x=x, data=data, y=metric, delta=delta, fixed=parse_numbers(hold), **options
        )
    )
    predicted = predictions(result, at)
    text = "\n".join([result.summary(), *(told for told, _ in predicted)])
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
        list[str] | None, typer.Option(help="A joint law; repeatable [default: all].")
    ] = None,
    cut: Annotated[
        list[str] | None,
        typer.Option(
            help="What to hold out: data, size, corner, flops; repeatable [default: all]."
        ),
    ] = None,
    every_level: Annotated[
        bool, typer.Option("--every-level", help="Roll each cut back level by level.")
    ] = False,
    runs: Runs = None,
    where: Where = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Fit the laws below a cut, score them above it; exit 1 if none can be. --json adds the cells.

    Example: scaling holdout runs.csv --y auc --cut data --every-level
    """
    from analysis.laws import build_law
    from analysis.study_results import CUTS, joint_laws, score_holdout
    from analysis.study_results import holdout as hold_out
    from analysis.table import rises

    rows = one_variant(load_table(source, runs, where).table, x)
    metric = metrics_of(rows, [y] if y else None)[0]
    laws = joint_laws(metric)
    if law:
        laws = [build_law(name, rising=rises(metric)) for name in law]
        for form in laws:
            if form.variables != ("N", "D"):
                raise UserError(f"--law {form.name}: not a joint law of size and data")
    for name in cut or ():
        if name not in CUTS:
            raise UserError(f"--cut {name}: no such cut{nearest(name, CUTS)}")
    cuts: Any = cut or list(CUTS)
    cells = hold_out(laws, rows, x=x, data=data, y=metric, cuts=cuts, every_level=every_level)
    scores = score_holdout(cells)
    text = format_table([str(c) for c in scores.columns], scores.to_numpy(dtype=object).tolist())
    document = {"metric": metric, "scores": json_records(scores), "cells": json_records(cells)}
    emit(text, document, as_json=as_json, output=output)
    if scores.empty or scores["mean_absolute_error"].isna().all():
        logger.error("nothing could be scored: no law can be fitted below a cut")
        raise typer.Exit(1)
