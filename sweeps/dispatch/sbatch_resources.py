"""The sbatch options of each job array: resources by grade, packing of short cells, throttle. Pure functions.

The keys of a study behind them are in `scaling.study.slurm_settings`. Not here: calling sbatch
(`sweeps.dispatch.slurm_arrays`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling.study import SlurmConfig

__all__ = [
    "QUEUE_SECONDS",
    "JobArray",
    "JobPlan",
    "Resources",
    "Unit",
    "cap_minutes",
    "plan_arrays",
    "sbatch_parameters",
    "throttle_shares",
]


# A job that waits in the queue takes its place, too. With its training alone as work, an array of many short jobs gets too few
# places: a sweep of 10,000 cells then takes 219 hours in place of 123 (docs/scale.md).
QUEUE_SECONDS = 1200.0
# The time in the queue and for the start should be a small part of a job's time.
_SECONDS_PER_JOB = 600.0
# The shortest is 15: in a shorter job, submitit takes every signal of the first ten minutes for a time-out.
_ROUND_MINUTES = (15, 30, 60, 120, 240, 480, 720, 1440, 2880, 4320, 5760, 7200, 10080)
# A job may take this many times its estimate. At its time limit it saves its state and is queued again.
_TIME_MARGIN = {"run": 3.0, "benchmark": 3.0, "guess": 10.0}
# SLURM's warning before the time limit must come earlier than the time of a step and a checkpoint.
_SIGNAL_SECONDS, _SIGNAL_SHARE = 90, 0.25
_MEMORY_MARGIN = {"run": 1.25, "benchmark": 1.5, "guess": 2.0}


@dataclass(frozen=True)
class Resources:
    """The resources of one job; all jobs of an array have the same. Cores are for each task, GPUs and memory for each node.

    `cells_at_once` cells share the GPU of a job, each in a process of its own.
    """

    partition: str | None
    cpus: int
    gpus: int
    memory_mib: int
    minutes: int
    nodes: int = 1
    tasks_per_node: int = 1
    cells_at_once: int = 1

    @property
    def n_ranks(self) -> int:
        """Processes that train each cell together."""
        return self.nodes * self.tasks_per_node


@dataclass(frozen=True)
class Unit:
    """Cells that one process trains together: one cell, or those of one trajectory.

    Attributes:
        seconds: estimated time without the start of the process.
        memory_gib: estimated peak memory of the process.
        source: the basis of the estimates: run, benchmark or guess.
        time_factor: multiplies the time limit; above 1 after a time-out.
        memory_factor: multiplies the memory; above 1 after the cell ran out of memory.
        n_beside: so many cells shared the GPU on which the time was measured; 1: none beside it.
    """

    signatures: tuple[str, ...]
    grade: str
    seconds: float
    memory_gib: float
    source: str
    time_factor: float = 1.0
    memory_factor: float = 1.0
    n_beside: int = 1


@dataclass(frozen=True)
class JobPlan:
    """One job: the units that it trains, in this order; `seconds` is the estimated time."""

    units: tuple[Unit, ...]
    seconds: float

    @property
    def signatures(self) -> tuple[str, ...]:
        """The signatures of its cells."""
        return tuple(s for unit in self.units for s in unit.signatures)


@dataclass(frozen=True)
class JobArray:
    """Jobs with the same resources."""

    resources: Resources
    jobs: tuple[JobPlan, ...]

    @property
    def seconds(self) -> float:
        """Estimated time of all jobs together."""
        return sum(job.seconds for job in self.jobs)


def plan_arrays(
    slurm: SlurmConfig, units: Sequence[Unit], start_seconds: float, array_size: int = 1000
) -> list[JobArray]:
    """Return the arrays that train `units`, each of at most `array_size` jobs, cheapest cells first.

    Each job takes `start_seconds` once. Units of a grade share a job until it is estimated at ten minutes,
    but never so that fewer than `max_parallel` jobs are left; `cells_per_job` overrides this. A job whose cells share a GPU
    has at least as many units as can share it. Their times are those of the GPU: until runs have been measured side by
    side, they count as if it trained one after the other.
    """
    groups: dict[tuple[object, ...], list[Unit]] = {}
    for unit in units:
        own = slurm.of_grade(unit.grade)
        devices = (own.cpus, own.gpus, own.nodes, own.n_tasks)
        key = (_memory_mib(own, unit), own.partition, *devices, own.time_minutes)
        packing = (own.cells_per_job, own.cells_per_gpu)
        groups.setdefault((*key, *packing, unit.time_factor), []).append(unit)
    classes: dict[Resources, list[JobPlan]] = {}
    work = sum(unit.seconds for unit in units)
    target = max(1.0, min(_SECONDS_PER_JOB, work / slurm.max_parallel))
    for group in groups.values():
        own = slurm.of_grade(group[0].grade)
        batches = _pack(sorted(group, key=lambda u: u.seconds), own, target)
        at_once = min(own.cells_per_gpu, max(map(len, batches)))
        jobs = [_job(batch, start_seconds, at_once) for batch in batches]
        margin = max(_TIME_MARGIN[unit.source] for unit in group)
        longest = max(job.seconds for job in jobs)
        minutes = own.time_minutes or _round_minutes(longest * margin / 60)
        resources = Resources(
            partition=own.partition,
            cpus=max(own.cpus, at_once),
            gpus=own.gpus,
            memory_mib=_memory_mib(own, group[0], at_once),
            minutes=math.ceil(minutes * group[0].time_factor),
            nodes=own.nodes,
            tasks_per_node=own.n_tasks,
            cells_at_once=at_once,
        )
        classes.setdefault(resources, []).extend(jobs)
    arrays = []
    for resources, jobs in classes.items():
        jobs.sort(key=_cheapest)
        arrays += [
            JobArray(resources, tuple(jobs[first : first + array_size]))
            for first in range(0, len(jobs), array_size)
        ]
    return sorted(arrays, key=lambda array: _cheapest(array.jobs[0]))


def throttle_shares(max_parallel: int, arrays: Sequence[tuple[float, int]]) -> list[int]:
    """Return how many jobs of each array run at the same time: in proportion to its work, at least one.

    The sum is `max_parallel`, unless there are more arrays or fewer jobs than that.

    Args:
        max_parallel: jobs of the sweep that run at the same time.
        arrays: for each array its training in seconds and its number of jobs; the time in the queue counts as work, too.
    """
    shares = [1] * len(arrays)
    work = [seconds + QUEUE_SECONDS * jobs for seconds, jobs in arrays]
    for _ in range(max_parallel - len(arrays)):
        open_ones = [i for i, (_, jobs) in enumerate(arrays) if shares[i] < jobs]
        if not open_ones:
            break
        # the next slot goes to the array with the most work per slot (D'Hondt's rule)
        shares[max(open_ones, key=lambda i: work[i] / shares[i])] += 1
    return shares


def cap_minutes(array: JobArray, limit: int) -> JobArray:
    """Return the array with a time limit of at most `limit` minutes; its jobs save their state and are requeued."""
    if array.resources.minutes <= limit:
        return array
    return replace(array, resources=replace(array.resources, minutes=limit))


def sbatch_parameters(
    slurm: SlurmConfig, array: JobArray, throttle: int, job_name: str
) -> dict[str, Any]:
    """Return submitit's parameters of an array, of which at most `throttle` jobs run at the same time."""
    resources = array.resources
    parameters: dict[str, Any] = {
        "job_name": job_name,
        "time": resources.minutes,
        "mem": f"{resources.memory_mib}MB",
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus or None,
        "partition": resources.partition,
        "array_parallelism": throttle,
        "signal_delay_s": min(_SIGNAL_SECONDS, int(60 * resources.minutes * _SIGNAL_SHARE)),
        "setup": [
            # some versions of srun do not take it from sbatch
            f"export SRUN_CPUS_PER_TASK={resources.cpus}",
            *slurm.setup,
        ],
        # A site may forbid requeueing by default, but a preempted cell must be queued again.
        "additional_parameters": {"requeue": True, **slurm.options},
    }
    if resources.n_ranks > 1:
        parameters |= {
            "nodes": resources.nodes,
            "ntasks_per_node": resources.tasks_per_node,
            # if one task dies, the others would wait for it
            "srun_args": ["--kill-on-bad-exit=1"],
        }
    return {name: value for name, value in parameters.items() if value is not None}


