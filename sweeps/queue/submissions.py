"""What was submitted: `submissions/<id>/submission.json`, one folder for each job array or local pool.

The file is written before sbatch is called, and again with the job ids afterwards. If the driver is killed in
between, the next one finds the submission's jobs in the queue by its folder.
"""

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.atomic_files import write_json
from scaling.documents import read_json
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
        folder: the submission's folder, with submitit's files and logs.
        cells: for each job, in the order of the array, the signatures of its cells.
        job_ids: the scheduler's ids of the first jobs, as far as they are known; empty until sbatch has
            answered.
        seconds: estimated time of each job.
        resources: resources of each job.
        code: folder of the code snapshot that the jobs use; None: the driver's own code.
    """

    folder: Path
    cluster: Literal["local", "slurm"]
    cells: tuple[tuple[str, ...], ...]
    job_ids: tuple[str, ...] = ()
    seconds: tuple[float, ...] = ()
    resources: dict[str, Any] | None = None
    code: str | None = None

    def jobs(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return the known job ids, each with its cells."""
        return list(zip(self.job_ids, self.cells, strict=False))

    def cells_of(self, index: int) -> tuple[str, ...]:
        """Return the cells of a job of the array; empty if a damaged file does not contain it."""
        return self.cells[index] if index < len(self.cells) else ()

    def log(self, job_id: str, channel: Literal["out", "err"]) -> Path:
        """Return the path of the log of a job's first task."""
        return self.folder / f"{job_id}_0_log.{channel}"


def sweep_name(runs: RunStore) -> str:
    """Return the name of all jobs of a sweep; no other sweep has the same."""
    root = runs.root.resolve()
    return f"scaling-{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"


def new_folder(runs: RunStore) -> Path:
    """Create a new folder for a submission; job ids are reused, so old results must not lie in it.

    Raises:
        StorageError: it cannot be created.
    """
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    for count in range(10_000):
        # submitit and sbatch need a path that is valid on every node
        folder = runs.root.resolve() / "submissions" / f"{stem}-{count}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise StorageError(f"{folder}: cannot be written: {error.strerror}") from error
        return folder
    raise StorageError(f"{runs.root}: cannot create a folder for the submission")


def write_submission(submission: Submission) -> None:
    """Write the file of a submission; an earlier one is replaced."""
    document = {k: v for k, v in asdict(submission).items() if k != "folder"}
    write_json(submission.folder / "submission.json", document)


def read_submissions(runs: RunStore) -> list[Submission]:
    """Return all submissions, oldest first; a damaged one is skipped with a warning."""
    found = []
    for path in sorted((runs.root / "submissions").glob("*/submission.json"), key=_age):
        try:
            document = {**read_json(path), "folder": path.parent}
            found.append(from_document(Submission, document, "damaged"))
        except (OSError, ValueError, TypeError, UserError) as error:
            logger.warning("%s: skipped: %s", path, error)
    return found


def cells_in_queue(
    submissions: Sequence[Submission], tasks: Sequence[QueuedTask]
) -> dict[str, QueuedTask]:
    """Return the job of each cell in the queue; if it has several, a running one before a waiting one."""
    by_folder = {submission.folder.name: submission for submission in submissions}
    found: dict[str, QueuedTask] = {}
    for task in sorted(tasks, key=lambda task: task.is_running):
        submission = by_folder.get(task.folder)
        if submission is not None:
            found |= dict.fromkeys(submission.cells_of(task.index), task)
    return found


def latest_jobs(submissions: Sequence[Submission]) -> dict[str, tuple[Submission, str]]:
    """Return the submission and id of the last job of each cell, whether it is still queued or not."""
    found: dict[str, tuple[Submission, str]] = {}
    for submission in submissions:
        for job_id, cells in submission.jobs():
            found |= dict.fromkeys(cells, (submission, job_id))
    return found


@contextmanager
def submission_lock(runs: RunStore) -> Iterator[None]:
    """Hold the lock that keeps other drivers of this sweep from submitting; a dead driver's lock is released.

    Raises:
        StorageError: the folder cannot be written, or its file system has no locks.
        UserError: another driver has held the lock for ten minutes.
    """
    path = runs.root / "submissions" / "lock"
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(path.open("a"))
            _wait_for_lock(file.fileno(), path)
        except OSError as error:
            raise StorageError(f"{path}: cannot be locked: {error.strerror}") from error
        yield  # outside the try: an error of the caller is not an error of the lock


def _wait_for_lock(descriptor: int, path: Path) -> None:
    deadline, is_first = time.monotonic() + _LOCK_SECONDS, True
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if is_first:
                logger.info("another process is submitting this study; waiting for it")
                is_first = False
            if time.monotonic() > deadline:
                raise UserError(
                    f"{path}: another submit has held this lock for ten minutes; end that process, or try again later"
                ) from None
            time.sleep(0.2)
        else:
            return


def _age(path: Path) -> tuple[str, int]:
    """Return the key that sorts folders by their time, then by their number."""
    stem, _, count = path.parent.name.rpartition("-")
    return stem, int(count) if count.isdigit() else 0


def ask_queue(runs: RunStore, submissions: Sequence[Submission]) -> list[QueuedTask]:
    """Return the sweep's queued and running jobs; empty without SLURM or if it was never submitted there.

    Raises:
        SilentSchedulerError: SLURM does not answer.
    """
    if not has_slurm() or all(submission.cluster != "slurm" for submission in submissions):
        return []
    return queued_tasks(sweep_name(runs))
