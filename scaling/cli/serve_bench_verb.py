"""The verb on a trained model: `scaling serve-bench`."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.options import AsJson, Output
from scaling.cli.output import counted, emit, format_duration
from scaling.cli.tables import Table
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.serving import Latency, RunToMeasure, ServingReport

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)

# Above this ratio of wall-clock to CPU time, the latencies mostly reflect other work on the machine.
_BUSY = 1.3
_MOST_CANDIDATES, _MOST_SECONDS = 100_000, 3600.0


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    app.command("serve-bench")(serve_bench)


def serve_bench(
    run: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folder of a finished run, or of a study; of a study, one seed of each model is measured.",
        ),
    ],
    candidates: Annotated[
        str, typer.Option(metavar="M,...", help="Candidates per request; one measurement for each.")
    ] = "1,10,100,500",
    threads: Annotated[
        int, typer.Option(min=1, help="Threads per request; at most the number of cores.")
    ] = 1,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds per way and number of candidates.")
    ] = 2.0,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print the latency of each way of serving a model; save it in the run's folder as serving.json.

    single: one forward pass per candidate; repeated: one batch that repeats the history; parallel: the
    history is encoded once, all candidates are scored in one pass; cached: like parallel, but the history
    was encoded before. Earlier latencies for other numbers of candidates stay in serving.json if they were
    measured with the same threads and versions on the same machine.

    Example: scaling serve-bench runs/quickstart --candidates 1,100
    """
    from scaling.process import prepare_process
    from scaling.serving import runs_to_measure, with_models

    numbers = _numbers(candidates)
    _check_effort(threads, seconds)
    runs = with_models(runs_to_measure(run))
    prepare_process()
    with redirect_stdout(sys.stderr):  # what a class from elsewhere prints
        measured = _measure(runs, numbers, threads, seconds)
    latencies = [latency for _, report in measured for latency in report.latencies]
    _warn(latencies)
    rows = [
        [*one.cells, *asdict(latency).values()]
        for one, report in measured
        for latency in report.latencies
    ]
    header = ["run", "model", "n_samples", "seed", *asdict(latencies[0])]
    document = [asdict(report) for _, report in measured]
    emit(Table(header, rows), document, as_json=as_json, output=output)


def _measure(
    runs: Sequence[RunToMeasure], numbers: Sequence[int], threads: int, seconds: float
) -> list[tuple[RunToMeasure, ServingReport]]:
    """Measure the runs one by one; log a line for each and save its report at once.

    Raises:
        UserError: no model can be read.
    """
    from scaling.serving import WAYS
    from scaling.serving.latency_bench import bench_serving

    whole = len(runs) * len(numbers) * len(WAYS) * seconds
    logger.info("measuring %s: at least %s", counted(len(runs), "model"), format_duration(whole))
    measured: list[tuple[RunToMeasure, ServingReport]] = []
    n_replaced, begin = 0, time.monotonic()
    for done, one in enumerate(runs, 1):
        try:
            report = bench_serving(one.folder, numbers, n_threads=threads, seconds=seconds)
        except UserError as error:
            if len(runs) == 1:
                raise
            logger.warning("%d/%d %s left out: %s", done, len(runs), one.label, error)
            continue
        n_replaced += _save(one.folder, report)
        measured.append((one, report))
        left = (time.monotonic() - begin) / done * (len(runs) - done)
        logger.info(
            "%d/%d %s: %s%s", done, len(runs), one.label, _summary(report),
            f", about {format_duration(left)} to go" if done < len(runs) else "",
        )  # fmt: skip
    if not measured:
        raise UserError(f"none of {counted(len(runs), 'model')} could be measured; see above")
    if n_replaced:
        logger.warning(
            "earlier latencies of %s were replaced: measured with other threads, versions or on another machine",
            counted(n_replaced, "run"),
        )
    return measured


def _save(folder: Path, report: ServingReport) -> bool:
    """Write a report to its run's folder; return whether it replaced an earlier one that was measured otherwise."""
    from scaling.serving import merge_reports, read_serving, write_serving

    try:
        earlier = read_serving(folder)
    except UserError:  # damaged; this measurement replaces it
        earlier = None
    merged = report if earlier is None else merge_reports(earlier, report)
    write_serving(folder, merged or report)
    return merged is None


def _summary(report: ServingReport) -> str:
    # the way that serves best: parallel, or repeated if histories cannot be shared
    latency = [one for one in report.latencies if one.way != "cached"][-1]
    return (
        f"{latency.way}, {counted(latency.n_candidates, 'candidate')}: p99 {latency.p99_ms:.3g} ms"
    )


def _warn(latencies: Sequence[Latency]) -> None:
    """Warn if other work disturbed the measurement or if there were too few requests."""
    from scaling.serving import ENOUGH_REQUESTS

    waited = sum(one.p50_ms for one in latencies) / sum(one.cpu_ms for one in latencies)
    if waited > _BUSY:
        logger.warning(
            "requests took %.1f times their CPU time, so other work used the machine; measure on an idle machine",
            waited,
        )
    few = [one for one in latencies if one.n_requests < ENOUGH_REQUESTS]
    if few:
        slowest = max(few, key=lambda one: one.enough_seconds)
        logger.warning(
            "%d of %d latencies come from fewer than %d requests, too few for a p99; --seconds %d is enough for "
            "all of them (the slowest is %s, %s)",
            *(len(few), len(latencies), ENOUGH_REQUESTS, math.ceil(slowest.enough_seconds)),
            *(slowest.way, counted(slowest.n_candidates, "candidate")),
        )


def _check_effort(threads: int, seconds: float) -> None:
    n_cores = len(os.sched_getaffinity(0))
    if threads > n_cores:
        raise UserError(
            f"--threads {threads}: this process may use {counted(n_cores, 'core')}; give at most {n_cores}"
        )
    if not seconds <= _MOST_SECONDS:
        raise UserError(f"--seconds {seconds:g}: expected at most {_MOST_SECONDS:g}, e.g. 2")


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    longest = len(str(_MOST_CANDIDATES))
    numbers = [int(part) if part.isdecimal() and len(part) <= longest else 0 for part in parts]
    if not 1 <= min(numbers) <= max(numbers) <= _MOST_CANDIDATES:
        raise UserError(
            f"--candidates {text[:60]}: expected whole numbers from 1 to {_MOST_CANDIDATES:,}, e.g. 1,10,100"
        )
    return list(dict.fromkeys(numbers))
