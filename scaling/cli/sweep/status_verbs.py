"""Verbs on a running sweep: `scaling status | logs | cancel | throttle`."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.options import AsJson, Only, Overrides, Runs, Study, Yes
from scaling.cli.output import counted, emit, print_parts
from scaling.cli.sweep.chosen_cells import cell_by_signature, chosen_by, confirm
from scaling.cli.sweep.plan_verbs import load_plan, load_study_and_store
from scaling.cli.sweep.status_views import (
    SECONDS_BETWEEN_QUERIES,
    print_status_json,
    status_parts,
    watch_study,
)
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.records import RunStore
    from sweeps.planning import Plan

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)


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
        typer.Option(
            "--watch",
            help="A live view until no cell is running or queued: cells, speeds, time to go, failures, the law so far; q ends it.",
        ),
    ] = False,
    efficiency: Annotated[
        bool,
        typer.Option(
            "--efficiency",
            help="Instead: what jobs asked and used, and what the next submission of their cells would ask.",
        ),
    ] = False,
) -> None:
    """Print the state of each cell, read from its files and from SLURM's queue.

    Works without SLURM, without its accounting, and after the process that submitted the cells has ended.

    Example: scaling status studies/quickstart.toml --watch
    """
    if watch and efficiency:
        raise UserError("--efficiency: prints once; leave out --watch")
    if efficiency:
        made, store = load_plan(study, overrides, runs, reading=True)
        _print_efficiency(made, store, only, as_json=as_json)
    elif watch:
        made = watch_study(study, overrides, runs, only, as_json=as_json)
    else:
        made, _ = load_plan(study, overrides, runs, reading=True)
        if as_json:
            print_status_json(made, only, indent=2)
        else:
            print_parts(status_parts(made, only))
    if check and len(made.with_standing("done")) < len(made.cells):
        raise typer.Exit(1)


def logs(
    study: Study,
    cell: Annotated[
        str,
        typer.Argument(
            metavar="CELL", help="First digits of its signature, as printed by `scaling status`."
        ),
    ],
    overrides: Overrides = None,
    runs: Runs = None,
    follow: Annotated[
        bool,
        typer.Option(
            "-f", "--follow", help="Keep printing what the job writes until the cell ends."
        ),
    ] = False,
) -> None:
    """Print the output and the errors of a cell's last job; the names of the files go to stderr.

    Example: scaling logs studies/quickstart.toml 3f2a --follow
    """
    from sweeps.queue import latest_jobs, read_submissions

    made, store = load_plan(study, overrides, runs, reading=True)
    planned = cell_by_signature(made, cell, study)
    found = latest_jobs(read_submissions(store)).get(planned.config.signature)
    if found is None:
        raise UserError(f"cell {cell}: no job was submitted for it; use `scaling submit {study}`")
    submission, job_id = found
    offsets = {submission.log(job_id, channel): 0 for channel in ("out", "err")}
    asked = time.monotonic()
    while True:
        state = made.state_now(planned, store).state
        if follow and time.monotonic() - asked > SECONDS_BETWEEN_QUERIES:
            made, _ = load_plan(study, overrides, runs, reading=True)
            planned = cell_by_signature(made, cell, study)
            asked = time.monotonic()
        over = not follow or state in ("done", "failed")
        # SLURM may still hold a cell whose heartbeat stopped; a local cell writes nothing while it waits
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
        logger.info(
            "no job holds cell %s any longer; `scaling submit %s` continues it", cell, study
        )


def cancel(
    study: Study,
    overrides: Overrides = None,
    runs: Runs = None,
    only: Only = None,
    yes: Yes = False,
) -> None:
    """Cancel the sweep's SLURM jobs; a running cell keeps its last checkpoint.

    Example: scaling cancel studies/quickstart.toml --only grade=W16
    """
    from sweeps.queue import cancel_tasks

    made, _ = load_plan(study, overrides, runs, reading=True)
    if made.silence:
        raise UserError(f"cancel: the state of the queue is unknown: {made.silence}")
    cells = [c for c in chosen_by(made, only) if c.job is not None]
    jobs = sorted({c.job.job_id for c in cells if c.job is not None})
    if not jobs:
        logger.info("%s: no job is queued or running", study)
        return
    also = [c for c in made.cells if c.job is not None and c.job.job_id in jobs and c not in cells]
    others = f" and {counted(len(also), 'other cell')}" if also else ""
    if confirm(
        f"Cancel {counted(len(jobs), 'job')} with {counted(len(cells), 'cell')}{others}?", yes
    ):
        cancel_tasks(jobs)
        logger.info("cancelled %s", counted(len(jobs), "job"))


def throttle(
    study: Study,
    max_parallel: Annotated[
        int, typer.Argument(min=1, help="Jobs that may run at once in the whole sweep.")
    ],
    overrides: Overrides = None,
    runs: Runs = None,
) -> None:
    """Change how many of the sweep's SLURM jobs run at once; arrays share them in proportion to their remaining work.

    Example: scaling throttle studies/quickstart.toml 32
    """
    from sweeps.dispatch import rebalance

    _, store = load_study_and_store(study, overrides, runs)
    shares = rebalance(store, max_parallel)
    if not shares:
        logger.info("%s: no array is queued or running", study)
    for array_id, share in shares.items():
        logger.info("array %s: %d jobs at once", array_id, share)


def _print_efficiency(
    made: Plan, store: RunStore, only: list[str] | None, *, as_json: bool
) -> None:
    from dataclasses import asdict

    from scaling.cli.sweep.efficiency_table import efficiency_parts, efficiency_totals
    from sweeps.efficiency import efficiency_by_class

    chosen = {cell.config.signature for cell in chosen_by(made, only)} if only else None
    rows = efficiency_by_class(made, store, chosen)
    document = {
        "study": made.study.name,
        "classes": [asdict(row) for row in rows],
        "totals": efficiency_totals(rows),
    }
    emit([] if as_json else efficiency_parts(rows), document, as_json=as_json)
