"""Files of runs as training leaves them, without training: records, and curves of runs that still go on."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.atomic_files import write_json, write_lines
from scaling.records import CURVE_FILE, RunRecord, RunStore, file_digest
from scaling.study import RunConfig

_EVERY = 10  # steps between two lines


def config_of(grade: str = "SUAN-0", n_samples: int = 4096, seed: int = 0) -> RunConfig:
    """Return the configuration of a cell."""
    return RunConfig(
        grade, GRADES[grade], SuanOptions(), n_samples, seed, 64, 0.002, "decay", "independent", "a" * 64, 10
    )  # fmt: skip


def write_curve(runs: RunStore, config: RunConfig, n_lines: int | None = None) -> None:
    """Write a run's configuration, and the first lines of its curve (default: all)."""
    n_steps = config.n_samples // config.batch_size
    lines = [
        {
            "step": step,
            "n_steps": n_steps,
            "n_samples": step * config.batch_size,
            "loss": 0.4 + step**-0.5 / 3,
            "learning_rate": 0.002 * (1 - step / n_steps / 2),
            "samples_per_second": 1234.5 + step,
        }
        for step in range(_EVERY, n_steps + 1, _EVERY)
    ]
    folder = runs.folder(config.signature)
    write_json(folder / "config.json", asdict(config))
    write_lines(folder / "metrics.jsonl", lines[:n_lines])


def write_run(runs: RunStore, config: RunConfig) -> RunRecord:
    """Write all files of a finished run that lies on a law, and return its record."""
    write_curve(runs, config)
    n_params = 2000 * 4 ** int(config.grade_name.rpartition("-")[2])
    loss = 0.4 + 2 * n_params**-0.4 + 3 * config.n_samples**-0.3
    attempt = {"started": "2026-01-02T03:04:05+00:00", "ended": "2026-01-02T03:05:05+00:00"}
    provenance = {"truth": None, "device": "cpu", "attempts": [attempt]}
    flops = 100 * n_params
    record = RunRecord(
        config, n_params, 500, flops, 3 * flops * config.n_samples,
        {"logloss": loss, "auc": 1.1 - loss}, loss + 0.01, 60.0, 68.0, 0.25, provenance,
        files={CURVE_FILE: file_digest(runs.folder(config.signature) / CURVE_FILE)},
    )  # fmt: skip
    runs.write(record)
    return record


def edit_record(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the document of a record, and write it as a version did that had no digests."""
    document = json.loads(path.read_text())
    for name in ("digest", "files"):
        document.pop(name, None)
    change(document)
    path.write_text(json.dumps(document, indent=2))


def write_study(root: Path) -> list[RunRecord]:
    """Write four finished runs: two grades, two data sizes."""
    runs = RunStore(root)
    return [
        write_run(runs, config_of(grade, n_samples))
        for grade in ("SUAN-0", "SUAN-1")
        for n_samples in (4096, 8192)
    ]
