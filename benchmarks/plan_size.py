"""Plan and status of ten thousand cells: seconds of the whole command (best of five), from generated run folders.

    .venv/bin/python benchmarks/plan_size.py [--times-ten]

Prints a table and writes benchmarks/results/plan_size.json (`--times-ten`: 100,000 cells, best of two, plan_size_x10.json). Four fifths of the cells are done, a tenth is running
(an attempt with a heartbeat), the rest is missing; half of the missing cells belong to a submission whose job no longer exists.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from models.accounting import model_size
from scaling.records import RunStore
from scaling.study import data_facts, ensure_data, load_study
from sweeps.planning import grid_cells
from sweeps.queue import Submission, new_folder, write_submission

STUDY = """\
[study]
name = "large"
[data]
path = "{folder}/data"
[data.generate]
n_train = 2000
n_test = 200
n_items = 100
warmup_events = 5
[grid]
grade = ["SUAN-0", "SUAN-1", "SUAN-2", "SUAN-3", "SUAN-4", "SUAN-5", "SUAN-6", "SUAN-7", "SUAN-8", "SUAN-9"]
n_samples = {sizes}
n_seeds = {seeds}
"""


def make_runs(folder: Path, n_seeds: int) -> Path:
    """A study of 200 cells per seed and its run folders, written as the run store writes them, but without fsync."""
    study_file = folder / "study.toml"
    study_file.write_text(
        STUDY.format(folder=folder, seeds=n_seeds, sizes=[100 * size for size in range(1, 21)])
    )
    study = load_study(study_file)
    ensure_data(study.data)
    data = data_facts(study.data)
    cells = grid_cells(study, data)
    runs = RunStore(folder / "runs" / study.name)
    now = time.time()
    for index, config in enumerate(cells):
        attempt = {
            "number": 1,
            "id": f"{index:032x}",
            "state": "running",
            "time": now,
            "started": "2026-01-01T00:00:00+00:00",
            "host": "elsewhere",
            "pid": 1,
            "slurm_job_id": f"7_{index}",
            "slurm_restart_count": 0,
            "step": 10,
            "n_steps": 100,
            "loss": 0.5,
            "samples_per_second": 1000.0,
        }
        size = model_size(config.grade, config.model, data.schema)
        cell = runs.folder(config.signature)
        if index % 10 < 8:
            ended = {**attempt, "state": "ended", "ended": "2026-01-01T00:10:00+00:00"}
            record = {
                "config": asdict(config),
                "n_params": size.n_params,
                "n_embedding_params": size.n_embedding_params,
                "flops_per_sample": size.flops_per_sample,
                "flops": size.training_flops(config.n_samples),
                "metrics": {"logloss": 0.5, "auc": 0.75, "soft_logloss": 0.49, "soft_auc": 0.76},
                "train_loss": 0.5,
                "train_seconds": 10.0,
                "samples_per_second": 1000.0,
                "peak_memory_gib": 0.4,
                "provenance": {
                    "attempts": [ended],
                    "versions": {"torch": "2"},
                    "command": "x" * 100,
                },
            }
            cell.mkdir(parents=True)
            (cell / "record.json").write_text(json.dumps(record, indent=2))
        elif index % 10 == 8:
            (cell / "attempts").mkdir(parents=True)
            (cell / "attempts" / "1.json").write_text(json.dumps(attempt, indent=2))
    missing = [c.signature for i, c in enumerate(cells) if i % 20 == 9]
    ids = tuple(f"7_{index}" for index in range(len(missing)))
    jobs = tuple((signature,) for signature in missing)
    write_submission(Submission(new_folder(runs), "local", jobs, ids, (1.0,) * len(jobs)))
    return study_file


def seconds_of(*arguments: str, folder: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of one command, its start included."""
    environment = {**os.environ, "SCALING_RUNS": str(folder / "runs")}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "scaling", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times-ten", action="store_true")
    times_ten = parser.parse_args().times_ten
    n_seeds, n_tries = (500, 2) if times_ten else (50, 5)
    n_cells = 200 * n_seeds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = str(make_runs(folder, n_seeds))
        results = {}
        for verb in (("plan",), ("plan", "--json"), ("status",), ("status", "--json")):
            command = (verb[0], study, *verb[1:])
            tries = [seconds_of(*command, folder=folder) for _ in range(n_tries)]
            wall, cpu = (min(seconds) for seconds in zip(*tries, strict=True))
            results[" ".join(verb)] = {"wall": round(wall, 2), "processor": round(cpu, 2)}
            print(
                f"scaling {' '.join(verb):15s} {wall:6.2f} s, {cpu:5.2f} s of the processor, "
                f"for {n_cells:,} cells"
            )
        # the largest of all commands, in KiB
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"{memory:.2f} GiB of memory at most")
    document = {
        "cells": n_cells,
        "load_average": os.getloadavg()[0],
        "memory_gib": round(memory, 2),
        "seconds": results,
    }
    suffix = "_x10" if times_ten else ""
    path = Path(__file__).with_name("results") / f"plan_size{suffix}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
