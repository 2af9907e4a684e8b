"""Changes how many jobs of a sweep run at the same time while it is in the queue."""

from contextlib import suppress

from scaling.records import RunStore
from sweeps.dispatch.sbatch_resources import throttle_shares
from sweeps.queue import SilentSchedulerError, ask_queue, read_submissions, scheduler

__all__ = ["rebalance"]


def rebalance(runs: RunStore, max_parallel: int) -> dict[str, int]:
    """Divide `max_parallel` among the sweep's arrays in the queue, and return the share of each.

    Raises:
        SilentSchedulerError: SLURM does not answer.
    """
    queue = _queued_work(runs)
    shares = throttle_shares(max_parallel, [facts for _, facts in queue])
    for (array_id, _), share in zip(queue, shares, strict=True):
        with suppress(SilentSchedulerError):  # it has just ended
            scheduler.set_throttle(array_id, share)
    return {array_id: share for (array_id, _), share in zip(queue, shares, strict=True)}


def _queued_work(runs: RunStore) -> list[tuple[str, tuple[float, int]]]:
    """Return the sweep's arrays in the queue, each with its remaining seconds and jobs."""
    submissions = read_submissions(runs)
    by_folder = {submission.folder.name: submission for submission in submissions}
    work: dict[str, tuple[float, int]] = {}
    for task in ask_queue(runs, submissions):
        submission = by_folder.get(task.folder)
        if submission is not None and len(submission.cells) > 1:
            seconds, count = work.get(task.array_id, (0.0, 0))
            work[task.array_id] = (seconds + submission.seconds[task.index], count + 1)
    return sorted(work.items())
