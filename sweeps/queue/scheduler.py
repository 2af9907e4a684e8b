"""Calls SLURM's client commands, each once for a whole sweep, and parses their output.

This is only a hint: the true state of a cell is in its folder.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from sweeps.planning import QueuedJob

__all__ = [
    "Partition",
    "QueuedTask",
    "SilentSchedulerError",
    "cancel_tasks",
    "elapsed_seconds",
    "end_states",
    "has_slurm",
    "max_array_size",
    "node_hosts",
    "partitions",
    "queued_tasks",
    "set_throttle",
]


# states of a job that has not ended (squeue's long names)
_LIVE = (
    *("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "RESIZING", "STAGE_OUT"),
    *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT"),
)
_UNLIMITED_MINUTES = 366 * 24 * 60
_ARGUMENTS_PER_CALL = 500
# Variables with these prefixes are removed: filters that users set for themselves would hide jobs from us.
_OF_CLIENTS = ("SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_")


class SilentSchedulerError(UserError):
    """SLURM's controller does not answer or refuses; the states from files are still available."""


@dataclass(frozen=True)
class QueuedTask(QueuedJob):
    """One job, or one task of an array, that is queued or running.

    `job_id` is e.g. `12_3`, or `12` for a job that is no array; `state` is squeue's long name.

    Attributes:
        folder: name of the submission's folder; job ids are reused, so only this says whose job it is.
    """

    folder: str

    @property
    def array_id(self) -> str:
        """The array's id."""
        return self.job_id.partition("_")[0]

    @property
    def index(self) -> int:
        """The task's index in its array; 0 for a job that is no array."""
        return int(self.job_id.partition("_")[2] or 0)

    @property
    def is_running(self) -> bool:
        """Whether SLURM has started it."""
        return self.state in ("RUNNING", "COMPLETING", "SUSPENDED")


@dataclass(frozen=True)
class Partition:
    """The most GPUs, memory and cores of any node of a partition; `minutes` is the partition's time limit."""

    name: str
    is_default: bool
    gpus: int
    memory_mib: int
    cpus: int
    minutes: int


def has_slurm() -> bool:
    """Whether sbatch and squeue are on the path."""
    return shutil.which("sbatch") is not None and shutil.which("squeue") is not None


def queued_tasks(name: str) -> list[QueuedTask]:
    """Return the queued and running jobs with that name, of all users, with each array task as one.

    Raises:
        SilentSchedulerError: SLURM does not answer.
    """
    text = _call("squeue", "-h", "-r", "-a", f"--name={name}", "-o", "%i|%T|%r|%N|%o")
    tasks = []
    for line in text.splitlines():
        job_id, state, reason, nodes, command = line.split("|", 4)
        if state in _LIVE:
            reason = nodes or reason
            tasks.append(QueuedTask(job_id, state, reason, Path(command).parent.name))
    return tasks


def end_states(array_ids: Iterable[str]) -> dict[str, str]:
    """Return how jobs ended according to the accounting, by job id.

    A step with OUT_OF_MEMORY counts for its job. Empty if there is no accounting; then only logs remain.
    """
    ids = sorted(set(array_ids))
    if not ids or shutil.which("sacct") is None:
        return {}
    states: dict[str, str] = {}
    try:
        text = _call("sacct", "-n", "-P", "-o", "JobID,State", "-j", ",".join(ids))
    except SilentSchedulerError:
        return {}
    for line in text.splitlines():
        step_id, _, state = line.partition("|")
        job_id, state = step_id.partition(".")[0], state.split(" ")[0]
        if job_id not in states or state == "OUT_OF_MEMORY":
            states[job_id] = state
    return states


