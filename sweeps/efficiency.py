"""What the jobs of a study asked, what they used, and what the next submission of their cells would ask.

One row for each resource class: jobs that asked the same. Read from files and, where there is one, from SLURM's
accounting.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from scaling.device_peaks import mfu, published_peak
from scaling.records import RunStore
from scaling.study import SlurmConfig
from sweeps.dispatch import plan_arrays, unit_of
from sweeps.job_usage import Asked, Job, JobStart, jobs_of
from sweeps.planning import Plan, Throughput, read_benchmarks, read_history

__all__ = ["ClassUse", "Span", "efficiency_by_class"]


@dataclass(frozen=True)
class Span:
    """The lowest and the highest of several values."""

    low: float
    high: float


@dataclass(frozen=True)
class ClassUse:
    """A resource class: what its jobs asked and used. None: not known.

    Attributes:
        asked: the resources of each job.
        n_jobs: jobs that have run.
        n_starts: how often they were started; more than `n_jobs` if some were queued again.
        n_cells: cells that they have trained.
        core_hours: cores asked, times the wall-clock time of all starts.
        gpu_hours: the same for GPUs.
        billed_by: where the wall-clock time is from: accounting (of SLURM) or attempts (from the start of a job's
            process to its last sign of life).
        busy_share: used share of the billed time: on a GPU the time in which it computed, otherwise processor time
            divided by time and cores, which exceeds 1 if a job uses more cores than it asked.
        memory_max_gib: the highest peak of resident memory on a node among its jobs.
        memory_median_gib: the median over its jobs.
        mfu: FLOPs of its finished cells as a share of what their devices could do in the time of their training
            loops; a GPU that cells share counts once. None where no peak is known.
        mfu_of: what the peak is: data sheet, or product (the rate of a large matrix product, by `scaling benchmark`).
        longest_minutes: the longest start of a job.
        next_memory_gib: what the next submission of its cells would ask; None if none is in the grid.
        next_minutes: the same for the time limit.
        free_memory_gib: what it would ask if the study did not fix `memory_gib`.
        free_minutes: the same for `time_minutes`.
    """

    asked: Asked
    n_jobs: int
    n_starts: int
    n_cells: int
    core_hours: float
    gpu_hours: float
    billed_by: str
    busy_share: float | None
    memory_max_gib: float | None
    memory_median_gib: float | None
    mfu: float | None
    mfu_of: str | None
    longest_minutes: float
    next_memory_gib: Span | None
    next_minutes: Span | None
    free_memory_gib: Span | None
    free_minutes: Span | None


def efficiency_by_class(
    plan: Plan, runs: RunStore, chosen: Collection[str] | None = None
) -> list[ClassUse]:
    """Return a row for each resource class, the one with the most device-hours first.

    Args:
        plan: the plan of the study.
        runs: its runs folder.
        chosen: only jobs that trained one of these cells, by signature; None: all, also of cells that are no
            longer in the grid.

    Raises:
        UserError: a record is damaged.
    """
    groups: dict[Asked, list[Job]] = {}
    for job in jobs_of(plan, runs):
        if chosen is None or not job.cells.isdisjoint(chosen):
            groups.setdefault(job.asked, []).append(job)
    slurm = plan.study.slurm
    free = replace(
        slurm,
        memory_gib=None,
        time_minutes=None,
        grades={n: replace(g, memory_gib=None, time_minutes=None) for n, g in slurm.grades.items()},
    )
    cells = frozenset(cell for group in groups.values() for job in group for cell in job.cells)
    requests = [_requests(plan, settings, cells) for settings in (slurm, free)]
    work = _Work(read_history(runs).records, read_benchmarks(runs.root.parent))
    rows = [_class_use(asked, group, requests, work) for asked, group in groups.items()]
    return sorted(rows, key=lambda row: (row.gpu_hours, row.core_hours), reverse=True)


# memory in GiB and minutes of each cell's job
_Requests = Mapping[str, tuple[float, int]]


def _requests(plan: Plan, slurm: SlurmConfig, cells: Collection[str]) -> _Requests:
    """Return what one submission of all these cells would ask for each of them."""
    again = [cell for cell in plan.cells if cell.config.signature in cells]
    arrays = plan_arrays(slurm, [unit_of(unit) for unit in plan.units(again)], plan.start_seconds)
    return {
        signature: (array.resources.memory_mib / 1024, array.resources.minutes)
        for array in arrays
        for job in array.jobs
        for signature in job.signatures
    }


class _Work:
    """What finished cells computed, and what their devices could do."""

    def __init__(
        self, records: Mapping[str, Mapping[str, Any]], benchmarks: Sequence[Throughput]
    ) -> None:
        self._records = records
        self._products = {
            (one.device, one.precision): one.product_flops_per_second for one in benchmarks
        }

    def mfu(self, cells: Collection[str]) -> tuple[float | None, str | None]:
        """Return the share of the cells that have a peak, and what the peak is; data sheets come first."""
        found = [self._of(self._records[cell]) for cell in cells if cell in self._records]
        for source in ("data sheet", "product"):
            pairs = [(flops, most) for flops, most, of in found if of == source]
            if pairs:
                return mfu(sum(flops for flops, _ in pairs), sum(m for _, m in pairs), 1.0), source
        return None, None

    def _of(self, record: Mapping[str, Any]) -> tuple[float, float, str | None]:
        """FLOPs of a record, what its devices could do in its time, and what that is known from."""
        provenance = record["provenance"]
        device = str(provenance.get("device"))
        precision = record["config"].get("precision", "float32")
        last = (provenance.get("attempts") or [{}])[-1]
        peak, source = published_peak(device, precision), "data sheet"
        if peak is None:
            peak, source = self._products.get((device, precision)), "product"
        if peak is None or "flops" not in record:
            return 0.0, 0.0, None
        devices = int(last.get("ranks") or 1) / int(last.get("cells_per_gpu") or 1)
        return record["flops"], record["train_seconds"] * devices * peak, source


def _class_use(
    asked: Asked, jobs: Sequence[Job], requests: Sequence[_Requests], work: _Work
) -> ClassUse:
    starts = [start for job in jobs for start in job.starts]
    seconds = [each for job in jobs for each in job.seconds]
    cells = frozenset(cell for job in jobs for cell in job.cells)
    memory = [job.peak_memory_gib for job in jobs if job.peak_memory_gib is not None]
    share, share_of = work.mfu(cells)
    asked_next, asked_free = (_spans(asked, cells, by_cell) for by_cell in requests)
    return ClassUse(
        asked=asked,
        n_jobs=len(jobs),
        n_starts=len(seconds),
        n_cells=len(cells),
        core_hours=_hours(jobs, asked.n_cores, lambda start: start.n_ranks),
        gpu_hours=_hours(jobs, asked.n_gpus, lambda start: start.n_ranks * start.is_on_gpu),
        billed_by="accounting" if all(job.in_accounting for job in jobs) else "attempts",
        busy_share=_busy_share(asked, starts),
        memory_max_gib=max(memory, default=None),
        memory_median_gib=median(memory) if memory else None,
        mfu=share,
        mfu_of=share_of,
        longest_minutes=max(seconds) / 60,
        next_memory_gib=asked_next[0],
        next_minutes=asked_next[1],
        free_memory_gib=asked_free[0],
        free_minutes=asked_free[1],
    )


def _hours(jobs: Sequence[Job], asked: int | None, used: Callable[[JobStart], int]) -> float:
    """Return device-hours: those asked, or where nothing was asked those that the processes used."""
    if asked is not None:
        return sum(sum(job.seconds) for job in jobs) * asked / 3600
    return sum(start.seconds * used(start) for job in jobs for start in job.starts) / 3600


def _busy_share(asked: Asked, starts: Sequence[JobStart]) -> float | None:
    """Return the used share of the time of those starts of which it is known; the first task stands for all."""
    used = total = 0.0
    for start in starts:
        on_gpu = start.is_on_gpu or bool(asked.gpus)
        busy = start.gpu_busy_seconds if on_gpu else start.cpu_seconds
        if busy is not None:
            used += busy
            total += start.seconds * (1 if on_gpu else asked.cpus or 1)
    return used / total if total else None


def _spans(
    asked: Asked, cells: Collection[str], requests: _Requests
) -> tuple[Span | None, Span | None]:
    """Return the memory and the minutes that are asked for these cells; processes without SLURM ask nothing."""
    found = [requests[cell] for cell in cells if cell in requests]
    if not found or asked.cluster != "slurm":
        return None, None
    memory, minutes = zip(*found, strict=True)
    return Span(min(memory), max(memory)), Span(min(minutes), max(minutes))
