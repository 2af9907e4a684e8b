"""The body of a job: trains cells one after the other or side by side, and stops cleanly when the cluster sends a signal.

Heavy packages are loaded only if there is something to train, so a job whose cells are done ends at once.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import StorageError, UserError
from scaling.process import check_packages, prepare_process
from scaling.records import Lease, LeaseLostError, RunBusyError, RunStore, claim
from scaling.strict_values import from_document
from scaling.study import RunConfig, RunOptions, group_runs
from sweeps.dispatch.environment import choose_gpus
from sweeps.dispatch.job_processes import (
    Answer,
    JobEndsError,
    Stopped,
    StopSignals,
    quit_own_daemon,
    serve_units,
    train_side_by_side,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from submitit.helpers import DelayedSubmission

    from scaling.training import Ranks

__all__ = ["CellJob", "run_cells", "serve_cells"]


logger = logging.getLogger(__name__)


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
        n_ranks: processes that train each cell together; the job has as many tasks.
        on_gpu: whether the job has asked for GPUs.
        n_at_once: cells that it trains side by side, each in a process of its own.
        cells_per_gpu: processes that share this one's GPU, itself included; noted in the attempts.
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
    n_ranks: int = 1
    on_gpu: bool = False
    n_at_once: int = 1
    cells_per_gpu: int = 1

    def __call__(self) -> list[str]:
        """Train the cells that are not done, and return the signatures of those that failed.

        USR2 and TERM only set a flag: the training saves its state after the current step, and then the job ends
        as the signal requires (`StopSignals.hand_over`).
        """
        choose_gpus()
        if self.n_ranks == 1 and int(os.environ.get("SLURM_PROCID", "0")):
            return []  # only the first task of a job trains
        with StopSignals() as stop:
            try:
                if self.n_at_once > 1:
                    return train_side_by_side(self, stop)
                with _ranks_of(self) as (ranks, device):
                    cells = _Cells(self, stop, ranks, device)
                    return cells.train()
            except Stopped as stopped:
                if not stopped.leads:
                    return []  # rank 0 hands over; an error of another rank would end it
                stop.hand_over(partial(self._fail, stopped.keys))
        return []

    def _fail(self, keys: Sequence[str], message: str) -> None:
        """Write that these trainings ran out of time."""
        for key in keys:
            RunStore(Path(self.runs_root)).fail(key, message, "timeout")

    def groups(self) -> Mapping[str, Sequence[RunConfig]]:
        """Return the cells that one training serves, by the key of its lease."""
        configs = [from_document(RunConfig, document, "job") for document in self.configs]
        return group_runs(configs, self.share_prefix)

    def checkpoint(self) -> DelayedSubmission:
        """Return the job that submitit queues in place of this one: the same, because the state is on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_cells(
    data_path: str, runs_root: str, configs: Sequence[dict[str, Any]], **how: Any
) -> list[str]:
    """Train cells in this process without handling signals; arguments and result are as for `CellJob`."""
    job = CellJob(data_path, runs_root, configs, **how)
    with _ranks_of(job) as (ranks, device):
        return _Cells(job, lambda: None, ranks, device).train()


def serve_cells() -> None:
    """Train cells for the job that has started this process; the last argument is the descriptor of its socket."""

    def open_work(document: dict[str, Any], stop: StopSignals) -> Callable[[Any], str]:
        job = from_document(CellJob, document, "job")
        cells = _Cells(job, stop, None, None)

        def train(unit: Sequence[dict[str, Any]]) -> str:
            ((key, group),) = replace(job, configs=unit).groups().items()
            try:
                cells.train_group(key, group, job.wait_seconds)
            except RunBusyError as error:
                logger.warning("%s skipped: %s", group[-1].label, error)
                return Answer.BUSY
            except Stopped as stopped:
                return Answer.STOPPED if stopped.keys else Answer.WAITED
            except Exception as error:
                kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
                raise JobEndsError(f"{group[-1].label}: {kind}{error}") from error
            return Answer.DONE

        return train

    serve_units(int(sys.argv[-1]), open_work, orphaned=quit_own_daemon)


@contextmanager
def _ranks_of(job: CellJob) -> Iterator[tuple[Ranks | None, str | None]]:
    """Join the other tasks of a job that trains each cell on several ranks; yield the ranks and this one's device.

    Raises:
        UserError: the job does not have as many tasks, or they do not meet.
    """
    if job.n_ranks == 1:
        yield None, None
        return
    import submitit

    here = submitit.JobEnvironment()
    if here.num_tasks != job.n_ranks:
        raise UserError(
            f"this job has {here.num_tasks} tasks, but its cells are to be trained on {job.n_ranks} ranks; "
            "submit it again with `scaling run`"
        )
    from scaling.training import joined_ranks

    device = prepare_process(here.local_rank)
    start = os.environ.get("SLURM_RESTART_COUNT", "0")
    meeting = Path(here.paths.folder) / f"{here.job_id}_{start}_ranks.json"
    answer = from_document(RunOptions, job.options, "job").answer_seconds
    with joined_ranks(
        here.global_rank, here.num_tasks, meeting, device, answer_seconds=answer
    ) as ranks:
        yield ranks, device


