import csv
import gzip
import random
from collections import Counter

import duckdb
import numpy as np
import pytest
import zstandard

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.importers.pipeline import Limits
from scaling.store import Events, Feature, Impressions, Schema, open_store, write_store

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
    """Shown and done things of 20 users within 40 seconds of two hours, so that very many tie."""
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


def write_raw(folder, rows=None, toml=TOML, **options):
    folder.mkdir(exist_ok=True)
    for name, table in (rows or make_rows()).items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n", **options).writerows(table)
    (folder / "log.toml").write_text(toml)
    return folder


def run(raw, out, **options):
    return import_logs("table", raw, out, **options)


def reference(rows, path):
    """The same store from dictionaries and write_store: no SQL, no stream."""
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
    return run(write_raw(folder / "raw"), folder / "out")


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
    other = run(write_raw(tmp_path / "raw", rows), tmp_path / "out", limits=Limits(1.0, seed))
    files = [file for file in plain.path.rglob("*") if file.is_file()]
    assert len(files) == 17
    for file in files:
        assert file.read_bytes() == (other.path / file.relative_to(plain.path)).read_bytes()


def packed(folder, pack, end):
    for file in folder.glob("*.csv"):
        file.with_name(file.name + end).write_bytes(pack(file.read_bytes()))
        file.unlink()


def as_gz(folder):
    packed(folder, gzip.compress, ".gz")


def as_zst(folder):
    packed(folder, zstandard.compress, ".zst")


def as_parquet(folder):
    for file in folder.glob("*.csv"):
        user = "uid" if file.stem == "shown" else "user"
        kinds = "auto_detect = true" if file.stem == "items" else f"types = {{'{user}': 'VARCHAR'}}"
        duckdb.execute(
            f"COPY (SELECT * FROM read_csv('{file}', {kinds})) TO '{file.with_suffix('.parquet')}'"
        )
        file.unlink()
    toml = folder / "log.toml"
    toml.write_text(toml.read_text().replace(".csv", ".parquet"))


def as_folders(folder):
    """Impressions as another engine leaves them: a folder for each tab, with marks of success."""
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
    """Events in two files; the header is in the TOML."""
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
    [
        as_gz,
        as_zst,
        as_parquet,
        as_folders,
        as_two_files_without_header,
        as_crlf_with_a_byte_order_mark,
    ],
)
def test_the_form_of_the_files_changes_nothing(tmp_path, plain, change):
    raw = write_raw(tmp_path / "raw")
    change(raw)
    assert run(raw, tmp_path / "out").fingerprint == plain.fingerprint


def test_other_separators_and_latin_1(tmp_path, plain):
    rows = make_rows()
    rows["items"] = [[name, kind.replace("k", "ä")] for name, kind in rows["items"]]
    rows["items"][0][1] = "the, kind"
    toml = TOML.replace("files =", 'separator = "|"\nencoding = "latin-1"\nfiles =')
    raw = write_raw(tmp_path / "raw", rows, toml, delimiter="|")
    for file in raw.glob("*.csv"):
        file.write_bytes(file.read_text(encoding="utf-8").encode("latin-1"))
    assert run(raw, tmp_path / "out").fingerprint == plain.fingerprint
    items = raw / "items.csv"
    items.write_bytes(items.read_bytes().replace("ä".encode("latin-1"), b"\x93", 1))
    with pytest.raises(
        UserError, match=r"items.csv: line 2: column the, kind: byte 0x93 is not LATIN-1"
    ):
        run(raw, tmp_path / "out2")


def changed(old, new):
    return TOML.replace(old, new)


def test_a_split_by_user_shares_no_user(tmp_path):
    toml = TOML + '[split]\nkind = "user"\ntest_fraction = 0.3\nseed = 3\n'
    store = run(write_raw(tmp_path / "raw", toml=toml), tmp_path / "out")
    open_store(store.path, verify=True)
    assert store.split["kind"] == "user"
    assert store.n_test / store.n_impressions == pytest.approx(0.3, abs=0.2)
    other = TOML + '[split]\nkind = "user"\ntest_fraction = 0.3\nseed = 4\n'
    assert run(write_raw(tmp_path / "raw", toml=other), tmp_path / "o2").n_test != store.n_test


def test_a_test_part_begins_at_a_moment_of_the_logs_own_zone(tmp_path):
    # 1700000000 is 2023-11-15 06:13:20 in Shanghai; the second hour is the test part.
    toml = TOML + '[split]\ntest_from = "2023-11-15T07:00:00"\n'
    store = run(write_raw(tmp_path / "raw", toml=toml), tmp_path / "out")
    assert store.split["boundary"] == 1_700_002_800
    assert store.n_test == sum(row[1] > START + 3000 for row in make_rows()["shown"][1:])


