"""`scaling benchmark --cluster slurm`: jobs that measure grades on the study's partitions, and the wait for them."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scaling.atomic_files import write_json
from scaling.documents import read_json
from scaling.errors import StorageError, UserError, nearest
from scaling.records import RunStore
from scaling.strict_values import from_document
from scaling.study import SlurmConfig, StudyConfig
from sweeps.dispatch.environment import worker_environment
from sweeps.dispatch.preflight import check_logs, check_partition, check_shared, check_shell
from sweeps.dispatch.sbatch_resources import (
    JobArray,
    JobPlan,
    cap_minutes,
    plan_arrays,
    sbatch_parameters,
)
from sweeps.dispatch.slurm_arrays import unit_of
from sweeps.planning import Plan, PlannedCell, Throughput
from sweeps.queue import (
    QueuedTask,
    SilentSchedulerError,
    Submission,
    cancel_tasks,
    endings,
    new_folder,
    scheduler,
    sweep_name,
)

__all__ = ["BenchmarkJob", "benchmark_on_slurm"]


logger = logging.getLogger(__name__)

# A job needs time to start and at most some twenty seconds for each model and batch size.
_MINUTES, _MINUTES_PER_MODEL = 15, 2
_POLL_SECONDS = 0.5
# of SLURM's controller, often at first: most jobs measure for a minute
_SECONDS_BETWEEN_QUERIES, _FIRST_QUERIES = 10.0, 2.0
# After a job has left the queue, its file may still appear on a shared disk.
_SECONDS_AFTER_ITS_JOB = 20.0
_OUTCOME = "benchmark.json"


@dataclass(frozen=True)
class BenchmarkJob:
    """The callable that submitit runs: it measures, and writes the results or its error to a file.

    Attributes:
        study: document of `StudyConfig`.
        grades: names of the grades to measure.
        n_steps: steps to measure for each grade and batch size.
        folder: of the file.
        on_gpu: whether the job has a GPU; without one in torch, its measurement would be of a core.
    """

    study: dict[str, Any]
    grades: Sequence[str]
    n_steps: int
    folder: str
    on_gpu: bool

    def __call__(self) -> None:
        """Measure in the first task of the job.

        Raises:
            UserError: torch finds no GPU, or the data cannot be read.
        """
        if int(os.environ.get("SLURM_PROCID", "0")):
            return
        try:
            document: dict[str, Any] = {"measured": self._measure()}
        except Exception as error:
            text = (
                str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            )
            write_json(Path(self.folder) / _OUTCOME, {"error": text})
            raise
        write_json(Path(self.folder) / _OUTCOME, document)

    def _measure(self) -> list[dict[str, Any]]:
        from scaling.process import prepare_process
        from sweeps.planning.benchmark import measure_grades

        if self.on_gpu and prepare_process() == "cpu":
            raise UserError(
                "torch finds no GPU on the node: slurm.setup must load what it needs, and torch must be built for CUDA"
            )
        study = from_document(StudyConfig, self.study, "job")
        measured = measure_grades(study, self.grades, n_steps=self.n_steps)
        return [{"name": name, "result": asdict(one)} for name, one in measured]


@dataclass(frozen=True)
class _Named:
    name: str
    result: Throughput


@dataclass(frozen=True)
class _Outcome:
    """What a job leaves: what it has measured, or why it has not."""

    measured: tuple[_Named, ...] = ()
    error: str | None = None


def benchmark_on_slurm(
    plan: Plan,
    runs: RunStore,
    grades: Sequence[str] | None,
    watch: Callable[[str, float], None],
    *,
    n_steps: int,
    wait_seconds: float = math.inf,
) -> list[tuple[str, Throughput]]:
    """Measure grades of a study in jobs, and return the results with their names.

    Grades that the study trains on the same partition with the same cores, on a GPU or without, share a job; it has
    the memory of the largest of them, and one GPU, because one process is measured.

    Args:
        plan: the plan of the study.
        runs: its runs folder.
        grades: names of grades; None: all of the study.
        watch: called a few times a second with what the jobs do, and the seconds since the first was submitted.
        n_steps: steps to measure for each grade and batch size.
        wait_seconds: how long a job may wait in the queue.

    Raises:
        UserError: there is no SLURM here, it refuses a job, or a job fails, is cancelled or does not start in time.
            Then, and after an interrupt, no job is left in the queue.
    """
    check_shell(clean_env=False)
    check_logs(runs.root)
    check_shared(
        {
            runs.root: "choose a folder of runs on a shared file system",
            plan.data.path: "move it to a shared file system and name it there: data.path",
        }
    )
    partitions = scheduler.partitions()
    arrays = []
    for own, cells in _alike(plan, grades):
        array = _array(own, cells, plan.start_seconds)
        arrays.append((cap_minutes(array, check_partition(array, partitions).minutes), own, cells))
    name = f"{sweep_name(runs)}-benchmark"
    folders = [new_folder(runs) for _ in arrays]
    try:
        jobs = [
            _submit(
                _job(plan, array, _names(cells, grades), n_steps, folder), own, array, folder, name
            )
            for (array, own, cells), folder in zip(arrays, folders, strict=True)
        ]
        outcomes = _Wait(jobs, name, watch, wait_seconds).outcomes()
    except BaseException:
        _cancel(folders, name)
        raise
    return [(one.name, one.result) for outcome in outcomes for one in outcome]


def _alike(plan: Plan, grades: Sequence[str] | None) -> list[tuple[SlurmConfig, list[PlannedCell]]]:
    """Group the cells of the grades by the kind of node that they are trained on; return them with its settings.

    Raises:
        UserError: a grade is not in the grid.
    """
    known = {name for cell in plan.cells for name in _models(cell)}
    for name in grades or ():
        if name not in known:
            raise UserError(f"grade {name}: not in the grid{nearest(name, known)}")
    groups: dict[tuple[object, ...], list[PlannedCell]] = {}
    for cell in plan.cells:
        if not grades or not _models(cell).isdisjoint(grades):
            own = plan.study.slurm.of_grade(cell.config.grade_name)
            groups.setdefault((own.partition, own.cpus, own.gpus > 0), []).append(cell)
    found = []
    for cells in groups.values():
        largest = max(cells, key=lambda cell: cell.size.flops_per_sample)
        found.append((plan.study.slurm.of_grade(largest.config.grade_name), cells))
    return found


def _models(cell: PlannedCell) -> set[str]:
    """Return the grades of a cell's model and of its teacher."""
    alone = (cell.config.student_alone, cell.config.teacher_alone)
    return {one.grade_name for one in alone if one is not None}


