"""Who trains a run: `attempts/<n>.json` in its folder, of which the highest number owns it. Free of torch.

An attempt's file is made by a link, which one process alone achieves, and is then rewritten by that
process alone: by a heartbeat while it lives, and at its end. To take a run over is to make the next number.
An owner looks for a higher number before it writes anything, and stops if there is one.
"""

import json
import os
import platform
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from scaling.document import fits
from scaling.errors import StorageError, UserError
from scaling.files import write_json, write_new
from scaling.provenance import describe_attempt

__all__ = [
    "STALE_SECONDS",
    "Failure",
    "Lease",
    "LeaseLostError",
    "RunBusyError",
    "claim",
    "close_attempt",
    "is_attempt",
    "is_gone",
    "last_attempt",
    "read_attempts",
    "remove_attempts",
]

Failure = Literal["exception", "oom", "timeout", "lost", "preempted"]

# A process on another host counts as gone when its heartbeat is so old.
STALE_SECONDS = 120.0
_HEARTBEAT_SECONDS = 2.0
_POLL_SECONDS = 1.0
# of an attempt's file, what is worth nothing once it has ended
_MOMENTARY = {"state", "time", "cell", "n_steps", "loss", "samples_per_second"}
_MOMENTARY |= {"pid_namespace", "pid_started"}


# `datetime` ends with the year 9999
_Time = Annotated[float, Field(ge=0, lt=253_402_300_800)]


@dataclass(frozen=True)
class _Attempt:
    """The types of what is read from an attempt's file; each may be absent, and others may be there."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, allow_inf_nan=False)

    number: int = 0
    id: str = ""
    state: Literal["running", "ended"] = "ended"
    time: _Time = 0.0
    started: datetime | None = None
    ended: datetime | None = None
    failure: Failure | None = None
    message: str = ""
    cell: str | None = None
    first_step: int | None = None
    step: int = 0
    n_steps: int = 0
    loss: float | None = None
    samples_per_second: float | None = None
    host: str | None = None
    pid: int | None = None
    slurm_job_id: str | None = None


class RunBusyError(UserError):
    """Another process, which is alive, is training the run."""


class LeaseLostError(Exception):
    """Another process has taken the run over, or finished it: nothing more may be written."""


class Lease:
    """The right to write a run's files, renewed by a thread until `end` or `close`.

    Attributes:
        number: of the attempt; the first is 1.
    """

    def __init__(self, folder: Path, number: int, document: dict[str, Any], period: float) -> None:
        self.number = number
        self._folder, self._document, self._period = folder, document, period
        self._path = folder / f"{number}.json"
        self._lost = False
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def update(self, **facts: Any) -> None:
        """Add to the attempt's file, at the next heartbeat."""
        with self._guard:
            self._document.update(facts)

    def check(self) -> None:
        """Raise LeaseLostError if a heartbeat has found the lease lost; costs nothing."""
        if self._lost:
            raise LeaseLostError(f"{self._folder.parent}: another process has taken this run over")

    def verify(self) -> None:
        """Look for a higher number now, as is due before anything is written.

        Raises:
            LeaseLostError: there is one, or the run's folder was removed.
        """
        if not self._path.exists() or (self._folder / f"{self.number + 1}.json").exists():
            self._lost = True
        self.check()

    def end(self, failure: Failure, message: str = "") -> None:
        """Say that the attempt is over and why; a lease that is lost is left to its new owner."""
        self.close()
        self.update(**_closing(failure, message))
        with suppress(LeaseLostError, StorageError):  # a full disk takes no message
            self._write(sync=True)

    def facts(self) -> dict[str, Any]:
        """Return what the attempt's file says."""
        with self._guard:
            return dict(self._document)

    def attempts(self) -> list[dict[str, Any]]:
        """Return all attempts for a record that is written now, the first first.

        One that never came to an end was lost, after its last heartbeat; `step` is that heartbeat's.
        """
        others = [a for a in read_attempts(self._folder.parent) if a.get("number") != self.number]
        lost = {"failure": "lost", "message": ""}
        told = [{**lost, "ended": _iso(attempt.get("time")), **attempt} for attempt in others]
        told.append({**self.facts(), "failure": None, "message": "", "ended": _now()})
        return [{k: v for k, v in attempt.items() if k not in _MOMENTARY} for attempt in told]

    def close(self) -> None:
        """Stop the heartbeat and leave the file as it is."""
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._period):
            # A full disk is for those to report who write results; a lost lease, for `check`.
            with suppress(LeaseLostError, StorageError):
                self._write(sync=False)

    def _write(self, *, sync: bool) -> None:
        self.verify()
        with self._guard:
            document = {**self._document, "time": time.time()}
        write_json(self._path, document, sync=sync)


