"""The verb on the compute that variants need for equal quality: `scaling compute-gain`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.atomic_files import json_values
from scaling.cli.fit_inputs import (
    BestOf,
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
)
from scaling.cli.laws.variant_laws import (
    AtMultiple,
    HoldInEach,
    LawOfVariants,
    combined_table,
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
from scaling.cli.output import emit
from scaling.cli.tables import Table

if TYPE_CHECKING:
    from analysis.gain import ComputeGains, VariantLaw

__all__ = ["add_verbs"]


# Budgets of the figure.
_CURVE = 41


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("compute-gain")(compute_gain)


def compute_gain(
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY|CSV...",
            help="Study files or run folders, whose runs are combined; or CSVs, which the column `table` then tells apart "
            "by the names of their files, or folders.",
        ),
    ],
    reference: Annotated[
        list[str],
        typer.Option(
            "--reference",
            metavar="COLUMN=VALUE",
            help="Variant to compare the others with; repeatable, all conditions must hold.",
        ),
    ],
    flops: Annotated[
        list[float] | None,
        typer.Option(
            "--flops",
            min=0,
            help="Budget of the reference, in FLOPs (of a law of one size, in its unit); repeatable.",
        ),
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
    best_of: BestOf = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the share against the budget, as PNG.")
    ] = None,
    confidence: Confidence = 0.95,
    runs: Runs = None,
    where: Where = None,
    overrides: Overrides = None,
    whole_folder: WholeFolder = False,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print the share of a reference's compute with which variants reach its metric; exit 1 unless the data determine every law.

    Joint laws are compared at the best split of each budget. Runs of the same grade (or model size), data size and seed are
    paired: what their errors have in common cancels.

    Example: scaling compute-gain studies/packing.toml --reference packing=none
    """
    from analysis.gain import compute_gains

    table = combined_table(source, runs, where, overrides, whole_folder)
    named = [condition.partition("=")[0] for condition in reference]
    form, x = law_of_table(law, table, x, data, [*named, *([y] if y else [])])
    variants, name = variants_of(table, reference, x)
    options = chosen_options(loss, delta, residual, weights, hold, level=confidence)
    metric = metric_of(table, y)
    laws = laws_of(
        variants, form, (x, data, metric), options, rising=rising, limit=limit, best_of=best_of
    )
    found = compute_gains(laws, name, flops, multiples=at_multiple or (), level=confidence)
    fits = {one.name: one.fit for one in laws}
    document: dict[str, Any] = {"y": metric, "law": form, "reference": name}
    document |= {"budget": laws[0].cost.unit if laws[0].cost else x, "level": confidence}
    document |= {
        "fits": {
            label: {"status": fit.status, "message": fit.message, "notes": list(fit.notes)}
            for label, fit in fits.items()
        },
        "range": list(found.range),
        "gains": json_values([asdict(one) for one in found.gains]),
        "crossings": json_values([asdict(one) for one in found.crossings]),
        "correlations": json_values(found.correlations),
    }
    if figure is not None:
        _draw(figure, laws, found, document["budget"])
    emit(_parts(found, laws, document["budget"]), document, as_json=as_json, output=output)
    if not all(fit.success for fit in fits.values()):
        raise typer.Exit(1)


def _draw(path: Path, laws: list[VariantLaw], found: ComputeGains, unit: str) -> None:
    """Draw the shares from the smallest budget that was asked or run to the largest."""
    import numpy as np

    from analysis.gain import compute_gains
    from analysis.plots import draw_gains
    from scaling.atomic_files import atomic_path

    ends = [*found.range, *(gain.budget for gain in found.gains)]
    # the title tells of the largest budget of the runs
    grid = [*np.geomspace(min(ends), max(ends), _CURVE).tolist(), found.range[1]]
    curves = compute_gains(laws, found.reference, grid, level=found.level)
    with atomic_path(path) as temporary:
        fits = {one.name: one.fit for one in laws}
        temporary.write_bytes(draw_gains(curves, unit, laws[0].fit.y, fits).png)


def _parts(found: ComputeGains, laws: list[VariantLaw], unit: str) -> list[str | Table]:
    """Each law's status, the gains by budget, crossings, and what runs were paired."""
    parts: list[str | Table] = [
        f"{one.name}: {one.fit.y} = {one.fit.law.equation}, {one.fit.status}"
        + ("" if one.fit.success else f", {one.fit.message}")
        for one in laws
    ]
    many = len(laws) > 2
    header = [
        unit,
        "variant",
        laws[0].fit.y,
        "share",
        "interval",
        "P(better)",
        *(["P(best)"] if many else []),
    ]
    rows = []
    for gain in found.gains:
        own = gain.variant == found.reference
        if own and not many:
            continue
        ends = ["-", "-", "-"] if own else [
            f"{gain.share[0]:.3g}x" if gain.share[0] < float("inf") else "never", f"[{gain.share[1]:.3g}, {gain.share[2]:.3g}]", f"{gain.better:.3f}",
        ]  # fmt: skip
        budget = f"{gain.budget:.3g}" + (
            f" ({gain.beyond:.3g} x beyond)" if gain.beyond > 1 else ""
        )
        rows.append(
            [
                budget,
                gain.variant,
                f"{gain.metric:.5f}",
                *ends,
                *([f"{gain.best:.3f}"] if many else []),
            ]
        )
    parts.append(Table(header, rows))
    low, high = found.range
    parts.append(
        f"share: of the {unit} with which the variant reaches the {laws[0].fit.y} of {found.reference}"
    )
    parts.append(f"the runs of all variants cover {unit} from {low:.3g} to {high:.3g}")
    for name, correlation in found.correlations.items():
        crossings = [one for one in found.crossings if one.variant == name]
        parts += [
            f"{name} is {'better' if one.better_above else 'worse'} than {found.reference} above {one.budget[0]:.3g} "
            f"[{one.budget[1]:.3g}, {one.budget[2]:.3g}] {unit}"
            + (f", {one.beyond:.3g} x beyond the runs" if one.beyond > 1 else "")
            + (", but no budget tells them apart" if one.budget[1:] == (0.0, float("inf")) else "")
            for one in crossings
        ] or [
            f"{name} does not cross {found.reference} within the runs, nor up to ten times beyond"
        ]
        parts.append(
            f"{name}: no pairs of runs{_empty_seeds(laws)}"
            if correlation != correlation
            else f"{name}: the errors of paired runs have a correlation of {correlation:.2f}"
        )
    return parts


def _empty_seeds(laws: list[VariantLaw]) -> str:
    """Why runs are not paired, if a seed is not given."""
    from analysis.table import place_of

    for law in laws:
        if "seed" in law.table.columns and law.table["seed"].isna().any():
            row = law.table.index[law.table["seed"].isna()][0]
            return f", as the seed is empty in {place_of(law.table, row)}"
    return ""
