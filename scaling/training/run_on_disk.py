"""A run on disk: owned by one process, resumed from its checkpoints, evaluated and recorded."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from scaling.atomic_files import append_line, write_json, write_lines
from scaling.batches import Epoch, find_groups
from scaling.errors import UserError
from scaling.records import (
    Failure,
    Lease,
    LeaseLostError,
    RunRecord,
    RunStore,
    claim,
    remove_attempts,
)
from scaling.store import EventStore
from scaling.study import RunConfig, RunOptions
from scaling.training.checkpoint import read_checkpoints, save_checkpoint
from scaling.training.evaluation import device_name, evaluate_run, evaluate_teacher, make_record
from scaling.training.gpu_load import GpuLoad
from scaling.training.loop import NonFiniteLossError, Training, denormals_flushed
from scaling.training.saved_model import save_model

__all__ = ["PreemptedError", "train_run", "train_runs"]


# Largest share of a run's time that writing checkpoints may take.
_CHECKPOINT_SHARE = 0.02


class PreemptedError(Exception):
    """Training was asked to stop; it was saved after a step and can be resumed from there."""


def train_run(
    config: RunConfig, store: EventStore, runs: RunStore, device: str = "cpu", **how: Any
) -> RunRecord:
    """Train and evaluate one run as `train_runs` does, and return its record."""
    return train_runs([config], store, runs, device, **how)[0]


def train_runs(
    configs: Sequence[RunConfig],
    store: EventStore,
    runs: RunStore,
    device: str = "cpu",
    *,
    key: str | None = None,
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen
    lease: Lease | None = None,
    stop: Callable[[], str | None] = lambda: None,
    force_resume: bool = False,
    teachers: Sequence[Path] = (),
) -> list[RunRecord]:
    """Train and evaluate the runs of one trajectory and write their records, the smallest first.

    Finished runs are only read. A stopped run continues from its last intact checkpoint and
    gives the same numbers as an uninterrupted run.

    Args:
        configs: they differ only in data size.
        store: the data.
        runs: where to write.
        device: of torch.
        key: the folder of attempts and checkpoints under `runs`; by default the only run's.
        options: how often to save, and which files to keep.
        lease: on the key, if it was claimed already; it is ended here.
        stop: called between steps; if it returns a text (the reason), save and stop.
        force_resume: also resume from checkpoints that other code wrote.
        teachers: folders of runs in which to look for the runs that warm teachers start from.

    Raises:
        UserError: the data differ from those that the runs were planned for, or the code has changed.
        RunBusyError: a living process trains these runs already.
        LeaseLostError: another process has taken them over.
        PreemptedError: `stop` returned a reason.
        NonFiniteLossError: the loss diverged; the state then says failed.
    """
    configs = sorted(configs, key=lambda config: config.n_samples)
    key = key or configs[0].signature
    if lease is None:
        lease = claim(
            runs.folder(key),
            done=lambda: all(runs.has(config.signature) for config in configs),
            stale_seconds=options.stale_seconds,
        )
    if lease is not None:
        try:
            job = _Job(store, runs, key, device, options, lease, stop, force_resume, teachers)
            with denormals_flushed():
                job.train(configs)
        except LeaseLostError:
            lease.close()  # the files now belong to another process
            raise
        except BaseException as error:
            lease.end(*_failure(error))
            raise
        lease.close()
        shutil.rmtree(runs.folder(key) / "checkpoints", ignore_errors=True)
        remove_attempts(runs.folder(key))
    return [runs.read(config.signature) for config in configs]


@dataclass(frozen=True)
class _Job:
    """What does not change while a trajectory is trained."""

    store: EventStore
    runs: RunStore
    key: str
    device: str
    options: RunOptions
    lease: Lease
    stop: Callable[[], str | None]
    force_resume: bool
    teachers: Sequence[Path]

    def train(self, configs: Sequence[RunConfig]) -> None:
        """Train the runs without a record, sharing their common steps."""
        for config in configs:
            _check_data(config, self.store)
        self.lease.update(device=device_name(self.device))
        self.lease.watch(GpuLoad(self.device))
        groups = find_groups(configs[-1], self.store)
        epochs = [Epoch(config, self.store, groups) for config in configs]
        missing = [e for e in epochs if not self.runs.has(e.config.signature)]
        training = None
        for index, epoch in enumerate(missing):
            n_shared = epoch.steps_shared(epochs[-1])
            if training is None:
                training = self._resume(epoch, n_shared)
            self._train_one(training, epoch, n_shared, others_follow=index + 1 < len(missing))
            if training.step > n_shared:
                training = None  # this run has left the common path: the next run continues from before that point

    def _train_one(
        self, training: Training, epoch: Epoch, n_shared: int, *, others_follow: bool
    ) -> None:
        folder, lease = self.runs.folder(epoch.config.signature), self.lease
        lease.verify()
        write_json(folder / "config.json", asdict(epoch.config))
        log = folder / "metrics.jsonl"
        write_lines(log, training.lines(epoch))
        lease.update(cell=epoch.config.signature, step=training.step, n_steps=epoch.n_steps)
        saver = _Saver(self, training, epoch, n_shared)

        def after_step() -> None:
            lease.check()
            lease.update(step=training.step)
            if training.is_line(epoch):
                lease.verify()
                line = training.line(epoch)
                append_line(log, line)
                lease.update(loss=line["loss"], samples_per_second=line["samples_per_second"])
            # the other runs continue from here, whatever happens to this one
            saver.save_if_due(now=others_follow and training.step == n_shared)
            check_stop()

        def check_stop() -> None:
            lease.check()
            if reason := self.stop():
                saver.save_if_due(now=True)
                raise PreemptedError(f"{reason}, saved at step {training.step}")

        training.advance(epoch, after_step)
        evaluation = evaluate_run(training.model, training, self.store, check_stop)
        teacher = evaluate_teacher(training, epoch, self.store, check_stop, self.teachers)
        lease.verify()
        if self.options.keep_model:
            store = self.store
            save_model(folder, training.model, epoch.config, store.schema, store.utc_offset_seconds)
        write_lines(log, training.lines(epoch))
        attempts = lease.attempts()
        record = make_record(training, epoch, self.store, evaluation, attempts, self.key, teacher)
        lease.verify()
        self.runs.write(record)
        for path in (self.runs.folder(self.key) / "checkpoints").glob(f"{_label(epoch)}-*"):
            path.unlink(missing_ok=True)

    def _resume(self, epoch: Epoch, n_shared: int) -> Training:
        """Continue from the latest checkpoint on this run's path, or start from scratch."""
        training = Training(
            epoch.config,
            self.store,
            self.device,
            compiled=self.options.compile,
            teachers=self.teachers,
        )
        folder = self.runs.folder(self.key) / "checkpoints"
        for label in (_label(epoch), "shared"):
            for checkpoint in read_checkpoints(folder, label):
                if label == "shared" and checkpoint.step > n_shared:
                    continue
                self._check_code(checkpoint.facts, folder)
                training.load(checkpoint)
                break
            if training.step:
                break
        self.lease.update(first_step=training.step)
        return training

    def _check_code(self, facts: dict[str, Any], folder: Path) -> None:
        own = self.code()
        changed = {
            name: (facts["code"].get(name), value)
            for name, value in own.items()
            if facts["code"].get(name) != value
        }
        if changed and not self.force_resume:
            changes = ", ".join(
                f"{name} {old} is now {new}" for name, (old, new) in changed.items()
            )
            raise UserError(
                f"{folder}: the checkpoint is from other code ({changes}), so the resumed run could end "
                "with other numbers; resume anyway with force_resume, or remove the folder to start again"
            )

    def code(self) -> dict[str, Any]:
        """The code and environment with which a checkpoint can be resumed."""
        facts = self.lease.facts()
        return {
            "code": facts["code"],
            **facts["versions"],
            "device": torch.device(self.device).type,
            "compile": self.options.compile,
        }