def test_a_test_part_begins_at_a_moment_of_summer_time(tmp_path):
    # 200 days before START it is 18:13:20 in New York, four hours behind and not five as in winter.
    rows = make_rows()
    for row in rows["shown"][1:]:
        row[1] -= 200 * 86_400
    toml = TOML.replace("Asia/Shanghai", "America/New_York")
    toml += '[split]\ntest_from = "2023-04-28T19:00:00"\n'
    store = run(write_raw(tmp_path / "raw", rows, toml), tmp_path / "out")
    assert store.split["boundary"] == START - 200 * 86_400 + 2_800


def test_hashed_ids_are_buckets_of_every_value(tmp_path):
    toml = TOML + "hashed = { item = 7 }\n"
    store = run(write_raw(tmp_path / "raw", toml=toml), tmp_path / "out")
    assert store.schema.vocabularies["item"] == 9
    assert set(np.unique(store.candidates["item"])) == set(range(2, 9))


def test_a_label_may_be_a_condition(tmp_path):
    toml = changed('label = "click"', 'label_when = { column = "price", at_least = 1 }')
    store = run(write_raw(tmp_path / "raw", toml=toml), tmp_path / "out")
    prices = [row[4] for row in make_rows()["shown"][1:]]
    assert store.label.sum() == prices.count("1.5")


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
    store = run(write_raw(tmp_path / "raw", rows, changed("\n[events]", rules)), tmp_path / "out")
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


def edit(name, line, text):
    def change(folder):
        file = folder / name
        lines = file.read_bytes().split(b"\n")
        lines[line - 1] = text if isinstance(text, bytes) else text.encode()
        file.write_bytes(b"\n".join(lines))

    return change


def cut(end, pack):
    def change(folder):
        file = folder / "done.csv"
        file.with_name(file.name + end).write_bytes(pack(file.read_bytes())[:-9])
        file.unlink()

    return change


def cut_parquet(folder):
    as_parquet(folder)
    file = folder / "done.parquet"
    file.write_bytes(file.read_bytes()[:-100])


def bad_parquet(folder):
    as_parquet(folder)
    file = folder / "shown.parquet"
    duckdb.execute(
        f"COPY (SELECT * REPLACE (CASE WHEN file_row_number = 6 THEN 2 ELSE click END AS click) "
        f"FROM read_parquet('{file}', file_row_number = true)) TO '{folder}/x.parquet'"
    )
    (folder / "x.parquet").rename(file)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: (f / "done.csv").unlink(), "done.csv: missing, and so are done.csv.gz"),
        (lambda f: (f / "done.csv").write_text(""), "done.csv: is empty"),
        (lambda f: (f / "done.csv").write_text("user,ms,video,action\n"), "done.csv: has no rows"),
        (
            lambda f: (f / "done.csv").write_text("user;ms;video;action\n1;2;3;4\n"),
            "events.time: no column 'ms' in done.csv; are the columns really separated by ','?",
        ),
        (edit("done.csv", 1, "user,time,video,action"), "events.time: no column 'ms' in done.csv"),
        (
            edit("shown.csv", 7, f"001,{START},v1,2,0,a"),
            "shown.csv: line 7: click is '2', expected",
        ),
        (
            edit("shown.csv", 7, f"001,{START},v1,,0,a"),
            "shown.csv: line 7: click is empty, expected",
        ),
        (
            edit("shown.csv", 9, "001,-3,v1,1,0,a"),
            "shown.csv: line 9: ts is '-3', expected a time in s",
        ),
        (
            edit("shown.csv", 9, f"001,{START}000,v1,1,0,a"),
            "line 9: ts is '1700000000000', expected",
        ),
        (
            edit("shown.csv", 9, f"001,{START}.5,v1,1,0,a"),
            "line 9: ts is '1700000000.5', expected a whole",
        ),
        (edit("shown.csv", 9, "001,1e9,v1,1,0,a"), "line 9: ts is '1e9', expected a whole number"),
        (edit("shown.csv", 9, f",{START},v1,1,0,a"), "line 9: uid is empty, expected text"),
        (
            edit("shown.csv", 9, f"1,{START},v1,1,cheap,a"),
            "line 9: price is 'cheap', expected a number",
        ),
        (
            edit("shown.csv", 9, f"1,{START},v1,1,1e39,a"),
            "line 9: price is '1e39', expected a number of 32 bits",
        ),
        (
            edit("shown.csv", 9, f"1,{START},v1,1,0,a\r"),
            "shown.csv: line 9: ends in CRLF, the lines before in LF",
        ),
        (
            edit("shown.csv", 9, f"1,{START},v1,1,nan,a"),
            "line 9: price is 'nan', expected a number",
        ),
        (edit("shown.csv", 9, f"1,{START},v1,1,,a"), "line 9: price is empty, expected a number"),
        (
            edit("shown.csv", 9, f"1,{START},v1,1"),
            "shown.csv: line 9: 4 field(s), expected 6 separated",
        ),
        (edit("shown.csv", 9, f"1,{START},v1,1,0,a,b"), "line 9: 7 field(s), expected 6"),
        (edit("shown.csv", 9, f'1,{START},"v1"x,1,0,a'), "line 9: bad quoting"),
        (
            edit("shown.csv", 9, b"1,5,v\xff,1,0,a"),
            "line 9: column vid: byte 0xff is not UTF-8 text",
        ),
        (
            edit("users.csv", 5, "001,7"),
            "users.csv: line 5: user is 001 again, expected a value that no earlier",
        ),
        (cut(".gz", gzip.compress), "done.csv.gz: damaged or cut .gz file"),
        (cut(".zst", zstandard.compress), "done.csv.zst: damaged or cut .zst file"),
        (cut_parquet, "done.parquet: cannot be read as Parquet, is it complete?"),
        (bad_parquet, "shown.parquet: row 7: click is '2', expected 0 or 1"),
    ],
)
def test_bad_input_is_one_line_with_file_row_and_column_and_leaves_nothing(
    tmp_path, change, expected
):
    raw = write_raw(tmp_path / "raw")
    change(raw)
    with pytest.raises(UserError) as caught:
        run(raw, tmp_path / "out")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]


