"""The verb that races models against each other: `scaling race`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.atomic_files import json_values
from scaling.cli.fit_inputs import (
    Delta,
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
)
from scaling.cli.laws.variant_laws import (
    AtMultiple,
    HoldInEach,
    LawOfVariants,
    combined_table,
    default_reference,
    laws_of,
    metric_of,
    variants_of,
)
from scaling.cli.options import (
    AsJson,
    Confidence,
    Data,
    Output,
    Overrides,
    Runs,
    Where,
    WholeFolder,
    X,
    Y,
)
from scaling.cli.output import counted, emit
from scaling.cli.tables import Table

if TYPE_CHECKING:
    import pandas as pd

    from analysis.latency import Served
    from analysis.study_results import Race
    from scaling.cli.fit_inputs import Loaded

__all__ = ["add_verbs"]


_KIND = "model.kind="
# Pairs left out that are named; --json has all.
_SHOWN = 3


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("race")(race)


def race(
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY|CSV...",
            help="Study files or run folders, whose runs are combined; or one CSV.",
        ),
    ],
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="COLUMN=VALUE",
            help="Model to compare the others with; repeatable, all conditions must hold [default: model.kind=suan].",
        ),
    ] = None,
    flops: Annotated[
        list[float] | None,
        typer.Option("--flops", min=0, help="Budget of the reference, in FLOPs; repeatable."),
    ] = None,
    at_multiple: AtMultiple = None,
    law: LawOfVariants = None,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Y = None,
    loss: Loss = LossName.GAUSSIAN,
    delta: Delta = None,
    residual: Residual = None,
    weights: Weights = WeightsName.NONE,
    hold: HoldInEach = None,
    rising: Rising = None,
    limit: LimitOfE = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the metric against the budget, as PNG.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Candidates per request, for the latency of the models.")
    ] = 100,
    budget_ms: Annotated[
        float, typer.Option(min=0, help="Time budget of a request in ms, p99.")
    ] = 10.0,
    confidence: Confidence = 0.95,
    runs: Runs = None,
    where: Where = None,
    overrides: Overrides = None,
    whole_folder: WholeFolder = False,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print which of several models is best, run by run and by their laws at each budget.

    Three tables: the law of each model; its difference to the reference over pairs of runs (same grade, data size and seed),
    corrected for the number of comparisons; and at each budget the share of the reference's compute that it needs, with the
    probability that it is the best of all. Models whose law the data do not determine take part in the pairs only. If
    `scaling serve-bench` has measured the runs of a study, a fourth says the best of each model within a latency budget.

    Example: scaling race studies/race.toml --figure race.png
    """
    from analysis.study_results import COMPUTED_FLOPS, has_computed_flops, run_race

    loaded = None
    if len(source) == 1:
        loaded = load_table(source[0], runs, where, overrides=overrides, whole_folder=whole_folder)
        table = loaded.table
    else:
        table = combined_table(source, runs, where, overrides, whole_folder)
    named = reference or default_reference(table, x)
    columns = [condition.partition("=")[0] for condition in named]
    computed = has_computed_flops(table)
    if computed:
        table = table.assign(flops=table[COMPUTED_FLOPS])
    form, x = law_of_table(law, table, x, data, [*columns, *([y] if y else [])])
    variants, name = _short_names(*variants_of(table, named, x))
    options = chosen_options(loss, delta, residual, weights, hold, level=confidence)
    metric = metric_of(table, y)
    laws = laws_of(
        variants, form, (x, data, metric), options, rising=rising, limit=limit, best_of=None
    )
    found = run_race(
        laws, variants, name, budgets=flops or (), multiples=at_multiple or (), level=confidence
    )
    if figure is not None:
        from analysis.plots import draw_race
        from scaling.atomic_files import atomic_path

        with atomic_path(figure) as temporary:
            temporary.write_bytes(draw_race(found).png)
    parts = _parts(found)
    if found.gains and not computed and "flops" in table.columns:
        parts.append(
            "flops: as the records count them, for a SUAN with tokens that nothing reads; runs of this version also have "
            f"{COMPUTED_FLOPS}, which is comparable between kinds"
        )
    if found.laws[0].cost is not None and "flops" not in table.columns:
        parts.append(
            f"flops: counted as 6 {x} {data} for every model, as the table has neither {COMPUTED_FLOPS} nor flops"
        )
    served = None if loaded is None else _served(loaded, metric, candidates)
    if served is not None:
        parts += _latency_parts(served, budget_ms)
    document = _document(found) | {"served": _served_document(served)}
    emit(parts, document, as_json=as_json, output=output)


def _served(loaded: Loaded, metric: str, n_candidates: int) -> Served | None:
    """The latency of the models; None if nobody has measured it."""
    from analysis.latency import measured_counts, served_models

    if "signature" not in loaded.table or not measured_counts(loaded.table, loaded.folder):
        return None
    return served_models(loaded.table, loaded.folder, metric, n_candidates=n_candidates)


def _latency_parts(served: Served, budget_ms: float) -> list[str | Table]:
    from analysis.latency import best_of_each, best_under

    best = best_of_each(served.models, served.metric, budget_ms)
    rows = [
        [row["model"], f"{row[served.metric]:.5f}", f"{row['p50_ms']:.3g}", f"{row['p99_ms']:.3g}"]
        for row in best.to_dict("records")
    ]
    parts: list[str | Table] = [
        f"{best_under(served.models, served.metric, budget_ms)}; the best of each model, by the latency of a request of "
        f"{counted(served.n_candidates, 'candidate')}:"
    ]
    if rows:
        parts.append(Table(["model", served.metric, "p50 ms", "p99 ms"], rows))
    return [*parts, *served.notes]


