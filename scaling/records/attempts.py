"""The files `attempts/<n>.json` of a run: reading, closing, removing; whether the process still runs."""

import json
import os
import platform
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, FiniteFloat, PositiveInt

from scaling.atomic_files import write_json
from scaling.documents import open_regular, parse_json
from scaling.strict_values import fits, tolerant

__all__ = [
    "Failure",
    "close_attempt",
    "is_attempt",
    "is_gone",
    "last_attempt",
    "read_attempts",
    "remove_leftovers",
    "remove_work_files",
]


Failure = Literal["exception", "diverged", "oom", "timeout", "lost", "preempted"]

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_UNKNOWN = -1
_MOST_AHEAD = 3600.0  # seconds

# fields of an attempt's file that mean nothing once the attempt has ended
MOMENTARY = {"state", "time", "cell", "n_steps", "loss", "samples_per_second"}
MOMENTARY |= {"pid_namespace", "pid_started"}


# `datetime` ends with the year 9999
_Time = Annotated[float, Field(ge=0, lt=253_402_300_800)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]


def _moment(text: str) -> str:
    """Refuse what `datetime` does not read as it was written, or has no seconds since 1970 for."""
    try:
        datetime.fromisoformat(text).timestamp()
    except OverflowError as error:
        raise ValueError(str(error)) from error
    return text


def _speed(samples_per_second: float) -> float:
    """Refuse a speed at which no time is left or none passes."""
    if samples_per_second != 0 and not 1e-6 <= samples_per_second <= 1e15:
        raise ValueError("no speed of a training")
    return samples_per_second


_Moment = Annotated[str, AfterValidator(_moment)]
_Speed = Annotated[float, AfterValidator(_speed)]


@tolerant
@dataclass(frozen=True)
class _Attempt:
    """The fields that are read from an attempt's file, with their types; each may be absent."""

    number: _Count = 0
    id: str = ""
    state: Literal["running", "ended"] = "ended"
    time: _Time = 0.0
    started: _Moment | None = None
    ended: _Moment | None = None
    failure: Failure | None = None
    message: str = ""
    cell: str | None = None
    first_step: _Count | None = None
    step: _Count = 0
    n_steps: _Count = 0
    loss: FiniteFloat | None = None
    samples_per_second: _Speed | None = None
    host: str | None = None
    pid: PositiveInt | None = None
    slurm_job_id: str | None = None
    slurm_restart_count: _Count = 0
    submission: str | None = None
    ranks: PositiveInt | None = None
    sharded: bool = False
    process_started: _Moment | None = None
    cpu_seconds: FiniteFloat | None = None
    peak_memory_gib: FiniteFloat | None = None
    gpu_busy: FiniteFloat | None = None


def last_attempt(folder: Path) -> tuple[int, dict[str, Any]]:
    """Return the number and document of the run's last attempt; 0 if there is none.

    Its `time` is when the file last changed, by the clock of the disk: the clocks of other hosts may be wrong. Only the
    age of a damaged file is known, so it counts as running on an unknown host.
    """
    numbers = _numbers(folder)
    if not numbers:
        return 0, {}
    path = folder / "attempts" / f"{numbers[-1]}.json"
    document: dict[str, Any] = {"state": "running"}
    with suppress(OSError, ValueError):
        document |= read_attempt(path)
    with suppress(OSError):  # removed in the meantime: the run is done
        return numbers[-1], {**document, "time": path.stat().st_mtime}
    return 0, {}


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return the documents of the run's attempts, oldest first; damaged ones are left out."""
    documents = []
    for number in _numbers(folder):
        with suppress(OSError, ValueError):
            documents.append(read_attempt(folder / "attempts" / f"{number}.json"))
    return documents


def is_attempt(document: Any) -> bool:
    """Whether all fields of an attempt's document have the right types; otherwise it is damaged."""
    return fits(_Attempt, json.dumps(document))


def remove_work_files(folder: Path) -> None:
    """Remove the checkpoints, attempts and temporary files of a run that is done; errors are ignored."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            path.unlink()
    shutil.rmtree(folder / "attempts", ignore_errors=True)


def remove_leftovers(folder: Path, stale_seconds: float) -> None:
    """Remove what a process left in the folder of a run that is done, killed after it had written the record.

    A process that still runs does this itself.
    """
    number, owner = last_attempt(folder)
    if number and owner.get("state") == "running" and not is_gone(owner, stale_seconds):
        return
    remove_work_files(folder)


def close_attempt(folder: Path, failure: Failure, message: str) -> None:
    """Write, from another process, that the run's last attempt has ended; creates one if there is none.

    If the attempt is still running after all, its next heartbeat overwrites this.

    Raises:
        StorageError: the file cannot be written.
    """
    number, document = last_attempt(folder)
    path = folder / "attempts" / f"{max(number, 1)}.json"
    document = {"number": 1, "started": utc_now(), **document, **closing_fields(failure, message)}
    write_json(path, {**document, "time": time.time()})


def is_gone(attempt: dict[str, Any], stale_seconds: float, now: float | None = None) -> bool:
    """Whether the attempt's process has ended.

    Processes of this host are looked up. A process of another host counts as gone if its file last changed more than
    `stale_seconds` before `now` (seconds since 1970; default: the current time), or over an hour after it: no clock of a
    file system in use is that wrong.
    """
    if all(attempt.get(key) == value for key, value in _this_host().items()):
        pid, started = attempt.get("pid"), attempt.get("pid_started")
        now_there = _start_time(pid) if isinstance(pid, int) else None
        # if a start time is unknown, a process with this number counts as the owner
        return now_there is None or (now_there != started and _UNKNOWN not in (now_there, started))
    age = (time.time() if now is None else now) - float(attempt.get("time", 0.0))
    return not -_MOST_AHEAD <= age <= stale_seconds


def read_attempt(path: Path) -> dict[str, Any]:
    """Read an attempt's file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    with open_regular(path) as file:
        text = file.read()
    if not fits(_Attempt, text):
        raise ValueError(f"{path}: not an attempt")
    document: dict[str, Any] = parse_json(text.decode())
    return document


def this_process() -> dict[str, Any]:
    """Return the fields that identify this process among all processes of its host, past ones included."""
    pid = os.getpid()
    return {**_this_host(), "pid": pid, "pid_started": _start_time(pid)}


def _this_host() -> dict[str, str | None]:
    """Return the fields that name the host, or the container, in which process numbers are unique."""
    namespace = None
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return {"host": platform.node(), "pid_namespace": namespace}


def _start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; -1 if it cannot be known, None if the process has ended.

    psutil counts from 1970, which changes when the clock is set; ticks since boot stay the same.
    """
    import psutil  # here: a plan reads thousands of attempts, few of which are running

    try:
        while True:
            boot, process = psutil.boot_time(), psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            seconds = process.create_time() - boot
            if psutil.boot_time() == boot:  # the clock was not set in between
                return round(seconds * _TICKS_PER_SECOND)
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return _UNKNOWN


def _numbers(folder: Path) -> list[int]:
    with suppress(FileNotFoundError, NotADirectoryError):
        names = [path.name.removesuffix(".json") for path in (folder / "attempts").iterdir()]
        return sorted(int(name) for name in names if name.isdecimal())
    return []


def closing_fields(failure: Failure, message: str) -> dict[str, Any]:
    """Return the fields that end an attempt now."""
    return {"state": "ended", "ended": utc_now(), "failure": failure, "message": message}


def utc_now() -> str:
    """Return the current time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def iso_time(time: float | None) -> str | None:
    """Return a time in seconds since 1970 as `utc_now` writes it."""
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
