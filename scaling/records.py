"""What came out of a run, and where it lies: `runs/<study>/<signature>/record.json` means done.

Free of torch. Nothing but the record's presence says that a run is complete; where another one stands is
told by its attempts (`scaling.lease`).
"""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from scaling.config import RUN_SCHEMA_VERSION, RunConfig
from scaling.document import from_document
from scaling.errors import UserError
from scaling.files import write_new
from scaling.lease import STALE_SECONDS, Failure, close_attempt, is_gone, last_attempt

__all__ = ["MODEL_FILE", "RunRecord", "RunState", "RunStore", "TeacherRecord", "ordered_records"]


# in a finished run's folder (`scaling.saved_model`)
MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class TeacherRecord:
    """The teacher of a complete distilled run.

    Attributes:
        n_params: non-embedding parameters.
        n_embedding_params: feature, hour and position tables.
        flops_per_sample: forward FLOPs of one sample.
        metrics: of the test part at the end, as the student's.
        n_samples: impressions that it was trained on before this run began; 0 from scratch.
        n_new_samples: how many of these the student does not see.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    n_params: int
    n_embedding_params: int
    flops_per_sample: int
    metrics: dict[str, float]
    n_samples: int
    n_new_samples: int


@dataclass(frozen=True)
class RunRecord:
    """A complete run.

    Attributes:
        config: the resolved configuration.
        n_params: non-embedding parameters.
        n_embedding_params: feature, hour and position tables.
        flops_per_sample: forward FLOPs of one sample, two per multiply-add.
        flops: of the whole training, 3 x forward x samples; the teacher's, too (forward only if frozen).
        metrics: of the test part, by name (`scaling.metrics.evaluate`).
        train_loss: mean logloss over the one epoch, each sample before it was trained on.
        train_seconds: wall-clock seconds of the training loop, over all attempts.
        samples_per_second: of the training loop.
        peak_memory_gib: resident memory of the last attempt's process at its highest.
        provenance: code, package versions, device, command line, start and end, and what of these
            each attempt had.
        teacher: of a distilled run; what else is told is the student's.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    config: RunConfig
    n_params: int
    n_embedding_params: int
    flops_per_sample: int
    flops: int
    metrics: dict[str, float]
    train_loss: float
    train_seconds: float
    samples_per_second: float
    peak_memory_gib: float
    provenance: dict[str, Any]
    teacher: TeacherRecord | None = None

    @property
    def signature(self) -> str:
        """The run's identity."""
        return self.config.signature


@dataclass(frozen=True)
class RunState:
    """Where a run stands, from its files alone.

    `failed` waits for somebody to read the message; `lost` (its process is gone) and `preempted` (saved
    and handed over) go on by themselves. `failure` says which kind of end it was. `cell` is the signature
    of the run that is being trained where one training serves several. The rest is the last heartbeat's.
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
    slurm_job_id: str | None = None


_HINTS = {f.name for f in fields(RunState)} - {"state", "heartbeat_seconds", "attempt", "failure"}


@dataclass(frozen=True)
class RunStore:
    """The runs of one study: a folder with one sub-folder per signature.

    Where one training serves several runs, its attempts and checkpoints lie in a folder of their own,
    named by the `key` that `scaling.trajectory.lease_key` gives; elsewhere the key is the signature.
    """

    root: Path

    def folder(self, key: str) -> Path:
        """The run's folder, which may not exist yet."""
        return self.root / key

    def has(self, signature: str) -> bool:
        """Whether the run is complete."""
        return (self.folder(signature) / "record.json").exists()

    def read(self, signature: str) -> RunRecord:
        """Read a complete run.

        Raises:
            UserError: the run is not complete, its record is damaged, or it belongs to another run.
        """
        path = self.folder(signature) / "record.json"
        try:
            document = _read_json(path)
        except UserError as error:
            raise UserError(f"{error}; remove {path.parent} to train the run again") from error
        _check_version(document, path)
        try:
            record = from_document(RunRecord, document, str(path))
        except UserError as error:
            raise UserError(f"{error}; remove {path.parent} to train the run again") from error
        if record.signature != signature:
            raise UserError(f"{path}: holds run {record.signature}; was the folder renamed?")
        return record

    def read_all(self) -> list[RunRecord]:
        """Read every complete run, in the order of their labels and signatures."""
        signatures = sorted(path.parent.name for path in self.root.glob("*/record.json"))
        return ordered_records(self.read(signature) for signature in signatures)

    def write(self, record: RunRecord) -> Path:
        """Write a complete run's record; one that is there already is kept as it is."""
        path = self.folder(record.signature) / "record.json"
        if not path.exists():
            write_new(path, asdict(record))
        return path

    def fail(self, key: str, message: str, failure: Failure = "exception") -> None:
        """Say, from outside, that the last attempt ended without a record, and why."""
        close_attempt(self.folder(key), failure, message)

    def release(self, key: str) -> None:
        """Say, from outside, that the last attempt was stopped: the next one goes on from its checkpoint."""
        close_attempt(self.folder(key), "preempted", "stopped")

    def state(
        self,
        signature: str,
        key: str | None = None,
        *,
        stale_seconds: float = STALE_SECONDS,
        now: float | None = None,
    ) -> RunState:
        """Where the run stands.

        A run whose process is gone is lost: at once where that process ran on this host, else when the
        heartbeat is `stale_seconds` old. A damaged file is a hint that is gone.
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
            heartbeat_seconds=(time.time() if now is None else now) - document["time"],
            **{name: value for name, value in document.items() if name in _HINTS},
        )


def ordered_records(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Records by size, data and seed; those alike in all keep their order."""
    return sorted(
        records, key=lambda r: (r.n_params, r.flops_per_sample, r.config.n_samples, r.config.seed)
    )


def _state(failure: Failure | None) -> Literal["running", "failed", "lost", "preempted"]:
    if failure is None:
        return "running"
    return failure if failure in ("lost", "preempted") else "failed"


def _check_version(document: Any, path: Path) -> None:
    config = document.get("config") if isinstance(document, dict) else None
    version = config.get("schema_version") if isinstance(config, dict) else None
    if isinstance(version, int) and version != RUN_SCHEMA_VERSION:
        raise UserError(
            f"{path}: of run schema {version}, which trained otherwise than this version's "
            f"{RUN_SCHEMA_VERSION}; give --runs another folder"
        )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file: {error}") from error