def _names(cells: Sequence[PlannedCell], grades: Sequence[str] | None) -> list[str]:
    """Return the grades to measure for these cells."""
    found = dict.fromkeys(name for cell in cells for name in sorted(_models(cell)))
    return [name for name in found if not grades or name in grades]


def _array(own: SlurmConfig, cells: Sequence[PlannedCell], start_seconds: float) -> JobArray:
    """Return a job of one process with the memory of the largest cell, and time for all models."""
    process = replace(own, cells_per_gpu=1, grades={})
    alone = replace(process, gpus=min(1, own.gpus), nodes=1, tasks_per_node=1)
    arrays = plan_arrays(alone, [unit_of([cell]) for cell in cells], start_seconds)
    largest = max((array.resources for array in arrays), key=lambda asked: asked.memory_mib)
    models = {
        (one.grade, one.model, one.packing)
        for cell in cells
        for one in (cell.config.student_alone, cell.config.teacher_alone)
        if one is not None
    }
    minutes = _MINUTES + _MINUTES_PER_MODEL * len(models)
    return JobArray(replace(largest, minutes=minutes), (JobPlan((), 60.0 * minutes),))


def _job(
    plan: Plan, array: JobArray, grades: Sequence[str], n_steps: int, folder: Path
) -> BenchmarkJob:
    study = asdict(plan.study)
    study["data"]["path"] = str(plan.data.path.resolve())
    return BenchmarkJob(study, tuple(grades), n_steps, str(folder), array.resources.gpus > 0)


def _submit(
    job: BenchmarkJob, own: SlurmConfig, array: JobArray, folder: Path, name: str
) -> Submission:
    import submitit

    # a time-out is final: the next one would end as this one did
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=0)
    executor.update_parameters(**sbatch_parameters(own, array, 1, name))
    try:
        with worker_environment():
            job_id = executor.submit(job).job_id
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"sbatch refused the job: {error}") from error
    where = f"partition {own.partition}" if own.partition else "the default partition"
    logger.info("submitted job %s on %s: measures %s", job_id, where, ", ".join(job.grades))
    return Submission(folder, "slurm", ((),), (job_id,))


