"""Training from a store that is not in memory: samples per second and bytes read from a cold disk, by way of reading.

    .venv/bin/python benchmarks/cold_store.py [--users 2000000] [--folder /a/slow/disk]

Makes a store of random rows (3 GB with the default) in a temporary folder of the given one, drops it from the page cache
before each measurement, and reads batches as training does. Prints a table and writes benchmarks/results/cold_store.json.
The ways: impressions in random order (a nested random subset), the same with `MADV_RANDOM` (no reading around), the same
with what training does for stores that exceed memory (`scaling.batches.read_ahead`), and the latest impressions in time order.
"""

import argparse
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from loader import SCHEMA

from scaling.batches import iterate_training
from scaling.batches.permutation import permuted_rows
from scaling.batches.read_ahead import reading_ahead
from scaling.store import (
    HistoryLengths,
    StoreDescription,
    StoreWriter,
    array_table,
    open_store,
)

EVENTS, IMPRESSIONS, BATCH = 100, 10, 256
AHEAD = "random order, read ahead"
WAYS = ("random order", "random order, MADV_RANDOM", AHEAD, "latest in time order")


def make_store(folder: Path, n_users: int) -> None:
    """Users with 100 events and 10 impressions each, whose impressions are spread over all users in time."""
    rng = np.random.default_rng(0)
    n, n_events = n_users * IMPRESSIONS, n_users * EVENTS
    table = array_table(SCHEMA, n_users, n_events, n, False)
    lengths = HistoryLengths()
    folder.mkdir()
    with StoreWriter(folder, table) as writer:
        writer.append("behaviours/offsets", np.arange(n_users + 1) * EVENTS)
        for start in range(0, n_users, 100_000):
            size = min(100_000, n_users - start)
            writer.append("behaviours/time", np.tile(10**9 + np.arange(EVENTS) * 600, size))
            for f in SCHEMA.behaviour:
                ids = rng.integers(2, SCHEMA.vocabularies[f.vocabulary], size * EVENTS)
                writer.append(f"behaviours/feature.{f.name}", ids)
            writer.append("profile/feature.age", rng.integers(2, 9, size))
        first = 10**9 + EVENTS * 600
        for second in range(IMPRESSIONS):  # one impression of every user in each second
            user = np.arange(n_users)
            writer.append("impressions/user", user)
            writer.append("impressions/time", np.full(n_users, first + second))
            writer.append("impressions/history_end", (user + 1) * EVENTS)
            writer.append("impressions/request", user + second * n_users)
            writer.append("impressions/label", rng.integers(0, 2, n_users))
            for group, features in (("candidate", SCHEMA.candidate), ("context", SCHEMA.context)):
                for f in features:
                    ids = rng.integers(2, SCHEMA.vocabularies[f.vocabulary], n_users)
                    writer.append(f"impressions/{group}.{f.name}", ids)
            lengths.add(np.full(n_users, EVENTS))
    writer.finish(
        StoreDescription(
            schema=SCHEMA,
            n_users=n_users,
            n_requests=n,
            split={"kind": "time", "boundary": first + IMPRESSIONS - 1, "n_train": n - n_users},
            history_quantiles=lengths.quantiles(),
            source={"kind": "benchmark"},
            utc_offset_seconds=0,
        )
    )


def drop_from_cache(folder: Path) -> None:
    """Let the kernel forget the files; they must have been written to disk."""
    os.sync()
    for file in folder.rglob("*.npy"):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def bytes_read() -> int:
    """Bytes that this process has had read from disk."""
    lines = dict(
        line.split(": ") for line in Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    )
    return int(lines["read_bytes"])


def measure(folder: Path, way: str, max_len: int, n_steps: int) -> dict[str, float]:
    """Read the first steps of an epoch."""
    store = open_store(folder)
    if "MADV_RANDOM" in way:
        for array in (
            *(store.user, store.time, store.history_end, store.request, store.label),
            *(store.offsets, store.event_time),
            *store.behaviours.values(),
            *store.candidates.values(),
            *store.contexts.values(),
            *store.profiles.values(),
        ):
            array.base._mmap.madvise(mmap.MADV_RANDOM)
    ends = np.arange(1, n_steps + 1) * BATCH
    order = None if "time order" in way else 7
    begin, before = time.perf_counter(), bytes_read()
    steps = iterate_training(store, ends, max_len, order)
    if way == AHEAD:

        def rows_of(step: int) -> np.ndarray:
            places = np.arange(step * BATCH, (step + 1) * BATCH)
            return permuted_rows(places, store.n_train, 7)

        steps = reading_ahead(store, steps, rows_of, 0, n_steps, max_len)
    for _ in steps:
        pass
    seconds = time.perf_counter() - begin
    n = n_steps * BATCH
    return {
        "samples_per_second": n / seconds,
        "kib_per_sample": (bytes_read() - before) / 1024 / n,
    }


def main() -> None:
    """Make the store, and measure each way in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        folder, way, max_len, n_steps = given.measure
        print(json.dumps(measure(Path(folder), way, int(max_len), int(n_steps))))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(temporary) / "store"
        make_store(folder, given.users)
        n_bytes = sum(file.stat().st_size for file in folder.rglob("*.npy"))
        for max_len in (20, 100):
            for way in (*WAYS, "random order, in memory"):
                n_steps = 40
                if way != "random order, in memory":
                    drop_from_cache(folder)
                else:
                    for file in folder.rglob("*.npy"):
                        file.read_bytes()
                command = [sys.executable, __file__, "--measure", str(folder), way, str(max_len), str(n_steps)]  # fmt: skip
                found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                rows.append({"way": way, "L": max_len, **found})
                print(f"{way:28} L = {max_len:3}: {found['samples_per_second']:9,.0f} samples/s, {found['kib_per_sample']:7.1f} KiB a sample")  # fmt: skip
    results = {"store_gb": n_bytes / 1e9, "batch": BATCH, "rows": rows}
    Path(__file__).with_name("results").joinpath("cold_store.json").write_text(
        json.dumps(results, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