def _pack(units: Sequence[Unit], own: SlurmConfig, target: float) -> list[list[Unit]]:
    if (per_job := own.cells_per_job) is not None:
        return [list(units[i : i + per_job]) for i in range(0, len(units), per_job)]
    batches: list[list[Unit]] = []
    room = 0.0
    for unit in units:
        if not batches or (unit.seconds > room and len(batches[-1]) >= own.cells_per_gpu):
            batches.append([])
            room = target
        batches[-1].append(unit)
        room -= unit.seconds
    if len(batches) > 1 and len(batches[-1]) < own.cells_per_gpu:  # too few to fill a GPU
        last = batches.pop()
        batches[-1] += last
    return batches


def _job(batch: Sequence[Unit], start_seconds: float, at_once: int) -> JobPlan:
    """Return the job for units in ascending order; side by side the longest begins first, so that all end together."""
    seconds = sum(unit.seconds for unit in batch)
    if at_once > 1:
        batch = batch[::-1]
        # beside others, a unit takes as many times its share of the GPU
        seconds = max(seconds, *(unit.n_beside * unit.seconds for unit in batch))
    return JobPlan(tuple(batch), start_seconds + seconds)


def _cheapest(job: JobPlan) -> float:
    return min(unit.seconds for unit in job.units)


def _memory_mib(own: SlurmConfig, unit: Unit, at_once: int = 1) -> int:
    if own.memory_gib is not None:
        wanted = own.memory_gib
    else:
        n_processes = own.n_tasks * at_once
        wanted = n_processes * math.ceil(2 * unit.memory_gib * _MEMORY_MARGIN[unit.source]) / 2
    return math.ceil(wanted * unit.memory_factor * 1024)


def _round_minutes(minutes: float) -> int:
    return next((step for step in _ROUND_MINUTES if step >= minutes), math.ceil(minutes))