def test_the_bad_row_is_found_in_a_file_that_is_read_in_parallel(tmp_path):
    rows = make_rows()
    rows["shown"] += rows["shown"][1:] * 1500  # 450,000 rows: several pieces
    rows["shown"][400_000] = ["001", START, "v1", "3", "0", "a"]
    rows["shown"][410_000] = ["001", START, "v1", "4", "0", "a"]
    raw = write_raw(tmp_path / "raw", rows)
    with pytest.raises(UserError, match="line 400,001: click is '3'"):
        run(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("user = ", "usr = ", "impressions.usr: unknown key, did you mean user?"),
        ('label = "click"', "", "impressions: expected one of label and label_when"),
        ('label = "click"', 'label = "clik"', "no column 'clik' in shown.csv, did you mean click?"),
        ('unit = "ms"', 'unit = "minutes"', "events.unit: 'minutes' is not one of"),
        ('zone = "Asia/Shanghai"', 'zone = "Asia/Shangai"', "did you mean Asia/Shanghai?"),
        ('context = ["hour", "tab"]', 'context = ["tub"]', "features.context: no column 'tub'"),
        ("[users]", "[user]", "user: unknown key, did you mean users?"),
        ("min_count = 3", "min_count = 0", "min_count is 0, expected 1 or more"),
        ("columns = { kind", "columns = { knd", "features.columns.knd: no feature has this name"),
        ("[impressions]", "impressions", "not valid TOML"),
        (
            'label = "click"',
            'label_when = { column = "click", below = 1, at_least = 0 }',
            "expected one of equals, at_least, below and empty",
        ),
        ("[vocabularies]", "[negatives]\n[vocabularies]", "[negatives] are for logs without"),
        ("min_count = 3", "hashed = { itm = 9 }", "hashed vocabulary 'itm': no feature uses it"),
        ("min_count = 3", "hashed = { item = 4294967295 }", "expected 4294967294 or less"),
        ('files = ["done.csv"]', "files = []", "events: files: the list is empty"),
        ('files = ["done.csv"]', 'files = ["/no/*.csv"]', "/no/*.csv: missing"),
        ('label = "click"', 'label = "click"\nseparator = ""', "separator is '', expected"),
        ('label = "click"', 'label = "click"\nquote = "ab"', "quote is 'ab', expected one"),
        ('label = "click"', 'label = "click"\nquote = ","', "quote is ',', expected one"),
        ('["price"]', '["price", "price"]', "features.numeric: 'price' occurs twice"),
        ('["hour", "tab"]', '["tab", "tab"]', "features.context: 'tab' occurs twice"),
        ("columns = {", "fill = { price = nan }\ncolumns = {", "fill.price is nan, expected"),
        (
            'label = "click"',
            'label_when = { column = "click", at_least = inf }',
            "inf is not a bound, expected a finite number",
        ),
        (
            'zone = "Asia/Shanghai"',
            'zone = "here"',
            "'here' is unknown, expected an IANA name such as",
        ),
    ],
)
def test_a_wrong_toml_is_told_by_key(tmp_path, old, new, expected):
    raw = write_raw(tmp_path / "raw", toml=changed(old, new))
    with pytest.raises(UserError) as caught:
        run(raw, tmp_path / "out")
    assert expected in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]


def test_raw_is_the_toml_or_a_folder_with_one(tmp_path, plain):
    raw = write_raw(tmp_path / "raw")
    assert run(raw / "log.toml", tmp_path / "out").fingerprint == plain.fingerprint
    (raw / "other.toml").write_text(TOML)
    with pytest.raises(UserError, match="raw: 2 TOML files, expected one"):
        run(raw, tmp_path / "out2")
