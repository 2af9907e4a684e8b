"""Verbs on a sweep that is under way: `scaling status | logs | cancel | throttle`."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.options import AsJson, Only, Overrides, Runs, Study, Yes
from scaling.cli.output import counted, format_duration, format_hours, format_table
from scaling.cli.sweep.chosen_cells import cell_by_signature, chosen_by, confirm
from scaling.cli.sweep.plan_verbs import STANDINGS, load_plan, load_study_and_store
from scaling.errors import UserError

if TYPE_CHECKING:
    from sweeps.planning import Plan
    from sweeps.queue import QueuedTask, SilentSchedulerError

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 5.0
# SLURM's controller is everybody's
_SECONDS_BETWEEN_QUESTIONS = 30.0
_COLUMNS = {
    "signature": "cell",
    "grade": "grade",
    "n_samples": "n_samples",
    "seed": "seed",
    "state": "state",
    "step": "step",
    "samples_per_second": "samples/s",
    "heartbeat_seconds": "heartbeat",
    "attempt": "attempt",
    "loss": "loss",
    "logloss": "logloss",
    "auc": "auc",
    "eta_seconds": "eta",
    "why": "why",
}


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    for verb in (status, logs, cancel, throttle):
        app.command(verb.__name__)(verb)


def status(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    only: Only = None,
    as_json: AsJson = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 unless every cell is done.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Look again every few seconds while something is under way."),
    ] = False,
) -> None:
    """Print where each cell stands: from its files, and for queued cells from one look at SLURM's queue.

    Works without SLURM, without its accounting, and after the driver is gone.

    Example: scaling status studies/quickstart.toml --watch
    """
    if watch:
        made = _watch(study, overrides, runs, only, as_json=as_json)
    else:
        made, _ = load_plan(study, overrides, runs)
        _print_status(made, only, as_json=as_json)
    if check and len(made.with_standing("done")) < len(made.cells):
        raise typer.Exit(1)


def logs(
    study: Study,
    cell: Annotated[
        str,
        typer.Argument(metavar="CELL", help="First digits of its signature; `status` has them."),
    ],
    overrides: Overrides = None,
    runs: Runs = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as the job writes, until the cell's end.")
    ] = False,
) -> None:
    """Print what the last job of a cell wrote: where it lies, its output, its errors.

    Example: scaling logs studies/quickstart.toml 3f2a --follow
    """
    from sweeps.queue import latest_jobs, read_submissions

    made, store = load_plan(study, overrides, runs)
    planned = cell_by_signature(made, cell, study)
    found = latest_jobs(read_submissions(store)).get(planned.config.signature)
    if found is None:
        raise UserError(f"cell {cell}: was never given to a job; `scaling submit {study}` does it")
    submission, job_id = found
    offsets = {submission.log(job_id, channel): 0 for channel in ("out", "err")}
    asked = time.monotonic()
    while True:
        state = made.state_now(planned, store).state
        if follow and time.monotonic() - asked > _SECONDS_BETWEEN_QUESTIONS:
            made, _ = load_plan(study, overrides, runs)
            planned = cell_by_signature(made, cell, study)
            asked = time.monotonic()
        over = not follow or state in ("done", "failed")
        # SLURM may hold what has gone silent, and gone may be what never wrote; a local cell waits without a word
        if submission.cluster == "local":
            over = over or state == "lost"
        elif not made.silence:
            over = over or planned.standing not in ("running", "queued")
        for path in offsets:
            if path.exists():
                if not offsets[path]:
                    print(f"== {path}", file=sys.stderr)
                with path.open(errors="replace") as file:
                    file.seek(offsets[path])
                    print(file.read(), end="", flush=True)
                    offsets[path] = file.tell()
        if over:
            break
        time.sleep(1.0)
    if not any(offsets.values()):
        logger.info("job %s has written nothing", job_id)
    if follow and state not in ("done", "failed"):
        logger.info("no job holds cell %s any more; `scaling submit %s` goes on", cell, study)


def cancel(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    only: Only = None,
    yes: Yes = False,
) -> None:
    """Cancel the sweep's SLURM jobs; a cell that runs keeps its last checkpoint.

    Example: scaling cancel studies/quickstart.toml --only grade=SUAN-3
    """
    from sweeps.queue import cancel_tasks

    made, _ = load_plan(study, overrides, runs)
    if made.silence:
        raise UserError(f"cancel: the queue is not known: {made.silence}")
    cells = [c for c in chosen_by(made, only) if c.job is not None]
    jobs = sorted({c.job.job_id for c in cells if c.job is not None})
    if not jobs:
        logger.info("%s: no job waits or runs", study)
        return
    also = [c for c in made.cells if c.job is not None and c.job.job_id in jobs and c not in cells]
    told = f", and with them {counted(len(also), 'other cell')}" if also else ""
    if confirm(
        f"Cancel {counted(len(jobs), 'job')} with {counted(len(cells), 'cell')}{told}?", yes
    ):
        cancel_tasks(jobs)
        logger.info("cancelled %s", counted(len(jobs), "job"))


def throttle(
    study: Study,
    max_parallel: Annotated[int, typer.Argument(min=1, help="Jobs at once, of the whole sweep.")],
    overrides: Overrides = None,
    runs: Runs = None,
) -> None:
    """Change how many of the sweep's SLURM jobs run at once; the arrays share it by what they have to do.

    Example: scaling throttle studies/quickstart.toml 32
    """
    from sweeps.dispatch import rebalance

    _, store = load_study_and_store(study, overrides, runs)
    shares = rebalance(store, max_parallel)
    if not shares:
        logger.info("%s: no array waits or runs", study)
    for array_id, share in shares.items():
        logger.info("array %s: %d jobs at once", array_id, share)


def _watch(
    study: Path,
    overrides: list[str] | None,
    runs: Path | None,
    only: list[str] | None,
    *,
    as_json: bool,
) -> Plan:
    """Print the status again and again, until nothing is under way."""
    from sweeps.queue import SilentSchedulerError, ask_queue, read_submissions

    tasks: Sequence[QueuedTask] | SilentSchedulerError | None = None
    asked = -math.inf
    again = False
    while True:
        _, store = load_study_and_store(study, overrides, runs)
        if time.monotonic() - asked > _SECONDS_BETWEEN_QUESTIONS:
            try:
                tasks = ask_queue(store, read_submissions(store))
            except SilentSchedulerError as error:
                tasks = error
            asked = time.monotonic()
        made, _ = load_plan(study, overrides, runs, tasks=tasks)
        is_last = not made.with_standing("running", "queued")
        # one line per look, for programs that follow
        _print_status(made, only, as_json=as_json, again=again and not is_last, indent=None)
        if is_last:
            return made
        again = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _print_status(
    made: Plan,
    only: list[str] | None,
    *,
    as_json: bool,
    again: bool = False,
    indent: int | None = 2,
) -> None:
    from sweeps.status import status_rows, status_totals

    chosen = {cell.config.signature for cell in chosen_by(made, only)}
    rows = [
        row
        for row, cell in zip(status_rows(made), made.cells, strict=True)
        if cell.config.signature in chosen
    ]
    totals = status_totals(made)
    if as_json:
        document = {"study": made.study.name, "cells": rows, "totals": totals}
        print(json.dumps(document, indent=indent, allow_nan=False), flush=True)
        return
    text = f"{_table(rows, made)}\n\n{_totals_text(totals)}"
    if again and sys.stdout.isatty():
        text = f"\x1b[H\x1b[2J{text}"
    elif again:
        text = _totals_text(totals)
    print(text, flush=True)


def _table(rows: Sequence[dict[str, Any]], made: Plan) -> str:
    columns = dict(_COLUMNS)
    columns |= {axis: axis for axis in made.study.grid.axes}
    for key in ("samples_per_second", "heartbeat_seconds", "loss", "eta_seconds", "logloss", "auc"):
        if all(row[key] is None for row in rows):
            del columns[key]
    if all(row["why"] in ("", "will run") for row in rows):
        del columns["why"]
    return format_table(
        list(columns.values()), [[_cell_text(key, row) for key in columns] for row in rows]
    )


def _cell_text(key: str, row: dict[str, Any]) -> object:
    value = row[key]
    if key == "signature" and value is not None:
        return value[:8]
    if key == "step":
        return f"{value}/{row['n_steps']}" if value or row["state"] == "running" else ""
    if key in ("heartbeat_seconds", "eta_seconds") and value is not None:
        return format_duration(value)
    if key == "attempt":
        return value or None
    return value


def _totals_text(totals: dict[str, Any]) -> str:
    states = totals["states"]
    parts = [f"{states.get('done', 0)}/{totals['n_cells']} cells done"]
    parts += [f"{states[name]} {name}" for name in STANDINGS[1:] if states.get(name)]
    text = (
        f"{', '.join(parts)}; {format_hours(totals['gpu_hours_spent'])} GPU-hours spent, "
        f"about {format_hours(totals['gpu_hours_to_do'])} to do"
    )
    if totals["eta_seconds"] is not None:
        text += f", about {format_duration(totals['eta_seconds'])} to go"
    return text if totals["queue"] == "known" else f"{text}; queue not known: {totals['queue']}"
