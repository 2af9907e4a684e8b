"""From a plan to running cells, through submitit; the truth about each is in its run folder, never here."""

import logging
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.config import SlurmConfig
from scaling.errors import StorageError, UserError
from scaling.provenance import COMMAND_VARIABLE
from scaling.records import RunStore
from sweeps.job import run_cells
from sweeps.plan import Plan, PlannedCell

__all__ = ["Submission", "n_slots", "pack_cells", "run_debug", "run_local", "submit_slurm"]

logger = logging.getLogger(__name__)

Watch = Callable[[], None]

# A job's start costs seconds of imports: short cells share one, long cells have their own.
_SECONDS_PER_LOCAL_JOB = 25.0
_SECONDS_WORTH_A_PROCESS = 6.0
_POLL_SECONDS = 0.25
_SECONDS_TO_STOP = 5.0


@dataclass(frozen=True)
class Submission:
    """What was handed over: the scheduler's job ids and the cells of each job."""

    cluster: Literal["local", "slurm", "debug"]
    folder: Path
    jobs: dict[str, tuple[str, ...]]


def pack_cells(cells: Sequence[PlannedCell], seconds_per_job: float) -> list[list[PlannedCell]]:
    """Group cells into jobs of about `seconds_per_job`, the longest cells first.

    Longest first keeps the last worker's tail short (Graham's LPT rule).
    """
    jobs: list[list[PlannedCell]] = []
    room = 0.0
    for cell in sorted(cells, key=lambda cell: -cell.seconds):
        if not jobs or cell.seconds > room:
            jobs.append([])
            room = seconds_per_job
        jobs[-1].append(cell)
        room -= cell.seconds
    return jobs


def run_local(
    plan: Plan, runs: RunStore, cells: Sequence[PlannedCell], *, n_jobs: int, watch: Watch
) -> Submission:
    """Train `cells` in `n_jobs` processes at once and return when all have ended.

    submitit's local executor starts everything it is given, so the queue is here: a job is submitted
    when a slot is free. `watch` is called a few times a second. An interrupt stops the workers.
    """
    import submitit

    folder = _submission_folder(runs)
    # small enough that the workers end at about the same time, long enough to pay for a process
    share = sum(cell.seconds for cell in cells) / (6 * n_jobs)
    waiting = pack_cells(cells, min(_SECONDS_PER_LOCAL_JOB, max(share, _SECONDS_WORTH_A_PROCESS)))
    n_gpus = _n_gpus()
    free = list(range(min(n_jobs, len(waiting))))
    active: dict[int, tuple[Any, list[PlannedCell]]] = {}
    jobs: dict[str, tuple[str, ...]] = {}
    with _signals_interrupt():
        try:
            while waiting or active:
                while waiting and free:
                    slot = free.pop()
                    batch = waiting.pop(0)
                    executor = submitit.LocalExecutor(folder=folder)
                    executor.update_parameters(timeout_min=24 * 60)
                    if n_gpus:
                        executor.update_parameters(gpus_per_node=1, visible_gpus=[slot % n_gpus])
                    with _worker_environment(), _stderr_into(folder / "controllers.log"):
                        job = executor.submit(run_cells, *_arguments(plan, runs, batch))
                    active[slot] = (job, batch)
                    jobs[job.job_id] = tuple(cell.config.signature for cell in batch)
                time.sleep(_POLL_SECONDS)
                watch()
                for slot, (job, batch) in list(active.items()):
                    if job.done():
                        del active[slot]
                        free.append(slot)
                        _settle(runs, batch, Path(job.paths.stderr))
        except BaseException:
            _stop(runs, list(active.values()))
            raise
    return Submission("local", folder, jobs)


