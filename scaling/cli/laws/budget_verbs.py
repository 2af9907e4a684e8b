"""Verbs on further runs: `scaling allocate | next`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.atomic_files import json_values
from scaling.cli.fit_inputs import (
    BestOf,
    Delta,
    Hold,
    JointLaw,
    LimitOfE,
    Loaded,
    Loss,
    LossName,
    Residual,
    Rising,
    SizeLaw,
    Weights,
    WeightsName,
    chosen_options,
    law_of_table,
    load_table,
    need_both,
    parse_sizes,
    rows_of_law,
    size_columns,
)
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

    from analysis.budget import Allocation, Cost, SizeCost, Unit
    from analysis.fit import FitOptions, LawFit

__all__ = ["add_verbs"]


Law = Annotated[JointLaw, typer.Option(help="A law of model size and data size.")]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for name, verb in (("allocate", allocate), ("next", next_runs)):
        app.command(name)(verb)


def _fit(
    loaded: Loaded,
    x: str,
    data: str,
    y: str | None,
    law: str,
    options: FitOptions,
    rising: bool | None,
    limit: float | None,
    best_of: str | None,
) -> tuple[pd.DataFrame, LawFit]:
    from analysis.fit import fit_law
    from analysis.laws import build_law

    rows = rows_of_law(loaded.table, size_columns(law, x, data), y, rising=rising, best_of=best_of)
    rows.warn()
    (metric,) = rows.metrics
    form = build_law(law, rising=rows.rising[metric], limit=limit)
    return rows.table, fit_law(form, rows.table, x=x, data=data, y=metric, options=options)


def allocate(
    source: Source,
    flops: Annotated[
        float | None, typer.Option(min=0, help="Budget of one run in training FLOPs.")
    ] = None,
    gpu_hours: Annotated[
        float | None,
        typer.Option(
            "--gpu-hours", min=0, help="Budget of one run in hours, with costs from train_seconds."
        ),
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="Also print the cheapest run that reaches this metric.")
    ] = None,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Y = None,
    law: Law = JointLaw.ADDITIVE,
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
    """Print the best model size and data size under a budget; exit 1 unless the data determine the law.

    Example: scaling allocate runs.csv --flops 1e20
    """
    from analysis.budget import allocate as best_split
    from analysis.budget import cheapest, iso_cost, iso_loss, read_cost

    if (flops is None) == (gpu_hours is None):
        raise UserError("give one budget: --flops or --gpu-hours")
    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    options = chosen_options(loss, delta, residual, weights, hold)
    need_both(loaded.table, x, data, "a budget is split between a model size and a data size")
    rows, fit = _fit(loaded, x, data, y, law, options, rising, limit, best_of)
    unit: Unit = "flops" if gpu_hours is None else "gpu-hours"
    budget = flops if gpu_hours is None else gpu_hours
    assert budget is not None
    cost = read_cost(rows, unit, x=x, data=data)
    grades = rows.groupby("grade")[x].first() if "grade" in rows.columns else None
    result = best_split(fit, cost, budget, grades=grades)
    document: dict[str, Any] = {"fit": {"status": fit.status, "message": fit.message}}
    document |= {"y": fit.y, "columns": dict(fit.columns), **result.to_document()}
    document["iso_cost"] = iso_cost(fit, cost, budget).to_dict("records")
    parts = _split_text(fit, result)
    if target is not None:
        point = cheapest(fit, cost, target)
        document["target"] = {"metric": target, "cheapest": point.__dict__}
        document["iso_loss"] = iso_loss(fit, cost, target).to_dict("records")
        parts.append(
            f"{fit.y} {target:g} costs at least {point.budget:.3g} {cost.unit}: "
            f"N {point.n_params[0]:.3g}, D {point.n_samples[0]:.3g}"
        )
    emit(parts, json_values(document), as_json=as_json, output=output)
    if not fit.success:
        raise typer.Exit(1)


def _split_text(fit: LawFit, result: Allocation) -> list[str | Table]:
    def ends(value: tuple[float, float, float], form: str) -> str:
        return f"{value[0]:{form}} [{value[1]:{form}}, {value[2]:{form}}]"

    cost = result.cost
    header = [cost.unit, "N*", "D*", fit.y, "beyond the runs"]
    frontier = [
        [
            f"{point.budget:.3g}",
            ends(point.n_params, ".3g"),
            ends(point.n_samples, ".3g"),
            ends(point.metric, ".4f"),
            _outside(point.reach, point.below),
        ]
        for point in result.frontier
    ]
    lines: list[str | Table] = [
        f"{fit.y} = {fit.law.equation}: {fit.status}" + ("" if fit.success else f", {fit.message}"),
        f"a run costs {cost.factor:.3g} N^{cost.power:.3g} D {cost.unit}"
        + (f" (to {cost.spread:.1%} at the runs)" if cost.spread else "")
        + f"; N = {fit.columns['N']}, D = {fit.columns['D']}",
        Table(header, frontier),
    ]
    here = result.best
    lines.append(
        f"from N {here.n_params[0]:.3g}, D {here.n_samples[0]:.3g}, the best split of the budget:"
    )
    lines += [
        f"{gain.what:<16} improves {fit.y} by {ends(gain.improvement, '.5f')}"
        for gain in result.gains
    ]
    if len(result.grades):
        best = result.grades.iloc[0]
        lines.append(
            f"best grade: {best['grade']} with {best['n_samples']:.3g} samples, {fit.y} "
            f"{best['metric']:.4f} [{best['lower']:.4f}, {best['upper']:.4f}]"
        )
    if result.best.reach > 100:
        lines.append("warning: more than two decades beyond the runs; nothing tests the law there")
    elif result.best.below > 100:
        lines.append("warning: more than two decades below the runs; nothing tests the law there")
    return lines


def _outside(reach: float, below: float) -> str:
    """How far a split lies from the fitted sizes."""
    parts = [f"{reach:.1f} x"] if reach > 1 else []
    parts += [f"{below:.1f} x below"] if below > 1 else []
    return ", ".join(parts) or "inside"


def next_runs(
    source: Source,
    quantity: Annotated[
        str, typer.Option(help="The quantity to narrow: alpha, beta, E, ..., or loss (with --at).")
    ] = "alpha",
    at: Annotated[
        str | None,
        typer.Option(metavar="N,D", help="Sizes for --quantity loss; one for a law of one size."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs per cell.")] = 3,
    most: Annotated[int, typer.Option(min=1, help="Cells to print; all of them with --json.")] = 10,
    gpu_hours: Annotated[
        bool,
        typer.Option("--gpu-hours", help="Measure costs in hours (train_seconds), not in FLOPs."),
    ] = False,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Y = None,
    law: Annotated[
        SizeLaw | None,
        typer.Option(
            help="A law of model size and data size, or of one size [default: additive; saturating for a table with one size]."
        ),
    ] = None,
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
    """Rank further cells by how much they narrow an interval per unit of cost.

    Example: scaling next runs.csv --quantity loss --at 1e8,1e9 --gpu-hours
    """
    from analysis.budget import next_cells, read_cost, read_size_cost

    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    options = chosen_options(loss, delta, residual, weights, hold)
    form, x = law_of_table(law, loaded.table, x, data, [y] if y else [])
    rows, fit = _fit(loaded, x, data, y, form, options, rising, limit, best_of)
    unit: Unit = "gpu-hours" if gpu_hours else "flops"
    columns = list(fit.columns.values())
    cost: Cost | SizeCost = read_size_cost(rows, unit, x=x)
    if len(columns) > 1:
        cost = read_cost(rows, unit, x=x, data=data)
    target = parse_sizes(at, len(columns)) if at else None
    table = next_cells(fit, cost, quantity=quantity, at=target, seeds=seeds)
    sizes = list(table.columns[: len(columns)])
    # only the header has the caller's names, which may be those of other columns
    names = dict(zip(sizes, columns, strict=True))
    names |= {"cost": cost.unit, "per_cost": f"per {cost.unit}"}
    header = [names.get(column, column) for column in table.columns]
    cells = [
        [
            int(v) if name == "n_runs" else f"{v:.1%}" if name == "shrinks" else f"{v:.4g}"
            for name, v in row.items()
        ]
        for row in table.head(most).to_dict("records")
    ]
    best = table.iloc[int(table["shrinks"].to_numpy().argmax())]
    parts: list[str | Table] = [
        f"{seeds} runs in one cell against the interval of {quantity}, most per cost first",
        Table(header, cells),
        f"largest effect: {', '.join(f'{names[size]} {best[size]:.4g}' for size in sizes)}, "
        f"{best['shrinks']:.1%} for {best['cost']:.3g} {cost.unit}",
    ]
    if not fit.success:
        parts.insert(0, f"only a direction: {fit.status}, {fit.message}")
    document: dict[str, Any] = {"fit": {"status": fit.status, "message": fit.message}}
    document |= {"columns": dict(fit.columns), "quantity": quantity, "unit": cost.unit}
    document |= {"cells": table.to_dict("records")}
    emit(parts, json_values(document), as_json=as_json, output=output)
