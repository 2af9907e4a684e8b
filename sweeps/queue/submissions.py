"""What was handed over to a scheduler: `submissions/<id>/submission.json`, one folder per array or local pool.

The file is written before sbatch is called and again with the answer: a driver killed between the two
leaves a submission without job ids, which the next one finds in the queue by its folder.
"""

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.atomic_files import write_json
from scaling.errors import StorageError, UserError
from scaling.records import RunStore
from scaling.strict_values import from_document, tolerant
from sweeps.queue.scheduler import QueuedTask, has_slurm, queued_tasks

__all__ = [
    "Submission",
    "ask_queue",
    "cells_in_queue",
    "latest_jobs",
    "new_folder",
    "read_submissions",
    "submission_lock",
    "sweep_name",
    "write_submission",
]


logger = logging.getLogger(__name__)

_LOCK_SECONDS = 600.0


@tolerant
@dataclass(frozen=True)
class Submission:
    """One array of SLURM jobs, or the jobs of one local driver.

    Attributes:
        folder: its own, with submitit's files and logs.
        cells: signatures by job, in the order of the array.
        job_ids: the scheduler's, for the first so many jobs; empty until sbatch has answered.
        seconds: estimate of each job.
        resources: what each job asked for.
        code: the snapshot that the jobs run from; None is the driver's own code.
    """

    folder: Path
    cluster: Literal["local", "slurm"]
    cells: tuple[tuple[str, ...], ...]
    job_ids: tuple[str, ...] = ()
    seconds: tuple[float, ...] = ()
    resources: dict[str, Any] | None = None
    code: str | None = None

    def jobs(self) -> list[tuple[str, tuple[str, ...]]]:
        """The job ids that are known, each with its cells."""
        return list(zip(self.job_ids, self.cells, strict=False))

    def cells_of(self, index: int) -> tuple[str, ...]:
        """The cells of the job at that place; none where the file, damaged, knows of no such job."""
        return self.cells[index] if index < len(self.cells) else ()

    def log(self, job_id: str, channel: Literal["out", "err"]) -> Path:
        """Where the first task of a job writes."""
        return self.folder / f"{job_id}_0_log.{channel}"


def sweep_name(runs: RunStore) -> str:
    """The name of all jobs of a sweep, its own among the jobs of a user."""
    root = runs.root.resolve()
    return f"scaling-{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def new_folder(runs: RunStore) -> Path:
    """A fresh folder per submission: job ids are reused, and old results must not be found.

    Raises:
        StorageError: it cannot be made.
    """
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    for count in range(10_000):
        # submitit and sbatch want a path that holds on every node
        folder = runs.root.resolve() / "submissions" / f"{stem}-{count}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageError(f"{folder}: cannot be written: {error.strerror}") from error
        return folder
    raise StorageError(f"{runs.root}: cannot make a folder for the submission")


def write_submission(submission: Submission) -> None:
    """Write or replace a submission's file."""
    document = {k: v for k, v in asdict(submission).items() if k != "folder"}
    write_json(submission.folder / "submission.json", document)


def read_submissions(runs: RunStore) -> list[Submission]:
    """Every submission, oldest first; a damaged one is passed over, as it tells nothing."""
    found = []
    for path in sorted((runs.root / "submissions").glob("*/submission.json"), key=_age):
        try:
            document = {**json.loads(path.read_text(encoding="utf-8")), "folder": path.parent}
            found.append(from_document(Submission, document, "damaged"))
        except (OSError, ValueError, TypeError, UserError) as error:
            logger.warning("%s: passed over: %s", path, error)
    return found


def cells_in_queue(
    submissions: Sequence[Submission], tasks: Sequence[QueuedTask]
) -> dict[str, QueuedTask]:
    """The queued or running job of each cell that has one; a running job before a waiting one."""
    by_folder = {submission.folder.name: submission for submission in submissions}
    found: dict[str, QueuedTask] = {}
    for task in sorted(tasks, key=lambda task: task.is_running):
        submission = by_folder.get(task.folder)
        if submission is not None:
            found |= dict.fromkeys(submission.cells_of(task.index), task)
    return found


def latest_jobs(submissions: Sequence[Submission]) -> dict[str, tuple[Submission, str]]:
    """The last job that each cell was given to, whatever became of it."""
    found: dict[str, tuple[Submission, str]] = {}
    for submission in submissions:
        for job_id, cells in submission.jobs():
            found |= dict.fromkeys(cells, (submission, job_id))
    return found


@contextmanager
def submission_lock(runs: RunStore) -> Iterator[None]:
    """Keep other drivers of this sweep from submitting meanwhile; a dead driver's lock is gone with it.

    Raises:
        StorageError: the folder cannot be written, or its file system cannot lock.
        UserError: another driver holds the lock for ten minutes.
    """
    path = runs.root / "submissions" / "lock"
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(path.open("a"))
            _wait_for_lock(file.fileno(), path)
        except OSError as error:
            raise StorageError(f"{path}: cannot be locked: {error.strerror}") from error
        yield  # an error of what is done meanwhile is none of the lock


def _wait_for_lock(descriptor: int, path: Path) -> None:
    deadline, told = time.monotonic() + _LOCK_SECONDS, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                logger.info("another submit is at work on this study; waiting for it")
                told = True
            if time.monotonic() > deadline:
                raise UserError(f"{path}: another submit holds it since ten minutes") from None
            time.sleep(0.2)
        else:
            return


def _age(path: Path) -> tuple[str, int]:
    """Folders sort by their time, then by their number."""
    stem, _, count = path.parent.name.rpartition("-")
    return stem, int(count) if count.isdigit() else 0


def ask_queue(runs: RunStore, submissions: Sequence[Submission]) -> list[QueuedTask]:
    """The sweep's jobs that wait or run; none if it was never submitted to SLURM, or there is none.

    Raises:
        SilentSchedulerError: SLURM does not answer.
    """
    if not has_slurm() or all(submission.cluster != "slurm" for submission in submissions):
        return []
    return queued_tasks(sweep_name(runs))
