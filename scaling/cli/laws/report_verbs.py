"""Verbs that draw figures: `scaling plot | report`."""

from __future__ import annotations

import logging
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.fit_inputs import (
    BestOf,
    Delta,
    FigureKind,
    Hold,
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
    check_size_columns,
    chosen_options,
    law_of_table,
    load_table,
    metrics_of,
    one_variant,
    rows_to_fit,
)
from scaling.cli.options import Data, Metrics, Overrides, Runs, Source, Where, WholeFolder, X
from scaling.cli.output import print_parts
from scaling.errors import UserError

if TYPE_CHECKING:
    from analysis.fit import FitOptions
    from analysis.plots import Picture
    from analysis.study_results import StudyLaw

__all__ = ["add_verbs"]

logger = logging.getLogger(__name__)
# Characters of an error that is logged as a warning.
_MOST_LOGGED = 300
_MOST_BUDGET_MS = 1e6


Law = Annotated[
    SizeLaw | None,
    typer.Option(
        help="A law of model size and data size, or of one size [default: additive; saturating for a table with one size]."
    ),
]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    app.command("plot")(plot)
    app.command("report")(report)


def plot(
    source: Source,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Metrics = None,
    kind: Annotated[
        list[FigureKind] | None,
        typer.Option(
            help="Figures to draw; frontier draws the training-cost frontier and, if serve-bench "
            "has measured latencies, the latency frontier; repeatable [default: all]."
        ),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Candidates per request, for the latency frontier.")
    ] = 100,
    budget_ms: Annotated[
        float, typer.Option(help="Time budget of a request in ms, for the latency frontier.")
    ] = 10.0,
    law: Law = None,
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
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder of the PNG files [default: the study's figures/]."
        ),
    ] = None,
) -> None:
    """Draw the figures and print their paths.

    Example: scaling plot studies/quickstart.toml --kind data -o figures
    """
    from analysis.plots import draw_figures
    from analysis.report import FIGURE_BYTES, file_names
    from analysis.study_results import fit_study
    from analysis.table import check_sizes, sized_rows
    from scaling.atomic_files import atomic_path

    if not 0 < budget_ms <= _MOST_BUDGET_MS:
        raise UserError(
            f"--budget-ms {budget_ms:g}: expected a positive number of milliseconds, at most {_MOST_BUDGET_MS:g}"
        )
    options = chosen_options(loss, delta, residual, weights, hold)
    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    metrics = metrics_of(loaded.table, y)
    how, x, data = _study_law(loaded, law, x, data, metrics, limit, options)
    check_sizes(loaded.table, x, data, metrics)  # before the latency figures are drawn
    pictures: dict[str, Picture] = {}
    kinds = [name.value for name in kind or FigureKind]
    if loaded.is_study and "frontier" in kinds:
        try:
            pictures = _latency_figures(loaded, metrics, candidates, budget_ms)
        except UserError as error:
            if kind:
                raise
            logger.warning("no figure of latency: %s", error)
    try:
        sizes = list(dict.fromkeys([x, data]))
        chosen = rows_to_fit(loaded.table, sizes, metrics, rising=rising, best_of=best_of)
        chosen.warn()
        rows = sized_rows(one_variant(chosen.table, x), x, data, metrics)
        study = fit_study(
            rows,
            metrics,
            x=x,
            data=data,
            rising=chosen.rising,
            law=how,
            extrapolate=FigureKind.HOLDOUT.value in kinds,
        )
        pictures |= draw_figures(study, kinds)
    except UserError as error:
        if kinds != ["frontier"]:
            raise
        if not pictures and loaded.is_study:
            raise UserError(
                f"{loaded.folder}: not measured yet: `scaling serve-bench {loaded.folder}` first, for the "
                f"frontier of latency; and for that of training cost {error}"
            ) from error
        if not pictures:
            raise
        reason = textwrap.shorten(str(error), _MOST_LOGGED, placeholder=" ...")
        logger.warning("no frontier of training cost: %s", reason)
    if kind and not pictures:
        hint = "; `scaling isoflop` says why" if "isoflop" in kinds else ""
        raise UserError(f"no figure of kind {', '.join(kinds)} for these runs{hint}")
    folder = output or loaded.folder / "figures"
    for label, name in file_names(pictures, FIGURE_BYTES).items():
        path = folder / f"{name}.png"
        with atomic_path(path) as temporary:
            temporary.write_bytes(pictures[label].png)
        print(path)


