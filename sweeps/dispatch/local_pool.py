"""Trains cells in several processes of this machine, or in this process; the records are as on a cluster."""

import logging
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaling.errors import StorageError
from scaling.records import RunStore
from sweeps.dispatch.environment import worker_environment
from sweeps.dispatch.job_contents import cell_job
from sweeps.dispatch.job_processes import shared_gpus
from sweeps.planning import Plan, PlannedCell, speed_up
from sweeps.queue import Submission, new_folder, write_submission

__all__ = ["local_seconds", "n_slots", "pack_longest_first", "run_debug", "run_local"]


logger = logging.getLogger(__name__)

Watch = Callable[[], None]

# A process takes seconds to start, so short cells share one, and each long cell has its own.
_SECONDS_PER_JOB = 25.0
_SECONDS_WORTH_A_PROCESS = 6.0
_POLL_SECONDS = 0.25
# a stopped worker needs time to save its state
_SECONDS_TO_STOP = 20.0


def pack_longest_first(
    units: Sequence[Sequence[PlannedCell]], seconds_per_job: float
) -> list[list[PlannedCell]]:
    """Group units into jobs of about `seconds_per_job`, longest units first.

    With this order all workers end at about the same time (Graham's LPT rule).
    """
    jobs: list[list[PlannedCell]] = []
    room = 0.0
    for unit in sorted(units, key=_seconds, reverse=True):
        if not jobs or _seconds(unit) > room:
            jobs.append([])
            room = seconds_per_job
        jobs[-1].extend(unit)
        room -= _seconds(unit)
    return jobs


def run_local(
    plan: Plan,
    runs: RunStore,
    cells: Sequence[PlannedCell],
    *,
    n_jobs: int,
    watch: Watch,
    force_resume: bool = False,
) -> Submission:
    """Train `cells` in `n_jobs` parallel processes and return when all have ended.

    submitit's local executor starts every job at once, so a job is submitted only when a process is free. A cell that
    several processes train together on the cluster gets as many here, but at most `n_jobs`. The processes share the GPUs of
    this machine, if it has any: `n_jobs` divided by them is how many train on each, fewer of a grade with less `cells_per_gpu`.
    `watch` is called a few times a second. An interrupt stops the workers.

    Raises:
        StorageError: the runs folder cannot be written.
        KeyboardInterrupt: interrupted or terminated; the workers have saved their states and ended.
    """
    import submitit

    n_gpus = _n_gpus()
    waiting = _pack(plan, cells, n_jobs, n_gpus)
    submission = Submission(
        folder=new_folder(runs),
        cluster="local",
        cells=tuple(tuple(cell.config.signature for cell in job.cells) for job in waiting),
    )
    free = list(range(n_jobs))
    hung_since: dict[str, float] = {}
    active: dict[tuple[int, ...], tuple[Any, list[PlannedCell]]] = {}
    with _signals_interrupt(), _sharing(n_jobs, n_gpus):
        try:
            while waiting or active:
                while waiting and (slots := _places(free, waiting[0], n_gpus)):
                    next_job = waiting.pop(0)
                    n_ranks, batch = next_job.n_ranks, next_job.cells
                    free = [slot for slot in free if slot not in slots]
                    executor = submitit.LocalExecutor(folder=submission.folder)
                    executor.update_parameters(timeout_min=24 * 60, tasks_per_node=n_ranks)
                    if n_gpus:
                        gpus = [slot % n_gpus for slot in slots[:n_ranks]]
                        executor.update_parameters(gpus_per_node=len(gpus), visible_gpus=gpus)
                    with worker_environment(), _stderr_into(submission.folder / "controllers.log"):
                        job = executor.submit(
                            cell_job(
                                plan,
                                runs,
                                batch,
                                force_resume=force_resume,
                                n_ranks=n_ranks,
                                on_gpu=n_gpus > 0,
                                cells_per_gpu=next_job.cells_per_gpu,
                            )
                        )
                    active[slots] = (job, batch)
                    submission = replace(submission, job_ids=(*submission.job_ids, job.job_id))
                    write_submission(submission)
                time.sleep(_POLL_SECONDS)
                watch()
                for slots, (job, batch) in list(active.items()):
                    if _is_hung(runs, batch, len(slots), hung_since):
                        _kill_with_children(int(job.job_id))
                    if job.done():
                        del active[slots]
                        free += slots
                        _settle(runs, batch, Path(job.paths.stderr))
        except BaseException:
            _stop(runs, list(active.values()))
            raise
    return submission


