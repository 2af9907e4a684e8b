"""The folder of a study's runs: a run is done if `runs/<study>/<signature>/record.json` exists.

The state of any other run follows from its attempts (`scaling.records.lease`). Needs no torch.
"""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from scaling.atomic_files import write_new_text
from scaling.errors import UserError
from scaling.records.attempts import Failure, close_attempt, is_gone, last_attempt
from scaling.records.digests import read_record, record_text
from scaling.records.record import RunRecord, ordered_records
from scaling.study import RunOptions

__all__ = ["RunState", "RunStore"]


@dataclass(frozen=True)
class RunState:
    """The state of a run, from its files alone.

    A `failed` run stays so until the user retries it. The next submit continues runs that are `lost` (the
    process is gone) or `preempted` (the process saved its state and stopped).

    Attributes:
        failure: how the last attempt ended.
        attempt: number of the last attempt; 0 if there is none.
        cell: signature of the run that is being trained, if one training serves several runs.
        job_id: the SLURM job of the last attempt.

    All other fields are from the last heartbeat.
    """

    state: Literal["done", "running", "failed", "lost", "preempted", "missing"]
    step: int = 0
    n_steps: int = 0
    loss: float | None = None
    samples_per_second: float | None = None
    heartbeat_seconds: float | None = None
    message: str = ""
    failure: Failure | None = None
    attempt: int = 0
    cell: str | None = None
    host: str | None = None
    pid: int | None = None
    job_id: str | None = None


_HINTS = {f.name for f in fields(RunState)} - {
    "state",
    "heartbeat_seconds",
    "attempt",
    "failure",
    "job_id",
}


@dataclass(frozen=True)
class RunStore:
    """The runs of one study: a folder with one sub-folder per signature.

    If one training serves several runs, its attempts and checkpoints are in a folder of their own. The name
    of that folder is the `key` (`scaling.study.shared_prefix.lease_key`); otherwise the key is the signature.
    """

    root: Path

    def folder(self, key: str) -> Path:
        """Return the run's folder, which may not exist yet."""
        return self.root / key

    def has(self, signature: str) -> bool:
        """Whether the run is complete."""
        try:
            (self.folder(signature) / "record.json").stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # it cannot be looked at; what is wrong is told when it is read
            return True
        return True

    def read(self, signature: str) -> RunRecord:
        """Read a complete run.

        Raises:
            UserError: the run is not complete, its record is damaged, or it belongs to another run.
        """
        path = self.folder(signature) / "record.json"
        record = read_record(path)
        if record.signature != signature:
            raise UserError(
                f"{path}: holds run {record.signature}; put it back into the folder of that name, or remove {path.parent} to "
                "train the run again"
            )
        return record

    def read_all(self) -> list[RunRecord]:
        """Read all complete runs, in the order of `ordered_records`; damaged ones are left out."""
        return ordered_records(one for one in self.read_each() if isinstance(one, RunRecord))

    def read_each(self) -> Iterator[RunRecord | str]:
        """Yield each complete run, or one line on what is wrong with its record."""
        for folder in self.complete():
            try:
                yield self.read(folder.name)
            except UserError as error:
                yield str(error)

    def complete(self) -> list[Path]:
        """Return the folders of all complete runs, with those that may not be looked into; sorted by name."""
        found = []
        with suppress(FileNotFoundError, NotADirectoryError):
            for folder in sorted(self.root.iterdir()):
                with suppress(FileNotFoundError, NotADirectoryError):
                    try:
                        (folder / "record.json").lstat()
                    except PermissionError:
                        if not re.fullmatch("[0-9a-f]{16}", folder.name):
                            continue
                    found.append(folder)
        return found

    def write(self, record: RunRecord) -> Path:
        """Write the record of a complete run and return its path; an existing record is not changed."""
        path = self.folder(record.signature) / "record.json"
        if not path.exists():
            write_new_text(path, record_text(record))
        return path

    def fail(self, key: str, message: str, failure: Failure = "exception") -> None:
        """Write, from another process, that the last attempt ended without a record, and why."""
        close_attempt(self.folder(key), failure, message)

    def release(self, key: str) -> None:
        """Write, from another process, that the last attempt was stopped; the next continues from its checkpoint."""
        close_attempt(self.folder(key), "preempted", "stopped")

    def state(
        self,
        signature: str,
        key: str | None = None,
        *,
        stale_seconds: float = RunOptions.stale_seconds,
        now: float | None = None,
    ) -> RunState:
        """Return the state of the run.

        A run is lost if its process is gone. A process of this host is looked up; one of another host counts
        as gone once the file of its attempt has not changed for `stale_seconds`.

        Args:
            signature: the run's.
            key: folder of its attempts; by default the signature.
            stale_seconds: see above.
            now: seconds since 1970; by default the current time.
        """
        if self.has(signature):
            return RunState("done")
        number, document = last_attempt(self.folder(key or signature))
        if not number:
            return RunState("missing")
        failure = document.get("failure")
        if document.get("state") == "running":
            failure = "lost" if is_gone(document, stale_seconds, now) else None
        return RunState(
            state=_state(failure),
            failure=failure,
            attempt=number,
            job_id=document.get("slurm_job_id"),
            heartbeat_seconds=(time.time() if now is None else now) - document["time"],
            **{name: value for name, value in document.items() if name in _HINTS},
        )


def _state(failure: Failure | None) -> Literal["running", "failed", "lost", "preempted"]:
    if failure is None:
        return "running"
    return failure if failure in ("lost", "preempted") else "failed"
