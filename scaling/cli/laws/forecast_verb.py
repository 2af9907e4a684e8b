"""The verb on forecasts: `scaling forecast`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.atomic_files import json_values
from scaling.cli.fit_inputs import (
    BestOf,
    BootstrapSeed,
    Delta,
    LawName,
    LimitOfE,
    Loaded,
    Loss,
    LossName,
    Residual,
    Rising,
    Weights,
    WeightsName,
    chosen_options,
    direction_for,
    law_of_table,
    load_table,
    matching,
    refuse_law_of_metric,
    rows_of_law,
    size_columns,
)
from scaling.cli.laws.forecast_target import parse_target, refuse_if_training, target_flops
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
    import pandas as pd

    from analysis.fit import LawFit

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("forecast")(forecast)


def forecast(
    source: Source,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N,D",
            help="Sizes to forecast, or GRADE,D (of a study, any grade); only D for a law of one size; repeatable.",
        ),
    ] = None,
    score: Annotated[
        bool,
        typer.Option("--score", help="Compare the ledger with the runs that came later instead."),
    ] = False,
    assume: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Hold a parameter, e.g. E; repeatable."),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the forecasts [default: forecasts/ in the study's run folder, or beside the CSV]."
        ),
    ] = None,
    law: Annotated[
        LawName | None,
        typer.Option(
            help="The law, as for fit [default: additive; saturating for a table with one size]."
        ),
    ] = None,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Y = None,
    loss: Loss = LossName.GAUSSIAN,
    delta: Delta = None,
    residual: Residual = None,
    weights: Weights = WeightsName.NONE,
    bootstrap: Annotated[
        int | None,
        typer.Option(min=2, help="Take the law's error from this many resamples of the cells."),
    ] = None,
    seed: BootstrapSeed = 0,
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
    """Write a dated forecast of sizes that no run has, or score the ledger; exit 1 if a file in it is damaged.

    A forecast is never changed; asking for it again only prints it.

    Example: scaling forecast studies/quickstart.toml --at W16,1048576 --assume E=0.3890
    """
    from analysis.fit import fit_law
    from analysis.forecasts import LEDGER_FOLDER
    from analysis.laws import build_law

    if score == bool(at):
        raise UserError("give sizes to forecast (--at N,D), or --score, one of them")
    if law is not None:
        refuse_law_of_metric(law.value)
    loaded = load_table(source, runs, None, overrides=overrides, whole_folder=whole_folder)
    folder = ledger or _home(source, loaded) / LEDGER_FOLDER
    if score:
        _score(loaded, folder, where, as_json=as_json, output=output)
        return
    options = chosen_options(
        loss,
        delta,
        residual,
        weights,
        assume,
        hold_option="--assume",
        n_draws=bootstrap,
        seed=seed,
    )
    table = loaded.table[matching(loaded.table, where or [])]
    name, x = law_of_table(law, table, x, data, [y] if y else [])
    sizes = size_columns(name, x, data)
    rising = direction_for(name, rising, table, x, y)
    rows = rows_of_law(table, sizes, y, rising=rising, best_of=best_of)
    rows.warn()
    (metric,) = rows.metrics
    form = build_law(name, rising=rows.rising[metric], limit=limit)
    fit = fit_law(form, rows.table, x=x, data=data, y=metric, options=options)
    if not fit.success:
        logger.warning("the law is only a direction: %s, %s", fit.status, fit.message)
    _forecast(loaded, folder, rows.table, fit, at or [], as_json=as_json, output=output)


def _home(source: Path, loaded: Loaded) -> Path:
    return loaded.folder if loaded.is_study else source.parent


def _forecast(
    loaded: Loaded,
    folder: Path,
    rows: pd.DataFrame,
    fit: LawFit,
    at: list[str],
    *,
    as_json: bool,
    output: Path | None,
) -> None:
    """Make all forecasts, and only then write the first."""
    from dataclasses import asdict

    from analysis.forecasts import add_forecast, make_forecast, settings_of

    known = loaded.known
    settings = settings_of(rows, known, list(fit.columns.values()))
    made = []
    for text in dict.fromkeys(at):
        grade, target = parse_target(text, fit, loaded)
        refuse_if_training(text, target, loaded.planned)
        flops = target_flops(target, rows, loaded.planned)
        made.append(
            make_forecast(
                fit,
                rows,
                known,
                target,
                study=loaded.title,
                settings=settings,
                grade=grade,
                target_flops=flops,
            )
        )
    kept = [add_forecast(folder, one) for one in made]
    lines = []
    for one, path, is_new in kept:
        beyond = ", ".join(f"{reach:.3g} x {column}" for column, reach in one.reach.items())
        lines.append(
            f"{one.metric} at {one.place}: {one.value:.5f}, 95 % of single runs in [{one.lower:.5f}, {one.upper:.5f}]; "
            f"{one.law_text} law, {one.n_runs} runs, {beyond} of the largest"
        )
        lines.append(f"  {'written' if is_new else f'already there since {one.made}'}: {path}")
    documents = [{"file": str(path), "new": is_new, **asdict(one)} for one, path, is_new in kept]
    emit(lines, documents, as_json=as_json, output=output)


def _score(
    loaded: Loaded, folder: Path, where: list[str] | None, *, as_json: bool, output: Path | None
) -> None:
    from analysis.forecasts import (
        read_ledger,
        score_forecasts,
        score_rows,
        score_table,
        score_text,
    )

    entries = read_ledger(folder)
    if not entries:
        raise UserError(f"{folder}: no forecast yet; `scaling forecast ... --at N,D` writes one")
    rows = loaded.table[matching(loaded.table, where or [])]
    scores = score_forecasts(entries, rows)
    emit(
        [Table(*score_table(scores)), *score_text(scores)],
        json_values(score_rows(scores)),
        as_json=as_json,
        output=output,
    )
    if any(one.outcome == "damaged" for one in scores):
        logger.error("%s: a file is damaged and does not count", folder)
        raise typer.Exit(1)