def local_seconds(plan: Plan, cells: Sequence[PlannedCell], n_jobs: int) -> float:
    """Return the estimated time of `run_local` in seconds, including the start of its processes."""
    jobs = _pack(plan, cells, n_jobs, _n_gpus())
    seconds = [plan.start_seconds + job.seconds for job in jobs]
    work = sum(one * job.n_places for one, job in zip(seconds, jobs, strict=True))
    return max(work / min(n_jobs, sum(job.n_places for job in jobs)), *seconds)


@dataclass(frozen=True)
class _LocalJob:
    """Cells that `n_ranks` processes of this machine train one after the other, and the estimated time.

    They take `n_places` of the pool's `n_jobs`: those of a cell that shares its GPU with fewer others count more.
    """

    cells: list[PlannedCell]
    n_ranks: int
    n_places: int
    cells_per_gpu: int
    seconds: float


def _pack(
    plan: Plan, cells: Sequence[PlannedCell], n_jobs: int, n_gpus: int = 0
) -> list[_LocalJob]:
    """Pack cells into jobs: short enough that all workers end at about the same time, but worth a process.

    Those that need the most places come first.
    """
    groups: dict[tuple[int, int], list[tuple[PlannedCell, ...]]] = {}
    for unit in plan.units(cells):
        own = plan.study.slurm.of_grade(unit[0].config.grade_name)
        wanted = own.cells_per_gpu if n_gpus else 1
        groups.setdefault((own.n_ranks, wanted), []).append(unit)
    most = max((wanted for _, wanted in groups), default=1)
    per_gpu = math.ceil(n_jobs / n_gpus) if n_gpus else 1
    share = per_gpu * sum(cell.seconds for cell in cells) / (6 * n_jobs)
    target = min(_SECONDS_PER_JOB, max(share, _SECONDS_WORTH_A_PROCESS))
    jobs = []
    for (asked, wanted), units in groups.items():
        n_ranks = min(asked, n_jobs)
        n_places = n_ranks if asked > 1 else min(per_gpu, math.ceil(most / wanted))
        cells_per_gpu = per_gpu // n_places if asked == 1 else 1
        # The plan's estimate is for as many ranks as a job on the cluster has, and of a shared GPU it is a share.
        factor = cells_per_gpu * speed_up(asked) / speed_up(n_ranks)
        jobs += [
            _LocalJob(batch, n_ranks, n_places, cells_per_gpu, factor * _seconds(batch))
            for batch in pack_longest_first(units, target / factor)
        ]
    return sorted(jobs, key=lambda job: job.n_places, reverse=True)


def _places(free: Sequence[int], job: _LocalJob, n_gpus: int) -> tuple[int, ...]:
    """Return free places for a job, those of one process on the GPU with the most; none if there are too few."""
    if job.n_ranks == 1 and n_gpus:
        on_each = [[place for place in free if place % n_gpus == gpu] for gpu in range(n_gpus)]
        free = max(on_each, key=len)
    return tuple(free[-job.n_places :]) if len(free) >= job.n_places else ()


@contextmanager
def _sharing(n_jobs: int, n_gpus: int) -> Iterator[None]:
    """Let the workers that are started in this context share GPUs, if there are more of them than GPUs."""
    if not n_gpus or n_jobs <= n_gpus:
        yield
        return
    with shared_gpus() as sharing:
        logger.info("%s", sharing.text)
        yield


