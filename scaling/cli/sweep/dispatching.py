"""How chosen cells are trained for the verbs: here with progress on stderr, or handed over to SLURM."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.cli.output import counted, format_duration, is_live
from scaling.cli.sweep.chosen_cells import chosen_by, confirm
from scaling.cli.sweep.plan_verbs import load_plan, tell_budget, warn_of
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scaling.records import RunStore
    from sweeps.planning import Plan, PlannedCell

__all__ = ["FAILURES", "Request", "train_cells"]


logger = logging.getLogger(__name__)

_PROGRESS_SECONDS = 10.0
_CLUSTERS = ("local", "slurm", "debug")
FAILURES = ("exception", "oom", "timeout", "lost")


@dataclass(frozen=True)
class Request:
    """Which cells to train, where and how; the options of the verbs."""

    study: Path
    overrides: list[str] | None
    runs: Path | None
    cluster: str = "local"
    jobs: int | None = None
    only: list[str] | None = None
    limit: int | None = None
    retry: tuple[str, ...] = ()
    budget: float | None = None
    force_resume: bool = False
    max_parallel: int | None = None
    snapshot: bool = False
    clean_env: bool = False
    cancel_removed: bool = False
    yes: bool = False


def _select(made: Plan, request: Request, *, failed_only: bool = False) -> list[PlannedCell]:
    """The cells to train now, the cheapest first."""
    cells = [
        cell
        for cell in chosen_by(made, request.only)
        if (cell.goes_on and not failed_only)
        or (cell.standing in ("failed", "lost") and (cell.failure or "lost") in request.retry)
    ]
    return sorted(cells, key=lambda cell: cell.seconds)[: request.limit]


def train_cells(request: Request, *, failed_only: bool = False) -> int:
    """Train the chosen cells and return the exit code: 1 if one of them is not done at the end.

    Raises:
        UserError: the study or an option is bad, or nothing can be written.
    """
    if request.cluster not in _CLUSTERS:
        raise UserError(
            f"--cluster {request.cluster}: no such cluster{nearest(request.cluster, _CLUSTERS)}"
        )
    if request.cluster == "slurm":
        return _submit_to_slurm(request, failed_only)
    from sweeps.dispatch import local_seconds, n_slots, run_debug, run_local

    made, store = load_plan(request.study, request.overrides, request.runs, make_data=True)
    warn_of(made)
    cells = _select(made, request, failed_only=failed_only)
    if not cells:
        _tell_nothing_to_do(made, request.study)
        return _report_unfinished(made, store, [])
    tell_budget(made, sum(made.gpu_seconds(cell) for cell in cells), request.budget)
    n_jobs = 1 if request.cluster == "debug" else request.jobs or n_slots()
    logger.info(
        "%s: %d of %d cells to train, about %s on %d at once",
        request.study,
        len(cells),
        len(made.cells),
        format_duration(local_seconds(made, cells, n_jobs)),
        n_jobs,
    )
    watch = _Progress(made, store)
    force = request.force_resume
    if request.cluster == "local":
        run_local(made, store, cells, n_jobs=n_jobs, watch=watch, force_resume=force)
    else:
        run_debug(made, store, cells, watch, force_resume=force)
    watch.close()
    return _report_unfinished(made, store, cells)


def _submit_to_slurm(request: Request, failed_only: bool) -> int:
    from sweeps.dispatch import SlurmOptions, check_shell, overriding_variables, submit_slurm

    check_shell(clean_env=request.clean_env)  # before any data are generated
    if ignored := overriding_variables():
        logger.warning(
            "warning: %s of this shell: not heeded, as the study says what its jobs get ([slurm])",
            ", ".join(ignored),
        )
    where = (request.study, request.overrides, request.runs)
    made, store = load_plan(*where, make_data=True)
    warn_of(made)
    if request.cancel_removed:
        _cancel_removed(made, store, request.yes)

    def choose(plan: Plan) -> Sequence[PlannedCell]:
        cells = _select(plan, request, failed_only=failed_only)
        busy = plan.with_standing("running", "queued")
        tell_budget(plan, sum(map(plan.gpu_seconds, (*cells, *busy))), request.budget)
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
        _tell_nothing_to_do(made, request.study)
    for submission in submissions:
        resources = submission.resources or {}
        logger.info(
            "submitted %s in %s as %s: %s GPUs, %s MiB, %s minutes, %s at once",
            counted(sum(map(len, submission.cells)), "cell"),
            counted(len(submission.cells), "job"),
            submission.job_ids[0].partition("_")[0],
            resources.get("gpus"),
            resources.get("memory_mib"),
            resources.get("minutes"),
            resources.get("max_parallel"),
        )
    if submissions:
        logger.info("see `scaling status %s`", request.study)
    return 0


def _cancel_removed(made: Plan, store: RunStore, yes: bool) -> None:
    """Cancel the jobs that hold nothing but cells which are no more in the grid."""
    from sweeps.queue import cancel_tasks, jobs_of_removed

    jobs = jobs_of_removed(made, store)
    if jobs and confirm(
        f"Cancel {counted(len(jobs), 'job')} of cells that are no more in the grid?", yes
    ):
        cancel_tasks(jobs)
        logger.info("cancelled %s", counted(len(jobs), "job"))


def _tell_nothing_to_do(made: Plan, study: Path) -> None:
    counts = Counter(cell.standing for cell in made.cells)
    told = [f"{counts['done']} of {len(made.cells)} cells done"]
    told += [f"{counts[name]} {name}" for name in ("running", "queued", "failed") if counts[name]]
    logger.info("%s: nothing to do, %s", study, ", ".join(told))


def _report_unfinished(made: Plan, store: RunStore, chosen: Sequence[PlannedCell]) -> int:
    """Say which cells are not done, and return the exit code: 1 if one failed or a chosen one is not done."""
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
    left = [cell for cell in chosen if states[cell.config.signature].state != "done"]
    for cell in left:
        state = states[cell.config.signature]
        if state.state in ("lost", "preempted", "missing"):
            logger.error("%s: %s: %s", state.state, cell.config.label, state.message or "not done")
    others = counts["missing"] + counts["lost"] + counts["preempted"]
    if others:
        logger.info("%d cells are still missing", others)
    return 1 if counts["failed"] or counts["running"] or left else 0


class _Progress:
    """Prints where the study stands: on one live line of a terminal, else a line every ten seconds."""

    def __init__(self, made: Plan, store: RunStore) -> None:
        self._plan, self._store = made, store
        self._live = is_live()
        self._begin = time.monotonic()
        self._next = self._begin + (0.5 if self._live else _PROGRESS_SECONDS)

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.5 if self._live else _PROGRESS_SECONDS)
        self._print()

    def close(self) -> None:
        """Print the last state on a line of its own."""
        self._print()
        if self._live:
            print(file=sys.stderr)

    def _print(self) -> None:
        from sweeps.status import progress_line

        line = f"[{format_duration(time.monotonic() - self._begin)}] {progress_line(self._plan, self._store)}"
        if self._live:
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            print(f"\r\x1b[K{line[: width - 1]}", end="", file=sys.stderr, flush=True)
        else:
            logger.info("%s", line)
