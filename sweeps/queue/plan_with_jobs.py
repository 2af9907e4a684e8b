"""A plan with all that is known of its cells' jobs: the queue first, then the files, then how the rest ended."""

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


# A cell whose job has left the queue is gone, but its record may still be on its way.
_SECONDS_AFTER_ITS_JOB = 20.0


def survey(
    study: StudyConfig,
    data: DataFacts,
    runs: RunStore,
    tasks: Sequence[QueuedTask] | SilentSchedulerError | None = None,
) -> Plan:
    """Plan a study, with its queued jobs and with the endings of those that are gone; read-only.

    The queue is asked before the files are read: what ends between the two looks is then done, and not
    missing. `tasks` is the queue if it has been asked already, or the error with which it stayed silent.

    Raises:
        UserError: as `make_plan`.
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
    """The queued jobs that hold nothing but cells which are no more in the grid.

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
    """The cell, lost if it was running in a job that is no more, although its heartbeat is not stale yet."""
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
        # whatever ended the job was the doing of the cell that it was training
        return replace(cell, ending=Ending("lost", ending.message))
    failures = Counter(cell.failures)
    if ending.kind in ("oom", "timeout"):
        failures[ending.kind] += 1
    return replace(cell, ending=ending, failures=failures)
