"""Trains the chosen cells: on this machine, with progress on stderr, or by submitting them to SLURM."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.missing_packages import check_training_packages
from scaling.cli.output import counted, format_duration
from scaling.cli.progress import sweep_progress
from scaling.cli.sweep.chosen_cells import chosen_by, confirm
from scaling.cli.sweep.first_measurement import measure_unknown_grades
from scaling.cli.sweep.plan_verbs import check_budget, load_plan, warn_about
from scaling.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scaling.records import RunStore
    from sweeps.planning import Plan, PlannedCell

__all__ = ["Cluster", "FailureClass", "Jobs", "OnCluster", "Request", "train_cells"]


logger = logging.getLogger(__name__)


class Cluster(StrEnum):
    """Where cells are trained."""

    LOCAL = "local"
    SLURM = "slurm"
    DEBUG = "debug"


OnCluster = Annotated[
    Cluster,
    typer.Option(
        "--cluster", help="local: processes here; slurm: jobs; debug: one by one in this process."
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Cells to train at once; local only [default: cells_per_gpu for each GPU, else one per core].",
    ),
]


class FailureClass(StrEnum):
    """How a cell can fail."""

    EXCEPTION = "exception"
    DIVERGED = "diverged"
    OOM = "oom"
    TIMEOUT = "timeout"
    LOST = "lost"


@dataclass(frozen=True)
class Request:
    """The options of the verbs: which cells to train (of these `signatures`; None: any), where and how."""

    study: Path
    overrides: list[str] | None
    runs: Path | None
    cluster: Cluster = Cluster.LOCAL
    jobs: int | None = None
    only: list[str] | None = None
    limit: int | None = None
    retry: tuple[FailureClass, ...] = ()
    budget: float | None = None
    force_resume: bool = False
    max_parallel: int | None = None
    snapshot: bool = False
    clean_env: bool = False
    cancel_removed: bool = False
    yes: bool = False
    signatures: frozenset[str] | None = None


def _select(made: Plan, request: Request, *, failed_only: bool = False) -> list[PlannedCell]:
    """Return the cells to train now, the cheapest first."""
    cells = [
        cell
        for cell in chosen_by(made, request.only)
        if (request.signatures is None or cell.config.signature in request.signatures)
        and (
            (cell.goes_on and not failed_only)
            or (cell.standing in ("failed", "lost") and (cell.failure or "lost") in request.retry)
        )
    ]
    return sorted(cells, key=lambda cell: cell.seconds)[: request.limit]


def train_cells(request: Request, *, failed_only: bool = False) -> int:
    """Train the chosen cells and return the exit code: 1 if one of them is not done at the end.

    Raises:
        UserError: the study or an option is bad, a package is missing, or a file cannot be written.
    """
    if request.cluster is Cluster.SLURM:
        return _submit_to_slurm(request, failed_only)
    from sweeps.dispatch import TimeLeft, local_seconds, n_slots, run_debug, run_local
    from sweeps.status import progress_of

    where = (request.study, request.overrides, request.runs)
    made, store = load_plan(*where, make_data=True)
    warn_about(made)
    cells = _select(made, request, failed_only=failed_only)
    if request.cluster is Cluster.LOCAL and measure_unknown_grades(*where, cells):
        made, store = load_plan(*where)
        cells = _select(made, request, failed_only=failed_only)
    if not cells:
        _log_nothing_to_do(made, request.study)
        return _report_unfinished(made, store, [])
    check_training_packages()
    check_budget(made, sum(made.gpu_seconds(cell) for cell in cells), request.budget)
    n_jobs = 1 if request.cluster is Cluster.DEBUG else request.jobs or n_slots(made, cells)
    logger.info(
        "%s: %d of %d cells to train, about %s on %d at once",
        request.study,
        len(cells),
        len(made.cells),
        format_duration(local_seconds(made, cells, n_jobs)),
        n_jobs,
    )
    force = request.force_resume
    clock = TimeLeft(made, cells, n_jobs)
    with sweep_progress(
        lambda: progress_of(made, store), lambda now, elapsed: clock.look(now.states, elapsed)
    ) as watch:
        if request.cluster is Cluster.LOCAL:
            run_local(made, store, cells, n_jobs=n_jobs, watch=watch, force_resume=force)
        else:
            run_debug(made, store, cells, watch, force_resume=force)
    return _report_unfinished(made, store, cells)


def _submit_to_slurm(request: Request, failed_only: bool) -> int:
    from sweeps.dispatch import SlurmOptions, check_shell, overriding_variables, submit_slurm

    try:
        check_shell(clean_env=request.clean_env)  # before any data are generated
    except UserError as error:
        raise UserError(f"--cluster slurm: {error}") from error
    if ignored := overriding_variables():
        logger.warning(
            "warning: %s of this shell: ignored, because [slurm] of the study sets the options of its jobs",
            ", ".join(ignored),
        )
    where = (request.study, request.overrides, request.runs)
    made, store = load_plan(*where, make_data=True)
    warn_about(made)
    if request.cancel_removed:
        _cancel_removed(made, store, request.yes)

    def choose(plan: Plan) -> Sequence[PlannedCell]:
        cells = _select(plan, request, failed_only=failed_only)
        if cells:
            check_training_packages()
        busy = plan.with_standing("running", "queued")
        check_budget(plan, sum(map(plan.gpu_seconds, (*cells, *busy))), request.budget)
        return cells

    made, submissions = submit_slurm(
        lambda tasks: load_plan(*where, tasks=tasks)[0],
        store,
        choose,
        SlurmOptions(
            request.max_parallel, request.snapshot, request.clean_env, request.force_resume
        ),
    )
    if not submissions:
        _log_nothing_to_do(made, request.study)
    for submission in submissions:
        resources = submission.resources or {}
        logger.info(
            "submitted %s in %s as %s: %s, %s MiB, %s minutes, %s at once",
            counted(sum(map(len, submission.cells)), "cell"),
            counted(len(submission.cells), "job"),
            submission.job_ids[0].partition("_")[0],
            _devices(resources),
            resources.get("memory_mib"),
            resources.get("minutes"),
            resources.get("max_parallel"),
        )
    if submissions:
        logger.info("see `scaling status %s`", request.study)
    return 0


def _devices(resources: Mapping[str, Any]) -> str:
    """The devices of each job of a submission."""
    gpus, nodes = resources.get("gpus") or 0, resources.get("nodes", 1)
    ranks = nodes * resources.get("tasks_per_node", 1)
    text = counted(gpus, "GPU") if gpus else f"{gpus} GPUs"
    if nodes > 1:
        text += f" on each of {nodes} nodes"
    if (at_once := resources.get("cells_at_once", 1)) > 1:
        text += f", {at_once} cells side by side"
    return f"{text}, {ranks} ranks" if ranks > 1 else text


def _cancel_removed(made: Plan, store: RunStore, yes: bool) -> None:
    """Cancel the jobs whose cells are all no longer in the grid."""
    from sweeps.queue import cancel_tasks, jobs_of_removed

    jobs = jobs_of_removed(made, store)
    if jobs and confirm(
        f"Cancel {counted(len(jobs), 'job')} of cells that are no longer in the grid?", yes
    ):
        cancel_tasks(jobs)
        logger.info("cancelled %s", counted(len(jobs), "job"))


def _log_nothing_to_do(made: Plan, study: Path) -> None:
    counts = Counter(cell.standing for cell in made.cells)
    parts = [f"{counts['done']} of {len(made.cells)} cells done"]
    parts += [
        f"{counts[name]} {name}"
        for name in ("damaged", "running", "queued", "failed")
        if counts[name]
    ]
    logger.info("%s: nothing to do, %s", study, ", ".join(parts))


def _report_unfinished(made: Plan, store: RunStore, chosen: Sequence[PlannedCell]) -> int:
    """Log which cells are not done; return the exit code: 1 if one failed or a chosen one is not done."""
    states = {cell.config.signature: made.state_now(cell, store) for cell in made.cells}
    for cell in made.cells:
        state = states[cell.config.signature]
        if state.state == "failed":
            logger.error("failed: %s: %s", cell.config.label, state.message)
    counts = Counter(state.state for state in states.values())
    if counts["failed"]:
        logger.error("%d cells failed; `scaling retry` runs them again", counts["failed"])
    if counts["running"]:
        logger.error("%d cells are being trained by another process", counts["running"])
    damaged = made.with_standing("damaged")
    if damaged:
        logger.error(
            "%d cells have a damaged record: remove their folders to train them again", len(damaged)
        )
    left = [cell for cell in chosen if states[cell.config.signature].state != "done"]
    for cell in left:
        state = states[cell.config.signature]
        if state.state in ("lost", "preempted", "missing"):
            logger.error("%s: %s: %s", state.state, cell.config.label, state.message or "not done")
    others = counts["missing"] + counts["lost"] + counts["preempted"]
    if others:
        logger.info("%d cells are still missing", others)
    return 1 if counts["failed"] or counts["running"] or damaged or left else 0
