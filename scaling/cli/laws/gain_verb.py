"""The verb on what more buys: `scaling gain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.atomic_files import json_values
from scaling.cli.fit_inputs import (
    BestOf,
    Delta,
    Embeddings,
    Hold,
    LawName,
    LimitOfE,
    Loss,
    LossName,
    Residual,
    Rising,
    Weights,
    WeightsName,
    chosen_options,
    law_of_table,
    load_table,
    refuse_law_of_metric,
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

    from analysis.fit import LawFit
    from analysis.gain import AxisGain, GainsFrom

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("gain")(gain)


def gain(
    source: Source,
    factor: Annotated[
        float, typer.Option(max=1e12, help="How many times as much of each size.")
    ] = 10.0,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Y = None,
    law: Annotated[
        LawName | None,
        typer.Option(help="The law [default: additive; saturating for a table with one size]."),
    ] = None,
    embeddings: Embeddings = "n_embedding_params",
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
    """Print what ten times each size buys, with intervals; exit 1 unless the data determine the law.

    Answers are given from the most expensive run and, for a law of model size and data size, from the best split
    of that run's cost, with ten times the training FLOPs as one more answer. A law of both that the data do not
    determine tells no gain: then each size is answered by the runs that share the other.

    Example: scaling gain runs.csv --y logloss
    """
    from analysis.fit import fit_law
    from analysis.laws import build_law
    from analysis.study_results import StudyLaw, axis_gains, fit_study
    from analysis.table import direction

    if law is not None:
        refuse_law_of_metric(law.value)
    if law is not None and build_law(law.value).in_logs:
        raise UserError(
            f"--law {law.value}: it is no law of a metric but of what is best at each size, which is neither good nor bad; "
            "use it with scaling fit"
        )
    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    options = chosen_options(loss, delta, residual, weights, hold)
    name, x = law_of_table(law, loaded.table, x, data, [y] if y else [])
    sizes = size_columns(name, x, data, embeddings=embeddings)
    rows = rows_of_law(loaded.table, sizes, y, rising=rising, best_of=best_of)
    (metric,) = rows.metrics
    form = build_law(name, rising=rows.rising[metric], limit=limit)
    fit = fit_law(
        form, rows.table, x=x, data=data, y=metric, embeddings=embeddings, options=options
    )
    notes = [*fit.notes, *rows.notes]
    document: dict[str, Any] = {"fit": {"status": fit.status, "message": fit.message}, "y": fit.y}
    document |= {"notes": notes, "columns": dict(fit.columns), "factor": factor}
    head = f"{fit.y} = {form.equation}: {fit.status}"
    last = [f"note: {note}" for note in notes]
    if fit.success:
        found, absent = _by_law(fit, rows.table, factor)
        document |= {"from": json_values([asdict(one) for one in found])}
        tables = [part for one in found for part in _place(fit, one)]
        if len(found) == 1:
            last.insert(0, f"no answer from a best split: {absent}")
        elif "flops" not in rows.table.columns:
            last.insert(0, "note: no column flops, so a run is taken to cost 6 N D")
        emit([head, *tables, *last], document, as_json=as_json, output=output)
        return
    alone: tuple[AxisGain, ...] = ()
    if form.variables == ("N", "D"):
        study = fit_study(
            rows.table,
            [metric],
            x=x,
            data=data,
            rising=rows.rising,
            law=StudyLaw(name, limit, options),
            extrapolate=False,
        )
        alone = axis_gains(study, study.metrics[metric], factor)
    document |= {"from": [], "alone": json_values([_plain(one) for one in alone])}
    if fit.at_bound and direction(fit.y) is not form.rising:
        last.insert(0, f"note: check the direction of {fit.y} (--rising, --falling)")
    parts = [f"{head}, {fit.message}", *_alone(alone, metric, factor)]
    emit([*parts, *last], document, as_json=as_json, output=output)
    raise typer.Exit(1)


def _by_law(fit: LawFit, table: pd.DataFrame, factor: float) -> tuple[tuple[GainsFrom, ...], str]:
    """The gains by a law that the data determine, and why there are none from a best split."""
    from analysis.budget import read_cost
    from analysis.gain import gains

    if fit.law.variables != ("N", "D"):
        why = f"law {fit.law.name} does not split a cost between a model size and a data size"
        return gains(fit, None, factor), why
    x, data = fit.columns["N"], fit.columns["D"]
    if "flops" in (x, data):
        return gains(fit, None, factor), "flops are one of the sizes"
    try:
        return gains(fit, read_cost(table, "flops", x=x, data=data), factor), ""
    except UserError as error:
        if "no best split" not in str(error):
            raise
        return gains(fit, None, factor), str(error)


def _plain(found: AxisGain) -> dict[str, Any]:
    return asdict(found) | {"size": found.size.column, "other": found.other.column}


def _alone(found: Sequence[AxisGain], metric: str, factor: float) -> list[str | Table]:
    """What is known of each size without the law of both."""
    if not found:
        return ["The data do not determine this law, so it tells no gain."]
    rows = []
    for one in found:
        value, interval, by = "cannot be told", "-", one.reason
        if one.loss is not None:
            value, by = (
                "more is worse",
                f"by {one.loss:.5f} from the smallest to the largest at equal {one.other.name}",
            )
        elif one.gain is not None:
            value, interval = _ends(one.gain.improvement)
            by = f"{one.told_by}, to {one.reach:.3g} x its largest run"
        rows.append([f"{factor:g} x {one.size.name}", value, interval, by])
    return [
        "The data do not determine this law, so each size is answered by runs that are equal in the other:",
        Table(["", f"{metric} improves by", "interval", "told by"], rows),
    ]


def _place(fit: LawFit, found: GainsFrom) -> list[str | Table]:
    """The heading and the table of one place."""
    columns = [fit.columns[variable] for variable in fit.law.variables]
    at = ", ".join(f"{name} {size:.3g}" for name, size in zip(columns, found.sizes, strict=True))
    rows = [
        [one.what, *(f"{size:.3g}" for size in one.after), *_ends(one.improvement)]
        for one in found.gains
    ]
    header = ["", *(f"{name} then" for name in columns), f"{fit.y} improves by", "interval"]
    return [f"from {found.place} ({at}; {fit.y} {found.metric:.4f})", Table(header, rows)]


def _ends(value: tuple[float, float, float]) -> tuple[str, str]:
    middle, low, high = value
    return f"{middle:.5f}", f"[{low:.5f}, {high:.5f}]" if low == low else "-"
