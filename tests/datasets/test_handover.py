"""Folders as Spark and BigQuery write them, read with the mapping of docs/data.md as it stands there."""

from pathlib import Path

import duckdb
import pytest
from raw_logs import history

from scaling.importers import import_logs
from scaling.store import validate_store

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
N = 240
# Asia/Shanghai is eight hours before UTC; the moments are in UTC.
MOMENT = "make_timestamp((1700000000 + i * 37 % 5000)::BIGINT * 1000000)"
SHOWN = (
    f"SELECT i, 'u' || (i % 11) AS user, {MOMENT} AS time, i * 7 % 13 AS item, i % 3 = 0 AS label, "
    f"CASE WHEN i % 5 > 0 THEN i % 7 + 0.25 END AS price, CASE WHEN i % 4 > 0 THEN 's' || i % 4 END AS scene FROM range({N}) t(i)"
)
DONE = f"SELECT i, 'u' || (i % 12) AS user, {MOMENT} AS time, i * 5 % 14 AS item, 'a' || i % 2 AS action FROM range({N}) t(i)"
USERS = "SELECT 'u' || i AS user, 20 + i AS age FROM range(10) t(i)"
ITEMS = (
    "SELECT i AS item, 'c' || i % 3 AS category, list_transform(range(i % 4), lambda k: 't' || k) AS tags "
    "FROM range(13) t(i)"
)


def mapping():
    text = DOCS.read_text(encoding="utf-8")
    section = text[text.index("### From Spark or BigQuery") :]
    return section.split("```toml\n")[1].split("```")[0]


def write(select, file, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = "".join(f", {key} {value}" for key, value in options.items())
    duckdb.execute("SET TimeZone = 'UTC'")
    duckdb.execute(f"COPY ({select}) TO '{file}' (FORMAT parquet{settings})")


def spark(folder):
    """Parts of days, packed by snappy, with a marker file and its checksum, and a part without rows."""
    columns = "* EXCLUDE (i) REPLACE (timezone('UTC', time) AS time)"
    for name, select in (("impressions", SHOWN), ("events", DONE)):
        for part in range(3):
            rows = f"SELECT {columns} FROM ({select}) WHERE i % 3 = {part}"
            uuid = f"{part:05d}-0b6e8c2e-7d3c-4c53-8f61-3f3a2b1c9d10.c000.snappy.parquet"
            write(rows, folder / name / f"day={part}" / f"part-{uuid}", COMPRESSION="snappy")
        write(
            f"SELECT {columns} FROM ({select}) LIMIT 0",
            folder / name / "day=2" / "part-00009-0b6e8c2e.c000.snappy.parquet",
        )
        (folder / name / "_SUCCESS").touch()
        (folder / name / "._SUCCESS.crc").write_bytes(b"crc")
    for name, select in (("users", USERS), ("items", ITEMS)):
        write(select, folder / name / "part-00000-0b6e8c2e.c000.snappy.parquet")


def bigquery(folder, time="timezone('Asia/Shanghai', timezone('UTC', time))"):
    """Numbered files; numbers are NUMERIC, and times DATETIME in the log's own zone."""
    for name, select in (("impressions", SHOWN), ("events", DONE)):
        price = ", price::DECIMAL(38, 9) AS price" if name == "impressions" else ""
        columns = f"* EXCLUDE (i) REPLACE ({time} AS time, item::BIGINT AS item{price})"
        for part in range(2):
            rows = f"SELECT {columns} FROM ({select}) WHERE i % 2 = {part}"
            write(rows, folder / name / f"{part:012d}.parquet", COMPRESSION="zstd")
    for name, select in (("users", USERS), ("items", ITEMS)):
        write(select, folder / name / "000000000000.parquet")


def bigquery_with_text(folder):
    """A DATETIME may also be a text."""
    bigquery(
        folder, "strftime(timezone('Asia/Shanghai', timezone('UTC', time)), '%Y-%m-%dT%H:%M:%S')"
    )


def plain(folder):
    """The same log with whole seconds, in one file each, and zoned times."""
    for name, select in (("impressions", SHOWN), ("events", DONE)):
        rows = f"SELECT * EXCLUDE (i) REPLACE (timezone('UTC', time) AS time) FROM ({select})"
        write(rows, folder / name / "all.parquet")
    for name, select in (("users", USERS), ("items", ITEMS)):
        write(select, folder / name / "all.parquet")


def imported(write_folder, folder, **how):
    write_folder(folder / "handover")
    (folder / "handover" / "log.toml").write_text(mapping())
    return import_logs("table", folder / "handover", folder / "out", **how)


@pytest.mark.slow
@pytest.mark.parametrize("write_folder", [bigquery, bigquery_with_text])
def test_a_folder_of_bigquery_gives_the_store_of_zoned_times(tmp_path, write_folder):
    (tmp_path / "plain").mkdir()
    expected = imported(plain, tmp_path / "plain")
    store = imported(write_folder, tmp_path)
    assert store.fingerprint == expected.fingerprint
    assert not validate_store(store.path)


@pytest.mark.slow
def test_a_folder_of_spark_gives_the_store_of_zoned_times(tmp_path):
    (tmp_path / "plain").mkdir()
    expected = imported(plain, tmp_path / "plain")
    assert imported(spark, tmp_path).fingerprint == expected.fingerprint


def test_what_is_in_the_store_is_what_was_handed_over(tmp_path):
    store = imported(plain, tmp_path)
    n_done = duckdb.execute(f"SELECT count(*) FROM ({DONE}) WHERE user != 'u11'").fetchone()[0]
    assert (store.n_impressions, store.n_events, store.n_users) == (N, n_done, 11)
    assert int(store.label.sum()) == N // 3
    assert sorted(set(store.numerics["price"])) == [0.0, *(k + 0.25 for k in range(7))]
    assert store.lists["behaviours/feature.tags"].max_values == 4
    assert store.source["found"]["items"]["impressions"] == [N, N]
    last = store.n_impressions - 1
    assert len(history(store, last)) > 0


@pytest.mark.slow
def test_a_folder_is_read_in_shards(tmp_path):
    (tmp_path / "plain").mkdir()
    expected = imported(plain, tmp_path / "plain")
    assert imported(spark, tmp_path, shards=3).fingerprint == expected.fingerprint
