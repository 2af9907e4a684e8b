"""The verb on the exponents of the best sizes: `scaling isoflop`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.atomic_files import json_values
from scaling.cli.fit_inputs import (
    BestOf,
    Delta,
    Hold,
    JointLaw,
    LimitOfE,
    Loss,
    LossName,
    Residual,
    Rising,
    Weights,
    WeightsName,
    chosen_options,
    load_table,
    need_both,
    rows_of_law,
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

    from analysis.budget import Approach, IsoFlop

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("isoflop")(isoflop)


def isoflop(
    source: Source,
    flops: Annotated[
        str, typer.Option("--flops", help="Column of the training FLOPs [else 6 N D].")
    ] = "flops",
    tolerance: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Runs of one budget differ by at most this share."),
    ] = 0.1,
    within: Annotated[
        float,
        typer.Option(
            min=1.001, help="A parabola is fitted to sizes within this factor of its minimum."
        ),
    ] = 5.0,
    x: X = "n_params",
    data: Data = "n_samples",
    y: Y = None,
    law: Annotated[JointLaw, typer.Option(help="The joint law of approach 3.")] = JointLaw.ADDITIVE,
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
    """Print how the best model size and data size grow with compute, by three approaches.

    The approaches of Hoffmann et al. 2022: 1 the envelope of curves, 2 a parabola for each budget, 3 a joint law.
    `scaling plot --kind isoflop` draws the second.

    Example: scaling isoflop runs.csv --y loss --tolerance 0.05
    """
    from analysis.budget import Cost, read_cost, three_approaches
    from analysis.fit import fit_law
    from analysis.laws import build_law

    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    options = chosen_options(loss, delta, residual, weights, hold)
    need_both(loaded.table, x, data, "a budget is split between a model size and a data size")
    rows = rows_of_law(loaded.table, [x, data], y, rising=rising, best_of=best_of)
    rows.warn()
    (metric,) = rows.metrics
    form = build_law(law.value, rising=rows.rising[metric], limit=limit)
    fit = fit_law(form, rows.table, x=x, data=data, y=metric, options=options)
    if flops in (x, data):
        raise UserError(f"--flops {flops}: it is also a size; a budget is split between two others")
    others = [column for column in ("flops",) if column != flops]
    costs = rows.table.drop(columns=others, errors="ignore").rename(columns={flops: "flops"})
    cost: Cost = read_cost(costs, "flops", x=x, data=data)
    found, profiles = three_approaches(
        rows.table, fit, cost, flops=flops, tolerance=tolerance, within=within
    )
    hint = [] if profiles else _hint_at_optima(rows.table, x, data, flops)
    if all(one.size is None for one in found):
        reasons = [f"approach {one.name}: {one.remark}" for one in found]
        raise UserError("; ".join([*hint, *reasons]))
    parts = _profile_parts(profiles, found) if profiles else []
    document: dict[str, Any] = {"y": metric, "columns": {"N": x, "D": data, "C": flops}}
    document |= {"approaches": json_values([asdict(one) for one in found])}
    document |= {"profiles": json_values(_records(profiles)) if profiles else []}
    if profiles:
        tests = {"scatter_p": profiles.scatter_p, "skew": profiles.skew, "skew_p": profiles.skew_p}
        document |= {"tests": json_values(tests)}
    emit([*parts, *_approach_parts(found), *hint], document, as_json=as_json, output=output)


def _hint_at_optima(table: pd.DataFrame, x: str, data: str, flops: str) -> list[str]:
    """A line for a table whose sizes all grow with the FLOPs, as those of the best runs do."""
    if flops not in table.columns:
        return []
    sizes = table.sort_values(flops)[[flops, x, data]]
    if not (sizes.diff().iloc[1:] > 0).all(axis=None):
        return []
    return [
        f"each run is larger than the one before it in {x} and in {data}: if these are the best sizes of their budgets, their exponent "
        f"is that of scaling fit --x {flops} --y {x} --law log-linear; a joint law of best runs only is hardly determined"
    ]


def _records(found: IsoFlop) -> list[dict[str, Any]]:
    return [
        {
            "budget": profile.budget,
            "n_runs": len(profile.sizes),
            "n_near": int(profile.near.sum()),
            "best_size": profile.best_size,
            "best_samples": profile.best_samples,
            "best_metric": profile.best_metric,
            "left_out": profile.left_out,
        }
        for profile in found.profiles
    ]


def _profile_parts(found: IsoFlop, approaches: tuple[Approach, ...]) -> list[str | Table]:
    """A row for each budget with enough sizes for a parabola, with the best size by every approach."""
    few = [one.left_out for one in found.profiles if one.left_out.startswith(_FEW)]
    others = [one for one in (approaches[0], approaches[2]) if one.size]
    rows = []
    for profile in found.profiles:
        if profile.left_out.startswith(_FEW):
            continue
        laws = [f"{one.size(profile.budget):.3g}" for one in others if one.size]
        own = [f"{v:.3g}" if v == v else "-" for v in (profile.best_size, profile.best_samples)]
        n, near = len(profile.sizes), int(profile.near.sum())
        runs = str(n) if near == n else f"{near} of {n}"
        rows.append([f"{profile.budget:.3g}", runs, *own, *laws, profile.left_out or "-"])
    header = ["FLOPs", "runs", "N*", "D*", *(_BY[one.name[0]] for one in others), "left out"]
    more = [f"{len(few)} more budgets have {few[0].partition(' (')[0]}: left out"] if few else []
    return [Table(header, rows), *more]


# How the reason begins that a budget has too few sizes, and the headings of the approaches beside the profiles.
_FEW = "fewer than"
_BY = {"1": "N* by the envelope", "3": "N* by the joint law"}


def _approach_parts(found: tuple[Approach, ...]) -> list[str | Table]:
    """Exponents by approach, with N* of all at one budget."""
    from analysis.uncertainty import format_estimate

    # the middle of the profiles' budgets, else of another approach's
    budgets = [found[i].size for i in (1, 2, 0)]
    budget = next(law.budget for law in budgets if law)
    rows, remarks = [], []
    for one in found:
        remarks.append(f"{one.name}: {one.remark}")
        if one.size is None or one.samples is None:
            rows.append([one.name, *"----"])
            continue
        rows.append(
            [
                one.name,
                format_estimate(one.size.exponent, one.size.interval),
                format_estimate(one.samples.exponent, one.samples.interval),
                f"{one.size(budget):.3g}",
                f"{one.samples(budget):.3g}",
            ]
        )
    at = f"at {budget:.3g} FLOPs"
    header = ["approach", "N* ~ C^a", "D* ~ C^b", f"N* {at}", f"D* {at}"]
    return [Table(header, rows), *remarks, *_differences(found)]


def _differences(found: tuple[Approach, ...]) -> list[str]:
    """A line for each pair of approaches whose intervals of the exponent of N* have nothing in common."""
    known = [
        (one.name, one.size.exponent, one.size.interval)
        for one in found
        if one.size and one.size.interval
    ]
    return [
        f"{name} and {other} differ: a by {a - b:+.3f}, and the intervals do not overlap"
        for i, (name, a, own) in enumerate(known)
        for other, b, theirs in known[i + 1 :]
        if own.upper < theirs.lower or theirs.upper < own.lower
    ]
