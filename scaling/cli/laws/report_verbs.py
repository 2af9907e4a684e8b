"""Verbs that draw: `scaling plot | report`."""

from __future__ import annotations

import logging
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.laws.sources import (
    Loaded,
    load_table,
    metrics_of,
    one_variant,
    planned_runs,
)
from scaling.cli.options import Data, Metrics, Runs, Source, Where, X
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from analysis.plots import Picture

__all__ = ["add_verbs"]

logger = logging.getLogger(__name__)
# Characters of an error that is told as a warning.
_MOST_TOLD = 300
_MOST_BUDGET_MS = 1e6


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
        list[str] | None,
        typer.Option(
            help="data, size, flops, excess, residuals, holdout, frontier (of training cost, and of "
            "latency where serve-bench has measured it); repeatable [default: all]."
        ),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Candidates per request, for the frontier of latency.")
    ] = 100,
    budget_ms: Annotated[
        float, typer.Option(help="What a request may take, for the same, ms.")
    ] = 10.0,
    runs: Runs = None,
    where: Where = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder of the PNG files [default: figures of the study]."
        ),
    ] = None,
) -> None:
    """Draw the figures and print their paths.

    Example: scaling plot studies/quickstart.toml --kind data -o figures
    """
    from analysis.plots import KINDS, draw_figures
    from analysis.report import FIGURE_BYTES, file_names
    from analysis.study_results import fit_study
    from analysis.table import named_sizes
    from scaling.atomic_files import atomic_path

    for name in kind or ():
        if name not in KINDS:
            raise UserError(f"--kind {name}: no such figure{nearest(name, KINDS)}")
    if not 0 < budget_ms <= _MOST_BUDGET_MS:
        raise UserError(
            f"--budget-ms {budget_ms:g}: expected a positive number of milliseconds, at most {_MOST_BUDGET_MS:g}"
        )
    loaded = load_table(source, runs, where)
    metrics = metrics_of(loaded.table, y)
    named_sizes(loaded.table, x, data, metrics)  # wrong sizes are told before anything is drawn
    pictures: dict[str, Picture] = {}
    if loaded.is_study and "frontier" in (kind or KINDS):
        try:
            pictures = _latency_figures(loaded, metrics, candidates, budget_ms)
        except UserError as error:
            if kind:
                raise
            logger.warning("no figure of latency: %s", error)
    try:
        rows = named_sizes(one_variant(loaded.table, x), x, data, metrics)
        pictures |= draw_figures(fit_study(rows, metrics), kind)
    except UserError as error:
        if kind != ["frontier"]:
            raise
        if not pictures and loaded.is_study:
            raise UserError(
                f"{loaded.folder}: not measured yet: `scaling serve-bench {loaded.folder}` first, for the "
                f"frontier of latency; and for that of training cost {error}"
            ) from error
        if not pictures:
            raise
        told = textwrap.shorten(str(error), _MOST_TOLD, placeholder=" ...")
        logger.warning("no frontier of training cost: %s", told)
    folder = output or loaded.folder / "figures"
    for label, name in file_names(pictures, FIGURE_BYTES).items():
        path = folder / f"{name}.png"
        with atomic_path(path) as temporary:
            temporary.write_bytes(pictures[label].png)
        print(path)


def _latency_figures(
    loaded: Loaded, metrics: list[str], candidates: int, budget_ms: float
) -> dict[str, Picture]:
    """Accuracy against latency, by name; nothing where nothing was measured."""
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
    runs: Runs = None,
    where: Where = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder to write to [default: the study's run folder]."
        ),
    ] = None,
) -> None:
    """Fit everything; write table.csv, fits/, figures/ and report.html; print exponents and paths.

    Example: scaling report studies/quickstart.toml
    """
    from analysis.report import analyse, analyse_table

    loaded = load_table(source, runs, where)
    asked: dict[str, Any] = {"title": loaded.title, "metrics": metrics_of(loaded.table, y)}
    asked |= {"x": x, "data": data}
    asked["notes"] = [f"Only runs with {', '.join(where)}."] if where else []
    if loaded.is_study:
        # Of a part of the study nobody knows which planned runs belong to it.
        planned = None if where else planned_runs(source, runs)
        result = analyse(loaded.folder, table=loaded.table, planned=planned, out=output, **asked)
    else:
        provenance = [("Table", str(source))]
        result = analyse_table(
            loaded.table, output or loaded.folder, provenance=provenance, **asked
        )
    print(result.text)
