"""DuckDB or Polars: the work of an import on 10 and 30 million rows; the choice of engine rests on it.

    .venv/bin/pip install polars
    .venv/bin/python benchmarks/import_engine.py

Events (Parquet) and impressions (CSV), half of the rows each, are read in a temporary folder, their vocabularies built from the training part, joined, sorted by (user, time) and (part, time, user) with all columns as tie-breakers, each
impression's history counted, and the columns written batch by batch. Both engines must write the same bytes. Each runs in a
process of its own on all cores: wall and CPU seconds and the peak resident set. DuckDB gets a memory limit of 1 GiB; Polars has
none to set. Prints and writes benchmarks/results/import_engine.json.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = (10_000_000, 30_000_000)
USERS, ITEMS, CATEGORIES = 300_000, 200_000, 500
START, DAYS = 1_700_000_000, 14
BOUNDARY = START + 12 * 86_400
MEMORY = "1GiB"


def generate(folder: Path, rows_each: int) -> None:
    import duckdb

    def rows(seed: int, last: str) -> str:
        return f"""
            SELECT (hash(i + {seed}) % {USERS})::BIGINT * 7 AS user,
                   'i' || (({ITEMS} * pow((hash(i + {seed + 1}) % 1000003) / 1000003.0, 3))::BIGINT) AS item,
                   'c' || (hash(i + {seed + 2}) % {CATEGORIES}) AS category,
                   {START} + (hash(i + {seed + 3}) % {DAYS * 86_400})::BIGINT AS time, {last}
            FROM range({rows_each}) t(i)"""

    connection = duckdb.connect()
    connection.execute(
        f"COPY ({rows(10**9, '(hash(i) % 4)::INTEGER AS action')}) TO '{folder}/events.parquet'"
    )
    connection.execute(
        f"COPY ({rows(2 * 10**9, 'round((hash(i) % 9973) / 100.0, 2) AS price, (hash(i + 5) % 10 = 0)::INTEGER AS label')}) "
        f"TO '{folder}/impressions.csv'"
    )


class Digests:
    """Columns written batch by batch, and a digest of each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.digests, self.files = folder, {}, {}

    def append(self, prefix: str, columns: dict[str, np.ndarray]) -> None:
        for name, values in columns.items():
            key = f"{prefix}.{name}"
            if key not in self.files:
                self.files[key] = (self.folder / key).open("wb")
                self.digests[key] = hashlib.sha256()
            array = np.ascontiguousarray(values)
            self.files[key].write(array.data)
            self.digests[key].update(array.data)

    def result(self) -> dict[str, str]:
        return {key: digest.hexdigest() for key, digest in sorted(self.digests.items())}


def run_duckdb(folder: Path) -> dict[str, str]:
    import duckdb

    c = duckdb.connect(str(folder / "work.duckdb"))
    c.execute(f"SET memory_limit='{MEMORY}'; SET temp_directory='{folder}/spill'")
    c.execute(f"CREATE TABLE e AS SELECT * FROM '{folder}/events.parquet'")
    c.execute(
        f"""CREATE TABLE i AS SELECT * FROM read_csv('{folder}/impressions.csv', auto_detect=false, header=true,
            delim=',', quote='"', escape='"', columns={{'user': 'BIGINT', 'item': 'VARCHAR', 'category': 'VARCHAR',
            'time': 'BIGINT', 'price': 'DOUBLE', 'label': 'INTEGER'}})"""
    )
    c.execute(
        "CREATE TABLE v_user AS SELECT user, (row_number() OVER (ORDER BY user) - 1)::INTEGER AS id "
        "FROM (SELECT user FROM e UNION SELECT user FROM i)"
    )
    for name in ("item", "category"):
        c.execute(
            f"""CREATE TABLE v_{name} AS SELECT {name}, (row_number() OVER (ORDER BY {name}) + 1)::UINTEGER AS id
                FROM (SELECT {name} FROM e WHERE time < {BOUNDARY} UNION ALL SELECT {name} FROM i WHERE time < {BOUNDARY})
                GROUP BY {name} HAVING count(*) >= 5"""
        )
    encode = """v_user.id AS user, time, coalesce(v_item.id, 1)::UINTEGER AS item,
                coalesce(v_category.id, 1)::USMALLINT AS category"""
    joins = "JOIN v_user USING (user) LEFT JOIN v_item USING (item) LEFT JOIN v_category USING (category)"
    c.execute(f"CREATE TABLE e2 AS SELECT {encode}, action::UTINYINT AS action FROM e {joins}")
    c.execute(
        f"CREATE TABLE i2 AS SELECT {encode}, price::FLOAT AS price, label::UTINYINT AS label FROM i {joins}"
    )
    out = Digests(folder)

    def stream(prefix: str, query: str) -> None:
        c.execute(query)
        while len(frame := c.fetch_df_chunk(64)):
            out.append(prefix, {name: frame[name].to_numpy() for name in frame})

    stream(
        "events",
        "SELECT user, time, item, category, action FROM e2 ORDER BY user, time, item, category, action",
    )
    c.execute(
        """CREATE TABLE i3 AS SELECT * EXCLUDE is_event FROM (
             SELECT *, sum(is_event) OVER (PARTITION BY user ORDER BY time, is_event ROWS UNBOUNDED PRECEDING)::INTEGER
                       AS seen
             FROM (SELECT *, 0::UTINYINT AS is_event FROM i2 UNION ALL BY NAME
                   SELECT user, time, 1::UTINYINT AS is_event FROM e2))
           WHERE is_event = 0"""
    )
    stream(
        "impressions",
        f"""SELECT user, time, item, category, price, label, seen FROM i3
            ORDER BY time >= {BOUNDARY}, time, user, item, category, price, label""",
    )
    return out.result()