def run_debug(
    plan: Plan,
    runs: RunStore,
    cells: Sequence[PlannedCell],
    watch: Watch,
    *,
    force_resume: bool = False,
) -> None:
    """Train `cells` in this process, smallest first."""
    for unit in sorted(plan.units(cells), key=_seconds):
        cell_job(plan, runs, unit, force_resume=force_resume)()
        watch()


def n_slots(plan: Plan, cells: Sequence[PlannedCell]) -> int:
    """Return how many cells this machine trains at the same time: `cells_per_gpu` of each GPU, or one per core."""
    n_cores = len(os.sched_getaffinity(0))
    if not (n_gpus := _n_gpus()):
        return n_cores
    grades = {cell.config.grade_name for cell in cells}
    wanted = n_gpus * max((plan.study.slurm.of_grade(g).cells_per_gpu for g in grades), default=1)
    return max(n_gpus, min(wanted, n_cores))


def _seconds(unit: Sequence[PlannedCell]) -> float:
    return sum(cell.seconds for cell in unit)


def _is_hung(
    runs: RunStore, batch: Sequence[PlannedCell], n_ranks: int, since: dict[str, float]
) -> bool:
    """Whether one of a job's ranks has ended its cell with an error some time ago, and the others still run.

    `since` keeps when that was first seen, by the cell's key.
    """
    if n_ranks == 1:
        return False
    for cell in batch:
        state = runs.state(cell.config.signature, cell.key)
        # of a loss that is not finite all ranks know, and go on with the next cell
        if state.state in ("lost", "failed") and state.failure != "diverged":
            begin = since.setdefault(cell.key, time.monotonic())
            return time.monotonic() - begin > _SECONDS_TO_STOP
    return False


def _settle(runs: RunStore, batch: Sequence[PlannedCell], log: Path) -> None:
    """Write for the cells of a job that has ended which of them are lost; one that never began stays missing.

    Raises:
        StorageError: this cannot be written, most likely because the disk is full.
    """
    for cell in batch:
        state = runs.state(cell.config.signature, cell.key)
        if state.state == "lost":
            runs.fail(
                cell.key, f"{state.message or _last_words(log)}; its log is {log.name}", "lost"
            )
        elif state.state == "missing" and (word := _error_in(log)):
            logger.error("%s did not begin: %s (%s)", cell.config.label, word, log)


def _last_words(log: Path) -> str:
    lines = (
        log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if log.exists()
        else []
    )
    return f"the worker process died ({lines[-1] if lines else 'no output; killed, or out of memory?'})"


def _error_in(log: Path) -> str:
    """The line of a log that names the error with which a worker ended, or nothing."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    errors = [
        line for line in lines if re.match(r"(\[rank\d+\]: )?[\w.]+(Error|Exception): ", line)
    ]
    return errors[-1] if errors else ""


def _stop(runs: RunStore, active: Sequence[tuple[Any, Sequence[PlannedCell]]]) -> None:
    """Interrupt the workers, wait until they have saved their states, and kill those that do not end."""
    for job, _ in active:
        with suppress(ProcessLookupError):
            job.cancel(check=False)
    deadline = time.monotonic() + _SECONDS_TO_STOP
    while time.monotonic() < deadline and not all(job.done() for job, _ in active):
        time.sleep(0.1)
    # the workers of a background driver ignore interrupts, as it does
    for job, _ in active:
        if not job.done():
            _kill_with_children(int(job.job_id))
    for _, batch in active:
        for cell in batch:
            if runs.state(cell.config.signature, cell.key).state in ("running", "lost"):
                runs.release(cell.key)


def _kill_with_children(pid: int) -> None:
    """Kill a process and those that it started; one that has ended already is no error."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (*parent.children(), parent):
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that the workers are stopped, too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _stderr_into(path: Path) -> Iterator[None]:
    """Send the stderr of processes started in this context to `path`, to keep submitit's out of the terminal."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    except OSError as error:
        raise StorageError(f"{path.parent}: cannot be written: {error.strerror}") from error
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _n_gpus() -> int:
    import torch

    return torch.cuda.device_count()
