"""Several processes that train one cell on this machine's cores, against one process.

    .venv/bin/python benchmarks/ranks.py [--grades SUAN-3,SUAN-5] [--ranks 2] [--steps 12] [--items 10000]

Prints a table and writes benchmarks/results/ranks.json (with other `--items`, ranks-ITEMS.json). Wall-clock time of the
steps after the first few, one and several ranks in turn, the feature table whole and divided, medians over rounds; the
ranks need as many idle cores. Memory: the largest peak of a rank's process, less that of a process that only imports.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch

from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.batches import Epoch
from scaling.process import prepare_process
from scaling.store import open_store
from scaling.study import RunConfig
from scaling.synthetic import SyntheticConfig, generate_logs
from scaling.training import ALONE, Training, joined_ranks

ROUNDS, WARM_UP, BATCH = 3, 3, 256


def worker(
    rank: int, size: int, sharded: bool, data: Path, grade: str, n_steps: int, folder: Path
) -> None:
    prepare_process()
    before = peak_gib()
    torch.set_flush_denormal(True)
    store = open_store(data)
    n_samples = BATCH * (n_steps + WARM_UP)
    config = RunConfig(
        *(grade, GRADES[grade], SuanOptions(), n_samples, 0, BATCH, 0.003, "constant", "shared"),
        *(store.fingerprint, 2),
    )
    meeting = folder / "meeting.json"
    group = joined_ranks(rank, size, meeting, "cpu", answer_seconds=300.0)
    with group if size > 1 else nullcontext(ALONE) as ranks:
        training = Training(config, store, ranks=ranks, sharded=sharded)
        training.advance(Epoch(config, store), lambda: None)
    seconds = training.seconds[-1] - training.seconds[WARM_UP - 1]
    found = {"seconds": seconds / n_steps, "memory_gib": peak_gib() - before}
    (folder / f"{rank}.json").write_text(json.dumps(found))


def peak_gib() -> float:
    # getrusage would count the peak of the process that started this one
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kib) / 2**20


def measure(
    size: int, sharded: bool, data: Path, grade: str, n_steps: int, folder: Path
) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=worker, args=(rank, size, sharded, data, grade, n_steps, folder))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(size)]
    return {"seconds": found[0]["seconds"], "memory_gib": max(one["memory_gib"] for one in found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grades", default="SUAN-3,SUAN-5")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--items", type=int, default=10_000)
    options = parser.parse_args()
    result = {"torch": torch.__version__, "batch": BATCH, "items": options.items, "rows": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_train = BATCH * (options.steps + WARM_UP)
        config = SyntheticConfig(
            n_train=n_train, n_test=100, n_items=options.items, warmup_events=150
        )
        data = generate_logs(folder / "log", config).path
        for grade in options.grades.split(","):
            ways = {"one": (1, False), "ranks": (options.ranks, False)}
            ways["divided"] = (options.ranks, True)
            found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
            for _ in range(ROUNDS):
                for way, (size, sharded) in ways.items():
                    one = measure(size, sharded, data, grade, options.steps, folder)
                    found[way].append(one)
            middle = {
                way: {key: statistics.median(one[key] for one in all_of) for key in all_of[0]}
                for way, all_of in found.items()
            }
            row = {"grade": grade, "ranks": options.ranks}
            row |= {
                f"{way}_{key}": value for way, one in middle.items() for key, value in one.items()
            }
            row["speed_up"] = middle["one"]["seconds"] / middle["ranks"]["seconds"]
            row["divided_speed_up"] = middle["one"]["seconds"] / middle["divided"]["seconds"]
            result["rows"].append(row)
            print(json.dumps(row), flush=True)
    name = "ranks" if options.items == 10_000 else f"ranks-{options.items}"
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
