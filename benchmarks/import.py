"""An import of generated events and impressions: rows per second, memory, disk, and a kill half-way.

    .venv/bin/python benchmarks/import.py                  # 100 million rows: 10 GB of temporary files
    .venv/bin/python benchmarks/import.py --rows 10_000_000

Half of the rows are events (Parquet), half impressions (CSV), in no order, with a user and an item table. The command line
imports them in a process of its own; its peak resident set is the kernel's. What the engine needs to read the same files with
types given and to sort them, nothing else, is the floor of its CPU seconds. A second import is killed half-way. Prints a
table and writes benchmarks/results/import.json.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scaling.store import open_store

TOML = """
zone = "Asia/Shanghai"
[impressions]
files = ["impressions"]
user = "user"
time = "time"
item = "item"
label = "click"
[events]
files = ["events"]
user = "user"
time = "time_ms"
unit = "ms"
item = "item"
[users]
files = ["users.csv"]
user = "user"
[items]
files = ["items.parquet"]
item = "item"
[features]
behaviour = ["item", "category", "brand", "action"]
candidate = ["item", "category", "brand"]
context = ["hour", "weekday", "position", "scene"]
profile = ["age", "city"]
numeric = ["price"]
[vocabularies]
min_count = 2
"""
START, DAYS = 1_700_000_000, 30


def generate(folder: Path, rows: int) -> int:
    """Write `rows` rows with DuckDB in files of five million; return the bytes."""
    import duckdb

    users, items, half = max(rows // 100, 100), max(rows // 100, 100), rows // 2
    connection = duckdb.connect()
    connection.execute("SET memory_limit = '1GiB'")

    def common(seed: int) -> str:
        return f"""(hash(i + {seed}) % {users})::BIGINT * 7 + 1000 AS user,
                   'item' || ({items} * pow((hash(i + {seed + 1}) % 1000003) / 1000003.0, 2))::BIGINT AS item,
                   {START} + (hash(i + {seed + 2}) % {DAYS * 86_400})::BIGINT AS time"""

    (folder / "events").mkdir()
    (folder / "impressions").mkdir()
    step = 5_000_000
    for part, first in enumerate(range(0, half, step)):
        i = f"range({first}, {min(first + step, half)}) t(i)"
        connection.execute(
            f"COPY (SELECT * EXCLUDE time, time * 1000 + i % 1000 AS time_ms, "
            f"['view', 'cart', 'buy'][(hash(i) % 3)::INTEGER + 1] AS action FROM (SELECT i, {common(10**11)} FROM {i})) "
            f"TO '{folder}/events/{part:03}.parquet'"
        )
        connection.execute(
            f"COPY (SELECT {common(2 * 10**11)}, round(exp((hash(i + 6) % 9973) / 1000.0), 2) AS price, "
            f"hash(i + 7) % 8 AS position, 'scene' || hash(i + 8) % 15 AS scene, (hash(i + 9) % 10 = 0)::INTEGER AS click "
            f"FROM {i}) TO '{folder}/impressions/{part:03}.csv'"
        )
    connection.execute(
        f"COPY (SELECT i * 7 + 1000 AS user, hash(i) % 8 AS age, 'city' || hash(i + 1) % 300 AS city FROM range({users}) t(i)) "
        f"TO '{folder}/users.csv'"
    )
    connection.execute(
        f"COPY (SELECT 'item' || i AS item, 'c' || hash(i) % 2000 AS category, nullif(hash(i + 1) % 50000, 7) AS brand "
        f"FROM range({items}) t(i)) TO '{folder}/items.parquet'"
    )
    (folder / "log.toml").write_text(TOML)
    return size(folder)


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def command(raw: Path, out: Path, memory: float) -> list[str]:
    return [
        *(sys.executable, "-m", "scaling", "data", "import", "table"),
        *(str(raw), str(out), "--memory", str(memory)),
    ]


def timed_import(raw: Path, out: Path, memory: float) -> dict[str, float]:
    """Run one import and watch how much room its working files take."""
    begin, most = time.perf_counter(), 0
    process = subprocess.Popen(command(raw, out, memory))
    while process.poll() is None:
        time.sleep(1)
        try:
            most = max(most, sum(size(folder) for folder in out.parent.glob(f".{out.name}.*.tmp")))
        except FileNotFoundError:  # a spilled file that is gone again
            continue
    assert process.returncode == 0
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_seconds": time.perf_counter() - begin,
        "resident_gib": use.ru_maxrss / 2**20,
        "working_files_bytes": most,
    }


def floor_cpu_seconds(raw: Path, work: Path, memory: float) -> float:
    """CPU seconds in which the engine alone reads and sorts the events and the impressions."""
    import duckdb

    def used() -> float:
        use = resource.getrusage(resource.RUSAGE_SELF)
        return use.ru_utime + use.ru_stime

    work.mkdir()
    begin = used()
    connection = duckdb.connect(str(work / "floor.duckdb"))
    connection.execute(f"SET memory_limit = '{memory}GiB'; SET preserve_insertion_order = false")
    connection.execute("SET enable_progress_bar = false")
    types = {"user": "BIGINT", "item": "VARCHAR", "time": "BIGINT", "price": "DOUBLE"}
    types |= {"position": "BIGINT", "scene": "VARCHAR", "click": "INTEGER"}
    csv = f"read_csv('{raw}/impressions/*.csv', header = true, auto_detect = false, columns = {types})"
    for name, rows, time_of in (
        ("events", f"'{raw}/events/*.parquet'", "time_ms"),
        ("impressions", csv, "time"),
    ):
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {rows}")
        connection.execute(
            f"CREATE TABLE s_{name} AS SELECT * FROM {name} ORDER BY {time_of}, user"
        )
    connection.close()
    return used() - begin


def killed_import(raw: Path, out: Path, memory: float, after: float) -> dict[str, bool]:
    """Kill an import after so many seconds: nothing at `out`, and the next one clears up."""
    process = subprocess.Popen(command(raw, out, memory), stderr=subprocess.DEVNULL)
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = [path.name for path in out.parent.glob(f"*{out.name}*")]
    assert all(name.startswith(".") for name in left), left
    process = subprocess.Popen(command(raw, out, memory), stderr=subprocess.DEVNULL)
    time.sleep(5)
    process.terminate()
    process.wait()
    left_then = [path.name for path in out.parent.glob(f"*{out.name}*")]
    return {
        "nothing_finished_after_kill": not out.exists(),
        "nothing_left_after_the_next": not left_then,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--memory", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=None, help="where temporary files go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        raw = Path(name) / "raw"
        raw.mkdir()
        n_bytes = generate(raw, arguments.rows)
        result = timed_import(raw, Path(name) / "out", arguments.memory)
        use = resource.getrusage(resource.RUSAGE_CHILDREN)
        store = open_store(Path(name) / "out")
        floor = floor_cpu_seconds(raw, Path(name) / "floor", arguments.memory)
        rows = store.source["rows"]
        read = rows["events"]["read"] + rows["impressions"]["read"]
        document = {
            "rows": read,
            "cores": os.cpu_count(),
            "raw_bytes": n_bytes,
            **result,
            "cpu_seconds": use.ru_utime + use.ru_stime,
            "floor_cpu_seconds": floor,
            "cpu_over_floor": (use.ru_utime + use.ru_stime) / floor,
            "rows_per_second": read / result["wall_seconds"],
            "load_average": os.getloadavg()[1],
            "rows_per_cpu_second": read / (use.ru_utime + use.ru_stime),
            "store_bytes": size(store.path),
            "working_over_raw_bytes": result["working_files_bytes"] / n_bytes,
            "memory_limit_gib": arguments.memory,
            "fingerprint": store.fingerprint,
        }
        document |= killed_import(
            raw, Path(name) / "killed", arguments.memory, result["wall_seconds"] / 2
        )
    file = Path(__file__).parent / "results" / "import.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    results[str(read)] = document
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
