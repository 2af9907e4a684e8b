"""A run on disk: owned by one process, resumed from its checkpoints, evaluated and recorded."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from scaling.atomic_files import append_line, write_json, write_lines
from scaling.batches import Epoch, find_groups
from scaling.errors import StorageError, UserError
from scaling.records import (
    CURVE_FILE,
    MODEL_FILE,
    Failure,
    Lease,
    LeaseLostError,
    RunRecord,
    RunStore,
    claim,
    file_digest,
    remove_work_files,
)
from scaling.store import EventStore
from scaling.study import RunConfig, RunOptions
from scaling.training.checkpoint import (
    Checkpoint,
    has_rows,
    read_checkpoints,
    read_rows,
    save_checkpoint,
    save_rows,
)
from scaling.training.evaluation import device_name, evaluate_run, evaluate_teacher, make_record
from scaling.training.gpu_load import GpuLoad
from scaling.training.loop import NonFiniteLossError, Training, denormals_flushed
from scaling.training.ranks import ALONE, RankLostError, Ranks
from scaling.training.saved_model import save_model
from scaling.training.sharded_table import ShardedEmbeddings, is_table_sharded

__all__ = ["PreemptedError", "breaks_device", "train_run", "train_runs"]


_OUT_OF_MEMORY = ("allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
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
    ranks: Ranks = ALONE,
    n_cells: int = 1,
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
        ranks: the processes that train these runs together, which all call this; only rank 0 owns and writes files.
        n_cells: cells that share the device with this one, itself included.

    Raises:
        RankLostError: another rank has died or does not answer.
        UserError: the data differ from those that the runs were planned for, or the code has changed.
        RunBusyError: a living process trains these runs already.
        LeaseLostError: another process has taken them over.
        PreemptedError: `stop` returned a reason.
        NonFiniteLossError: the loss diverged; the state then says failed.
    """
    configs = sorted(configs, key=lambda config: config.n_samples)
    key = key or configs[0].signature
    if lease is None and ranks.leads:
        lease = claim(
            runs.folder(key),
            done=lambda: all(runs.has(config.signature) for config in configs),
            stale_seconds=options.stale_seconds,
        )
    try:
        trains = ranks.told(lease is not None)
    except RankLostError as error:
        if lease is not None:
            lease.end(*_failure(error, ranks))
        raise
    if not trains:
        return [runs.read(config.signature) for config in configs]
    how = (store, runs, key, device, options, stop, force_resume, teachers, ranks, n_cells)
    if lease is None:
        try:
            with denormals_flushed():
                _Job(None, *how).train(configs)
        except (LeaseLostError, NonFiniteLossError, PreemptedError, RankLostError):
            raise  # all ranks know
        except Exception as error:
            ranks.leave(*_failure(error, ranks))
            raise
    else:
        try:
            with denormals_flushed():
                _Job(lease, *how).train(configs)
        except LeaseLostError:
            lease.close()  # the files now belong to another process
            raise
        except BaseException as error:
            lease.end(*_failure(error, ranks))
            raise
        lease.close()
        # the records of a trajectory lie in other folders than its attempts
        for name in dict.fromkeys([key, *(config.signature for config in configs)]):
            remove_work_files(runs.folder(name))
    return [runs.read(config.signature) for config in configs]


class _NoLease:
    """In place of the lease for a rank that owns no files."""

    def update(self, **_: Any) -> None:
        """Keep nothing."""

    def watch(self, _: GpuLoad) -> None:
        """Watch nothing."""

    def check(self) -> None:
        """Have nothing to lose."""


# What a rank wants after a step; all ranks do what the largest number says.
_GO_ON, _SAVE, _STOP, _LOST = range(4)