class _Saver:
    """Saves a training at intervals, within the share of time that saving may take."""

    def __init__(self, job: _Job, training: Training, epoch: Epoch, n_shared: int) -> None:
        self._job, self._training, self._epoch, self._n_shared = job, training, epoch, n_shared
        self._saved_step = training.step
        self._next = time.monotonic() + job.options.checkpoint_seconds

    def save_if_due(self, *, now: bool) -> None:
        """Save if a save is due or `now` is true; never save the same step twice."""
        step = self._training.step
        if step == self._saved_step or not (now or time.monotonic() >= self._next):
            return
        job, begin = self._job, time.monotonic()
        label = "shared" if step <= self._n_shared else _label(self._epoch)
        checkpoint = self._training.checkpoint(label, {"code": job.code()})
        job.lease.verify()
        save_checkpoint(job.runs.folder(job.key) / "checkpoints", checkpoint)
        self._saved_step, end = step, time.monotonic()
        pause = max(job.options.checkpoint_seconds, (end - begin) / _CHECKPOINT_SHARE)
        self._next = end + pause


def _label(epoch: Epoch) -> str:
    """Label of the checkpoints that only this run of a trajectory can use."""
    return f"n{epoch.config.n_samples}"


def _check_data(config: RunConfig, store: EventStore) -> None:
    if store.fingerprint != config.data_fingerprint:
        raise UserError(
            f"{store.path}: its fingerprint is {store.fingerprint[:12]}, but the run was planned for "
            f"{config.data_fingerprint[:12]}; plan again, or restore the data"
        )
    if config.n_samples > store.n_train:
        raise UserError(
            f"{store.path}: {store.n_train} training impressions, expected at least "
            f"{config.n_samples} for this run; lower n_samples, or restore the data"
        )


def _failure(error: BaseException) -> tuple[Failure, str]:
    """Classify the error that ended an attempt, with a message for the user."""
    if isinstance(error, PreemptedError):
        return "preempted", str(error)
    if not isinstance(error, Exception):  # Ctrl-C, or an exit from a signal's handler
        return "preempted", f"interrupted ({type(error).__name__})"
    if isinstance(error, NonFiniteLossError):
        return "diverged", str(error)
    message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    # torch's allocator for the CPU raises a plain RuntimeError
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
    return ("oom" if memory else "exception"), message
