"""A plan that includes the jobs of its cells: those in the queue, and how those that left it have ended."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scaling.records import RunStore
from scaling.study import DataFacts, StudyConfig
from sweeps.planning import Ending, Plan, PlannedCell, make_plan
from sweeps.queue.cell_endings import endings
from sweeps.queue.scheduler import QueuedTask, SilentSchedulerError
from sweeps.queue.submissions import (
    Submission,
    ask_queue,
    cells_in_queue,
    latest_jobs,
    read_submissions,
)

__all__ = ["jobs_of_removed", "survey"]


# After its job has left the queue, a cell counts as running for this long: its record may still appear.
_SECONDS_AFTER_ITS_JOB = 20.0


def survey(
    study: StudyConfig,
    data: DataFacts,
    runs: RunStore,
    tasks: Sequence[QueuedTask] | SilentSchedulerError | None = None,
) -> Plan:
    """Plan a study with its queued jobs, and with the endings of jobs that have left the queue; read-only.

    The queue is read before the files, so that a cell that ends in between counts as done, not as missing.

    Args:
        study: the study.
        data: facts of its store.
        runs: its runs folder.
        tasks: the queue, or the scheduler's error, if it has been read already.

    Raises:
        UserError: see `make_plan`.
    """
    submissions = read_submissions(runs)
    silence = ""
    if tasks is None:
        try:
            tasks = ask_queue(runs, submissions)
        except SilentSchedulerError as error:
            tasks = error
    if isinstance(tasks, SilentSchedulerError):
        tasks, silence = [], str(tasks)
    plan = make_plan(study, data, runs, cells_in_queue(submissions, tasks))
    if not submissions:
        return plan
    return replace(plan, cells=_with_endings(plan.cells, submissions, silence), silence=silence)


def jobs_of_removed(plan: Plan, runs: RunStore) -> list[str]:
    """Return the ids of queued jobs whose cells are all no longer in the grid.

    Raises:
        SilentSchedulerError: SLURM does not answer.
    """
    submissions = read_submissions(runs)
    by_folder = {submission.folder.name: submission for submission in submissions}
    kept = {cell.config.signature for cell in plan.cells}
    tasks = [task for task in ask_queue(runs, submissions) if task.folder in by_folder]
    held = [(task.job_id, by_folder[task.folder].cells_of(task.index)) for task in tasks]
    return [job_id for job_id, own in held if own and kept.isdisjoint(own)]


def _with_endings(
    cells: Sequence[PlannedCell], submissions: Sequence[Submission], silence: str
) -> tuple[PlannedCell, ...]:
    latest = latest_jobs(submissions)
    settled, gone = [], {}
    for cell in cells:
        submission, job_id = latest.get(cell.config.signature, (None, ""))
        if submission is not None and cell.job is None and not silence:
            mine = submission.cluster == "local" or cell.state.job_id == job_id
            cell = _without_job(cell) if mine else cell
            if cell.state.state == "missing" or (cell.state.state == "lost" and mine):
                gone[cell.config.signature] = (submission, job_id)
        settled.append(cell)
    jobs = {
        (submission.folder, job_id): (submission, job_id) for submission, job_id in gone.values()
    }
    ended = endings(list(jobs.values()))
    return tuple(
        _ended(cell, *gone[cell.config.signature], ended) if cell.config.signature in gone else cell
        for cell in settled
    )


def _without_job(cell: PlannedCell) -> PlannedCell:
    """Return the cell, as lost if it was running: its job has left the queue, whatever its heartbeat says."""
    state = cell.state
    if state.state == "running" and (state.heartbeat_seconds or 0.0) > _SECONDS_AFTER_ITS_JOB:
        return replace(cell, state=replace(state, state="lost", failure="lost"))
    return cell


def _ended(
    cell: PlannedCell, submission: Submission, job_id: str, ended: Mapping[str, Ending]
) -> PlannedCell:
    ending = ended.get(f"{submission.folder.name}/{job_id}")
    if ending is None:
        return cell
    if cell.state.state == "missing" and len(dict(submission.jobs())[job_id]) > 1:
        # the cell that the job was training at the time made it end, not this one
        return replace(cell, ending=Ending("lost", ending.message))
    failures = Counter(cell.failures)
    if ending.kind in ("oom", "timeout"):
        failures[ending.kind] += 1
    return replace(cell, ending=ending, failures=failures)
