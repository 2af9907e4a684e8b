"""One cell of a plan: its cost, its state, and whether the next submit will run it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.accounting import ModelSize
from scaling.records import RunState
from scaling.study import RunConfig
from sweeps.planning.job_state import Ending, QueuedJob

__all__ = ["PlannedCell"]


# A cell that ran out of memory or time is run once more, with this many times the memory or time.
_GROWTH = 2.0
_GROWING = ("oom", "timeout")


@dataclass(frozen=True)
class PlannedCell:
    """A cell of the grid with its cost and its state.

    Attributes:
        key: name of the folder with its attempts and checkpoints (`scaling.study.lease_key`).
        state: its state according to its files.
        seconds: estimated time on one core or device, without the start of the process; if cells share a GPU, its share of
            the GPU's time.
        evaluation_seconds: the part of them that is evaluation.
        n_trained: impressions that it adds to its training; fewer than its data size if cells share one.
        memory_gib: estimated peak memory of the process.
        source: the basis of the estimates: run, benchmark or guess.
        job: the queued or running job that will train it.
        ending: how its last job ended, if its files do not say so.
        failures: how often it has failed, by kind of failure, including the last time.
        spent_seconds: time of its attempts so far; an attempt that several cells share counts for one of them.
        metrics: metrics on the test part, if it is done.
        teacher_flops: the teacher's part of the training FLOPs.
        n_beside: cells that shared a GPU in the runs behind the estimate.
        change: how it differs from a run of the same grade, size and seed that is no longer in the grid.
        damage: what is wrong with its record, which is not overwritten; empty if it is sound.
    """

    config: RunConfig
    key: str
    size: ModelSize
    state: RunState
    seconds: float
    evaluation_seconds: float
    n_trained: int
    memory_gib: float
    source: str
    job: QueuedJob | None = None
    ending: Ending | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    spent_seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    teacher_flops: int = 0
    n_beside: int = 1
    change: str = ""
    damage: str = ""

    @property
    def flops(self) -> int:
        """Training FLOPs, including the teacher's."""
        return self.size.training_flops(self.config.n_samples) + self.teacher_flops

    @property
    def failure(self) -> str:
        """The kind of its last failure: exception, diverged, oom, timeout, lost, ...; empty if none is known."""
        return self.ending.kind if self.ending is not None else self.state.failure or ""

    @property
    def message(self) -> str:
        """The message of its last failure."""
        return self.ending.message if self.ending is not None else self.state.message

    @property
    def standing(self) -> str:
        """Its state with its job taken into account: done, damaged, running, queued, failed, lost, preempted, changed or missing."""
        state = self.state.state
        if state == "done" and self.damage:
            return "damaged"
        if state in ("done", "running"):
            return state
        if self.job is not None and not self._failed_in_its_job:
            return "queued"
        if self.failure in _GROWING:
            return "failed"
        return "changed" if state == "missing" and self.change else state

    @property
    def goes_on(self) -> bool:
        """Whether the next submit runs it without `scaling retry`."""
        if self.standing == "failed":
            return self.failure in _GROWING and self.failures.get(self.failure, 0) <= 1
        return self.standing in ("missing", "changed", "lost", "preempted")

    @property
    def time_factor(self) -> float:
        """By how much its time limit is multiplied after time-outs."""
        return _GROWTH ** self.failures.get("timeout", 0)

    @property
    def memory_factor(self) -> float:
        """By how much its memory is multiplied after it ran out of memory."""
        return _GROWTH ** self.failures.get("oom", 0)

    @property
    def why(self) -> str:
        """Why it will run or not, as a sentence for the user."""
        state, standing = self.state, self.standing
        message = self.message
        if standing == "damaged":
            return self.damage
        if standing == "queued" and self.job is not None:
            return f"job {self.job.job_id}: {self.job.state.lower()}, {self.job.reason}"
        if standing == "running":
            return f"attempt {state.attempt} on {state.host}" if state.attempt else "being trained"
        if standing == "failed" and self.goes_on:
            more = "memory" if self.failure == "oom" else "time"
            return f"will run with {_GROWTH:.0f}x the {more}: {message}"
        if standing == "failed":
            return f"waits for `scaling retry`: {message}"
        if standing in ("lost", "preempted"):
            return f"will go on from its checkpoint{': ' + message if message else ''}"
        if standing == "changed":
            return f"will run: {self.change}"
        if standing == "missing":
            ended = f"; its last job ended without it: {message}" if message else ""
            return f"will run{ended}"
        return ""

    @property
    def _failed_in_its_job(self) -> bool:
        same = self.job is not None and self.state.job_id == self.job.job_id
        return self.state.state == "failed" and same
