"""What a mirror shows of one run: settings, training curve, final numbers; read from the run's files."""

import json
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from scaling.documents import read_json
from scaling.errors import UserError
from scaling.records import CurvePoint, RunRecord, RunStore, read_attempts, read_curve
from scaling.strict_values import from_document
from scaling.study import RunConfig
from scaling.study_keys import flat

__all__ = ["RunFacts", "read_facts"]


logger = logging.getLogger(__name__)


_OF_RUN = (
    *("n_params", "n_embedding_params", "flops_per_sample", "flops", "train_loss"),
    *("train_seconds", "peak_memory_gib"),
)

Plain = str | int | float | bool


@dataclass(frozen=True)
class RunFacts:
    """One run, finished or not.

    Attributes:
        study: name of the study.
        config: what is trained.
        is_finished: whether it has a record.
        curve: its training curve so far.
        results: final numbers by name, e.g. `test/logloss`, `run/flops`; empty until it is finished.
        started: when its training began, in seconds since 1970.
        ended: when it was finished; None until then.
    """

    study: str
    config: RunConfig
    is_finished: bool
    curve: tuple[CurvePoint, ...]
    results: Mapping[str, float]
    started: float
    ended: float | None

    @property
    def signature(self) -> str:
        """The run's identity."""
        return self.config.signature

    @property
    def label(self) -> str:
        """Name of the cell, e.g. `SUAN-2 D=65536 s0`."""
        return self.config.label

    @property
    def tags(self) -> dict[str, str]:
        """What one looks for runs by."""
        return {
            "study": self.study,
            "grade": self.config.grade_name,
            "n_samples": str(self.config.n_samples),
            "seed": str(self.config.seed),
            "signature": self.signature,
        }

    @property
    def settings(self) -> dict[str, Plain]:
        """All settings by dotted name, e.g. `grade.n_layers`; those that are None are left out."""
        return {
            name: value if isinstance(value, str | int | float) else json.dumps(value)
            for name, value in flat(asdict(self.config))
            if value is not None and value != {}
        }

    def seconds_at(self, point: CurvePoint) -> float:
        """Return when a point of the curve was reached, in seconds since 1970, as if there had been no break."""
        return self.started + point.n_samples / point.samples_per_second


def read_facts(folder: Path) -> list[RunFacts]:
    """Read the runs of a study's folder that are finished or have begun, ordered by label and signature.

    Damaged runs are left out and named.

    Raises:
        UserError: there is no such folder, or no run in it that is not damaged.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; `scaling run` creates it")
    runs = RunStore(folder)
    names = {path.parent.name for path in folder.glob("*/config.json")}
    names |= {path.parent.name for path in folder.glob("*/record.json")}
    if not names:
        raise UserError(f"{folder}: no run has begun yet; `scaling status` shows their state")
    facts = []
    for name in sorted(names):
        try:
            facts.append(_read(runs, name))
        except UserError as error:
            if name == max(names) and not facts:
                raise
            logger.warning("left out: %s", error)
    return sorted(facts, key=lambda run: (run.config.n_samples, run.label, run.signature))


def _read(runs: RunStore, signature: str) -> RunFacts:
    folder = runs.folder(signature)
    study, curve = runs.root.resolve().name, tuple(read_curve(folder))
    if not runs.has(signature):
        config = _read_config(folder / "config.json")
        attempts = read_attempts(folder)
        # the attempts of a training that several runs share lie elsewhere
        begun = _time(attempts[0].get("started")) if attempts else None
        started = begun or (folder / "config.json").stat().st_mtime
        return RunFacts(study, config, False, curve, {}, started, None)
    record = runs.read(signature)
    attempts = record.provenance.get("attempts") or [record.provenance]
    written = (folder / "record.json").stat().st_mtime
    ended = _time(attempts[-1].get("ended")) or written
    started = _time(attempts[0].get("started")) or ended - record.train_seconds
    return RunFacts(study, record.config, True, curve, _results(record), started, ended)


def _read_config(path: Path) -> RunConfig:
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    return from_document(RunConfig, document, str(path))


def _results(record: RunRecord) -> dict[str, float]:
    values: dict[str, Any] = {f"test/{name}": value for name, value in record.metrics.items()}
    values |= {f"run/{name}": getattr(record, name) for name in _OF_RUN}
    if record.teacher is not None:
        values |= {f"teacher/{name}": value for name, value in record.teacher.metrics.items()}
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _time(text: str | None) -> float | None:
    with suppress(ValueError, TypeError, OverflowError):  # of a record that another program wrote
        return datetime.fromisoformat(text or "").timestamp()
    return None
