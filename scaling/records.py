"""What came out of a run, and where it lies: `runs/<study>/<signature>/record.json` means done.

Free of torch. Nothing but the record's presence says that a run is complete; `status.json` is a hint
about runs that are not.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from scaling.config import RunConfig, from_document
from scaling.errors import UserError
from scaling.files import write_json

__all__ = ["RunRecord", "RunState", "RunStore"]

# A running cell renews its status every few seconds; after this many it counts as lost.
STALE_SECONDS = 120.0


@dataclass(frozen=True)
class RunRecord:
    """A complete run.

    Attributes:
        config: the resolved configuration.
        n_params: non-embedding parameters.
        n_embedding_params: feature, hour and position tables.
        flops_per_sample: forward FLOPs of one sample, two per multiply-add.
        flops: of the whole training, 3 x forward x samples.
        metrics: of the test part, by name (`scaling.metrics.evaluate`).
        train_loss: mean logloss over the one epoch, each sample before it was trained on.
        train_seconds: wall-clock seconds of the training loop.
        samples_per_second: of the training loop.
        peak_memory_gib: resident memory of the process at its highest.
        provenance: git commit and dirty flag, package versions, device, command line, start and end.
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

    @property
    def signature(self) -> str:
        """The run's identity."""
        return self.config.signature


@dataclass(frozen=True)
class RunState:
    """Where a cell stands, from its files alone.

    `step`, `n_steps`, `loss` and `samples_per_second` are the last heartbeat's; `message` says why a
    cell failed.
    """

    state: Literal["done", "running", "failed", "lost", "missing"]
    step: int = 0
    n_steps: int = 0
    loss: float | None = None
    samples_per_second: float | None = None
    heartbeat_seconds: float | None = None
    message: str = ""


@dataclass(frozen=True)
class RunStore:
    """The runs of one study: a folder with one sub-folder per signature."""

    root: Path

    def folder(self, signature: str) -> Path:
        """The run's folder, which may not exist yet."""
        return self.root / signature

    def has(self, signature: str) -> bool:
        """Whether the run is complete."""
        return (self.folder(signature) / "record.json").exists()

    def read(self, signature: str) -> RunRecord:
        """Read a complete run.

        Raises:
            UserError: the run is not complete, its record is damaged, or it belongs to another run.
        """
        path = self.folder(signature) / "record.json"
        record = from_document(RunRecord, _read_json(path), str(path))
        if record.signature != signature:
            raise UserError(f"{path}: holds run {record.signature}; was the folder renamed?")
        return record

    def read_all(self) -> list[RunRecord]:
        """Read every complete run, in the order of their labels and signatures."""
        signatures = sorted(path.parent.name for path in self.root.glob("*/record.json"))
        records = [self.read(signature) for signature in signatures]
        return sorted(
            records,
            key=lambda r: (r.n_params, r.flops_per_sample, r.config.n_samples, r.config.seed),
        )

    def write(self, record: RunRecord) -> Path:
        """Write a complete run's record; one that is there already is kept as it is."""
        path = self.folder(record.signature) / "record.json"
        if not path.exists():
            write_json(path, asdict(record))
        return path

    def heartbeat(self, signature: str, **hints: Any) -> None:
        """Say that the run is alive; `hints` are fields of `RunState`."""
        write_json(
            self.folder(signature) / "status.json",
            {"state": "running", "time": time.time(), **hints},
        )

    def fail(self, signature: str, message: str, **hints: Any) -> None:
        """Say that the run ended without a record, and why."""
        document = {"state": "failed", "time": time.time(), "message": message, **hints}
        write_json(self.folder(signature) / "status.json", document)

    def state(self, signature: str, now: float | None = None) -> RunState:
        """Where the run stands; a heartbeat older than two minutes means lost."""
        if self.has(signature):
            return RunState("done")
        path = self.folder(signature) / "status.json"
        if not path.exists():
            return RunState("missing")
        document = dict(_read_json(path))
        age = (time.time() if now is None else now) - float(document.pop("time"))
        state = document.pop("state")
        if state == "running" and age > STALE_SECONDS:
            state = "lost"
        return RunState(state=state, heartbeat_seconds=age, **document)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file: {error}") from error
