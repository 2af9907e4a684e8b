"""The plan's guess of a cell's time, made without any measurement of its grade, against real training steps.

    .venv/bin/python benchmarks/plan_guess.py [--quick]

Prints a table and writes benchmarks/results/plan_guess.json. The real times are processor times of one thread (medians over
steps of `scaling.training.Training` on generated logs), so other programs on the machine disturb them little. The constants
of the guess were fitted to the log `long`; the log `short` has histories that most grades read whole, and took no part.
"""

import json
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from models.grades import GRADES, Grade
from models.model_options import SuanOptions
from scaling.batches import Epoch, find_groups
from scaling.process import prepare_process
from scaling.store import EventStore, log_shape
from scaling.study import DataFacts, RunConfig, warmup_steps
from scaling.synthetic import SyntheticConfig, generate_logs
from scaling.training import Training, denormals_flushed, predict
from sweeps.planning.guessed_cost import evaluation_seconds, training_seconds
from sweeps.planning.machine_speed import measure_machine

N_TRAIN, N_TEST = 65_536, 2_048
LOGS = {
    "long": SyntheticConfig(n_train=N_TRAIN, n_test=N_TEST),
    "short": SyntheticConfig(n_train=N_TRAIN, n_test=N_TEST, warmup_events=8),
}
WIDTHS = {2: 1, 4: 1, 8: 2, 16: 2, 32: 4, 64: 8}  # d, and the heads
CUSTOM = {f"d = {d}, L = 32": Grade(1, heads, d, 32) for d, heads in WIDTHS.items()}
CUSTOM["d = 16, L = 32, 4 blocks"] = Grade(4, 2, 16, 32)
ALL_GRADES = CUSTOM | {name: GRADES[name] for name in list(GRADES)[:7]}
BATCHES = (16, 64, 256)
STRETCHED = ("d = 4, L = 32", "d = 16, L = 32", "SUAN-3", "SUAN-4")
OPTIONS = {"stretch": SuanOptions(pooling="running", positions="start")}
WARM_STEPS, MOST_STEPS, MOST_SECONDS = 2, 24, 4.0


class _EnoughError(Exception):
    """The steps of a case have been measured."""


def cases(*, quick: bool) -> list[tuple[str, str, str, int]]:
    """Return (log, grade, packing, batch size) of every case."""
    found = [
        ("long", name, packing, batch)
        for name in ALL_GRADES
        for packing in ("none", "request")
        for batch in BATCHES
    ]
    found += [("long", name, "stretch", 256) for name in STRETCHED]
    found += [
        ("short", name, packing, batch)
        for name in ALL_GRADES
        for packing in ("none", "request")
        for batch in (32, 128)
    ]
    return found[::7] if quick else found


def configuration(name: str, packing: str, batch: int) -> RunConfig:
    """Return a run of that grade whose epoch is the whole training part."""
    return RunConfig(
        grade_name=name,
        grade=ALL_GRADES[name],
        model=OPTIONS.get(packing, SuanOptions()),
        n_samples=N_TRAIN,
        seed=0,
        batch_size=batch,
        learning_rate=1e-3,
        schedule="constant",
        data_order="independent",
        packing=packing,
        data_fingerprint="",
        warmup_steps=warmup_steps(N_TRAIN // batch),
    )


def real_step(config: RunConfig, store: EventStore) -> tuple[float, float]:
    """Return processor and wall-clock seconds of a step, without the first steps."""
    training = Training(config, store)
    cpu, begin = [time.process_time()], time.perf_counter()

    def after_step() -> None:
        cpu.append(time.process_time())
        n_steps = len(cpu) - 1 - WARM_STEPS
        if n_steps >= 2 and (n_steps >= MOST_STEPS or time.perf_counter() - begin > MOST_SECONDS):
            raise _EnoughError

    with suppress(_EnoughError):
        training.advance(Epoch(config, store, find_groups(config, store)), after_step)
    wall = np.diff(training.seconds)[WARM_STEPS:].tolist()
    return statistics.median(np.diff(cpu)[WARM_STEPS:].tolist()), statistics.median(wall)


def real_evaluation(config: RunConfig, store: EventStore) -> float:
    """Return processor seconds of the evaluation."""
    model = Training(config, store).model
    begin = time.process_time()
    predict(model, store, config.grade.max_len)
    return time.process_time() - begin


def compare(log: str, name: str, packing: str, batch: int, store: EventStore) -> dict[str, object]:
    """Return guess and measurement of one case."""
    config = configuration(name, packing, batch)
    facts = DataFacts(store.path, store.schema, store.n_train, store.n_test, None, log_shape(store))
    speed = measure_machine()
    guess = training_seconds(config, facts, speed, N_TRAIN) / config.n_steps
    cpu, wall = real_step(config, store)
    row = {"log": log, "grade": name, "model": asdict(config.grade)}
    row |= {"packing": packing, "batch": batch}
    row |= {"cpu_ms": 1e3 * cpu, "wall_ms": 1e3 * wall, "guess_ms": 1e3 * guess}
    row["ratio"] = guess / cpu
    if packing == "none" and batch == BATCHES[0]:
        real = real_evaluation(config, store)
        row["evaluation_us"] = 1e6 * real / N_TEST
        row["evaluation_ratio"] = evaluation_seconds(config, facts, speed) / real
    return row


def main() -> None:
    """Measure every case."""
    prepare_process()
    rows = []
    with tempfile.TemporaryDirectory() as folder, denormals_flushed():
        stores = {name: generate_logs(Path(folder) / name, log) for name, log in LOGS.items()}
        print(
            f"{'log':6}{'grade':26}{'packing':>8}{'batch':>6}{'real ms':>9}{'guess':>9}{'ratio':>7}"
        )
        for log, name, packing, batch in cases(quick="--quick" in sys.argv):
            row = compare(log, name, packing, batch, stores[log])
            rows.append(row)
            print(
                f"{log:6}{name:26}{packing:>8}{batch:6}{row['cpu_ms']:9.2f}{row['guess_ms']:9.2f}"
                f"{row['ratio']:7.2f}",
                flush=True,
            )
        shapes = {name: asdict(log_shape(store)) for name, store in stores.items()}
    ratios = [row["ratio"] for row in rows] + [
        row["evaluation_ratio"] for row in rows if "evaluation_ratio" in row
    ]
    result = {
        "torch": torch.__version__,
        "machine": asdict(measure_machine()),
        "smallest_ratio": min(ratios),
        "largest_ratio": max(ratios),
        "shapes": shapes,
        "steps": rows,
    }
    print(f"guess / real: {min(ratios):.2f} to {max(ratios):.2f}")
    path = Path(__file__).parent / "results" / "plan_guess.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
