"""The verb on a trained model: `scaling serve-bench`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.options import AsJson, Output
from scaling.cli.output import emit, format_table
from scaling.errors import UserError

__all__ = ["add_verbs"]

logger = logging.getLogger(__name__)

# Wall-clock time over CPU time from which latencies say more of the machine's other work than of the model.
_BUSY = 1.3


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    app.command("serve-bench")(serve_bench)


def serve_bench(
    run: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folder of a finished run; several are taken in turn."
        ),
    ],
    candidates: Annotated[
        str, typer.Option(metavar="M,...", help="Candidates that a request scores.")
    ] = "1,10,100,500",
    threads: Annotated[int, typer.Option(min=1, help="Threads that a request may use.")] = 1,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds spent on each way and number of candidates.")
    ] = 2.0,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print a model's latency by way of serving; keep it beside the run as serving.json.

    single: a forward pass for each candidate; repeated: one batch, the history repeated; parallel: the
    history encoded once, all candidates in one pass; cached: as parallel, the history encoded before.

    Example: scaling serve-bench runs/quickstart --candidates 1,100
    """
    from dataclasses import asdict

    from scaling.serving import bench_serving
    from scaling.serving_report import write_serving
    from sweeps.job import prepare_process

    numbers = _numbers(candidates)
    prepare_process()
    folders = [one for folder in run for one in _run_folders(folder)]
    reports = []
    for folder in folders:
        report = bench_serving(folder, numbers, n_threads=threads, seconds=seconds)
        write_serving(folder, report)
        reports.append(report)
    all_latencies = [latency for report in reports for latency in report.latencies]
    waited = sum(one.p50_ms for one in all_latencies) / sum(one.cpu_ms for one in all_latencies)
    if waited > _BUSY:
        logger.warning(
            "requests took %.1f times their CPU time: other work had the machine; measure on an idle one",
            waited,
        )
    rows = [
        [report.signature, *asdict(latency).values()]
        for report in reports
        for latency in report.latencies
    ]
    header = ["run", *asdict(reports[0].latencies[0])]
    document = [asdict(report) for report in reports]
    emit(format_table(header, rows), document, as_json=as_json, output=output)


def _run_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected that of a finished run")
    of_study = sorted(path.parent for path in folder.glob("*/record.json"))
    return of_study or [folder]


def _numbers(text: str) -> list[int]:
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if min(numbers) < 1:
        raise UserError(f"--candidates {text}: expected positive whole numbers, e.g. 1,10,100")
    return numbers
