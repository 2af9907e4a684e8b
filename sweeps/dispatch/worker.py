"""The body of a job: trains cells one after the other, and stops cleanly when the cluster sends a signal.

Heavy packages are loaded only if there is something to train, so a job whose cells are done ends at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import StorageError, UserError
from scaling.process import check_packages, prepare_process
from scaling.records import Lease, LeaseLostError, RunBusyError, RunStore, claim
from scaling.strict_values import from_document
from scaling.study import RunConfig, RunOptions, group_runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from submitit.helpers import DelayedSubmission

__all__ = ["CellJob", "run_cells"]


logger = logging.getLogger(__name__)
# SLURM does not requeue a job that ends by itself in its grace time, so it waits this long to be killed.
_SECONDS_TO_BE_KILLED = 600.0


@dataclass(frozen=True)
class CellJob:
    """The callable that submitit runs; it has only plain attributes, so that its pickle is small and robust.

    Attributes:
        data_path: folder of the event store.
        runs_root: the study's runs folder.
        configs: documents of `RunConfig`; all cells of a trajectory must be in the same job.
        share_prefix: whether one training serves all data sizes.
        options: document of `RunOptions`.
        code_root: folder that must contain the four packages; None: any, but the same for all.
        wait_seconds: how long to wait for cells that another process is training.
        force_resume: continue from checkpoints of other code.
        teacher_folders: runs folders with the runs from which warm teachers start.
    """

    data_path: str
    runs_root: str
    configs: Sequence[dict[str, Any]]
    share_prefix: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    code_root: str | None = None
    wait_seconds: float = 0.0
    force_resume: bool = False
    teacher_folders: Sequence[str] = ()

    def __call__(self) -> list[str]:
        """Train the cells that are not done, and return the signatures of those that failed.

        USR2 and TERM only set a flag: the training saves its state after the current step, and then the job ends
        as the signal requires (`_StopSignals.hand_over`).
        """
        if int(os.environ.get("SLURM_PROCID", "0")):
            return []  # only the first task of a job trains
        with _StopSignals() as stop:
            cells = _Cells(self, stop)
            try:
                return cells.train()
            except _Stopped as stopped:
                stop.hand_over(partial(cells.fail, stopped.key))
        return []

    def checkpoint(self) -> DelayedSubmission:
        """Return the job that submitit queues in place of this one: the same, because the state is on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_cells(
    data_path: str, runs_root: str, configs: Sequence[dict[str, Any]], **how: Any
) -> list[str]:
    """Train cells in this process without handling signals; arguments and result are as for `CellJob`."""
    return _Cells(CellJob(data_path, runs_root, configs, **how), lambda: None).train()


class _Stopped(Exception):
    """A signal came; the state of the training `key` is saved. None: the job was waiting, not training."""

    def __init__(self, key: str | None) -> None:
        super().__init__(key)
        self.key = key


class _Cells:
    def __init__(self, job: CellJob, stop: Callable[[], str | None]) -> None:
        check_packages(job.code_root)
        self._job, self._stop = job, stop
        self._runs = RunStore(Path(job.runs_root))
        self._options = from_document(RunOptions, job.options, "job")
        self._device: str | None = None

    def train(self) -> list[str]:
        """Train the free cells first, then those that another process was training."""
        configs = [from_document(RunConfig, document, "job") for document in self._job.configs]
        waiting = group_runs(configs, self._job.share_prefix)
        failed: list[str] = []
        for wait_seconds in (0.0, self._job.wait_seconds):
            busy = {}
            for key, group in waiting.items():
                try:
                    failed += self._train_group(key, group, wait_seconds)
                except RunBusyError as error:
                    logger.warning("%s skipped: %s", group[-1].label, error)
                    busy[key] = group
            waiting = busy
            if not self._job.wait_seconds:
                break
        return failed

    def fail(self, key: str | None, message: str) -> None:
        """Write that the training of `key`, if there was one, ran out of time."""
        if key is not None:
            self._runs.fail(key, message, "timeout")

    def _train_group(self, key: str, group: Sequence[RunConfig], wait_seconds: float) -> list[str]:
        def done() -> bool:
            if self._stop():  # a signal came while waiting for another process
                raise _Stopped(None)
            return all(self._runs.has(config.signature) for config in group)

        lease = claim(
            self._runs.folder(key),
            done=done,
            stale_seconds=self._options.stale_seconds,
            wait_seconds=wait_seconds,
        )
        if lease is None:
            logger.info("%s: already done", group[-1].label)
            return []
        try:
            self._train(group, key, lease)
        except LeaseLostError as error:
            logger.warning("%s skipped: %s", group[-1].label, error)
        except StorageError:  # the next cell could not be written, either
            raise
        except UserError as error:
            logger.error("%s failed: %s", group[-1].label, error)
        except _Stopped:
            raise
        except Exception:
            logger.exception("%s failed", group[-1].label)
        states = [(c.signature, self._runs.state(c.signature, key).state) for c in group]
        return [signature for signature, state in states if state == "failed"]

    def _train(self, group: Sequence[RunConfig], key: str, lease: Lease) -> None:
        try:
            from scaling.store import open_store
            from scaling.training import PreemptedError, train_runs

            self._device = self._device or prepare_process()
            store = open_store(self._job.data_path)
        except BaseException as error:
            interrupted = not isinstance(error, Exception)
            lease.end("preempted" if interrupted else "exception", str(error))
            raise
        try:
            train_runs(
                group, store, self._runs, self._device, key=key, options=self._options,
                lease=lease, stop=self._stop, force_resume=self._job.force_resume,
                teachers=[Path(folder) for folder in self._job.teacher_folders],
            )  # fmt: skip
        except PreemptedError as error:
            logger.warning("%s: %s", group[-1].label, error)
            raise _Stopped(key) from error


class _StopSignals:
    """Context in which USR2 and TERM are only noted; calling it returns the names of those that came, or None."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _StopSignals:
        for number in (signal.SIGUSR2, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> str | None:
        return " and ".join(signal.Signals(n).name for n in sorted(self._seen)) or None

    def hand_over(self, fail: Callable[[str], None]) -> None:
        """End the process as the signal requires, after its state was saved; does not return.

        After USR2, submitit queues the job again. If it refuses, `fail` is called with the reason. After TERM
        alone, the cluster queues the job again once it has killed the process.
        """
        deadline = time.monotonic() + _SECONDS_TO_BE_KILLED
        while (
            signal.SIGUSR2 not in self._seen
            and "SLURM_JOB_ID" in os.environ
            and time.monotonic() < deadline
        ):
            time.sleep(0.2)
        number = signal.SIGUSR2 if signal.SIGUSR2 in self._seen else signal.SIGTERM
        before = self._before[number]
        if number == signal.SIGUSR2 and callable(before):
            try:
                before(number, None)
            except Exception as error:
                fail(f"saved, but not queued again: {error}")
                raise
        sys.exit(128 + number)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._seen.add(number)