def _study_law(
    loaded: Loaded,
    law: SizeLaw | None,
    x: str,
    data: str,
    metrics: list[str],
    limit: float | None,
    options: FitOptions,
) -> tuple[StudyLaw, str, str]:
    """The law of a study, and its columns of sizes, which are the same for a law of one size.

    Raises:
        UserError: a limit or a held parameter is given for several metrics, or no law has such a parameter.
    """
    from analysis.laws import build_law
    from analysis.study_results import StudyLaw

    name, x = law_of_table(law, loaded.table, x, data, metrics)
    form = build_law(name)
    check_held([form], options)
    given = "--limit" if limit is not None else "--hold" if options.fixed else ""
    if given and len(metrics) > 1:
        raise UserError(
            f"{given}: it is that of one metric, here are {len(metrics)} ({', '.join(metrics)}); name one with --y"
        )
    data = data if len(form.variables) > 1 else x
    check_size_columns(loaded.table, list(dict.fromkeys([x, data])))
    return StudyLaw(name, limit, options), x, data


def _latency_figures(
    loaded: Loaded, metrics: list[str], candidates: int, budget_ms: float
) -> dict[str, Picture]:
    """Figures of accuracy against latency, by name; none if nothing was measured."""
    from analysis.latency import best_under, measured_counts, served_models
    from analysis.plots import draw_latency

    if not measured_counts(loaded.table, loaded.folder):
        return {}
    served = [
        served_models(loaded.table, loaded.folder, metric, n_candidates=candidates)
        for metric in metrics
    ]
    for one in served:
        logger.info("%s: %s", one.metric, best_under(one.models, one.metric, budget_ms))
    for note in dict.fromkeys(note for one in served for note in one.notes):
        logger.warning("%s", note)
    return draw_latency(served, budget_ms=budget_ms)


def report(
    source: Source,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Metrics = None,
    law: Law = None,
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
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder to write to [default: the study's run folder]."
        ),
    ] = None,
) -> None:
    """Fit everything; write the report as HTML, Markdown and JSON, table.csv, fits/ and figures/; print exponents, the verdict and paths.

    Example: scaling report studies/quickstart.toml
    """
    from analysis.forecasts import LEDGER_FOLDER, read_ledger, score_forecasts
    from analysis.report import analyse, analyse_table
    from analysis.table import check_sizes
    from scaling.records import user_command

    options = chosen_options(loss, delta, residual, weights, hold)
    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    metrics = metrics_of(loaded.table, y)
    form, x, data = _study_law(loaded, law, x, data, metrics, limit, options)
    check_sizes(loaded.table, x, data, metrics)
    sizes = list(dict.fromkeys([x, data]))
    rows = rows_to_fit(loaded.table, sizes, metrics, rising=rising, best_of=best_of)
    how: dict[str, Any] = {"title": loaded.title, "metrics": metrics, "x": x, "data": data}
    how |= {"rising": rows.rising, "law": form}
    only = [f"Only runs with {', '.join(where)}."] if where else []
    how["notes"] = [*only, *loaded.notes, *(f"{note}." for note in rows.notes)]
    how["commands"] = [user_command()]
    if loaded.is_study:
        # Nobody knows which planned runs belong to a part of the study.
        planned = None if where or whole_folder or best_of else loaded.planned
        result = analyse(loaded.folder, table=rows.table, planned=planned, out=output, **how)
    else:
        provenance = [("Table", str(source))]
        ledger = read_ledger(source.parent / LEDGER_FOLDER)
        how["forecasts"] = score_forecasts(ledger, loaded.table)
        result = analyse_table(rows.table, output or loaded.folder, provenance=provenance, **how)
    print_parts([result.text])