def _cancel(folders: Sequence[Path], name: str) -> None:
    """Cancel the jobs of these folders, also one whose id sbatch has not told yet."""
    names = {folder.name for folder in folders}
    with suppress(SilentSchedulerError):
        ids = [task.job_id for task in scheduler.queued_tasks(name) if task.folder in names]
        cancel_tasks(ids)


class _Wait:
    """Waits for jobs that measure."""

    def __init__(
        self,
        jobs: Sequence[Submission],
        name: str,
        watch: Callable[[str, float], None],
        wait_seconds: float,
    ) -> None:
        self._jobs, self._name, self._watch, self._wait_seconds = jobs, name, watch, wait_seconds
        self._begin = time.monotonic()
        self._asked = -math.inf
        self._tasks: dict[str, QueuedTask] | None = None
        self._gone: dict[str, float] = {}

    def outcomes(self) -> list[tuple[_Named, ...]]:
        """Return what the jobs have measured, when all have.

        Raises:
            UserError: one has failed, is gone, or does not start in time.
        """
        found: dict[str, tuple[_Named, ...]] = {}
        while len(found) < len(self._jobs):
            waiting = [job for job in self._jobs if job.folder.name not in found]
            for job in waiting:
                if (outcome := _read(job)) is not None:
                    found[job.folder.name] = outcome
            waiting = [job for job in waiting if job.folder.name not in found]
            if waiting:
                self._ask()
                for job in waiting:
                    self._check(job)
                text = "; ".join(self._text(job) for job in waiting)
                self._watch(text, time.monotonic() - self._begin)
                time.sleep(_POLL_SECONDS)
        return [found[job.folder.name] for job in self._jobs]

    def _ask(self) -> None:
        """Ask SLURM for the jobs, now and then; while it is silent, only files count."""
        now = time.monotonic()
        pause = max(_FIRST_QUERIES, (now - self._begin) / 6)
        if now - self._asked < min(_SECONDS_BETWEEN_QUERIES, pause):
            return
        self._asked = now
        try:
            self._tasks = {task.folder: task for task in scheduler.queued_tasks(self._name)}
        except SilentSchedulerError:
            self._tasks = None

    def _check(self, job: Submission) -> None:
        """Check that a job may still measure."""
        if self._tasks is None:
            return
        task, now = self._tasks.get(job.folder.name), time.monotonic()
        if task is None:
            since = self._gone.setdefault(job.folder.name, now)
            if now - since > _SECONDS_AFTER_ITS_JOB:
                raise _failed(job, _ending(job))
        elif not task.is_running and now - self._begin > self._wait_seconds:
            waited = f"it has not started in {self._wait_seconds / 60:g} minutes ({task.reason})"
            raise _failed(job, f"{waited} and is cancelled")

    def _text(self, job: Submission) -> str:
        (job_id,) = job.job_ids
        if self._tasks is None:
            return f"job {job_id}: SLURM does not answer"
        task = self._tasks.get(job.folder.name)
        if task is None:
            return f"job {job_id}: has left the queue"
        if task.is_running:
            return f"job {job_id}: {task.state.lower()} on {task.reason}"
        # SLURM has no reason until it has looked at the job
        why = "" if task.reason in ("", "None") else f", {task.reason}"
        return f"job {job_id}: {task.state.lower()}{why}"


def _read(job: Submission) -> tuple[_Named, ...] | None:
    """Return what a job has measured; None until it has ended.

    Raises:
        UserError: it has failed.
    """
    path = job.folder / _OUTCOME
    try:
        document = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: cannot be read: {error}") from error
    outcome = from_document(_Outcome, document, str(path))
    if outcome.error is not None:
        raise _failed(job, outcome.error)
    return outcome.measured


def _failed(job: Submission, reason: str) -> UserError:
    (job_id,) = job.job_ids
    return UserError(f"benchmark: job {job_id}: {reason}; its log is {job.log(job_id, 'err')}")


def _ending(job: Submission) -> str:
    """Return how a job without a result has ended, or the last line that it wrote."""
    (job_id,) = job.job_ids
    ending = endings([(job, job_id)]).get(f"{job.folder.name}/{job_id}")
    if ending is not None:
        return ending.message.partition("; its log")[0]
    try:
        lines = job.log(job_id, "err").read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"it ended without a result ({lines[-1] if lines else 'it wrote nothing'})"
