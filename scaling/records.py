"""What came out of a run, and where it lies: `runs/<study>/<signature>/record.json` means done.

Free of torch. Nothing but the record's presence says that a run is complete; `status.json` is a hint
about runs that are not.
"""

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from scaling.config import RunConfig, from_document
from scaling.errors import StorageError, UserError
from scaling.files import write_json

__all__ = ["RunBusyError", "RunRecord", "RunState", "RunStore"]

# A running cell renews its status every few seconds; after this many it counts as lost.
STALE_SECONDS = 120.0


class RunBusyError(UserError):
    """Another process, which is alive, is training the run."""


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
        try:
            record = from_document(RunRecord, _read_json(path), str(path))
        except UserError as error:
            raise UserError(f"{error}; remove {path.parent} to train the run again") from error
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
        self.release(record.signature)
        return path

    def claim(self, signature: str) -> None:
        """Take the run for this process; a claim whose owner is gone is taken over.

        Raises:
            RunBusyError: a living process trains this run.
        """
        path = self.folder(signature) / "claim"
        if path.exists():
            self._check_stale(path)
            with suppress(OSError):  # of two that take a stale claim over, one rename succeeds
                stale = path.with_name(f".claim.{os.getpid()}")
                path.rename(stale)
                stale.unlink()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(_process()))
        except FileExistsError as error:
            raise RunBusyError(f"{path.parent}: another process has just taken this run") from error
        except OSError as error:
            raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
        self.heartbeat(signature)

    def release(self, signature: str) -> None:
        """Forget that the run was under way: it is then done if it has a record, else missing."""
        for name in ("status.json", "claim"):
            (self.folder(signature) / name).unlink(missing_ok=True)

    def heartbeat(self, signature: str, **hints: Any) -> None:
        """Say that the run is alive; `hints` are fields of `RunState`."""
        document = {"state": "running", "time": time.time(), **_process(), **hints}
        write_json(self.folder(signature) / "status.json", document)

    def fail(self, signature: str, message: str) -> None:
        """Say that the run ended without a record, and why."""
        document = {"state": "failed", "time": time.time(), "message": message}
        write_json(self.folder(signature) / "status.json", document)
        (self.folder(signature) / "claim").unlink(missing_ok=True)

    def state(self, signature: str, now: float | None = None) -> RunState:
        """Where the run stands.

        A run whose process is gone is lost: at once where that process ran on this host, else when the
        heartbeat is two minutes old. A damaged status is only a hint that is gone: lost, too.
        """
        if self.has(signature):
            return RunState("done")
        path = self.folder(signature) / "status.json"
        if not path.exists():
            return RunState("missing")
        try:
            document = dict(_read_json(path))
            age = (time.time() if now is None else now) - float(document["time"])
            names = {f.name for f in fields(RunState)} - {"heartbeat_seconds"}
            state = RunState(
                heartbeat_seconds=age, **{k: v for k, v in document.items() if k in names}
            )
        except (UserError, TypeError, ValueError, KeyError):
            return RunState("lost", message="status.json is damaged")
        gone = document.get("host") == platform.node() and not _is_alive(document.get("pid"))
        if state.state == "running" and (gone or age > STALE_SECONDS):
            return replace(state, state="lost")
        return state

    def _check_stale(self, claim: Path) -> None:
        """Raise RunBusyError unless the claim's owner is this process, or gone."""
        with suppress(OSError, ValueError):  # released meanwhile, or damaged
            owner = json.loads(claim.read_text(encoding="utf-8"))
            if owner == _process():
                return
            if owner.get("host") == platform.node():
                alive = _is_alive(owner.get("pid"))
            else:
                beat = max(p.stat().st_mtime for p in claim.parent.glob("*") if p.is_file())
                alive = time.time() - beat < STALE_SECONDS
            if alive:
                who = f"process {owner.get('pid')} on {owner.get('host')}"
                raise RunBusyError(f"{claim.parent}: {who} is training this run")


def _process() -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid()}


def _is_alive(pid: object) -> bool:
    """Whether a process of this host is there and not merely waiting to be reaped."""
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: not a JSON file: {error}") from error