def run_polars(folder: Path) -> dict[str, str]:
    import polars as pl

    e = pl.scan_parquet(folder / "events.parquet")
    i = pl.scan_csv(
        folder / "impressions.csv",
        schema={
            "user": pl.Int64,
            "item": pl.String,
            "category": pl.String,
            "time": pl.Int64,
            "price": pl.Float64,
            "label": pl.Int32,
        },
    )

    def collect(frame: pl.LazyFrame) -> pl.DataFrame:
        return frame.collect(engine="streaming")

    users = collect(pl.concat([e.select("user"), i.select("user")]).unique().sort("user"))
    v_user = users.with_row_index("user_id").cast({"user_id": pl.Int32}).lazy()
    vocabularies = {}
    for name, kind in (("item", pl.UInt32), ("category", pl.UInt16)):
        training = pl.concat([x.filter(pl.col("time") < BOUNDARY).select(name) for x in (e, i)])
        values = collect(
            training.group_by(name).len().filter(pl.col("len") >= 5).select(name).sort(name)
        )
        vocabularies[name] = (
            values.with_row_index(f"{name}_id", offset=2).cast({f"{name}_id": kind}).lazy()
        )

    def encoded(frame: pl.LazyFrame) -> pl.LazyFrame:
        frame = frame.join(v_user, on="user", how="inner")
        for name, vocabulary in vocabularies.items():
            frame = frame.join(vocabulary, on=name, how="left").with_columns(
                pl.col(f"{name}_id").fill_null(1)
            )
        return frame.drop("user", "item", "category").rename(
            {"user_id": "user", "item_id": "item", "category_id": "category"}
        )

    out = Digests(folder)

    def stream(prefix: str, frame: pl.LazyFrame, columns: list[str]) -> None:
        for batch in frame.select(columns).collect_batches(engine="streaming", maintain_order=True):
            out.append(prefix, {name: batch[name].to_numpy() for name in columns})

    event_columns = ["user", "time", "item", "category", "action"]
    e2 = encoded(e).with_columns(pl.col("action").cast(pl.UInt8))
    stream("events", e2.sort(event_columns), event_columns)
    i2 = encoded(i).with_columns(pl.col("price").cast(pl.Float32), pl.col("label").cast(pl.UInt8))
    both = pl.concat(
        [
            i2.with_columns(pl.lit(0, pl.UInt8).alias("is_event")),
            e2.select("user", "time").with_columns(pl.lit(1, pl.UInt8).alias("is_event")),
        ],
        how="diagonal",
    ).sort("user", "time", "is_event")
    seen = pl.col("is_event").cast(pl.Int32).cum_sum().over("user")
    i3 = both.with_columns(seen.cast(pl.Int32).alias("seen")).filter(pl.col("is_event") == 0)
    columns = ["user", "time", "item", "category", "price", "label", "seen"]
    order = [
        pl.col("time") >= BOUNDARY,
        *(pl.col(c) for c in ("time", "user", "item", "category", "price", "label")),
    ]
    stream("impressions", i3.sort(order), columns)
    return out.result()


def compare(rows: int) -> dict[str, dict[str, float]]:
    """Run both engines on the same files, each in a process of its own."""
    results = {}
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name), rows // 2)
        for engine in ENGINES:
            with tempfile.TemporaryDirectory(dir=name) as work:
                for file in ("events.parquet", "impressions.csv"):
                    (Path(work) / file).symlink_to(Path(name) / file)
                command = [sys.executable, __file__, engine, work]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                results[engine] = json.loads(done.stdout)
    digests = [result.pop("digests") for result in results.values()]
    assert digests[0] == digests[1], "the engines wrote different bytes"
    for result in results.values():
        result["rows_per_second"] = rows / result["wall_seconds"]
    results["duckdb_over_polars"] = {
        key: results["duckdb"][key] / results["polars"][key]
        for key in ("wall_seconds", "cpu_seconds", "resident_mib")
    }
    return results


def run_one(engine: str, folder: Path) -> None:
    begin = time.perf_counter()
    digests = ENGINES[engine](folder)
    use = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "wall_seconds": time.perf_counter() - begin,
        "cpu_seconds": use.ru_utime + use.ru_stime,
        "resident_mib": use.ru_maxrss / 1024,
        "digests": digests,
    }
    print(json.dumps(result))


ENGINES = {"duckdb": run_duckdb, "polars": run_polars}


def main() -> None:
    if len(sys.argv) > 1:
        run_one(sys.argv[1], Path(sys.argv[2]))
        return
    document = {str(rows): compare(rows) for rows in SIZES}
    file = Path(__file__).parent / "results" / "import_engine.json"
    file.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