@dataclass(frozen=True)
class _Job:
    """What does not change while a trajectory is trained; `lease` is None for a rank that does not lead."""

    lease: Lease | None
    store: EventStore
    runs: RunStore
    key: str
    device: str
    options: RunOptions
    stop: Callable[[], str | None]
    force_resume: bool
    teachers: Sequence[Path]
    ranks: Ranks
    n_cells: int

    @property
    def facts(self) -> Lease | _NoLease:
        """Where facts about this attempt go."""
        return self.lease or _NoLease()

    def train(self, configs: Sequence[RunConfig]) -> None:
        """Train the runs without a record, sharing their common steps."""
        for config in configs:
            _check_data(config, self.store)
            _check_ranks(config, self.ranks)
        self.facts.update(device=device_name(self.device), ranks=self.ranks.size)
        self.facts.watch(GpuLoad(self.device))
        groups = find_groups(configs[-1], self.store)
        epochs = [Epoch(config, self.store, groups) for config in configs]
        missing = self.ranks.told([s for c in configs if not self.runs.has(s := c.signature)])
        training = None
        for index, epoch in enumerate(e for e in epochs if e.config.signature in missing):
            n_shared = epoch.steps_shared(epochs[-1])
            if training is None:
                training = self._resume(epoch, n_shared)
            self._train_one(training, epoch, n_shared, others_follow=index + 1 < len(missing))
            if training.step > n_shared:
                training = None  # this run has left the common path: the next run continues from before that point

    def _train_one(
        self, training: Training, epoch: Epoch, n_shared: int, *, others_follow: bool
    ) -> None:
        folder = self.runs.folder(epoch.config.signature)
        log = folder / CURVE_FILE

        def begin(lease: Lease) -> None:
            lease.verify()
            write_json(folder / "config.json", asdict(epoch.config))
            write_lines(log, training.lines(epoch))
            lease.update(cell=epoch.config.signature, step=training.step, n_steps=epoch.n_steps)

        self.lead(begin)
        saver = _Saver(self, training, epoch, n_shared)

        def add_line(lease: Lease) -> None:
            lease.verify()
            line = training.line(epoch)
            append_line(log, line)
            lease.update(loss=line["loss"], samples_per_second=line["samples_per_second"])

        def after_step() -> None:
            self.facts.update(step=training.step)
            if training.is_line(epoch):
                self.lead(add_line)
            # the other runs continue from here, whatever happens to this one
            act(now=others_follow and training.step == n_shared)

        def act(*, now: bool = False) -> None:
            """Save or stop at the same step on all ranks, if one of them wants to."""
            reason = self.stop()
            wish = _STOP if reason else _SAVE if now or saver.is_due else _GO_ON
            if self.lease is not None and self.lease.is_lost:
                wish = _LOST
            wish = self.ranks.largest(wish)
            if wish == _LOST:
                self.facts.check()
                raise LeaseLostError("rank 0 has lost the run to another process")
            if wish != _GO_ON:
                training.settle()
                saver.save()
            if wish == _STOP:
                reason = reason or "another rank was stopped"
                raise PreemptedError(f"{reason}, saved at step {training.step}")

        training.advance(epoch, after_step)
        evaluation = evaluate_run(training.model, training, self.store, act)
        teacher = evaluate_teacher(training, epoch, self.store, act, self.teachers)

        table = training.model.embeddings
        whole = None
        if self.options.keep_model and isinstance(table, ShardedEmbeddings):
            whole = table.whole()

        def finish(lease: Lease) -> None:
            lease.verify()
            if self.options.keep_model:
                schema, offset = self.store.schema, self.store.utc_offset_seconds
                save_model(folder, training.model, epoch.config, schema, offset, table=whole)
            write_lines(log, training.lines(epoch))
            kept = [CURVE_FILE, *([MODEL_FILE] if self.options.keep_model else [])]
            record = make_record(
                training,
                epoch,
                self.store,
                evaluation,
                lease.attempts(),
                self.key,
                teacher,
                files={name: file_digest(folder / name) for name in kept},
            )
            lease.verify()
            self.runs.write(record)
            for path in (self.runs.folder(self.key) / "checkpoints").glob(f"{_label(epoch)}-*"):
                path.unlink(missing_ok=True)

        self.lead(finish)

    def lead(self, action: Callable[[Lease], None]) -> None:
        """Let rank 0 do something with the run's files; if it finds that it has lost them, all ranks stop.

        Raises:
            LeaseLostError: on all ranks.
        """
        lost = None
        if self.lease is not None:
            try:
                action(self.lease)
            except LeaseLostError as error:
                lost = error
        if self.ranks.largest(int(lost is not None)):
            raise lost or LeaseLostError("rank 0 has lost the run to another process")

    def _resume(self, epoch: Epoch, n_shared: int) -> Training:
        """Continue from the latest checkpoint on this run's path, or start from scratch."""
        sharded = is_table_sharded(
            epoch.config,
            self.store.schema,
            self.device,
            self.ranks,
            self.options.device_memory_gib,
        )
        training = Training(
            epoch.config,
            self.store,
            self.device,
            compiled=self.options.compile,
            teachers=self.teachers,
            ranks=self.ranks,
            sharded=sharded,
            n_cells=self.n_cells,
        )
        self.facts.update(first_step=0, **({"sharded": True} if sharded else {}))
        candidates = self._checkpoints(epoch, n_shared)
        while (found := self._agreed(candidates)) is not None:
            folder = self._checkpoint_folder
            whole = has_rows(folder, found, self.ranks.share)
            if not self.ranks.largest(int(not whole)):
                training.load(replace(found, rows=read_rows(folder, found, self.ranks.share)))
                self.facts.update(first_step=training.step)
                break
        return training

    @property
    def _checkpoint_folder(self) -> Path:
        return self.runs.folder(self.key) / "checkpoints"

    def _checkpoints(self, epoch: Epoch, n_shared: int) -> Iterator[Checkpoint]:
        """Yield the checkpoints on the run's path on rank 0, the latest first; nothing on the others.

        Raises:
            UserError: other code has written one.
        """
        if self.lease is None:
            return
        for label in (_label(epoch), "shared"):
            for checkpoint in read_checkpoints(self._checkpoint_folder, label):
                if label == "shared" and checkpoint.step > n_shared:
                    continue
                self._check_code(checkpoint.facts, self._checkpoint_folder)
                yield checkpoint

    def _agreed(self, candidates: Iterator[Checkpoint]) -> Checkpoint | None:
        """Return rank 0's next candidate on all ranks, or None if there is no more.

        Raises:
            StorageError: this rank does not find it.
            UserError: other code has written it.
        """
        found: Checkpoint | None = None
        refusal: UserError | None = None
        try:
            found = next(candidates, None)
        except UserError as error:
            refusal = error
        place, text = self.ranks.told(
            [found and [found.label, found.step], None if refusal is None else str(refusal)]
        )
        if text is not None:
            raise refusal or UserError(text)
        if place is not None and found is None:
            label, step = place
            all_of_label = read_checkpoints(self._checkpoint_folder, label)
            found = next((c for c in all_of_label if c.step == step), None)
            if found is None:
                raise StorageError(
                    f"{self._checkpoint_folder}: rank {self.ranks.rank} does not find step {step} of {label}, which rank 0 "
                    "has read; the runs folder must be on a disk that all nodes share"
                )
        return found

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
        assert self.lease is not None
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

    @property
    def is_due(self) -> bool:
        """Whether this rank saves, and it is time to."""
        return self._job.lease is not None and time.monotonic() >= self._next

    def save(self) -> None:
        """Save, but never the same step twice; all ranks call it after the same step."""
        step = self._training.step
        if step == self._saved_step:
            return
        job, begin = self._job, time.monotonic()
        label = "shared" if step <= self._n_shared else _label(self._epoch)
        folder = job.runs.folder(job.key) / "checkpoints"
        checkpoint = self._training.checkpoint(label, {})
        facts = checkpoint.facts
        if checkpoint.rows:
            name = save_rows(folder, checkpoint, job.ranks.share)
            facts = {**facts, "row_files": job.ranks.heard(name)}

        def write(lease: Lease) -> None:
            whole = replace(checkpoint, facts={**facts, "code": job.code()})
            lease.verify()
            save_checkpoint(folder, whole)

        job.lead(write)
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


