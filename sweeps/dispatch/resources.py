"""What jobs ask for: a resource class per grade, short cells packed, cheapest first; a pure function of the plan."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scaling.study import SlurmConfig

__all__ = [
    "JobArray",
    "JobPlan",
    "Resources",
    "Unit",
    "cap_minutes",
    "plan_arrays",
    "throttle_shares",
]


# A job's queueing and start should be a small part of its life.
_SECONDS_PER_JOB = 600.0
# submitit calls every signal in the first ten minutes of a shorter job a time-out.
_LEAST_MINUTES = 15
_ROUND_MINUTES = (15, 30, 60, 120, 240, 480, 720, 1440, 2880, 4320, 5760, 7200, 10080)
# How far an estimate may be off before a job meets its limit, saves itself and is queued again.
_TIME_MARGIN = {"run": 3.0, "benchmark": 3.0, "guess": 10.0}
_MEMORY_MARGIN = {"run": 1.25, "benchmark": 1.5, "guess": 2.0}


@dataclass(frozen=True)
class Resources:
    """What one job asks for: the class that shares an array."""

    partition: str | None
    cpus: int
    gpus: int
    memory_mib: int
    minutes: int


@dataclass(frozen=True)
class Unit:
    """Cells that one process trains together: one cell, or those of one trajectory.

    Attributes:
        seconds: estimate without the process's start.
        memory_gib: estimate of the process's peak.
        source: what the estimates rest on: run, benchmark or guess.
        time_factor: more of the time limit, after a time-out.
        memory_factor: more memory, after an out-of-memory.
    """

    signatures: tuple[str, ...]
    grade: str
    seconds: float
    memory_gib: float
    source: str
    time_factor: float = 1.0
    memory_factor: float = 1.0


@dataclass(frozen=True)
class JobPlan:
    """One job: the units it trains one after the other."""

    units: tuple[Unit, ...]
    seconds: float

    @property
    def signatures(self) -> tuple[str, ...]:
        """Its cells."""
        return tuple(s for unit in self.units for s in unit.signatures)


@dataclass(frozen=True)
class JobArray:
    """Jobs that ask for the same."""

    resources: Resources
    jobs: tuple[JobPlan, ...]

    @property
    def seconds(self) -> float:
        """Estimated work."""
        return sum(job.seconds for job in self.jobs)


def plan_arrays(
    slurm: SlurmConfig, units: Sequence[Unit], start_seconds: float, array_size: int = 1000
) -> list[JobArray]:
    """Sort units into arrays of one resource class each, cheapest cells first.

    Each job pays `start_seconds` once. Units of a grade that are estimated at less than ten minutes share a
    job unless `cells_per_job` says how many, but never so that fewer jobs than `max_parallel` are left.
    """
    groups: dict[tuple[object, ...], list[Unit]] = {}
    for unit in units:
        own = slurm.of_grade(unit.grade)
        key = (_memory_mib(own, unit), own.partition, own.cpus, own.gpus, own.time_minutes)
        groups.setdefault((*key, own.cells_per_job, unit.time_factor), []).append(unit)
    classes: dict[Resources, list[JobPlan]] = {}
    work = sum(unit.seconds for unit in units)
    target = max(1.0, min(_SECONDS_PER_JOB, work / slurm.max_parallel))
    for group in groups.values():
        own = slurm.of_grade(group[0].grade)
        jobs = [
            JobPlan(tuple(batch), start_seconds + sum(unit.seconds for unit in batch))
            for batch in _pack(sorted(group, key=lambda u: u.seconds), own.cells_per_job, target)
        ]
        margin = max(_TIME_MARGIN[unit.source] for unit in group)
        longest = max(job.seconds for job in jobs)
        minutes = own.time_minutes or _round_minutes(longest * margin / 60)
        resources = Resources(
            partition=own.partition,
            cpus=own.cpus,
            gpus=own.gpus,
            memory_mib=_memory_mib(own, group[0]),
            minutes=math.ceil(minutes * group[0].time_factor),
        )
        classes.setdefault(resources, []).extend(jobs)
    arrays = []
    for resources, jobs in classes.items():
        jobs.sort(key=lambda job: job.units[0].seconds)  # a packed job's cheapest cell
        arrays += [
            JobArray(resources, tuple(jobs[first : first + array_size]))
            for first in range(0, len(jobs), array_size)
        ]
    return sorted(arrays, key=lambda array: array.jobs[0].units[0].seconds)


def throttle_shares(max_parallel: int, arrays: Sequence[tuple[float, int]]) -> list[int]:
    """How many jobs each of `(work, jobs)` runs at once, in proportion to its work; each at least one.

    Together `max_parallel`, unless there are more arrays or fewer jobs than that.
    """
    shares = [1] * len(arrays)
    for _ in range(max_parallel - len(arrays)):
        open_ones = [i for i, (_, jobs) in enumerate(arrays) if shares[i] < jobs]
        if not open_ones:
            break
        # the next slot goes where most work waits per slot (D'Hondt's rule)
        shares[max(open_ones, key=lambda i: arrays[i][0] / shares[i])] += 1
    return shares


def cap_minutes(array: JobArray, limit: int) -> JobArray:
    """The array within a partition's time limit: its jobs save themselves and go on in another turn."""
    if array.resources.minutes <= limit:
        return array
    return replace(array, resources=replace(array.resources, minutes=limit))


def _pack(units: Sequence[Unit], per_job: int | None, target: float) -> list[list[Unit]]:
    if per_job is not None:
        return [list(units[i : i + per_job]) for i in range(0, len(units), per_job)]
    batches: list[list[Unit]] = []
    room = 0.0
    for unit in units:
        if not batches or unit.seconds > room:
            batches.append([])
            room = target
        batches[-1].append(unit)
        room -= unit.seconds
    return batches


def _memory_mib(own: SlurmConfig, unit: Unit) -> int:
    if own.memory_gib is not None:
        wanted = own.memory_gib
    else:
        wanted = math.ceil(2 * unit.memory_gib * _MEMORY_MARGIN[unit.source]) / 2
    return math.ceil(wanted * unit.memory_factor * 1024)


def _round_minutes(minutes: float) -> int:
    return next((step for step in _ROUND_MINUTES if step >= minutes), math.ceil(minutes))
