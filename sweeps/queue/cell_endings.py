"""How a job without a result has ended, according to its log or, failing that, SLURM's accounting. Writes nothing.

A killed process cannot write why it ended. The lines of slurmstepd in the log usually say it, and they need no
accounting database.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from sweeps.planning import Ending, EndingKind
from sweeps.queue.scheduler import end_states
from sweeps.queue.submissions import Submission

__all__ = ["ending_in_log", "endings"]


_TAIL_BYTES = 16_384

_REQUEUED = re.compile(r"DUE TO (JOB REQUEUE|PREEMPTION|NODE FAILURE)")
# The first pattern that matches a line decides, so the most reliable ones come first.
_LINES: tuple[tuple[re.Pattern[str], EndingKind], ...] = (
    (re.compile(r"oom-kill|Out Of Memory|exceeded memory limit|OUT_OF_MEMORY"), "oom"),
    (re.compile(r"DUE TO TIME LIMIT"), "timeout"),
    (re.compile(r"timed-out too many times"), "timeout"),
    (_REQUEUED, "lost"),
    (re.compile(r"\*\*\* (JOB|STEP) \S+ ON \S+ CANCELLED AT"), "cancelled"),
    (re.compile(r"error: \S+ task \d+: (Killed|Terminated|Segmentation fault|Exited)"), "lost"),
    (re.compile(r"^\w*(Error|Exception)\b"), "lost"),
)
_STATES: dict[str, EndingKind] = {
    "OUT_OF_MEMORY": "oom",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "CANCELLED": "cancelled",
    "NODE_FAIL": "lost",
    "PREEMPTED": "lost",
    "BOOT_FAIL": "lost",
}
# Of several endings the first in this order counts: a process killed for its memory is also logged as a
# killed task, and a time-out also as a cancelled job.
_RANK: tuple[EndingKind, ...] = ("oom", "timeout", "cancelled", "lost")


def endings(jobs: Sequence[tuple[Submission, str]]) -> dict[str, Ending]:
    """Return how these jobs ended, by `folder/job id`; calls sacct once for all that their logs do not explain."""
    found: dict[str, Ending] = {}
    silent = []
    for submission, job_id in jobs:
        ending = ending_in_log(submission.log(job_id, "err"))
        if ending is None or ending.kind == "lost":
            silent.append((submission, job_id))
        if ending is not None:
            found[f"{submission.folder.name}/{job_id}"] = ending
    slurm = [(s, job_id) for s, job_id in silent if s.cluster == "slurm"]
    states = end_states(job_id.partition("_")[0] for _, job_id in slurm)
    for submission, job_id in slurm:
        kind = _STATES.get(states.get(job_id, ""))
        if kind is not None:
            message = f"SLURM reports {states[job_id]} for job {job_id}"
            found[f"{submission.folder.name}/{job_id}"] = Ending(kind, message)
    return found


def ending_in_log(path: Path) -> Ending | None:
    """Return how the last start of a job ended, from the end of its log; None if the log does not say."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    found: list[Ending] = []
    for line in lines:
        for pattern, kind in _LINES:
            if pattern.search(line):
                if pattern is _REQUEUED:  # the lines before are from an earlier start of the job
                    found = []
                found.append(Ending(kind, f"{_message(line)}; its log is {path.name}"))
                break
    if not found:
        return None
    return min(found, key=lambda ending: _RANK.index(ending.kind))


def _message(line: str) -> str:
    return " ".join(line.replace("***", "").split())[:200]
