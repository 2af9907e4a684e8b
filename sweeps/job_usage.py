"""The jobs of a study: what each asked and what it used. Read from files and SLURM's accounting, if there is one.

A job that was queued again has several starts. What it asked is in its submission; what it used is in the
attempts of its cells, which the jobs write. Attempts of earlier versions lack some of these facts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from typing import Any

from scaling.records import RunStore, read_attempts
from sweeps.planning import History, Plan, read_history
from sweeps.queue import Submission, read_submissions, scheduler, sweep_name

__all__ = ["Asked", "Job", "JobStart", "jobs_of"]


@dataclass(frozen=True)
class Asked:
    """The resources of a job as submitted: a resource class. None: not known, or not asked.

    Attributes:
        cluster: slurm, or local for processes of one machine.
        partition: of SLURM; None: the default one.
        cpus: cores of each task.
        gpus: GPUs on each node.
        memory_mib: memory on each node.
        minutes: time limit.
        nodes: nodes of the job.
        tasks_per_node: its tasks on each of them.
    """

    cluster: str
    partition: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    memory_mib: int | None = None
    minutes: int | None = None
    nodes: int = 1
    tasks_per_node: int = 1

    @property
    def n_cores(self) -> int | None:
        """Cores of the whole job."""
        return None if self.cpus is None else self.cpus * self.tasks_per_node * self.nodes

    @property
    def n_gpus(self) -> int | None:
        """GPUs of the whole job."""
        return None if self.gpus is None else self.gpus * self.nodes


@dataclass(frozen=True)
class JobStart:
    """One start of a job. If several tasks train a cell, these are the facts of the first; the others use as much.

    Attributes:
        attempts: of the cells that it trained, oldest first.
        cells: signatures of these cells.
    """

    attempts: tuple[Mapping[str, Any], ...]
    cells: frozenset[str]

    @cached_property
    def seconds(self) -> float:
        """Time from the start of its process, or of its first attempt if that is unknown, to its last sign of life."""
        begins = [_time(one.get("process_started") or one.get("started")) for one in self.attempts]
        return max(0.0, max(map(_end, self.attempts)) - min(begins))

    @property
    def cpu_seconds(self) -> float | None:
        """Processor time of its processes; None if unknown."""
        return self._over_processes("cpu_seconds")

    @property
    def peak_memory_gib(self) -> float | None:
        """Highest resident memory of its processes, added up if cells share its GPU; None if unknown."""
        return self._over_processes("peak_memory_gib")

    @property
    def gpu_busy_seconds(self) -> float | None:
        """Time in which its GPU computed; None if unknown."""
        known = [one for one in self.attempts if one.get("gpu_busy") is not None]
        if not known:
            return None
        spans = [(_time(one["started"]), _end(one)) for one in known]
        lengths = [max(0.0, end - begin) for begin, end in spans]
        busy = sum(
            float(one["gpu_busy"]) * length for one, length in zip(known, lengths, strict=True)
        )
        # attempts side by side have measured the same GPU
        return busy * _covered(spans) / sum(lengths) if sum(lengths) else 0.0

    @property
    def is_on_gpu(self) -> bool:
        """Whether it trained on a GPU."""
        return any(one.get("device") not in (None, "cpu") for one in self.attempts)

    @property
    def n_ranks(self) -> int:
        """Processes that trained its cells together."""
        return max((int(one.get("ranks") or 1) for one in self.attempts), default=1)

    def _over_processes(self, key: str) -> float | None:
        """Return the sum over its processes of the highest value of each."""
        highest: dict[Any, float] = {}
        for one in self.attempts:
            if one.get(key) is not None:
                pid = one.get("pid")
                highest[pid] = max(highest.get(pid, 0.0), float(one[key]))
        return sum(highest.values()) if highest else None


@dataclass(frozen=True)
class Job:
    """A job that has run.

    Attributes:
        asked: its resource class.
        starts: those that trained something; empty if none did.
        seconds: wall-clock time of each start.
        in_accounting: whether these times are SLURM's own; they are then those of all starts.
    """

    asked: Asked
    starts: tuple[JobStart, ...]
    seconds: tuple[float, ...]
    in_accounting: bool

    @property
    def cells(self) -> frozenset[str]:
        """The signatures of the cells that it trained."""
        return frozenset(cell for start in self.starts for cell in start.cells)

    @property
    def peak_memory_gib(self) -> float | None:
        """Highest resident memory on a node; None if unknown."""
        peaks = (start.peak_memory_gib for start in self.starts)
        highest = max((peak for peak in peaks if peak is not None), default=None)
        return None if highest is None else highest * self.asked.tasks_per_node


def jobs_of(plan: Plan, runs: RunStore) -> list[Job]:
    """Return all jobs of the study that have run, those of removed cells included.

    Jobs that trained nothing are known only to the accounting.

    Raises:
        UserError: a record is damaged.
    """
    submitted = _Submitted(read_submissions(runs))
    attempts: dict[str, dict[int, list[_Attempt]]] = {}
    for one in _attempts(plan, read_history(runs)):
        restart = int(one.document.get("slurm_restart_count") or 0)
        attempts.setdefault(submitted.job_of(one), {}).setdefault(restart, []).append(one)
    elapsed = scheduler.elapsed_seconds(sweep_name(runs), submitted.array_ids)
    accounted = {submitted.latest(job_id): seconds for job_id, seconds in elapsed.items()}
    jobs = []
    for name in dict.fromkeys([*attempts, *filter(None, accounted)]):
        starts = tuple(map(_start, attempts.get(name, {}).values()))
        seconds = accounted.get(name) or [start.seconds for start in starts]
        jobs.append(Job(submitted.asked(name), starts, tuple(seconds), name in accounted))
    return jobs


@dataclass
class _Attempt:
    document: dict[str, Any]
    cells: set[str] = field(default_factory=set)


def _attempts(plan: Plan, history: History) -> Iterable[_Attempt]:
    """Return all attempts with their cells, each once, as it was last written."""
    found: dict[str, _Attempt] = {}

    def add(documents: Sequence[dict[str, Any]], cells: Iterable[str]) -> None:
        for document in documents:
            if not (document.get("id") and document.get("started")):
                continue  # written by a driver, for a job that ended before it claimed its cell
            one = found.setdefault(document["id"], _Attempt(document))
            one.cells.update(cells)
            if _end(document) > _end(one.document):
                one.document = document

    for signature, record in history.records.items():
        documents = [dict(one) for one in history.attempts(signature, signature)]
        if documents:  # earlier versions have it only here
            documents[-1].setdefault("peak_memory_gib", record["peak_memory_gib"])
        add(documents, [signature])
    cells_of: dict[str, list[str]] = {}
    for cell in plan.cells:
        if cell.state.state != "done":
            cells_of.setdefault(cell.key, []).append(cell.config.signature)
    for name in sorted(history.folders - history.records.keys()):
        add(read_attempts(history.runs.folder(name)), cells_of.get(name, [name]))
    return found.values()


def _start(attempts: Sequence[_Attempt]) -> JobStart:
    cells = frozenset(cell for one in attempts for cell in one.cells)
    return JobStart(tuple(one.document for one in attempts), cells)


class _Submitted:
    """The jobs of all submissions, by `folder/job id`: job ids are reused, so an id alone does not name a job."""

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self._asked: dict[str, Asked] = {}
        self._by_id: dict[str, list[tuple[float, str]]] = {}
        for submission in submissions:
            if submission.cluster == "slurm":
                made, asked = _made(submission), _asked(submission)
                for job_id in submission.job_ids:
                    name = f"{submission.folder.name}/{job_id}"
                    self._asked[name] = asked
                    self._by_id.setdefault(job_id, []).append((made, name))

    @property
    def array_ids(self) -> set[str]:
        """The ids of all arrays."""
        return {job_id.partition("_")[0] for job_id in self._by_id}

    def latest(self, job_id: str) -> str | None:
        """Return the name of the last job with this id; None if it is not ours."""
        return self._by_id[job_id][-1][1] if job_id in self._by_id else None

    def asked(self, name: str) -> Asked:
        """Return what a job asked."""
        return self._asked.get(name, Asked("slurm" if "/" in name else "local"))

    def job_of(self, one: _Attempt) -> str:
        """Return the name of an attempt's job.

        An attempt of an earlier version does not say the submission; it is then the last one before it with this id.
        A process that SLURM did not start is named by its machine, number and start.
        """
        document = one.document
        job_id, folder = document.get("slurm_job_id"), document.get("submission")
        if job_id and folder and f"{folder}/{job_id}" in self._asked:
            return f"{folder}/{job_id}"
        if (
            not job_id or folder
        ):  # a process of a machine, perhaps in a job that somebody else started
            process = document.get("process_started")
            names = (document.get("host"), document.get("pid"), process)
            return " ".join(map(str, names if process else (document.get("id"),)))
        begun = _time(document["started"])
        # the clocks of two machines may differ by a little
        found = [name for made, name in self._by_id.get(job_id, []) if made <= begun + 60.0]
        return found[-1] if found else f"/{job_id}"


def _asked(submission: Submission) -> Asked:
    known = {f.name for f in fields(Asked)} - {"cluster"}
    resources = submission.resources or {}
    return Asked("slurm", **{name: value for name, value in resources.items() if name in known})


def _made(submission: Submission) -> float:
    """Return when a submission was made, in seconds since 1970, from the name of its folder; 0 if it does not say."""
    try:
        return datetime.strptime(submission.folder.name[:15], "%Y%m%d-%H%M%S").timestamp()
    except ValueError:
        return 0.0


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    covered, until = 0.0, -math.inf
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def _time(text: str | None) -> float:
    # the attempts in a record may be of a program that wrote other times
    with suppress(ValueError, TypeError, OverflowError):
        return datetime.fromisoformat(text or "").timestamp()
    return 0.0


def _end(attempt: Mapping[str, Any]) -> float:
    """Return when an attempt ended, or the time of its last heartbeat."""
    if attempt.get("ended"):
        return _time(attempt["ended"])
    return max(float(attempt.get("time", 0.0)), _time(attempt.get("started")))
