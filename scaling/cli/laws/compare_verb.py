"""The verb on pairs of runs: `scaling compare`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from scaling.atomic_files import json_values
from scaling.cli.fit_inputs import load_tables, matching, metrics_of, whole_numbers
from scaling.cli.options import AsJson, Confidence, Output, Overrides, Runs, Where, WholeFolder
from scaling.cli.output import emit
from scaling.cli.tables import Table

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("compare")(compare)


def compare(
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY|CSV...",
            help="Study files or run folders, whose runs are combined; or one CSV.",
        ),
    ],
    baseline: Annotated[
        list[str],
        typer.Option(
            "--baseline",
            metavar="COLUMN=VALUE",
            help="Runs to compare all others with; repeatable, all conditions must hold.",
        ),
    ],
    y: Annotated[
        list[str] | None,
        typer.Option(
            "--y", help="Metric; repeatable [default: logloss and auc, the soft ones if present]."
        ),
    ] = None,
    confidence: Confidence = 0.95,
    runs: Runs = None,
    where: Where = None,
    overrides: Overrides = None,
    whole_folder: WholeFolder = False,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print how variants differ from a baseline, paired by data size and seed, with t intervals.

    One row per variant and data size: the mean over the pairs, the mean difference (variant minus baseline)
    and its interval. Pairs share their data if [train] data_order = "shared" or if both have the same grade.

    Example: scaling compare studies/packing.toml --baseline packing=none --where grade=SUAN-1
    """
    from analysis.study_results import paired_differences
    from analysis.table import describe_variants

    rows = load_tables(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    base = matching(rows, baseline, "--baseline")
    metrics = metrics_of(rows, y)
    if "data_order" in rows.columns and (rows["data_order"] == "independent").any():
        logger.warning(
            'pairs of different grades have different data (data_order = "independent"), '
            "so their differences include the random error of both"
        )
    table = paired_differences(rows, base, metrics, confidence=confidence)
    names = describe_variants(rows)
    header = [*names, "n_samples", "n_pairs"]
    header += [c for m in metrics for c in (m, "difference", f"{confidence:.0%} interval")]
    variants = whole_numbers(table[[*names, "n_samples", "n_pairs"]]).to_numpy().tolist()
    lines = [
        [
            *variant,
            *(
                cell
                for m in metrics
                for cell in (
                    f"{row[m]:.5f}",
                    f"{row[f'{m}_difference']:+.5f}",
                    _interval(row[f"{m}_low"], row[f"{m}_high"]),
                )
            ),
        ]
        for variant, row in zip(variants, table.to_dict("records"), strict=True)
    ]
    own = [
        f"against {', '.join(baseline)} at n_samples {float(str(size)):,.15g}: "
        + ", ".join(f"{m} {part[m].mean():.5f}" for m in metrics)
        for size, part in rows[base].groupby("n_samples")
    ]
    records = json_values(table.to_dict("records"))
    document = {"baseline": baseline, "confidence": confidence, "variants": records}
    emit([*own, Table(header, lines)], document, as_json=as_json, output=output)


def _interval(low: float, high: float) -> str:
    return f"[{low:+.5f}, {high:+.5f}]" if low == low else "-"
