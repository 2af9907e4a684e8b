"""The job of a cell: queued or running, or how the last one ended. Knows no particular scheduler."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Ending", "EndingKind", "QueuedJob"]

EndingKind = Literal["oom", "timeout", "cancelled", "lost"]


@dataclass(frozen=True)
class Ending:
    """How the last job of a cell ended; `message` is for people."""

    kind: EndingKind
    message: str


@dataclass(frozen=True)
class QueuedJob:
    """A queued or running job, as a plan shows it.

    Attributes:
        job_id: the scheduler's.
        state: the scheduler's word, e.g. `PENDING`.
        reason: why it waits, or where it runs.
    """

    job_id: str
    state: str
    reason: str
