"""Several processes that train one cell on this machine's cores, against one process.

    .venv/bin/python benchmarks/ranks.py [--grades SUAN-3,SUAN-5] [--ranks 2] [--steps 12]

Prints a table and writes benchmarks/results/ranks.json. Wall-clock time of the steps after the first few, one and several
ranks in turn, medians over rounds; the ranks need as many idle cores. The exchange is what a step spends beyond its own work:
the CPU time of rank 0 cannot tell, as gloo waits in threads of its own.
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


def worker(rank: int, size: int, data: Path, grade: str, n_steps: int, folder: Path) -> None:
    prepare_process()
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
        training = Training(config, store, ranks=ranks)
        training.advance(Epoch(config, store), lambda: None)
    if rank == 0:
        seconds = training.seconds[-1] - training.seconds[WARM_UP - 1]
        (folder / "seconds.json").write_text(json.dumps(seconds / n_steps))


def step_seconds(size: int, data: Path, grade: str, n_steps: int, folder: Path) -> float:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=worker, args=(rank, size, data, grade, n_steps, folder))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return float(json.loads((folder / "seconds.json").read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grades", default="SUAN-3,SUAN-5")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    result = {"torch": torch.__version__, "batch": BATCH, "rows": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_train = BATCH * (options.steps + WARM_UP)
        config = SyntheticConfig(n_train=n_train, n_test=100, n_items=10_000, warmup_events=150)
        data = generate_logs(folder / "log", config).path
        for grade in options.grades.split(","):
            seconds: dict[int, list[float]] = {1: [], options.ranks: []}
            for _ in range(ROUNDS):
                for size, found in seconds.items():
                    found.append(step_seconds(size, data, grade, options.steps, folder))
            one, several = (statistics.median(found) for found in seconds.values())
            row = {
                "grade": grade,
                "ranks": options.ranks,
                "one_seconds": one,
                "ranks_seconds": several,
                "speed_up": one / several,
            }
            result["rows"].append(row)
            print(json.dumps(row), flush=True)
    path = Path(__file__).parent / "results" / "ranks.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
