"""`scaling data import table`: what is imported, in every form of the files."""

import gzip
import random
from collections import Counter
from functools import partial

import duckdb
import numpy as np
import pytest
import zstandard
from raw_logs import assert_same_files
from slow_cases import fast_only
from table_logs import START, TOML, as_parquet, changed, make_rows, write_table_log

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.importers.pipeline import Limits
from scaling.store import Events, Feature, Impressions, Schema, open_store, write_store

run = partial(import_logs, "table")


def reference(rows, path):
    """Make the same store from dictionaries with `write_store`, without SQL and streams."""
    shown, done, users, items = (rows[n][1:] for n in ("shown", "done", "users", "items"))
    age, kind = dict(users), dict(items)
    shown = [(u, t, v, c, float(p), tab) for u, t, v, c, p, tab in shown]
    own = sorted({row[0] for row in shown})
    done = [(u, ms // 1000, v, a) for u, ms, v, a in done if u in own]
    boundary = sorted(row[1] for row in shown)[len(shown) - round(0.2 * len(shown))]

    def hour(t):
        return str((t + 8 * 3600) // 3600 % 24)

    counts = {name: Counter() for name in ("item", "kind", "action", "hour", "tab", "age")}
    for _, t, v, *rest in (*shown, *done):
        if t < boundary:
            counts["item"][v] += 1
            counts["kind"][kind.get(v, "")] += 1
            if len(rest) == 1:
                counts["action"][rest[0]] += 1
            else:
                counts["hour"][hour(t)] += 1
                counts["tab"][rest[2]] += 1
    for user in {u for u, t, *_ in shown if t < boundary}:
        counts["age"][str(age.get(user, ""))] += 1
    ids = {
        name: {v: i for i, v in enumerate(sorted(v for v, n in c.items() if n >= 3 and v), 2)}
        for name, c in counts.items()
    }

    def encode(name, values):
        return np.array([ids[name].get(str(value), 1) for value in values])

    def features(*names):
        return tuple(Feature(name, name) for name in names)

    schema = Schema(
        features("item", "kind", "action"),
        features("item", "kind"),
        features("hour", "tab"),
        features("age"),
        ("price",),
        {name: len(values) + 2 for name, values in ids.items()},
    )
    time = np.array([row[1] for row in shown])
    return write_store(
        path,
        schema,
        Events(
            np.array([own.index(row[0]) for row in done]),
            np.array([row[1] for row in done]),
            {
                "item": encode("item", [row[2] for row in done]),
                "kind": encode("kind", [kind.get(row[2], "") for row in done]),
                "action": encode("action", [row[3] for row in done]),
            },
        ),
        Impressions(
            user=np.array([own.index(row[0]) for row in shown]),
            time=time,
            label=np.array([row[3] for row in shown]),
            in_test=time >= boundary,
            candidates={
                "item": encode("item", [row[2] for row in shown]),
                "kind": encode("kind", [kind.get(row[2], "") for row in shown]),
            },
            contexts={
                "hour": encode("hour", [hour(row[1]) for row in shown]),
                "tab": encode("tab", [row[5] for row in shown]),
            },
            numerics={"price": np.array([row[4] for row in shown])},
        ),
        {"age": encode("age", [age.get(user, "") for user in own])},
        n_users=len(own),
        split={"kind": "time", "boundary": boundary},
        source={},
        utc_offset_seconds=8 * 3600,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return run(write_table_log(folder / "raw"), folder / "out")


def test_an_import_is_what_a_plain_reading_of_the_rows_gives(tmp_path, plain):
    expected = reference(make_rows(), tmp_path / "reference")
    assert plain.schema == expected.schema
    assert plain.split == expected.split
    assert plain.fingerprint == expected.fingerprint
    assert plain.history_quantiles == expected.history_quantiles
    open_store(plain.path, verify=True)


def test_read_is_kept_plus_dropped(plain):
    rows, table = plain.source["rows"], make_rows()
    assert rows["impressions"] == {"read": 300, "kept": 300, "dropped": {}}
    shown = {row[0] for row in table["shown"][1:]}
    orphans = sum(row[0] not in shown for row in table["done"][1:])
    assert orphans > 0
    assert rows["events"] == {
        "read": 300,
        "kept": 300 - orphans,
        "dropped": {"of users without an impression": orphans},
    }
    assert plain.n_events == 300 - orphans


@pytest.mark.parametrize("seed", [1, 2])
def test_neither_the_order_of_the_rows_nor_memory_and_threads_change_a_byte(tmp_path, plain, seed):
    rows = make_rows()
    for table in rows.values():
        body = table[1:]
        random.Random(seed).shuffle(body)
        table[1:] = body
    other = run(write_table_log(tmp_path / "raw", rows), tmp_path / "out", limits=Limits(1.0, seed))
    assert_same_files(plain, other)


def packed(folder, pack, end):
    for file in folder.glob("*.csv"):
        file.with_name(file.name + end).write_bytes(pack(file.read_bytes()))
        file.unlink()


def as_gz(folder):
    packed(folder, gzip.compress, ".gz")


def as_zst(folder):
    packed(folder, zstandard.compress, ".zst")


def as_folders(folder):
    """Write the impressions as other engines do: one folder per tab, with marker files."""
    duckdb.execute(
        f"COPY (SELECT * FROM read_csv('{folder}/shown.csv', types = {{'uid': 'VARCHAR'}})) TO '{folder}/shown' "
        "(FORMAT parquet, PARTITION_BY (tab))"
    )
    (folder / "shown" / "_SUCCESS").touch()
    (folder / "shown" / "_log").mkdir()
    (folder / "shown" / "_log" / "0.json").write_text("{}")
    toml = folder / "log.toml"
    toml.write_text(toml.read_text().replace("shown.csv", "shown"))


def as_two_files_without_header(folder):
    """Split the events into two files without a header; the TOML names the columns."""
    header, *lines = (folder / "done.csv").read_text().splitlines(keepends=True)
    (folder / "done1.csv").write_text("".join(lines[:100]))
    (folder / "done2.csv").write_text("".join(lines[100:]))
    toml = folder / "log.toml"
    names = str(header.strip().split(",")).replace("'", '"')
    toml.write_text(toml.read_text().replace('["done.csv"]', f'["done?.csv"]\nnames = {names}'))


def as_crlf_with_a_byte_order_mark(folder):
    for file in folder.glob("*.csv"):
        text = file.read_text().replace("\n", "\r\n").rstrip()
        file.write_bytes(b"\xef\xbb\xbf" + text.encode())


@pytest.mark.parametrize(
    "change",
    fast_only(
        [as_two_files_without_header],
        [
            as_gz,
            as_zst,
            as_parquet,
            as_folders,
            as_two_files_without_header,
            as_crlf_with_a_byte_order_mark,
        ],
    ),
)
def test_the_form_of_the_files_changes_nothing(tmp_path, plain, change):
    raw = write_table_log(tmp_path / "raw")
    change(raw)
    assert run(raw, tmp_path / "out").fingerprint == plain.fingerprint


def test_other_separators_and_latin_1(tmp_path, plain):
    rows = make_rows()
    rows["items"] = [[name, kind.replace("k", "ä")] for name, kind in rows["items"]]
    rows["items"][0][1] = "the, kind"
    toml = TOML.replace("files =", 'separator = "|"\nencoding = "latin-1"\nfiles =')
    raw = write_table_log(tmp_path / "raw", rows, toml, delimiter="|")
    for file in raw.glob("*.csv"):
        file.write_bytes(file.read_text(encoding="utf-8").encode("latin-1"))
    assert run(raw, tmp_path / "out").fingerprint == plain.fingerprint
    items = raw / "items.csv"
    items.write_bytes(items.read_bytes().replace("ä".encode("latin-1"), b"\x93", 1))
    with pytest.raises(
        UserError, match=r"items.csv: line 2: column the, kind: byte 0x93 is not LATIN-1"
    ):
        run(raw, tmp_path / "out2")


def test_a_split_by_user_shares_no_user(tmp_path):
    toml = TOML + '[split]\nkind = "user"\ntest_fraction = 0.3\nseed = 3\n'
    store = run(write_table_log(tmp_path / "raw", toml=toml), tmp_path / "out")
    open_store(store.path, verify=True)
    assert store.split["kind"] == "user"
    assert store.n_test / store.n_impressions == pytest.approx(0.3, abs=0.2)
    other = TOML + '[split]\nkind = "user"\ntest_fraction = 0.3\nseed = 4\n'
    assert (
        run(write_table_log(tmp_path / "raw", toml=other), tmp_path / "o2").n_test != store.n_test
    )


def test_a_test_part_begins_at_a_moment_of_the_logs_own_zone(tmp_path):
    # 1700000000 is 2023-11-15 06:13:20 in Shanghai; the second hour is the test part.
    toml = TOML + '[split]\ntest_from = "2023-11-15T07:00:00"\n'
    store = run(write_table_log(tmp_path / "raw", toml=toml), tmp_path / "out")
    assert store.split["boundary"] == 1_700_002_800
    assert store.n_test == sum(row[1] > START + 3000 for row in make_rows()["shown"][1:])


def test_a_test_part_begins_at_a_moment_of_summer_time(tmp_path):
    # 200 days before START it is 18:13:20 in New York, four hours behind and not five as in winter.
    rows = make_rows()
    for row in rows["shown"][1:]:
        row[1] -= 200 * 86_400
    toml = TOML.replace("Asia/Shanghai", "America/New_York")
    toml += '[split]\ntest_from = "2023-04-28T19:00:00"\n'
    store = run(write_table_log(tmp_path / "raw", rows, toml), tmp_path / "out")
    assert store.split["boundary"] == START - 200 * 86_400 + 2_800


def test_hashed_ids_are_buckets_of_every_value(tmp_path):
    toml = TOML + "hashed = { item = 7 }\n"
    store = run(write_table_log(tmp_path / "raw", toml=toml), tmp_path / "out")
    assert store.schema.vocabularies["item"] == 9
    assert set(np.unique(store.candidates["item"])) == set(range(2, 9))


def test_a_label_may_be_a_condition(tmp_path):
    toml = changed('label = "click"', 'label_when = { column = "price", at_least = 1 }')
    store = run(write_table_log(tmp_path / "raw", toml=toml), tmp_path / "out")
    prices = [row[4] for row in make_rows()["shown"][1:]]
    assert store.label.sum() == prices.count("1.5")


def test_an_empty_cell_fulfils_no_condition_of_a_label(tmp_path):
    toml = changed('label = "click"', 'label_when = { column = "tab", equals = ["a"] }')
    store = run(write_table_log(tmp_path / "raw", toml=toml), tmp_path / "out")
    tabs = [row[5] for row in make_rows()["shown"][1:]]
    assert "" in tabs
    assert store.label.sum() == tabs.count("a")


def test_rows_are_dropped_by_reason(tmp_path):
    rows = make_rows()
    rows["shown"] += [rows["shown"][1]] * 5
    rules = """
drop_repeats = true
[[impressions.drop]]
reason = "tab a"
column = "tab"
equals = ["a"]
[[impressions.drop]]
reason = "early"
column = "ts"
below = 1700000010
[events]"""
    store = run(
        write_table_log(tmp_path / "raw", rows, changed("\n[events]", rules)), tmp_path / "out"
    )
    body = {tuple(row) for row in rows["shown"][1:]}
    left = [row for row in rows["shown"][1:] if row[5] != "a" and row[1] >= START + 10]
    counts = store.source["rows"]["impressions"]
    assert counts["read"] == 305
    assert counts["dropped"]["tab a"] == sum(row[5] == "a" for row in rows["shown"][1:])
    assert counts["dropped"]["repeated"] == len(left) - len({tuple(row) for row in left})
    assert counts["kept"] == len({row for row in body if row[5] != "a" and row[1] >= START + 10})
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    assert store.n_impressions == counts["kept"]


@pytest.mark.parametrize(
    ("times", "extra"),
    [
        (["2023-03-12 01:59:59", "2023-03-12 03:00:00"], ""),
        (["2023-03-12T06:59:59Z", "2023-03-12T08:00:00+01:00"], ""),
        (["03/12/2023 1:59:59 AM", "03/12/2023 3:00:00 AM"], 'format = "%m/%d/%Y %I:%M:%S %p"'),
    ],
)
def test_dates_are_read_in_the_logs_zone_across_summer_time(tmp_path, times, extra):
    rows = "user,at,click\n" + "".join(f"a,{t},{k}\n" for t in times for k in (0, 1))
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "shown.csv").write_text(rows)
    (raw / "log.toml").write_text(
        f"""
zone = "America/New_York"
[impressions]
files = ["shown.csv"]
user = "user"
time = "at"
unit = "timestamp"
{extra}
label = "click"
[features]
behaviour = ["hour"]
candidate = ["hour"]
[split]
test_fraction = 0.5
"""
    )
    store = run(raw, tmp_path / "out")
    assert store.time.tolist() == [1678604399] * 2 + [1678604400] * 2
    # Hour 1 is known, hour 3 is of the test part alone.
    assert store.candidates["hour"].tolist() == [2, 2, 1, 1]
    assert store.utc_offset_seconds == -5 * 3600


def test_raw_is_the_toml_or_a_folder_with_one(tmp_path, plain):
    raw = write_table_log(tmp_path / "raw")
    assert run(raw / "log.toml", tmp_path / "out").fingerprint == plain.fingerprint
    (raw / "other.toml").write_text(TOML)
    with pytest.raises(UserError, match="raw: 2 TOML files, expected one"):
        run(raw, tmp_path / "out2")
