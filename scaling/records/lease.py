"""Who trains a run: `attempts/<n>.json` in its folder, of which the highest number owns it. Free of torch.

An attempt's file is made by a link, which one process alone achieves, and is then rewritten by that
process alone: by a heartbeat while it lives, and at its end. To take a run over is to make the next number.
An owner looks for a higher number before it writes anything, and stops if there is one.
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
    remove_attempts,
    this_process,
    utc_now,
)
from scaling.records.provenance import describe_attempt
from scaling.study import RunOptions

__all__ = ["Lease", "LeaseLostError", "RunBusyError", "claim"]


_HEARTBEAT_SECONDS = 2.0
_POLL_SECONDS = 1.0


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
        self._thread = threading.Thread(
            target=self._beat_until_closed, name="heartbeat", daemon=True
        )
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
        self.update(**closing_fields(failure, message))
        with suppress(LeaseLostError, StorageError):  # a full disk takes no message
            self.beat(sync=True)

    def beat(self, *, sync: bool = False) -> None:
        """Write the attempt's file with the current time; `sync` also waits until it is on the disk.

        Raises:
            LeaseLostError: another process has taken the run over.
            StorageError: the file cannot be written.
        """
        self.verify()
        with self._guard:
            document = {**self._document, "time": time.time()}
        write_json(self._path, document, sync=sync)

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
        told = [{**lost, "ended": iso_time(attempt.get("time")), **attempt} for attempt in others]
        told.append({**self.facts(), "failure": None, "message": "", "ended": utc_now()})
        return [{k: v for k, v in attempt.items() if k not in MOMENTARY} for attempt in told]

    def close(self) -> None:
        """Stop the heartbeat and leave the file as it is."""
        self._stop.set()
        self._thread.join()

    def _beat_until_closed(self) -> None:
        while not self._stop.wait(self._period):
            # A full disk is for those to report who write results; a lost lease, for `check`.
            with suppress(LeaseLostError, StorageError):
                self.beat()


def claim(
    folder: Path,
    *,
    done: Callable[[], bool],
    stale_seconds: float = RunOptions.stale_seconds,
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
            "started": utc_now(),
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
            lease.close()  # the last owner finished, and removed its attempts, between two looks
            remove_attempts(folder)
    return None
