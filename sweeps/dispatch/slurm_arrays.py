"""Submits the missing cells of a plan to SLURM as job arrays, each cell once even if two drivers submit.

Not here: the sbatch options of a grade's jobs (`sweeps.dispatch.sbatch_resources`).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.kinds import own_sources
from scaling.errors import UserError
from scaling.records import RunStore
from sweeps.dispatch.code_snapshot import snapshot
from sweeps.dispatch.environment import worker_environment
from sweeps.dispatch.job_contents import cell_job
from sweeps.dispatch.preflight import check_logs, check_partition, check_shared, check_shell
from sweeps.dispatch.sbatch_resources import (
    JobArray,
    Unit,
    cap_minutes,
    plan_arrays,
    sbatch_parameters,
    throttle_shares,
)
from sweeps.dispatch.throttling import rebalance
from sweeps.planning import Plan, PlannedCell, teacher_folders
from sweeps.queue import (
    QueuedTask,
    Submission,
    ask_queue,
    new_folder,
    read_submissions,
    scheduler,
    submission_lock,
    sweep_name,
    write_submission,
)

__all__ = ["SlurmOptions", "adopt_orphans", "submit_slurm", "unit_of"]


logger = logging.getLogger(__name__)

# A job at its time limit saves its state and is queued again; only a job that never ends reaches this number.
_MOST_TURNS = 1000

Choose = Callable[[Plan], Sequence[PlannedCell]]


@dataclass(frozen=True)
class SlurmOptions:
    """How to submit.

    Attributes:
        max_parallel: jobs that run at the same time; None: the study's number.
        copy_code: whether jobs run from a copy of the code beside the sweep.
        clean_env: allow submitting from inside a job, and remove that job's variables.
        force_resume: continue from checkpoints of other code.
    """

    max_parallel: int | None = None
    copy_code: bool = False
    clean_env: bool = False
    force_resume: bool = False


def submit_slurm(
    make_plan: Callable[[Sequence[QueuedTask]], Plan],
    runs: RunStore,
    choose: Choose,
    options: SlurmOptions = SlurmOptions(),
) -> tuple[Plan, list[Submission]]:
    """Submit the cells that `choose` picks, and return without waiting for them.

    Args:
        make_plan: makes the plan from the queue; it is called under the sweep's lock.
        runs: the study's runs folder.
        choose: picks cells of the plan.
        options: how to submit.

    Raises:
        UserError: there is no SLURM here, or it would refuse or has refused the request. Nothing is queued
            then, unless the message says so.
    """
    check_shell(clean_env=options.clean_env)
    check_logs(runs.root)
    with submission_lock(runs):
        adopt_orphans(runs)
        # the queue is read before the files, so that a cell that ends in between is done, not missing
        plan = make_plan(ask_queue(runs, read_submissions(runs)))
        cells = list(choose(plan))
        if not cells:
            _rebalance_with_those_of_before(plan, runs, options)
            return plan, []
        arrays = _arrays(plan, cells, options)
        check_shared(_read_by_jobs(plan, runs))
        _persist_endings(runs, cells)
        code = snapshot(runs, _own_sources(cells)) if options.copy_code else None
        made: list[Submission] = []
        for array, throttle in zip(arrays, _shares(plan, arrays, options), strict=True):
            made.append(_submit(plan, runs, array, throttle, code, options, bool(made)))
        _rebalance_with_those_of_before(plan, runs, options)
    return plan, made


def _own_sources(cells: Sequence[PlannedCell]) -> dict[str, str]:
    """The sources of classes from elsewhere that the cells train."""
    models = {cell.config.model for cell in cells}
    return {path: text for model in models for path, text in own_sources(model).items()}


def _read_by_jobs(plan: Plan, runs: RunStore) -> dict[Path, str]:
    """Return the folders that a job reads, each with the advice for the case that nodes cannot see it."""
    teachers = "move it to a shared file system and name it there: distill.teacher_init"
    return {
        runs.root: "choose a folder of runs on a shared file system",
        plan.data.path: "move it to a shared file system and name it there: data.path",
        **{Path(folder): teachers for folder in teacher_folders(plan.study)},
    }


def adopt_orphans(runs: RunStore) -> None:
    """Find arrays whose driver died before it wrote their job ids: keep those that can run, cancel the others.

    submitit names its pickles by the job ids after sbatch has answered. A job without its pickle would wait a
    minute for it and then fail.

    Raises:
        SilentSchedulerError: SLURM does not answer.
    """
    submissions = read_submissions(runs)
    orphans = [s for s in submissions if s.cluster == "slurm" and not s.job_ids]
    if not orphans:
        return
    tasks = ask_queue(runs, submissions)
    for orphan in orphans:
        mine = [task for task in tasks if task.folder == orphan.folder.name]
        if not mine:
            continue
        array_id = mine[0].array_id
        ids = _job_ids(array_id, len(orphan.cells))
        if all((orphan.folder / f"{job_id}_submitted.pkl").exists() for job_id in ids):
            write_submission(replace(orphan, job_ids=ids))
            logger.info("adopted job %s, whose driver died", array_id)
        else:
            scheduler.cancel_tasks([array_id])
            logger.info("cancelled job %s, whose driver died before it was complete", array_id)


def _arrays(plan: Plan, cells: Sequence[PlannedCell], options: SlurmOptions) -> list[JobArray]:
    """Return the arrays to submit, each with at most the time limit of its partition.

    Raises:
        UserError: a partition does not exist, or has no node that can run the job.
    """
    slurm = replace(plan.study.slurm, max_parallel=_max_parallel(plan, options))
    units = [unit_of(unit) for unit in plan.units(cells)]
    arrays = plan_arrays(slurm, units, plan.start_seconds, scheduler.max_array_size())
    partitions = scheduler.partitions()
    return [cap_minutes(a, check_partition(a, partitions).minutes) for a in arrays]


def unit_of(cells: Sequence[PlannedCell]) -> Unit:
    """Return what cells that one process trains together ask for."""
    first = cells[0]
    sources = {cell.source for cell in cells}
    return Unit(
        signatures=tuple(cell.config.signature for cell in cells),
        grade=first.config.grade_name,
        seconds=sum(cell.seconds for cell in cells),
        memory_gib=max(cell.memory_gib for cell in cells),
        source="guess" if "guess" in sources else first.source,
        time_factor=max(cell.time_factor for cell in cells),
        memory_factor=max(cell.memory_factor for cell in cells),
        n_beside=min(cell.n_beside for cell in cells),
    )


def _persist_endings(runs: RunStore, cells: Sequence[PlannedCell]) -> None:
    """Write how the last jobs of these cells ended, before new jobs create new attempts."""
    for cell in cells:
        if cell.ending is not None and cell.state.state != "failed":
            kind = cell.ending.kind
            if cell.state.state == "lost" or kind in ("oom", "timeout"):
                runs.fail(
                    cell.key, cell.ending.message, kind if kind in ("oom", "timeout") else "lost"
                )


def _rebalance_with_those_of_before(plan: Plan, runs: RunStore, options: SlurmOptions) -> None:
    """Divide the jobs that may run at the same time anew if there are arrays of earlier submissions."""
    if any(cell.job is not None for cell in plan.cells):
        rebalance(runs, _max_parallel(plan, options))


def _max_parallel(plan: Plan, options: SlurmOptions) -> int:
    return options.max_parallel or plan.study.slurm.max_parallel


def _shares(plan: Plan, arrays: Sequence[JobArray], options: SlurmOptions) -> list[int]:
    work = [(array.seconds, len(array.jobs)) for array in arrays]
    return throttle_shares(_max_parallel(plan, options), work)


def _submit(
    plan: Plan,
    runs: RunStore,
    array: JobArray,
    throttle: int,
    code: Path | None,
    options: SlurmOptions,
    some_are_queued: bool,
) -> Submission:
    import submitit

    submission = Submission(
        folder=new_folder(runs),
        cluster="slurm",
        cells=tuple(job.signatures for job in array.jobs),
        seconds=tuple(round(job.seconds, 1) for job in array.jobs),
        resources={**array.resources.__dict__, "max_parallel": throttle},
        code=None if code is None else str(code),
    )
    # written before sbatch: if this driver dies, the next one finds its jobs by this folder
    write_submission(submission)
    parameters = sbatch_parameters(plan.study.slurm, array, throttle, sweep_name(runs))
    executor = submitit.SlurmExecutor(folder=submission.folder, max_num_timeout=_MOST_TURNS)
    executor.update_parameters(**parameters)
    cells = {cell.config.signature: cell for cell in plan.cells}
    try:
        with worker_environment(code), executor.batch():
            jobs = [
                executor.submit(
                    cell_job(
                        plan,
                        runs,
                        [cells[signature] for signature in job.signatures],
                        wait_seconds=60.0 * array.resources.minutes,
                        code_root=code,
                        force_resume=options.force_resume,
                        n_ranks=array.resources.n_ranks,
                        on_gpu=array.resources.gpus > 0,
                        n_at_once=array.resources.cells_at_once,
                    )
                )
                for job in array.jobs
            ]
    except submitit.core.utils.FailedJobError as error:
        rest = "; what was queued before stays" if some_are_queued else ""
        raise UserError(f"sbatch refused the array: {error}{rest}") from error
    submission = replace(submission, job_ids=tuple(job.job_id for job in jobs))
    write_submission(submission)
    return submission


def _job_ids(array_id: str, n_jobs: int) -> tuple[str, ...]:
    """Return submitit's job ids; an array of one task is a plain job."""
    return (array_id,) if n_jobs == 1 else tuple(f"{array_id}_{i}" for i in range(n_jobs))
