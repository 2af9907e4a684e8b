"""A random log of four CSV files with the TOML that `scaling data import table` reads."""

import csv
import random
from pathlib import Path

import duckdb

__all__ = ["START", "TOML", "as_parquet", "changed", "make_rows", "write_table_log"]

START = 1_700_000_000
TOML = """
zone = "Asia/Shanghai"
[impressions]
files = ["shown.csv"]
user = "uid"
time = "ts"
item = "vid"
label = "click"
[events]
files = ["done.csv"]
user = "user"
time = "ms"
unit = "ms"
item = "video"
[users]
files = ["users.csv"]
user = "user"
[items]
files = ["items.csv"]
item = "video"
[features]
behaviour = ["item", "kind", "action"]
candidate = ["item", "kind"]
context = ["hour", "tab"]
profile = ["age"]
numeric = ["price"]
columns = { kind = "the, kind" }
[vocabularies]
min_count = 3
"""


def make_rows(n=300, seed=0):
    """Return impressions and events of 20 users within 40 seconds of two hours, so that very many share a second."""
    rng = random.Random(seed)

    def moment():
        return START + rng.randrange(2) * 3600 + rng.randrange(20)

    shown = [
        [
            f"{rng.randrange(20):03d}",
            moment(),
            f"v{rng.randrange(40)}",
            rng.randrange(2),
            rng.choice(["1.5", "-0.25", "0"]),
            rng.choice(["", "a", "b"]),
        ]
        for _ in range(n)
    ]
    done = [
        [
            f"{rng.randrange(22):03d}",
            moment() * 1000 + rng.randrange(1000),
            f"v{rng.randrange(45)}",
            rng.choice(["view", "buy"]),
        ]
        for _ in range(n)
    ]
    return {
        "shown": [["uid", "ts", "vid", "click", "price", "tab"], *shown],
        "done": [["user", "ms", "video", "action"], *done],
        "users": [["user", "age"], *([f"{u:03d}", u % 3 or ""] for u in range(15))],
        "items": [["video", "the, kind"], *([f"v{i}", f"k, {i % 6}"] for i in range(30))],
    }


def write_table_log(folder: Path, rows=None, toml=TOML, **options):
    """Write the rows as CSV files, and the TOML, into `folder`."""
    folder.mkdir(exist_ok=True)
    for name, table in (rows or make_rows()).items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n", **options).writerows(table)
    (folder / "log.toml").write_text(toml)
    return folder


def changed(old, new):
    """Return the TOML with `new` instead of `old`."""
    return TOML.replace(old, new)


def as_parquet(folder):
    """Turn the CSV files into Parquet files."""
    for file in folder.glob("*.csv"):
        user = "uid" if file.stem == "shown" else "user"
        kinds = "auto_detect = true" if file.stem == "items" else f"types = {{'{user}': 'VARCHAR'}}"
        duckdb.execute(
            f"COPY (SELECT * FROM read_csv('{file}', {kinds})) TO '{file.with_suffix('.parquet')}'"
        )
        file.unlink()
    toml = folder / "log.toml"
    toml.write_text(toml.read_text().replace(".csv", ".parquet"))
