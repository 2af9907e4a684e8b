"""A table and a runs folder that follow a planted law, with latencies: what a report is made of."""

import json

import numpy as np
import pandas as pd

from analysis.laws import Additive
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.records import RunRecord, RunStore
from scaling.serving import Latency, ServingReport, write_serving
from scaling.study import RunConfig

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}
SIZES = {"SUAN-0": 2_000, "SUAN-2": 9_000, "SUAN-3": 30_000, "SUAN-4": 100_000}


def make_table(seeds=2):
    rows = [
        {"grade": grade, "n_params": n, "n_samples": d, "seed": s}
        for grade, n in SIZES.items()
        for d in (4096, 16384, 65536, 262144)
        for s in range(seeds)
    ]
    table = pd.DataFrame(rows)
    noise = np.random.default_rng(0).normal(0, 1e-3, len(table))
    mean = Additive()(PARAMS, table["n_params"], table["n_samples"])
    return table.assign(
        soft_logloss=mean + noise, soft_auc=1.2 - mean + noise / 2,
        bayes_logloss=0.4, bayes_auc=0.8,
    )  # fmt: skip


def write_runs(folder, table):
    store = RunStore(folder)
    for row in table.to_dict("records"):
        config = RunConfig(
            grade_name=row["grade"], grade=GRADES[row["grade"]], model=SuanOptions(),
            n_samples=row["n_samples"], seed=row["seed"], batch_size=64, learning_rate=1e-3,
            schedule="decay", data_order=row.get("data_order", "independent"),
            data_fingerprint="f" * 64, warmup_steps=10, distill=row.get("distill"),
        )  # fmt: skip
        metrics = {k: row[k] for k in ("soft_logloss", "soft_auc")}
        store.write(
            RunRecord(
                config=config, n_params=row["n_params"], n_embedding_params=10,
                flops_per_sample=20 * row["n_params"], flops=60 * row["n_params"] * row["n_samples"],
                metrics={**metrics, "logloss": 0.5, "auc": 0.7}, train_loss=0.6,
                train_seconds=1.0, samples_per_second=1e4, peak_memory_gib=0.4,
                teacher=row.get("teacher"),
                provenance={
                    "truth": {"bayes_logloss": 0.4, "bayes_auc": 0.8},
                    "git_commit": "0123456789abcdef", "git_dirty": False,
                    "versions": {"torch": "2.13.0"}, "device": "cpu", "command": "scaling run <x>",
                    "started": "2026-01-01T00:00:00", "ended": "2026-01-01T01:00:00",
                },
            )
        )  # fmt: skip


def measure(folder, n_threads=(1, 1)):
    for i, record in enumerate(RunStore(folder).read_all()):
        latency = Latency("parallel", 100, 200, 1.0, 2.0, 3.0, 1.0, 1e5)
        report = ServingReport(
            record.signature, {"kind": "suan"}, 16, 100, n_threads[i > 0], (latency,), {}
        )
        write_serving(folder / record.signature, report)


def write_curves(folder):
    """A falling training curve for each run."""
    for record in RunStore(folder).read_all():
        lines = [
            {
                "step": step, "n_steps": 50, "n_samples": step * record.config.n_samples // 50,
                "loss": 0.5 + 0.2 / step, "learning_rate": 1e-3, "samples_per_second": 1e4,
            }
            for step in (1, 10, 25, 50)
        ]  # fmt: skip
        path = RunStore(folder).folder(record.signature) / "metrics.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
