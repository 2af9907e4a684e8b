"""What the scheduler knows: queued tasks, submissions, how jobs ended, and a plan that includes all this.

Not here: starting jobs (`sweeps.dispatch`).
"""

from sweeps.queue.cell_endings import endings
from sweeps.queue.plan_with_jobs import jobs_of_removed, survey
from sweeps.queue.scheduler import (
    Partition,
    QueuedTask,
    SilentSchedulerError,
    cancel_tasks,
    has_slurm,
    partitions,
    queued_tasks,
)
from sweeps.queue.submissions import (
    Submission,
    ask_queue,
    latest_jobs,
    new_folder,
    read_submissions,
    submission_lock,
    sweep_name,
    write_submission,
)

__all__ = [
    "Partition",
    "QueuedTask",
    "SilentSchedulerError",
    "Submission",
    "ask_queue",
    "cancel_tasks",
    "endings",
    "has_slurm",
    "jobs_of_removed",
    "latest_jobs",
    "new_folder",
    "partitions",
    "queued_tasks",
    "read_submissions",
    "submission_lock",
    "survey",
    "sweep_name",
    "write_submission",
]
