"""An import of one log in one job, and in shards by several workers: seconds, CPU-seconds, and the memory of each process.

    .venv/bin/python benchmarks/import_shards.py                                       # 20 million rows in 40 files
    .venv/bin/python benchmarks/import_shards.py --rows 2_000_000 --shards 4 --jobs 2

Each import is the command line's, in processes of its own; memory is the largest resident set of each, looked at ten times a
second. Prints a table and writes benchmarks/results/import_shards.json. The stores must have the same fingerprint.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from scaling.store import open_store

TOML = """
[impressions]
files = ["log"]
user = "user"
time = "time"
item = "item"
label = "label"
[items]
files = ["items.parquet"]
item = "item"
[features]
behaviour = ["item", "category"]
candidate = ["item", "category"]
context = ["hour", "scene"]
"""


def generate(folder: Path, rows: int, files: int) -> None:
    """Write `rows` rows, in no order, into as many CSV files."""
    import duckdb

    users, items, step = rows // 100, max(100, rows // 200), rows // files
    (folder / "log").mkdir()
    for part in range(files):
        duckdb.execute(
            f"""COPY (SELECT 'u' || (hash(i) % {users}) AS user, {1_700_000_000} + (hash(i + 1) % 2592000)::BIGINT AS time,
                             'i' || ({items} * pow((hash(i + 2) % 1000003) / 1000003.0, 2))::BIGINT AS item,
                             (hash(i + 3) % 20 = 0)::INTEGER AS label, 's' || (hash(i + 4) % 9) AS scene
                      FROM range({part * step}, {part * step + step}) t(i)) TO '{folder}/log/{part:03}.csv'"""
        )
    duckdb.execute(
        f"COPY (SELECT 'i' || i AS item, 'c' || (i % 97) AS category FROM range({items + 1}) t(i)) "
        f"TO '{folder}/items.parquet' (FORMAT parquet)"
    )
    (folder / "log.toml").write_text(TOML)


def measure(raw: Path, out: Path, options: list[str]) -> dict[str, object]:
    """Import once and return what it took."""
    command = [sys.executable, "-m", "scaling", "data", "import", "table", str(raw), str(out)]
    begin, before = time.monotonic(), os.times()
    process = subprocess.Popen([*command, *options])
    largest: dict[int, int] = {}
    while process.poll() is None:
        with suppress(psutil.Error):
            driver = psutil.Process(process.pid)
            for one in (driver, *driver.children(recursive=True)):
                largest[one.pid] = max(largest.get(one.pid, 0), one.memory_info().rss)
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(options)}: the import failed")
    seconds, after = time.monotonic() - begin, os.times()
    cpu = after.children_user + after.children_system
    return {
        "options": " ".join(options),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu - before.children_user - before.children_system, 1),
        "largest_process_mib": max(largest.values()) >> 20,
        "fingerprint": open_store(out).fingerprint,
    }


def main() -> None:
    """Generate, import twice, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=20_000_000)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--memory", default="2")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "raw").mkdir()
        generate(folder / "raw", given.rows, given.files)
        memory = ["--memory", given.memory]
        cut = ["--shards", str(given.shards), "--jobs", str(given.jobs)]
        results = [
            measure(folder / "raw", folder / name, options)
            for name, options in (("one", memory), ("cut", [*memory, *cut]))
        ]
    for result in results:
        print(result)
    assert results[0]["fingerprint"] == results[1]["fingerprint"]
    document = {
        "rows": given.rows,
        "files": given.files,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[1],
        "imports": results,
    }
    path = Path(__file__).parent / "results" / "import_shards.json"
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
