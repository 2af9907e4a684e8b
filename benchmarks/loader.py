"""The loader: samples per second against training, memory against the number of rows, bytes on disk.

    .venv/bin/python benchmarks/loader.py

Prints a table and writes benchmarks/results/loader.json. Makes stores of random rows in a temporary
folder (about 600 MB, removed at the end). Ratios are of CPU times within this run.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from models.grades import Grade
from models.model_options import SuanOptions
from scaling.batches import iterate_training
from scaling.store import Events, Feature, Impressions, Schema, open_store, write_store
from scaling.study import RunConfig

SCHEMA = Schema(
    behaviour=(
        Feature("item", "item"),
        Feature("category", "category"),
        Feature("action", "action"),
    ),
    candidate=(Feature("item", "item"), Feature("category", "category")),
    context=(Feature("hour", "hour"),),
    profile=(Feature("age", "age"),),
    vocabularies={"item": 10_002, "category": 102, "action": 6, "hour": 26, "age": 9},
)


def random_store(path: Path, n_impressions: int, events_per_user: int) -> None:
    """Ten impressions per user, at the end of a log of `events_per_user` random events."""
    rng = np.random.default_rng(0)
    n_users = n_impressions // 10
    users = np.repeat(np.arange(n_users, dtype=np.int32), events_per_user)
    ids = {
        f.name: rng.integers(2, SCHEMA.vocabularies[f.vocabulary], len(users))
        for f in SCHEMA.behaviour
    }
    candidates = {
        f.name: rng.integers(2, SCHEMA.vocabularies[f.vocabulary], n_impressions)
        for f in SCHEMA.candidate
    }
    write_store(
        path,
        SCHEMA,
        Events(users, np.tile(np.arange(events_per_user) * 600 + 10**9, n_users), ids),
        Impressions(
            user=np.repeat(np.arange(n_users), 10),
            time=np.tile(10**9 + events_per_user * 600 + np.arange(10), n_users),
            label=rng.integers(0, 2, n_impressions),
            in_test=np.arange(n_impressions) >= n_impressions - 1000,
            candidates=candidates,
            contexts={"hour": rng.integers(2, 26, n_impressions)},
        ),
        {"age": rng.integers(2, 9, n_users)},
        n_users=n_users,
        split={"kind": "user"},
        source={"kind": "random"},
    )


def throughput(folder: Path, max_len: int) -> dict[str, float]:
    """CPU seconds of gathering against those of training the smallest model of that length."""
    import torch

    from scaling.process import prepare_process
    from scaling.training import train_model

    prepare_process()
    torch.set_flush_denormal(True)
    path = folder / f"length-{max_len}"
    random_store(path, 20_000, max_len)
    store = open_store(path)
    n_samples = 8192 if max_len < 500 else 1024
    ends = np.arange(256, n_samples + 256, 256)

    def loaded() -> float:
        begin = time.process_time()
        for _ in iterate_training(store, ends, max_len, 0):
            pass
        return time.process_time() - begin

    loaded()
    seconds = min(loaded() for _ in range(3))
    config = RunConfig(
        "smallest", Grade(1, 1, 2, max_len), SuanOptions(), n_samples, 0, 256, 0.01, "constant",
        "independent", store.fingerprint, 3,
    )  # fmt: skip
    begin = time.process_time()
    train_model(config, store)
    both = time.process_time() - begin
    replicated = max_len * sum(SCHEMA.dtype(f).itemsize for f in SCHEMA.behaviour) + 8 * max_len
    on_disk = sum(file.stat().st_size for file in path.rglob("*.npy")) / store.n_impressions
    return {
        "L": max_len,
        "loader_samples_per_second": n_samples / seconds,
        "training_samples_per_second": n_samples / both,
        "ratio": both / seconds,
        "bytes_per_impression": on_disk,
        "bytes_if_each_kept_its_history": replicated,
    }


MEMORY = """
import sys
from pathlib import Path
from models.model_options import SuanOptions
from models.grades import GRADES
from scaling.study import RunConfig
from scaling.store import open_store
from scaling.training import train_model
from scaling.process import prepare_process
prepare_process()
store = open_store(Path(sys.argv[1]))
config = RunConfig("SUAN-3", GRADES["SUAN-3"], SuanOptions(), 12800, 0, 256, 0.001, "constant",
                   "independent", store.fingerprint, 5)
train_model(config, store)
for line in open("/proc/self/status"):
    if line.startswith("RssAnon"):
        print(int(line.split()[1]) / 1024)
"""


def memory(folder: Path, n_impressions: int) -> float:
    """Resident memory in MiB, without files in the page cache, after 50 steps."""
    path = folder / f"rows-{n_impressions}"
    random_store(path, n_impressions, 20)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {n: memory(folder, n) for n in (10**5, 10**6, 10**7)}
        result = {
            "resident_mib": sizes,
            "memory_ratio": sizes[10**7] / sizes[10**5],
            "throughput": [throughput(folder, max_len) for max_len in (50, 200, 1000)],
        }
    print(json.dumps(result, indent=2))
    path = Path(__file__).parent / "results" / "loader.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
