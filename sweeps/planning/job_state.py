"""What a scheduler knows about a cell: its queued task, or how its last job ended."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Ending", "EndingKind", "QueuedTask"]

EndingKind = Literal["oom", "timeout", "cancelled", "lost"]


@dataclass(frozen=True)
class Ending:
    """`kind` is oom, timeout, cancelled or lost; `message` is what a person reads."""

    kind: EndingKind
    message: str


@dataclass(frozen=True)
class QueuedTask:
    """One job, or one task of an array, that waits or runs.

    Attributes:
        job_id: e.g. `12_3`, or `12` for a job that is no array.
        state: squeue's long name, e.g. `PENDING`.
        reason: why it waits, or where it runs.
        folder: name of the submission's folder, which tells more surely than the id whose job it is.
    """

    job_id: str
    state: str
    reason: str
    folder: str

    @property
    def array_id(self) -> str:
        """The array's id."""
        return self.job_id.partition("_")[0]

    @property
    def index(self) -> int:
        """The task's place in its array; 0 for a job of its own."""
        return int(self.job_id.partition("_")[2] or 0)

    @property
    def is_running(self) -> bool:
        """Whether the scheduler has started it."""
        return self.state in ("RUNNING", "COMPLETING", "SUSPENDED")