def elapsed_seconds(name: str, array_ids: Iterable[str]) -> dict[str, list[float]]:
    """Return for each job with that name how long each of its starts ran, by job id, according to the accounting.

    A job that was queued again has several starts. Empty if there is no accounting.
    """
    ids = sorted(set(array_ids))
    if not ids or shutil.which("sacct") is None:
        return {}
    found: dict[str, list[float]] = {}
    for first in range(0, len(ids), _ARGUMENTS_PER_CALL):
        wanted = ",".join(ids[first : first + _ARGUMENTS_PER_CALL])
        try:
            options = ("-n", "-P", "-X", "-D", "-o", "JobID,ElapsedRaw", f"--name={name}")
            text = _call("sacct", *options, "-j", wanted)
        except SilentSchedulerError:
            return {}
        for line in text.splitlines():
            job_id, _, seconds = line.partition("|")
            if seconds.isdecimal() and int(seconds):
                found.setdefault(job_id, []).append(float(seconds))
    return found


def partitions() -> dict[str, Partition]:
    """Return all partitions by name.

    Raises:
        SilentSchedulerError: SLURM does not answer.
    """
    found: dict[str, Partition] = {}
    for line in _call("sinfo", "-h", "-a", "-o", "%P|%G|%m|%c|%l").splitlines():
        name, gres, memory, cpus, limit = line.split("|")
        ours = Partition(
            name.rstrip("*"),
            name.endswith("*"),
            _n_gpus(gres),
            int(memory.rstrip("+")),
            int(cpus.rstrip("+")),
            _minutes(limit),
        )
        other = found.get(ours.name, ours)
        found[ours.name] = Partition(
            ours.name,
            ours.is_default,
            max(ours.gpus, other.gpus),
            max(ours.memory_mib, other.memory_mib),
            max(ours.cpus, other.cpus),
            ours.minutes,
        )
    return found


def max_array_size() -> int:
    """Return how many tasks an array may have (its largest index is one less)."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", _call("scontrol", "show", "config"), re.M)
    return int(match[1]) if match else 1001


def node_hosts() -> set[str]:
    """Return the host names of all nodes."""
    return set(re.findall(r"NodeHostName=(\S+)", _call("scontrol", "show", "node", "-o")))


def cancel_tasks(job_ids: Sequence[str]) -> None:
    """Cancel jobs and array tasks.

    Raises:
        SilentSchedulerError: SLURM does not answer.
    """
    for first in range(0, len(job_ids), _ARGUMENTS_PER_CALL):
        _call("scancel", *job_ids[first : first + _ARGUMENTS_PER_CALL])


def set_throttle(array_id: str, n_tasks: int) -> None:
    """Set how many tasks of an array may run at the same time.

    Raises:
        SilentSchedulerError: SLURM does not answer, or the array has just ended.
    """
    _call("scontrol", "update", f"JobId={array_id}", f"ArrayTaskThrottle={n_tasks}")


def _n_gpus(gres: str) -> int:
    """Return the number of GPUs in e.g. `gpu:a100:4(S:0-1),shard:8`."""
    return sum(int(n) for n in re.findall(r"(?:^|,)gpu(?::[^:,(]+)?:(\d+)", gres))


def _minutes(limit: str) -> int:
    """Return the minutes in `infinite` or `[[days-]hours:]minutes:seconds`."""
    if not limit[:1].isdigit():
        return _UNLIMITED_MINUTES
    days, _, rest = limit.rpartition("-")
    hours, minutes, _ = ([0, 0, *(int(part) for part in rest.split(":"))])[-3:]
    return int(days or 0) * 24 * 60 + hours * 60 + minutes


def _call(*command: str, seconds: float = 20.0) -> str:
    """Return the output of a client command.

    Raises:
        SilentSchedulerError: it fails, is not installed, or hangs, as squeue does without its controller.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OF_CLIENTS)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, env=environment
        )
    except FileNotFoundError:
        raise SilentSchedulerError(f"there is no {command[0]} on the path") from None
    except subprocess.TimeoutExpired:
        raise SilentSchedulerError(f"{command[0]} gave no answer in {seconds:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed"]
        raise SilentSchedulerError(f"{command[0]}: {lines[-1].removeprefix(f'{command[0]}: ')}")
    return done.stdout