def _check_ranks(config: RunConfig, ranks: Ranks) -> None:
    if ranks.size > config.batch_size:
        raise UserError(
            f"{config.label}: {ranks.size} ranks share a batch of {config.batch_size} impressions, so some would have none; "
            f"ask for at most {config.batch_size}"
        )


def _failure(error: BaseException, ranks: Ranks = ALONE) -> tuple[Failure, str]:
    """Classify the error that ended an attempt, with a message for the user; that of another rank if it left word."""
    if isinstance(error, PreemptedError):
        return "preempted", str(error)
    if not isinstance(error, Exception):  # Ctrl-C, or an exit from a signal's handler
        return "preempted", f"interrupted ({type(error).__name__})"
    if isinstance(error, NonFiniteLossError):
        return "diverged", str(error)
    if isinstance(error, RankLostError):
        word = ranks.left()
        if word is not None and word[0] in get_args(Failure):
            return word  # type: ignore[return-value]
        return "lost", str(error)
    message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    # torch's allocator for the CPU and the libraries of CUDA raise plain RuntimeErrors
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
    )
    return ("oom" if memory else "exception"), message


def breaks_device(error: BaseException) -> bool:
    """Whether the GPU is of no more use to this process: after such an error every further call of CUDA fails."""
    accelerator = getattr(torch, "AcceleratorError", None)  # torch 2.8 and later
    if accelerator is not None and isinstance(error, accelerator):
        return True
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)
