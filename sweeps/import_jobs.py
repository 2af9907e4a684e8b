"""Workers of a sharded import as jobs of SLURM: an array of equal jobs, and the wait for them.

A worker makes pieces until none is missing, so a job that is killed, preempted or queued again loses at most the piece that it was
making, and the others go on without it. Not here: the pieces (`scaling.importers.pipeline.sharded`).
"""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import UserError
from scaling.importers.pipeline import ShardedImport, Workers, count_done, work_off
from scaling.strict_values import from_document
from scaling.study import SlurmConfig
from sweeps.dispatch import check_logs, check_shared, check_shell, worker_environment
from sweeps.queue import SilentSchedulerError, cancel_tasks, queued_tasks

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

__all__ = ["ImportWorker", "slurm_settings", "slurm_workers"]


logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_BETWEEN_QUERIES = 5.0
# After a job has left the queue, its pieces may still appear on a shared disk; and workers end by themselves after an error.
_SECONDS_AFTER_THE_JOBS, _SECONDS_AFTER_AN_ERROR = 20.0, 60.0
_MINUTES = 24 * 60
# The limit of the import is one of resident memory; SLURM counts files in memory, too.
_MEMORY_MARGIN = 1.25
_MOST_TURNS = 1000


def slurm_settings(pairs: Mapping[str, str]) -> SlurmConfig:
    """Return the settings of jobs from texts: `partition`, `time_minutes`, `cpus`, and any other option of sbatch.

    Raises:
        UserError: a number is wrong, or an option is one that the dispatch sets itself.
    """
    document: dict[str, Any] = {"options": {}}
    for key, value in pairs.items():
        if key in ("time_minutes", "cpus"):
            if not value.isdecimal():
                raise UserError(f"--slurm {key}={value}: expected a whole number")
            document[key] = int(value)
        elif key == "partition":
            document[key] = value
        else:
            document["options"][key] = value
    return from_document(SlurmConfig, document, "--slurm")


@dataclass(frozen=True)
class ImportWorker:
    """The callable that submitit runs."""

    job: ShardedImport
    number: int

    def __call__(self) -> None:
        """Make pieces until none is missing."""
        # the same after the job was queued again
        job_id = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ.get("SLURM_JOB_ID", ""))
        work_off(self.job, f"job {job_id}_{self.number}")

    def checkpoint(self) -> DelayedSubmission:
        """Queue the job again at its time limit."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def slurm_workers(n_jobs: int, slurm: SlurmConfig) -> Workers:
    """Return a function that works an import off in `n_jobs` jobs of SLURM, and waits for them.

    Raises:
        UserError: there is no SLURM here, or it refuses the jobs. Then, and after an interrupt, no job is left in the queue.
    """

    def run(job: ShardedImport, watch: Callable[[], None]) -> None:
        check_shell(clean_env=False)
        check_logs(job.folder)
        check_shared(
            {
                job.folder: "choose an OUT on a shared file system",
                job.raw: "move it to a shared file system",
            }
        )
        name, folder = f"import-{job.out.name}", job.folder / f"slurm-{uuid.uuid4().hex[:8]}"
        try:
            array_id = _submit(job, n_jobs, slurm, name, folder)
            where = f"partition {slurm.partition}" if slurm.partition else "the default partition"
            logger.info(
                "submitted %d jobs as %s on %s; logs in %s", n_jobs, array_id, where, folder
            )
            _wait(job, name, folder, watch)
        finally:
            with suppress(SilentSchedulerError):
                cancel_tasks(_queued(name, folder))

    return run


def _submit(job: ShardedImport, n_jobs: int, slurm: SlurmConfig, name: str, folder: Path) -> str:
    """Submit the array and return its id."""
    import submitit

    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=_MOST_TURNS)
    parameters = {
        "job_name": name,
        "time": slurm.time_minutes or _MINUTES,
        "mem": f"{math.ceil(1024 * job.limits.memory_gib * _MEMORY_MARGIN)}MB",
        "cpus_per_task": slurm.cpus,
        "partition": slurm.partition,
        "array_parallelism": n_jobs,
        # some versions of srun do not take it from sbatch
        "setup": [f"export SRUN_CPUS_PER_TASK={slurm.cpus}", *slurm.setup],
        "additional_parameters": {"requeue": True, **slurm.options},
    }
    executor.update_parameters(**{k: v for k, v in parameters.items() if v is not None})
    try:
        with worker_environment(), executor.batch():
            jobs = [executor.submit(ImportWorker(job, number)) for number in range(n_jobs)]
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"sbatch refused the jobs: {error}") from error
    return str(jobs[0].job_id).partition("_")[0]


def _wait(job: ShardedImport, name: str, folder: Path, watch: Callable[[], None]) -> None:
    """Wait until the import is complete, or no worker is left."""
    asked, gone, failed = time.monotonic(), math.inf, math.inf
    while count_done(job)[0] < 1:
        watch()
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        now = time.monotonic()
        if job.has_failed():
            failed = min(failed, now)
        if now - asked > _SECONDS_BETWEEN_QUERIES or failed < math.inf:
            asked = now
            with suppress(SilentSchedulerError):
                gone = math.inf if _queued(name, folder) else min(gone, now)
        if failed < math.inf and (gone <= now or now - failed > _SECONDS_AFTER_AN_ERROR):
            return
        if now - gone > _SECONDS_AFTER_THE_JOBS:
            logger.error("no job is left in the queue; their logs are in %s", folder)
            return


def _queued(name: str, folder: Path) -> list[str]:
    return [task.job_id for task in queued_tasks(name) if task.folder == folder.name]
