"""Who may train a run: the process that created the highest-numbered `attempts/<n>.json` in its folder.

Only one process can create such a file (by a link), and only that process rewrites it: with each heartbeat
while it runs, and once at its end. A process takes over a run by creating the next-numbered file. An
owner looks for a higher number before it writes anything, and stops if there is one.
"""

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaling.atomic_files import write_json, write_new
from scaling.errors import StorageError, UserError
from scaling.records.attempts import (
    MOMENTARY,
    Failure,
    closing_fields,
    is_gone,
    iso_time,
    last_attempt,
    read_attempts,
    remove_leftovers,
    remove_work_files,
    this_process,
    utc_now,
)
from scaling.records.process_usage import process_started, process_usage
from scaling.records.provenance import describe_attempt
from scaling.study import RunOptions

__all__ = ["Lease", "LeaseLostError", "RunBusyError", "claim"]


_HEARTBEAT_SECONDS = 2.0
_POLL_SECONDS = 1.0


class RunBusyError(UserError):
    """Another process is training the run and is still alive."""


class LeaseLostError(Exception):
    """Another process has taken over the run or finished it; this one may write nothing more."""


class Lease:
    """The right to write a run's files, renewed by a thread until `end` or `close`.

    Attributes:
        number: the attempt's number; the first is 1.
    """

    def __init__(self, folder: Path, number: int, document: dict[str, Any], period: float) -> None:
        self.number = number
        self._folder, self._document, self._period = folder, document, period
        self._path = folder / f"{number}.json"
        self._lost = False
        self._measure: Callable[[], dict[str, Any]] = dict
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._beat_until_closed, name="heartbeat", daemon=True
        )
        self._thread.start()

    def update(self, **facts: Any) -> None:
        """Set fields of the attempt's file; the next heartbeat writes them."""
        with self._guard:
            self._document.update(facts)

    def watch(self, measure: Callable[[], dict[str, Any]]) -> None:
        """Add what `measure` returns to the attempt's file with each heartbeat; the heartbeat's thread calls it."""
        self._measure = measure

    @property
    def is_lost(self) -> bool:
        """Whether a heartbeat has found that the lease is lost; does not look at the disk."""
        return self._lost

    def check(self) -> None:
        """Raise LeaseLostError if a heartbeat has found that the lease is lost; does not look at the disk."""
        if self._lost:
            raise LeaseLostError(f"{self._folder.parent}: another process has taken this run over")

    def verify(self) -> None:
        """Look for a higher number on the disk; call this before writing anything.

        Raises:
            LeaseLostError: there is one, or the run's folder was removed.
        """
        if not self._path.exists() or (self._folder / f"{self.number + 1}.json").exists():
            self._lost = True
        self.check()

    def end(self, failure: Failure, message: str = "") -> None:
        """Stop the heartbeat and write how the attempt ended; a lost lease is left to its new owner."""
        self.close()
        self.update(**closing_fields(failure, message))
        with suppress(LeaseLostError, StorageError):  # on a full disk the message is lost
            self.beat(sync=True)

    def beat(self, *, sync: bool = False) -> None:
        """Write the attempt's file with the current time; `sync` also waits until it is on the disk.

        Raises:
            LeaseLostError: another process has taken the run over.
            StorageError: the file cannot be written.
        """
        self.verify()
        self.update(**process_usage(), **self._measure())
        with self._guard:
            document = {**self._document, "time": time.time()}
        write_json(self._path, document, sync=sync)

    def facts(self) -> dict[str, Any]:
        """Return the fields of the attempt's file."""
        with self._guard:
            return dict(self._document)

    def attempts(self) -> list[dict[str, Any]]:
        """Return all attempts for a record that is written now, oldest first.

        An attempt without an end was lost after its last heartbeat, and its `step` is from that heartbeat.
        """
        others = [a for a in read_attempts(self._folder.parent) if a.get("number") != self.number]
        lost = {"failure": "lost", "message": ""}
        self.update(**process_usage())
        ended = [{**lost, "ended": iso_time(attempt.get("time")), **attempt} for attempt in others]
        ended.append({**self.facts(), "failure": None, "message": "", "ended": utc_now()})
        return [{k: v for k, v in attempt.items() if k not in MOMENTARY} for attempt in ended]

    def close(self) -> None:
        """Stop the heartbeat; the file stays as it is."""
        self._stop.set()
        self._thread.join()

    def _beat_until_closed(self) -> None:
        while not self._stop.wait(self._period):
            # a full disk is reported by whoever writes results, a lost lease by `check`
            with suppress(LeaseLostError, StorageError):
                self.beat()


def claim(
    folder: Path,
    *,
    done: Callable[[], bool],
    stale_seconds: float = RunOptions.stale_seconds,
    wait_seconds: float = 0.0,
) -> Lease | None:
    """Claim the run in `folder` for this process; None if it is done, perhaps only after waiting.

    Args:
        folder: the run's folder.
        done: whether nothing is left to train.
        stale_seconds: an owner on another host counts as gone if its heartbeat is older than this; an
            owner on this host is gone if its process has ended.
        wait_seconds: how long to wait for a living owner to finish or to end.

    Raises:
        RunBusyError: after that time, a living process still owns the run.
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
            "started": utc_now(),
            "process_started": process_started(),
            "first_step": None,
            **this_process(),
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
            lease.close()  # the last owner finished and removed its attempts in the meantime
            remove_work_files(folder)
    remove_leftovers(folder, stale_seconds)
    return None