class _Cells:
    def __init__(
        self,
        job: CellJob,
        stop: Callable[[], str | None],
        ranks: Ranks | None,
        device: str | None,
    ) -> None:
        check_packages(job.code_root)
        self._job, self._stop, self._ranks, self._device = job, stop, ranks, device
        self._runs = RunStore(Path(job.runs_root))
        self._options = from_document(RunOptions, job.options, "job")

    def train(self) -> list[str]:
        """Train the free cells first, then those that another process was training."""
        waiting = self._job.groups()
        failed: list[str] = []
        for wait_seconds in (0.0, self._job.wait_seconds):
            busy = {}
            for key, group in waiting.items():
                try:
                    failed += self.train_group(key, group, wait_seconds)
                except RunBusyError as error:
                    logger.warning("%s skipped: %s", group[-1].label, error)
                    busy[key] = group
            waiting = busy
            if not self._job.wait_seconds:
                break
        return failed

    @property
    def _leads(self) -> bool:
        return self._ranks is None or self._ranks.leads

    def train_group(self, key: str, group: Sequence[RunConfig], wait_seconds: float) -> list[str]:
        """Train the cells that one training serves, and return the signatures of those that failed.

        Raises:
            RunBusyError: another process trains them, also after `wait_seconds`.
            Stopped: a signal came.
            StorageError: the runs folder cannot be written.
            Exception: this process can train no further cell.
        """
        lease: Lease | None = None
        if self._leads:
            lease = self._claim(key, group, wait_seconds)
        elif not self._hear_of_claim(key):
            return []
        if self._leads and lease is None:
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
            if self._ranks is not None:
                raise  # the other ranks may not have seen it
        except Stopped:
            raise
        except Exception as error:
            if self._ends_job(error):
                raise  # so that the other cells of the job stay missing
            logger.exception("%s failed", group[-1].label)
        states = [(c.signature, self._runs.state(c.signature, key).state) for c in group]
        return [signature for signature, state in states if state == "failed"]

    def _ends_job(self, error: Exception) -> bool:
        """Whether this process can train no further cell: its GPU is broken, or other ranks wait in vain for this one."""
        from scaling.training import NonFiniteLossError, breaks_device

        # all ranks see at the same step that the loss is not finite
        is_of_all = self._ranks is None or isinstance(error, NonFiniteLossError)
        return breaks_device(error) or not is_of_all

    def _claim(self, key: str, group: Sequence[RunConfig], wait_seconds: float) -> Lease | None:
        """Claim a group, and tell the other ranks what has come of it; None: it is done.

        Raises:
            RunBusyError: another job trains it.
        """

        def done() -> bool:
            if self._stop():  # a signal came while waiting for another process
                raise Stopped
            return all(self._runs.has(config.signature) for config in group)

        outcome = "done"
        try:
            lease = claim(
                self._runs.folder(key),
                done=done,
                stale_seconds=self._options.stale_seconds,
                wait_seconds=wait_seconds,
            )
            if lease is not None and self._job.cells_per_gpu > 1:
                lease.update(cells_per_gpu=self._job.cells_per_gpu)
            outcome = "done" if lease is None else "train"
        except RunBusyError:
            outcome = "busy"
            raise
        except Stopped:
            outcome = "stopped"
            raise
        finally:
            if self._ranks is not None:
                self._tell_of_claim(outcome, lease)
        return lease

    def _tell_of_claim(self, outcome: str, lease: Lease | None) -> None:
        from scaling.training import RankLostError

        assert self._ranks is not None
        try:
            self._ranks.told(outcome)
        except RankLostError as error:
            if lease is not None:
                lease.end(*(self._ranks.left() or ("lost", str(error))))  # type: ignore[arg-type]
            raise

    def _hear_of_claim(self, key: str) -> bool:
        """On a rank that does not lead: whether rank 0 has claimed the group.

        Raises:
            RunBusyError: another job trains it.
        """
        assert self._ranks is not None
        outcome = self._ranks.told(None)
        if outcome == "stopped":
            raise Stopped(leads=False)
        if outcome == "busy":
            raise RunBusyError(f"{self._runs.folder(key)}: rank 0 says that it is being trained")
        return bool(outcome == "train")

    def _train(self, group: Sequence[RunConfig], key: str, lease: Lease | None) -> None:
        try:
            from scaling.store import open_unchanged
            from scaling.training import ALONE, PreemptedError, train_runs

            self._device = self._device or prepare_process()
            if self._job.on_gpu and self._device == "cpu":
                raise UserError(
                    f"{socket.gethostname()}: the job has asked for a GPU, but torch finds none; see whether `nvidia-smi` and "
                    "`python -c 'import torch; torch.cuda.init()'` work there, and whether this torch is a build for CUDA"
                )
            store = open_unchanged(self._job.data_path)
        except BaseException as error:
            interrupted = not isinstance(error, Exception)
            if lease is not None:
                lease.end("preempted" if interrupted else "exception", str(error))
            elif self._ranks is not None and not interrupted:
                self._ranks.leave("exception", str(error))
            raise
        try:
            train_runs(
                group, store, self._runs, self._device, key=key, options=self._options,
                lease=lease, stop=self._stop, force_resume=self._job.force_resume,
                teachers=[Path(folder) for folder in self._job.teacher_folders],
                ranks=self._ranks or ALONE, n_cells=self._job.cells_per_gpu,
            )  # fmt: skip
        except PreemptedError as error:
            logger.warning("%s: %s", group[-1].label, error)
            raise Stopped(key, leads=self._leads) from error