def claim(
    folder: Path,
    *,
    done: Callable[[], bool],
    stale_seconds: float = STALE_SECONDS,
    wait_seconds: float = 0.0,
) -> Lease | None:
    """Take the run in `folder` for this process; None if it is done, perhaps while we waited.

    Args:
        folder: the run's.
        done: whether nothing is left to train.
        stale_seconds: an owner on another host that was silent for so long is gone; one on this host is
            gone when its process is.
        wait_seconds: how long to wait for a living owner to finish or to go.

    Raises:
        RunBusyError: a living process still has it after that.
        StorageError: the folder cannot be written.
    """
    deadline = time.monotonic() + wait_seconds
    while not done():
        number, owner = last_attempt(folder)
        if number and owner.get("state") == "running" and not is_gone(owner, stale_seconds):
            if time.monotonic() >= deadline:
                who = f"process {owner.get('pid')} on {owner.get('host')}"
                raise RunBusyError(f"{folder}: {who} is training this run")
            time.sleep(min(_POLL_SECONDS, stale_seconds / 5))
            continue
        document = {
            "number": number + 1,
            "id": uuid.uuid4().hex,
            "state": "running",
            "time": time.time(),
            "started": _now(),
            "first_step": None,
            **_process(),
            **describe_attempt(),
        }
        path = folder / "attempts" / f"{number + 1}.json"
        if write_new(path, document):
            lease = Lease(
                path.parent, number + 1, document, min(_HEARTBEAT_SECONDS, stale_seconds / 5)
            )
            try:
                finished = done()
            except BaseException:
                lease.end("preempted", "stopped before it began")
                raise
            if not finished:
                return lease
            lease.close()  # the last owner finished, and removed its attempts, between two looks
            remove_attempts(folder)
    return None


def last_attempt(folder: Path) -> tuple[int, dict[str, Any]]:
    """Return the number and document of the run's last attempt; 0 if there is none.

    Of a damaged file only its age is known: it counts as running, on a host that nobody knows.
    """
    numbers = _numbers(folder)
    if not numbers:
        return 0, {}
    path = folder / "attempts" / f"{numbers[-1]}.json"
    try:
        document = _read_attempt(path)
        return numbers[-1], {**document, "time": float(document["time"])}
    except FileNotFoundError:  # removed meanwhile: the run is done
        return 0, {}
    except (OSError, ValueError, KeyError):
        with suppress(OSError):
            return numbers[-1], {"state": "running", "time": path.stat().st_mtime}
        return 0, {}


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return the documents of the run's attempts, the first first; damaged ones are left out."""
    documents = []
    for number in _numbers(folder):
        with suppress(OSError, ValueError):
            documents.append(_read_attempt(folder / "attempts" / f"{number}.json"))
    return documents


def is_attempt(document: Any) -> bool:
    """Whether all that is read from an attempt's document is of its type; else it is damaged."""
    return fits(_Attempt, json.dumps(document))


def remove_attempts(folder: Path) -> None:
    """Forget the attempts of a run that is done."""
    shutil.rmtree(folder / "attempts", ignore_errors=True)


def close_attempt(folder: Path, failure: Failure, message: str) -> None:
    """Say, from another process, that the run's last attempt is over; makes one if there is none.

    Should the attempt be alive after all, its next heartbeat says so.
    """
    number, document = last_attempt(folder)
    path = folder / "attempts" / f"{max(number, 1)}.json"
    document = {"number": 1, "started": _now(), **document, **_closing(failure, message)}
    write_json(path, {**document, "time": time.time()})


def is_gone(attempt: dict[str, Any], stale_seconds: float, now: float | None = None) -> bool:
    """Whether the attempt's process has ended: known at once on this host, else from its silence."""
    mine = _process()
    if all(attempt.get(key) == mine[key] for key in ("host", "pid_namespace")):
        pid = attempt.get("pid")
        return not isinstance(pid, int) or _start_time(pid) != attempt.get("pid_started")
    age = (time.time() if now is None else now) - float(attempt.get("time", 0.0))
    return age > stale_seconds


def _read_attempt(path: Path) -> dict[str, Any]:
    """Read an attempt's file; a ValueError if it is damaged."""
    text = path.read_bytes()
    if not fits(_Attempt, text):
        raise ValueError(f"{path}: no attempt")
    document: dict[str, Any] = json.loads(text)
    return document


def _process() -> dict[str, Any]:
    """What names this process among all that ever were on its host."""
    namespace = None
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return {
        "host": platform.node(),
        "pid_namespace": namespace,
        "pid": os.getpid(),
        "pid_started": _start_time(os.getpid()),
    }


def _start_time(pid: int) -> int | None:
    """When the process began, in ticks since boot; -1 where that cannot be known, None: it is gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    return -1


def _numbers(folder: Path) -> list[int]:
    with suppress(FileNotFoundError, NotADirectoryError):
        names = [path.name.removesuffix(".json") for path in (folder / "attempts").iterdir()]
        return sorted(int(name) for name in names if name.isdecimal())
    return []


def _closing(failure: Failure, message: str) -> dict[str, Any]:
    return {"state": "ended", "ended": _now(), "failure": failure, "message": message}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _iso(time: float | None) -> str | None:
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
