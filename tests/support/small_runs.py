"""A run that takes seconds, the numbers that repeated runs share, and attempts that look like another host's."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.records import RunRecord
from scaling.study import RunConfig

# the digest of the curve, which has the speed in each line, is one of `files`
_CLOCK = {"train_seconds", "samples_per_second", "peak_memory_gib", "provenance", "files"}


def small_config(store: object, **changes: object) -> RunConfig:
    """Return a SUAN-1 with dropout that trains 20 steps on `store`, with `changes` to its fields."""
    config = RunConfig(
        "SUAN-1", GRADES["SUAN-1"], SuanOptions(dropout=0.1), 320, 0, 16, 0.01, "decay",
        "independent", store.fingerprint, 2,  # type: ignore[attr-defined]
    )  # fmt: skip
    return replace(config, **changes)  # type: ignore[arg-type]


def numbers(record: RunRecord) -> dict[str, object]:
    """Return the fields of a record that are the same for all runs of a configuration."""
    return {name: value for name, value in vars(record).items() if name not in _CLOCK}


def move_to_another_host(folder: Path, number: int = 1, age: float | None = 0.0) -> float:
    """Make an attempt look like one of another host whose last heartbeat was written `age` seconds ago.

    Returns the time of that heartbeat; it stays as it is if `age` is None.
    """
    path = folder / "attempts" / f"{number}.json"
    changed = path.stat().st_mtime if age is None else time.time() - age
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere"}))
    os.utime(path, (changed, changed))
    return changed
