"""The effect of one setting for all data sizes instead of one per size: excess logloss on the quickstart's logs.

    python benchmarks/shared_training.py > benchmarks/results/shared_training.json

Takes about 20 minutes on one core; `studies/quickstart.toml` generates the logs. The records of shared trainings
equal those of separate runs with the same settings (tests/study/test_shared_prefix.py), so only settings are compared.
"""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.process import prepare_process
from scaling.records import RunStore
from scaling.store import EventStore, open_store
from scaling.study import RunConfig, RunOptions, group_runs, recipe_for, warmup_steps
from scaling.training import train_runs

SIZES = (4096, 16384, 65536)
N_SEEDS = 2
MIDDLE = math.isqrt(min(SIZES) * max(SIZES))
# sizes at which the rule's batch and rate, and its warm-up, are taken; None: at each run's own
SETTINGS: dict[str, tuple[int | None, int | None]] = {
    "own": (None, None),
    "smallest": (min(SIZES), min(SIZES)),
    "middle": (MIDDLE, MIDDLE),
    "middle, warm-up of the smallest": (MIDDLE, min(SIZES)),
    "largest, warm-up of the middle": (max(SIZES), MIDDLE),
}


def configs(
    store: EventStore, grade: str, seed: int, schedule: str, at: tuple[int | None, int | None]
) -> list[RunConfig]:
    """The runs of one grade and seed, over all sizes."""
    made = []
    for size in SIZES:
        rule = recipe_for(at[0] or size, GRADES[grade].d * len(store.schema.behaviour))
        warmup = warmup_steps(math.ceil((at[1] or size) / rule.batch_size))
        made.append(
            RunConfig(
                grade, GRADES[grade], SuanOptions(), size, seed, rule.batch_size,
                rule.learning_rate, schedule, "independent", store.fingerprint, warmup,
            )
        )  # fmt: skip
    return made


def excess(store: EventStore, folder: Path, runs: Sequence[RunConfig]) -> list[float]:
    """Excess logloss of each run."""
    found = RunStore(folder)
    for key, group in group_runs(runs, share_prefix=True).items():
        train_runs(group, store, found, key=key, options=RunOptions(keep_model=False))
    return [found.read(run.signature).metrics["excess_logloss"] for run in runs]


def main() -> None:
    """Print one JSON document: by grade, schedule and setting the mean over seeds for each size."""
    prepare_process()
    store = open_store(Path("data/quickstart"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for grade in ("SUAN-0", "SUAN-2"):
            for schedule in ("decay", "constant"):
                for name, at in SETTINGS.items():
                    seeds = [
                        excess(store, Path(folder), configs(store, grade, seed, schedule, at))
                        for seed in range(N_SEEDS)
                    ]
                    mean = np.mean(seeds, 0).round(4).tolist()
                    rows.append(
                        {"grade": grade, "schedule": schedule, "settings": name, "excess": mean}
                    )
    truth = asdict(SuanOptions())
    print(json.dumps({"sizes": SIZES, "n_seeds": N_SEEDS, "model": truth, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