def _served_document(served: Served | None) -> list[dict[str, Any]] | None:
    if served is None:
        return None
    rows: list[dict[str, Any]] = json_values(served.models.to_dict("records"))
    return rows


def _short_names(
    variants: dict[str, pd.DataFrame], reference: str
) -> tuple[dict[str, pd.DataFrame], str]:
    """Models that differ in their kind alone are named by it."""
    short = {label: label.removeprefix(_KIND) for label in variants}
    if any(label == name or "=" in name for label, name in short.items()):
        return variants, reference
    return {short[label]: rows for label, rows in variants.items()}, short[reference]


def _document(found: Race) -> dict[str, Any]:
    gains = found.gains
    document = {
        "y": found.metric,
        "reference": found.reference,
        "level": found.level,
        "floor": found.floor,
        "laws": {
            law.name: {
                "law": law.fit.law.name,
                "status": law.fit.status,
                "message": law.fit.message,
                "notes": list(law.fit.notes),
                "params": law.fit.params,
                "intervals": {name: asdict(ends) for name, ends in law.fit.intervals.items()},
            }
            for law in found.laws
        },
        "left_out": found.left_out,
        "contests": [asdict(one) for one in found.contests],
        "range": gains.range if gains else None,
        "gains": [
            {**asdict(one), "reach": found.reaches.get((one.variant, one.budget), 1.0)}
            for one in (gains.gains if gains else ())
        ],
        "crossings": [asdict(one) for one in (gains.crossings if gains else ())],
    }
    values: dict[str, Any] = json_values(document)
    return values


def _parts(found: Race) -> list[str | Table]:
    parts: list[str | Table] = [f"laws of {found.metric}, {found.laws[0].fit.law.equation}"]
    names = [name for name in found.laws[0].fit.shown if name != "A" and name != "B"]
    header = ["model", "runs", "status", *names]
    rows = [
        [
            law.name,
            law.fit.n_points,
            law.fit.status,
            *map(law.fit.estimate, names),
        ]
        for law in found.laws
    ]
    parts += [Table(header, rows), *_contest_parts(found), *_gain_parts(found)]
    return parts


def _contest_parts(found: Race) -> list[str | Table]:
    from analysis.table import first_few

    header = ["model", "pairs", "difference", "interval", "p", "better", "worse", "cells"]
    rows = [
        [
            one.variant,
            sum(cell.n_pairs for cell in one.cells),
            f"{one.mean[0]:+.5f}",
            f"[{one.mean[1]:+.5f}, {one.mean[2]:+.5f}]" if one.mean[1] == one.mean[1] else "-",
            f"{one.p_value:.2g}" if one.p_value == one.p_value else "-",
            one.n_better,
            one.n_worse,
            len(one.cells),
        ]
        for one in found.contests
    ]
    parts: list[str | Table] = [
        f"{found.metric} minus that of {found.reference}, in pairs of runs of one grade, data size and seed",
        Table(header, rows),
        "interval: by the scatter between seeds beside what all models share, taken from all models together; p: "
        f"corrected for {counted(len(found.contests), 'model')} (Holm); better and worse: cells by the sign of their mean",
    ]
    parts += [
        f"{one.variant}: {counted(len(one.lost), 'pair')} left out: {first_few(map(str, one.lost), _SHOWN)}"
        for one in found.contests
        if one.lost
    ]
    if all(one.mean[1] != one.mean[1] for one in found.contests):
        parts.append(
            "no interval: there are no two seeds of which all models have the same cells; train a second one"
        )
    return parts


def _gain_parts(found: Race) -> list[str | Table]:
    gains = found.gains
    if gains is None:
        why = next(iter(found.left_out.values()), "")
        return [f"no law can be compared with that of {found.reference}: {why}"]
    parts: list[str | Table] = [
        f"{name}: not compared by its law: {why}" for name, why in found.left_out.items()
    ]
    unit = found.laws[0].unit
    rows = [
        [
            f"{one.budget:.3g}" + (f" ({one.beyond:.3g} x beyond)" if one.beyond > 1 else ""),
            one.variant,
            f"{one.metric:.5f}",
            *(
                ["-", "-", "-"]
                if one.variant == gains.reference
                else [_share(one.share[0]), f"[{one.share[1]:.3g}, {one.share[2]:.3g}]", f"{one.better:.3f}"]
            ),
            f"{one.best:.3f}",
            _reach(found.reach(one)),
        ]
        for one in gains.gains
    ]  # fmt: skip
    header = [
        unit,
        "model",
        found.metric,
        "share",
        "interval",
        "P(better)",
        "P(best)",
        "split beyond runs",
    ]
    parts += [
        Table(header, rows),
        f"share: of the {unit} with which a model reaches the {found.metric} of {gains.reference}; the runs of all models "
        f"cover {gains.range[0]:.3g} to {gains.range[1]:.3g}; split beyond runs: how many times the best split exceeds the "
        "largest model or data size of the model's runs, so that its law is extrapolated",
    ]
    parts += [
        f"{one.variant} is {'better' if one.better_above else 'worse'} than {gains.reference} above {one.budget[0]:.3g} "
        f"[{one.budget[1]:.3g}, {one.budget[2]:.3g}] {unit}"
        for one in gains.crossings
    ]
    for budget in sorted({one.budget for one in gains.gains}):
        best, law = found.best_at(budget)
        reach = found.reach(best)
        far = "" if reach is None else f", at a split {reach:.2g} x beyond its runs"
        doubt = "" if law.fit.success else f", by a law that is {law.fit.status.replace('_', ' ')}"
        parts.append(
            f"best at {budget:.3g} {unit}: {best.variant}, with probability {best.best:.2f}{doubt}{far}"
        )
    return parts


def _reach(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}x"


def _share(value: float) -> str:
    return f"{value:.3g}x" if value < float("inf") else "never"
