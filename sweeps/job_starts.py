"""The starts of a study's jobs, with what each asked and what it used.

A job that was queued again has several starts. What it asked is in its submission; what it used is in the
attempts of its cells, which the jobs write. Attempts of earlier versions lack some of these facts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from scaling.records import RunStore, read_attempts
from sweeps.planning import History, Plan, read_history
from sweeps.queue import Submission, read_submissions

__all__ = ["Asked", "JobStart", "job_starts"]


@dataclass(frozen=True)
class Asked:
    """The resources of a job as submitted: a resource class. None: not known, or not asked.

    Attributes:
        cluster: slurm, or local for processes of one machine.
        partition: of SLURM; None: the default one.
        cpus: cores of the job.
        gpus: GPUs of the job.
        memory_mib: memory on each node.
        minutes: time limit.
    """

    cluster: str
    partition: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    memory_mib: int | None = None
    minutes: int | None = None


@dataclass(frozen=True)
class JobStart:
    """One start of a job.

    Attributes:
        asked: its resource class.
        job: `folder/job id` of SLURM, otherwise a name of the process.
        attempts: of the cells that it trained, oldest first.
        cells: signatures of these cells.
    """

    asked: Asked
    job: str
    attempts: tuple[Mapping[str, Any], ...]
    cells: frozenset[str]

    @property
    def job_id(self) -> str:
        """The scheduler's id."""
        return self.job.rpartition("/")[2]

    @cached_property
    def seconds(self) -> float:
        """Time from the start of its process, or of its first attempt if that is unknown, to its last sign of life."""
        begins = [_time(one.get("process_started") or one.get("started")) for one in self.attempts]
        return max(0.0, max(map(_end, self.attempts)) - min(begins))

    @property
    def cpu_seconds(self) -> float | None:
        """Processor time of its process; None if unknown."""
        return max(self._known("cpu_seconds"), default=None)

    @property
    def peak_memory_gib(self) -> float | None:
        """Highest resident memory of its process; None if unknown."""
        return max(self._known("peak_memory_gib"), default=None)

    @property
    def gpu_busy_seconds(self) -> float | None:
        """Time in which its GPU computed; None if unknown."""
        known = [one for one in self.attempts if one.get("gpu_busy") is not None]
        if not known:
            return None
        shares = [(float(one["gpu_busy"]), _end(one) - _time(one["started"])) for one in known]
        return sum(share * max(0.0, seconds) for share, seconds in shares)

    @property
    def is_on_gpu(self) -> bool:
        """Whether it trained on a GPU."""
        return any(one.get("device") not in (None, "cpu") for one in self.attempts)

    def _known(self, key: str) -> list[float]:
        return [float(one[key]) for one in self.attempts if one.get(key) is not None]


def job_starts(plan: Plan, runs: RunStore) -> list[JobStart]:
    """Return the starts of all jobs that have trained a cell of the study, removed cells included.

    Raises:
        UserError: a record is damaged.
    """
    submitted = _Submitted(read_submissions(runs))
    attempts: dict[tuple[str, int], list[_Attempt]] = {}
    asked: dict[str, Asked] = {}
    for one in _attempts(plan, read_history(runs)):
        job, of_job = submitted.job_of(one)
        asked[job] = of_job
        restart = int(one.document.get("slurm_restart_count") or 0)
        attempts.setdefault((job, restart), []).append(one)
    return [
        JobStart(
            asked[job],
            job,
            tuple(one.document for one in group),
            frozenset(cell for one in group for cell in one.cells),
        )
        for (job, _), group in attempts.items()
    ]


@dataclass
class _Attempt:
    document: dict[str, Any]
    cells: set[str] = field(default_factory=set)


def _attempts(plan: Plan, history: History) -> Iterable[_Attempt]:
    """Return all attempts with their cells, each once, as it was last written."""
    found: dict[str, _Attempt] = {}

    def add(documents: Sequence[dict[str, Any]], cells: Iterable[str], folder: str) -> None:
        for document in documents:
            if not document.get("started"):  # a cell that was closed before it was claimed
                continue
            name = document.get("id") or f"{folder}/{document.get('number')}"
            one = found.setdefault(name, _Attempt(document))
            one.cells.update(cells)
            if _end(document) > _end(one.document):
                one.document = document

    for signature, record in history.records.items():
        documents = [dict(one) for one in history.attempts(signature, signature)]
        if documents:  # earlier versions have it only here
            documents[-1].setdefault("peak_memory_gib", record["peak_memory_gib"])
        add(documents, [signature], signature)
    cells_of: dict[str, list[str]] = {}
    for cell in plan.cells:
        if cell.state.state != "done":
            cells_of.setdefault(cell.key, []).append(cell.config.signature)
    for name in sorted(history.folders - history.records.keys()):
        add(read_attempts(history.runs.folder(name)), cells_of.get(name, [name]), name)
    return found.values()


class _Submitted:
    """Finds the job of an attempt. Job ids are reused, so it is the last one submitted before the attempt."""

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self._by_job: dict[str, list[tuple[float, Submission]]] = {}
        for submission in submissions:
            if submission.cluster == "slurm":
                made = _made(submission)
                for job_id in submission.job_ids:
                    self._by_job.setdefault(job_id, []).append((made, submission))

    def job_of(self, one: _Attempt) -> tuple[str, Asked]:
        """Return the name and the resources of its job."""
        document = one.document
        job_id = document.get("slurm_job_id")
        if not job_id:
            process = document.get("process_started")
            names = (document.get("host"), document.get("pid"), process)
            return " ".join(map(str, names if process else (document.get("id"),))), Asked("local")
        known = self._by_job.get(job_id, [])
        begun = _time(document["started"])
        # the clocks of two machines may differ by a little
        found = [submission for made, submission in known if made <= begun + 60.0]
        if not found:
            return job_id, Asked("slurm")
        return f"{found[-1].folder.name}/{job_id}", _asked(found[-1])


def _asked(submission: Submission) -> Asked:
    resources = submission.resources or {}
    return Asked(
        "slurm",
        *(resources.get(name) for name in ("partition", "cpus", "gpus", "memory_mib", "minutes")),
    )


def _made(submission: Submission) -> float:
    """Return when a submission was made, in seconds since 1970, from the name of its folder; 0 if it does not say."""
    try:
        return datetime.strptime(submission.folder.name[:15], "%Y%m%d-%H%M%S").timestamp()
    except ValueError:
        return 0.0


def _time(text: str | None) -> float:
    return 0.0 if text is None else datetime.fromisoformat(text).timestamp()


def _end(attempt: Mapping[str, Any]) -> float:
    """Return when an attempt ended, or the time of its last heartbeat."""
    if attempt.get("ended"):
        return _time(attempt["ended"])
    return max(float(attempt.get("time", 0.0)), _time(attempt.get("started")))
