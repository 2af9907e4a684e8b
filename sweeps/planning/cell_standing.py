"""One cell of a plan: what it is, what it costs, where it stands and whether the next submit takes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.accounting import ModelSize
from scaling.records import RunState
from scaling.study import RunConfig
from sweeps.planning.job_state import Ending, QueuedJob

__all__ = ["PlannedCell"]


# An out-of-memory or a time-out is tried once more by itself, with so many times the resources.
_GROWTH = 2.0
_GROWING = ("oom", "timeout")


@dataclass(frozen=True)
class PlannedCell:
    """A cell: what it is, what it costs and where it stands.

    Attributes:
        key: name of the folder with its attempts and checkpoints (`scaling.study.lease_key`).
        state: from its files.
        seconds: estimate on one core or device, without the process's start.
        memory_gib: estimate of the process's peak.
        source: what the estimates rest on: run, benchmark or guess.
        job: the queued or running job that holds it.
        ending: how its last job ended, where its files cannot tell.
        failures: how often each class of failure has met it, this one included.
        spent_seconds: what its attempts have taken so far; shared ones count at one of their cells.
        metrics: of the test part, if it is done.
        teacher_flops: the teacher's part of the training FLOPs.
        change: how it differs from a run of the same grade, size and seed that is no more in the grid.
    """

    config: RunConfig
    key: str
    size: ModelSize
    state: RunState
    seconds: float
    memory_gib: float
    source: str
    job: QueuedJob | None = None
    ending: Ending | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    spent_seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    teacher_flops: int = 0
    change: str = ""

    @property
    def flops(self) -> int:
        """Training FLOPs, the teacher's included."""
        return self.size.training_flops(self.config.n_samples) + self.teacher_flops

    @property
    def failure(self) -> str:
        """The class of its last failure, as far as it is known: exception, oom, timeout, lost, ..."""
        return self.ending.kind if self.ending is not None else self.state.failure or ""

    @property
    def message(self) -> str:
        """What is told of its last end."""
        return self.ending.message if self.ending is not None else self.state.message

    @property
    def standing(self) -> str:
        """Done, running, queued, failed, lost, preempted, changed or missing."""
        state = self.state.state
        if state in ("done", "running"):
            return state
        if self.job is not None and not self._failed_in_its_job:
            return "queued"
        if self.failure in _GROWING:
            return "failed"
        return "changed" if state == "missing" and self.change else state

    @property
    def goes_on(self) -> bool:
        """Whether the next submit takes it without being asked to."""
        if self.standing == "failed":
            return self.failure in _GROWING and self.failures.get(self.failure, 0) <= 1
        return self.standing in ("missing", "changed", "lost", "preempted")

    @property
    def time_factor(self) -> float:
        """How many times the usual time limit it needs."""
        return _GROWTH ** self.failures.get("timeout", 0)

    @property
    def memory_factor(self) -> float:
        """How many times the usual memory it needs."""
        return _GROWTH ** self.failures.get("oom", 0)

    @property
    def why(self) -> str:
        """Why it will run or not, in words."""
        state, standing = self.state, self.standing
        told = self.message
        if standing == "queued" and self.job is not None:
            return f"job {self.job.job_id}: {self.job.state.lower()}, {self.job.reason}"
        if standing == "running":
            return f"attempt {state.attempt} on {state.host}" if state.attempt else "being trained"
        if standing == "failed" and self.goes_on:
            more = "memory" if self.failure == "oom" else "time"
            return f"will run with {_GROWTH:.0f}x the {more}: {told}"
        if standing == "failed":
            return f"waits for `scaling retry`: {told}"
        if standing in ("lost", "preempted"):
            return f"will go on from its checkpoint{': ' + told if told else ''}"
        if standing == "changed":
            return f"will run: {self.change}"
        if standing == "missing":
            return f"will run; its last job ended without it: {told}" if told else "will run"
        return ""

    @property
    def _failed_in_its_job(self) -> bool:
        same = self.job is not None and self.state.job_id == self.job.job_id
        return self.state.state == "failed" and same