def _stop(runs: RunStore, active: Sequence[tuple[Any, Sequence[PlannedCell]]]) -> None:
    """Interrupt the workers, wait for their end and leave their cells as if never begun."""
    for job, _ in active:
        with suppress(ProcessLookupError):
            job.cancel(check=False)
    deadline = time.monotonic() + _SECONDS_TO_STOP
    while time.monotonic() < deadline and not all(job.done() for job, _ in active):
        time.sleep(0.1)
    # a background driver's workers inherit that interrupts are ignored
    for job, _ in active:
        if not job.done():
            controller = int(job.job_id)
            for pid in (*_children(controller), controller):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    for _, batch in active:
        for cell in batch:
            if runs.state(cell.config.signature).state in ("running", "lost"):
                runs.release(cell.config.signature)


def _children(pid: int) -> list[int]:
    """The processes that `pid` started, as far as the system tells."""
    with suppress(OSError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP end the driver as Ctrl-C does: with its workers."""

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
    """Processes started meanwhile write their stderr to `path`: submitit's own stay out of the terminal."""
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


def submit_slurm(plan: Plan, runs: RunStore, cells: Sequence[PlannedCell]) -> Submission:
    """Submit `cells` as one job array and return at once; `runs` must lie on a shared file system.

    Raises:
        UserError: there is no SLURM here, or it refuses the request.
    """
    import submitit

    slurm: SlurmConfig = plan.study.slurm
    folder = _submission_folder(runs)
    try:
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=3)
    except RuntimeError as error:
        raise UserError(
            "--cluster slurm: there is no sbatch on the path; use --cluster local"
        ) from error
    parameters: dict[str, Any] = {
        "job_name": f"scaling-{plan.study.name}",
        "time": slurm.time_minutes,
        "mem": f"{math.ceil(slurm.memory_gib * 1024)}MB",  # sbatch takes whole numbers only
        "cpus_per_task": slurm.cpus,
        "gpus_per_node": slurm.gpus or None,
        "partition": slurm.partition,
        "array_parallelism": slurm.max_parallel,
        # A site may forbid requeueing by default; a preempted cell must come back.
        "additional_parameters": {"requeue": True},
    }
    executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})
    # cheapest first: an early look at the curve costs little
    batches = [[cell] for cell in sorted(cells, key=lambda cell: cell.seconds)]
    arguments = [_arguments(plan, runs, batch) for batch in batches]
    try:
        with _worker_environment():
            submitted = executor.map_array(run_cells, *zip(*arguments, strict=True))
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"--cluster slurm: sbatch refused the array: {error}") from error
    jobs = {
        job.job_id: tuple(cell.config.signature for cell in batch)
        for job, batch in zip(submitted, batches, strict=True)
    }
    return Submission("slurm", folder, jobs)


def run_debug(plan: Plan, runs: RunStore, cells: Sequence[PlannedCell], watch: Watch) -> Submission:
    """Train `cells` in this process, smallest first."""
    for cell in sorted(cells, key=lambda cell: cell.seconds):
        run_cells(*_arguments(plan, runs, [cell]))
        watch()
    return Submission("debug", runs.root, {})


def n_slots() -> int:
    """How many cells this machine runs at once: one per GPU, or one per core."""
    return _n_gpus() or len(os.sched_getaffinity(0))


def _arguments(plan: Plan, runs: RunStore, batch: Sequence[PlannedCell]) -> tuple[Any, ...]:
    return str(plan.data.path), str(runs.root), [asdict(cell.config) for cell in batch]


def _settle(runs: RunStore, batch: Sequence[PlannedCell], log: Path) -> None:
    """A job has ended: a cell that it left running was lost with it; one never begun stays missing.

    Raises:
        StorageError: that cannot be written down, most likely because the disk is full.
    """
    for cell in batch:
        signature = cell.config.signature
        if runs.state(signature).state == "lost":
            lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            reason = lines[-1] if lines else "no output; killed, or out of memory?"
            runs.fail(signature, f"the worker process died ({reason}); its log is {log.name}")


def _submission_folder(runs: RunStore) -> Path:
    """A fresh folder per submission: job ids are reused and old results must not be found."""
    folder = runs.root / "submissions" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror}") from error
    return folder


def _n_gpus() -> int:
    import torch

    return torch.cuda.device_count()


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Workers use one thread, ignore packages in the working directory and know the driver's command."""
    wanted = {
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        COMMAND_VARIABLE: shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
