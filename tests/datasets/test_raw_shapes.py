"""Raw tables of every shape that `scaling data import table` meets: read as they are meant, reported, or refused in one line."""

import bz2
import gzip
import logging
import zipfile

import duckdb
import numpy as np
import pytest
from slow_cases import fast_only

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.store import validate_store

START = 1_700_000_000
N = 40
TOML = """
[impressions]
files = ["log"]
user = "user"
time = "ts"
item = "item"
label = "label"
{more}
[features]
behaviour = ["item", "cat"]
candidate = ["item", "cat"]
context = ["hour"]
{features}
"""


def rows(n=N):
    """Rows of five users, whose values all occur in both parts."""
    return [
        {
            "user": f"u{i % 5}",
            "ts": START + 3600 * i,
            "item": f"i{i % 4}",
            "label": i % 2,
            "cat": f"c{i % 3}",
        }
        for i in range(n)
    ]


def csv_text(table, separator=","):
    lines = [separator.join(table[0])]
    return "\n".join([*lines, *(separator.join(map(str, row.values())) for row in table)]) + "\n"


@pytest.fixture
def raw(tmp_path):
    """A raw folder with the TOML and an empty folder `log`."""
    (tmp_path / "raw" / "log").mkdir(parents=True)
    describe(tmp_path / "raw")
    return tmp_path / "raw"


def describe(raw, more="", features=""):
    (raw / "log.toml").write_text(TOML.format(more=more, features=features))


def imported(raw, **options):
    return import_logs("table", raw, raw.parent / "out", **options)


def refusal(raw):
    with pytest.raises(UserError) as caught:
        imported(raw)
    assert "\n" not in str(caught.value)
    assert not (raw.parent / "out").exists()
    return str(caught.value)


def n_rows(store):
    return store.n_impressions


def n_values(store, vocabulary):
    """How many values have an id of their own."""
    return store.schema.vocabularies[vocabulary] - 2


def to_parquet(path, select):
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")


BASE = (
    f"SELECT 'u' || (i % 5) AS user, {START} + 3600 * i AS ts, 'i' || (i % 4) AS item, i % 2 AS label, "
    f"'c' || (i % 3) AS cat FROM range({N}) t(i)"
)


# which files


def test_folders_behind_links_are_read(raw, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.csv").write_text(csv_text(rows()[20:]))
    (raw / "log" / "a.csv").write_text(csv_text(rows()[:20]))
    (raw / "log" / "linked").symlink_to(elsewhere)
    (raw / "log" / "above").symlink_to(raw / "log")  # a loop
    assert n_rows(imported(raw)) == N


@pytest.mark.parametrize("pattern", ["log/**/*.csv", "log/*/*.csv"])
def test_globs_follow_links(raw, tmp_path, pattern):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.csv").write_text(csv_text(rows()))
    (raw / "log" / "linked").symlink_to(elsewhere)
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('["log"]', f'["{pattern}"]'))
    assert n_rows(imported(raw)) == N


def test_a_part_without_bytes_is_skipped_and_told(raw, caplog):
    (raw / "log" / "part-0").write_text(csv_text(rows()))
    (raw / "log" / "part-1").write_text("")
    with caplog.at_level(logging.WARNING):
        assert n_rows(imported(raw)) == N
    assert "1 empty file(s) skipped" in caplog.text


def test_parts_that_are_all_empty_are_refused(raw):
    (raw / "log" / "part-0").write_text("")
    assert refusal(raw).endswith("part-0: is empty")


# partition folders


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_partition_folder_is_a_column(raw, form):
    for day, where in (("07", "i < 20"), ("08", "i >= 20")):
        place = raw / "log" / f"cat={day}" / f"p.{form}"
        if form == "parquet":
            to_parquet(
                place,
                f"SELECT * EXCLUDE cat FROM ({BASE}) JOIN range({N}) r(i) ON ts = {START} + 3600 * i WHERE {where}",
            )
        else:
            place.parent.mkdir()
            chosen = rows()[:20] if day == "07" else rows()[20:]
            place.write_text(csv_text([{k: v for k, v in r.items() if k != "cat"} for r in chosen]))
    store = imported(raw)
    assert n_rows(store) == N
    # 08 begins before the test part
    assert n_values(store, "cat") == 2


def test_a_folder_above_the_raw_folder_is_no_column(tmp_path):
    raw = tmp_path / "cat=above" / "raw"
    (raw / "log").mkdir(parents=True)
    describe(raw)
    to_parquet(raw / "log" / "p.parquet", BASE)
    assert n_values(imported(raw), "cat") == 3


def test_a_partition_that_differs_from_the_files_column_is_refused(raw):
    to_parquet(raw / "log" / "cat=c9" / "p.parquet", BASE)
    assert "but the file lies in the folder cat=c9" in refusal(raw)


def test_a_partition_that_is_also_in_the_file_is_read(raw):
    to_parquet(raw / "log" / "cat=7" / "p.parquet", f"SELECT * REPLACE (7 AS cat) FROM ({BASE})")
    assert n_values(imported(raw), "cat") == 1


def test_a_partition_without_value_is_empty(raw):
    (raw / "log" / "cat=__HIVE_DEFAULT_PARTITION__").mkdir()
    without = [{k: v for k, v in row.items() if k != "cat"} for row in rows()]
    (raw / "log" / "cat=__HIVE_DEFAULT_PARTITION__" / "p.csv").write_text(csv_text(without))
    assert n_values(imported(raw), "cat") == 0


# columns


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_columns_that_differ_in_case_are_different(raw, form):
    if form == "csv":
        table = [{"CAT": "x", **row, "Item": "y"} for row in rows()]
        (raw / "log" / "p.csv").write_text(csv_text(table))
    else:
        place = raw / "log" / "p.parquet"
        to_parquet(place, f"SELECT 'x' AS CXT, *, 'y' AS IXEM FROM ({BASE})")
        # DuckDB writes no such names; they stand as they are in the file
        place.write_bytes(place.read_bytes().replace(b"CXT", b"CAT").replace(b"IXEM", b"ITEM"))
    store = imported(raw)
    assert (n_values(store, "cat"), n_values(store, "item")) == (3, 4)


def test_an_import_uses_one_of_the_columns_that_differ_in_case(raw):
    (raw / "log" / "p.csv").write_text(csv_text([{**row, "Cat": "y"} for row in rows()]))
    describe(raw, features='columns = { other = "Cat" }')
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('["hour"]', '["other"]'))
    assert "'cat' and 'Cat' differ only in case" in refusal(raw)


def test_a_column_that_stands_twice_is_refused(raw):
    text = csv_text([{**row, "last": "z"} for row in rows()]).replace("last", "cat", 1)
    (raw / "log" / "p.csv").write_text(text)
    assert "line 1: column 'cat' stands 2 times" in refusal(raw)


def test_two_features_that_differ_only_in_case_are_refused(raw):
    describe(raw, features='columns = { cat = "cat" }')
    (raw / "log" / "p.csv").write_text(csv_text([{**row, "Cat": "x"} for row in rows()]))
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('"cat"]\ncontext', '"cat", "Cat"]\ncontext'))
    assert "'cat' and 'Cat' differ only in case" in refusal(raw)


@pytest.mark.parametrize("kind", ["[cat]", "{'a': cat}", "MAP {'a': cat}"])
def test_nested_columns_are_refused_by_name(raw, kind):
    to_parquet(raw / "log" / "p.parquet", f"SELECT * REPLACE ({kind} AS cat) FROM ({BASE})")
    assert "column 'cat' has the type" in refusal(raw)


def test_a_column_that_older_parts_lack_is_refused_with_the_key_that_allows_it(raw):
    to_parquet(raw / "log" / "a.parquet", f"SELECT * EXCLUDE cat FROM ({BASE} LIMIT 20)")
    to_parquet(raw / "log" / "b.parquet", f"({BASE}) OFFSET 20")
    assert "no column 'cat' in log/a.parquet" in (message := refusal(raw))
    assert 'absent = "empty"' in message
    describe(raw, 'absent = "empty"')
    store = imported(raw)
    assert (n_rows(store), n_values(store, "cat")) == (N, 3)


def test_raw_columns_may_be_called_as_the_engines_own(raw):
    names = ("__file", "__reason", "__row", "__user", "__test")
    (raw / "log" / "p.csv").write_text(
        csv_text([{**row, **dict.fromkeys(names, "x")} for row in rows()])
    )
    describe(raw, features='columns = { cat = "__file" }')
    assert n_values(imported(raw), "cat") == 1


def test_a_feature_called_hour_that_is_a_column_is_told(raw, caplog):
    (raw / "log" / "p.csv").write_text(csv_text([{**row, "hour": 7} for row in rows()]))
    with caplog.at_level(logging.WARNING):
        imported(raw)
    assert "'hour' is the column of that name" in caplog.text


# cells


def test_texts_for_empty_cells_are_told_and_can_be_declared(raw, caplog):
    table = rows()
    for row, value in zip(table, ("\\N", "NULL", "nan"), strict=False):
        row["cat"] = value
    (raw / "log" / "p.csv").write_text(csv_text(table))
    with caplog.at_level(logging.WARNING):
        assert n_values(imported(raw), "cat") == 6
    assert "set null = " in caplog.text


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_texts_for_empty_cells_among_several_values_are_told(raw, caplog, form):
    table = rows()
    for row, value in zip(table, ("None", "a|nan", "NULL|None", "Nones|annan"), strict=False):
        row["cat"] = value
    (raw / "log" / "p.csv").write_text(csv_text(table))
    if form == "parquet":
        lists = "string_split(cat, '|') AS cat"
        select = f"SELECT * REPLACE ({lists}) FROM '{raw}/log/p.csv'"
        to_parquet(raw / "log" / "p.parquet", select)
        (raw / "log" / "p.csv").unlink()
    describe(raw, features='[lists.cat]\nmax_values = 2\nseparator = "|"', more='null = ["NULL"]')
    with caplog.at_level(logging.WARNING):
        imported(raw)
    told = "'cat' has 1 cells with the value 'nan', 2 cells with the value 'None', which"
    assert told in caplog.text


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_declared_null_texts_are_empty(raw, form):
    table = rows()
    for row, value in zip(table, ("\\N", "NULL"), strict=False):
        row["cat"] = value
    (raw / "log" / "p.csv").write_text(csv_text(table))
    if form == "parquet":
        to_parquet(raw / "log" / "p.parquet", f"FROM '{raw}/log/p.csv'")
        (raw / "log" / "p.csv").unlink()
    describe(raw, 'null = ["\\\\N", "NULL"]')
    assert n_values(imported(raw), "cat") == 3


def test_ids_that_a_real_number_does_not_hold_exactly_are_refused(raw):
    large = 2**60
    to_parquet(
        raw / "log" / "p.parquet",
        f"SELECT * REPLACE (({large} + i)::DOUBLE AS item) FROM (SELECT *, row_number() OVER () AS i FROM ({BASE}))",
    )
    assert "a number that DOUBLE holds exactly" in refusal(raw)


def test_whole_numbers_may_end_in_point_zero(raw):
    table = [{**row, "ts": f"{row['ts']}.0", "label": f"{row['label']}.0"} for row in rows()]
    (raw / "log" / "p.csv").write_text(csv_text(table))
    store = imported(raw)
    assert np.asarray(store.label).mean() == 0.5
    assert int(store.time[0]) == START


def test_a_number_with_a_fraction_is_not_whole(raw):
    table = [{**row, "ts": f"{row['ts']}.5"} for row in rows()]
    (raw / "log" / "p.csv").write_text(csv_text(table))
    assert "expected a whole number" in refusal(raw)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_nan_is_filled(raw, form):
    table = [{**row, "price": "NaN" if i % 3 else 1.5} for i, row in enumerate(rows())]
    (raw / "log" / "p.csv").write_text(csv_text(table))
    if form == "parquet":
        to_parquet(
            raw / "log" / "p.parquet",
            f"SELECT * REPLACE (price::DOUBLE AS price) FROM '{raw}/log/p.csv'",
        )
        (raw / "log" / "p.csv").unlink()
    describe(raw, features='numeric = ["price"]\nfill = { price = 9.0 }')
    assert sorted(set(np.asarray(imported(raw).numerics["price"]).tolist())) == [1.5, 9.0]


@pytest.mark.parametrize("column", ["user", "ts", "item", "label"])
def test_rows_with_an_empty_cell_can_be_dropped(raw, column):
    table = rows()
    table[3][column] = table[5][column] = ""
    (raw / "log" / "p.csv").write_text(csv_text(table))
    describe(raw, f'drop = [{{ reason = "empty", column = "{column}", empty = true }}]')
    store = imported(raw)
    assert n_rows(store) == N - 2
    assert store.source["rows"]["impressions"]["dropped"] == {"empty": 2}


def test_a_row_that_is_dropped_may_be_broken_elsewhere(raw):
    table = rows()
    table[3] |= {"cat": "test", "ts": "soon"}
    (raw / "log" / "p.csv").write_text(csv_text(table))
    describe(raw, 'drop = [{ reason = "tests", column = "cat", equals = ["test"] }]')
    assert n_rows(imported(raw)) == N - 1


def test_a_quote_may_be_escaped_by_a_backslash(raw):
    table = rows()
    table[7]["cat"] = '"a \\"b\\", c"'
    (raw / "log" / "p.csv").write_text(csv_text(table))
    assert 'set escape = "\\\\"' in refusal(raw)
    describe(raw, 'escape = "\\\\"')
    assert n_values(imported(raw), "cat") == 4


def test_a_line_may_be_longer_than_two_megabytes(raw):
    table = rows()
    table[7]["cat"] = "x" * 3_000_000
    (raw / "log" / "p.csv").write_text(csv_text(table))
    assert n_values(imported(raw), "cat") == 4


# times


def test_times_of_1970_are_told(raw, caplog):
    (raw / "log" / "p.csv").write_text(csv_text(rows()))
    describe(raw, 'unit = "ms"')
    with caplog.at_level(logging.WARNING):
        imported(raw)
    assert "all times lie between 1970-01-20" in caplog.text


def test_whole_numbers_are_read_with_a_format(raw):
    to_parquet(
        raw / "log" / "p.parquet",
        f"SELECT * REPLACE (23111400 + ts % 24 AS ts) FROM (SELECT * REPLACE (i AS ts) FROM (SELECT *, row_number() OVER () AS i FROM ({BASE})))",
    )
    describe(raw, 'unit = "timestamp"\nformat = "%y%m%d%H"')
    assert int(imported(raw).time[0]) == 1_699_920_000


@pytest.mark.parametrize("zone", ["CST", "BST", "IST"])
def test_abbreviations_of_zones_are_refused(raw, zone):
    table = [{**row, "ts": f"2023-11-14 10:{i:02d}:00 {zone}"} for i, row in enumerate(rows())]
    (raw / "log" / "p.csv").write_text(csv_text(table))
    describe(raw, 'unit = "timestamp"')
    assert "in place of a zone's abbreviation" in refusal(raw)


@pytest.mark.parametrize("zone", ["", "Z", " UTC", "+00:00", " GMT"])
def test_clear_zones_are_read(raw, zone):
    table = [{**row, "ts": f"2023-11-14 10:{i:02d}:00{zone}"} for i, row in enumerate(rows())]
    (raw / "log" / "p.csv").write_text(csv_text(table))
    describe(raw, 'unit = "timestamp"')
    assert int(imported(raw).time[0]) == 1_699_956_000


# no clock


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_in_order_need_no_clock(raw, form):
    table = [
        {"user": "u", "item": f"i{i % 7}", "label": i % 3 == 0, "cat": "c", "place": i}
        for i in range(5000)
    ]
    for row in table:
        row["label"] = int(row["label"])
    for part, start in enumerate((0, 3000)):
        chosen = table[start : 3000 if part == 0 else 5000]
        (raw / "log" / f"p{part}.csv").write_text(csv_text(chosen))
        if form == "parquet":
            # many row groups, which several threads read
            duckdb.execute(
                f"COPY (FROM '{raw}/log/p{part}.csv') TO '{raw}/log/p{part}.parquet' (ROW_GROUP_SIZE 2048)"
            )
            (raw / "log" / f"p{part}.csv").unlink()
    toml = raw / "log.toml"
    toml.write_text(
        toml.read_text()
        .replace('"ts"', '"row order"')
        .replace('context = ["hour"]', 'numeric = ["place"]')
    )
    store = imported(raw)
    assert store.split["kind"] == "time"
    assert np.array_equal(store.numerics["place"], np.arange(5000))
    assert (np.diff(store.time) == 1).all()
    # each sees all before it
    assert np.array_equal(store.history_end, np.arange(5000))


@pytest.mark.parametrize("shards", fast_only([None], [None, 2]))
@pytest.mark.parametrize("files", ["log", "log/week_*.csv"])
def test_files_of_rows_in_order_are_in_the_order_of_their_numbers_which_is_told(
    raw, caplog, files, shards
):
    for week in (1, 2, 10):
        table = [{**row, "place": 100 * week + i} for i, row in enumerate(rows())]
        (raw / "log" / f"week_{week}.csv").write_text(csv_text(table))
    toml = raw / "log.toml"
    toml.write_text(
        toml.read_text()
        .replace('"log"', f'"{files}"')
        .replace('"ts"', '"row order"')
        .replace('context = ["hour"]', 'numeric = ["place"]')
    )
    with caplog.at_level(logging.INFO):
        store = imported(raw, shards=shards)
    assert (np.diff(store.numerics["place"]) > 0).all()
    assert "order of 3 files: log/week_1.csv, log/week_2.csv, log/week_10.csv" in caplog.text


def test_rows_in_order_have_no_hour(raw):
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('"ts"', '"row order"'))
    assert "is no clock" in refusal(raw)


def test_times_may_count_from_an_epoch(raw):
    table = [{**row, "ts": 5 * i} for i, row in enumerate(rows())]
    (raw / "log" / "p.csv").write_text(csv_text(table))
    describe(raw, 'epoch = "2024-02-29"')
    assert int(imported(raw).time[0]) == 1_709_164_800


@pytest.mark.parametrize(
    ("epoch", "start"),
    [
        ("2024-02-29", 1_709_164_800 - 9 * 3600),
        ("2024-02-29T00:00:00+00:00", 1_709_164_800),
        ("2024-02-29 01:00:00-01:00", 1_709_164_800 + 2 * 3600),
    ],
)
def test_an_epoch_is_one_of_the_logs_zone_unless_it_has_an_offset(raw, epoch, start):
    table = [{**row, "ts": 5 * i} for i, row in enumerate(rows())]
    (raw / "log" / "p.csv").write_text(csv_text(table))
    describe(raw, f'epoch = "{epoch}"')
    toml = raw / "log.toml"
    toml.write_text('zone = "Asia/Tokyo"\n' + toml.read_text())
    assert int(imported(raw).time[0]) == start


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('epoch = "soon"', "epoch is 'soon', expected a date"),
        ('epoch = "2024-01-01"\nunit = "timestamp"', "expected it with numbers only"),
    ],
)
def test_an_epoch_that_is_no_date_is_refused(raw, more, expected):
    describe(raw, more)
    assert expected in refusal(raw)


# formats


def packed(kind):
    text = csv_text(rows()).encode()
    return {"gzip": gzip.compress, "bz2": bz2.compress}[kind](text)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("log.bz2", packed("bz2"), "is packed by bzip2"),
        ("log.json", b'{"user": "u0", "ts": 1}\n', "is JSON"),
        ("log.json", b'[\n {"user": "u0"}]', "is JSON"),
        ("log.orc", b"ORC\x00\x01", "is an ORC file"),
    ],
)
def test_other_formats_are_named(raw, name, content, expected):
    (raw / "log" / name).write_bytes(content)
    assert expected in refusal(raw)


def test_a_zip_archive_is_named(raw):
    with zipfile.ZipFile(raw / "log" / "log.csv", "w") as archive:
        archive.writestr("log.csv", csv_text(rows()))
    assert "is a zip archive; unpack it" in refusal(raw)


def test_parquet_and_gzip_are_known_by_their_first_bytes(raw):
    to_parquet(raw / "log" / "part-00000", f"{BASE} LIMIT 20")
    (raw / "log" / "part-00001").write_bytes(gzip.compress(csv_text(rows()[20:]).encode()))
    assert n_rows(imported(raw)) == N


# splits that the log brings


def with_split(raw, split):
    describe(raw)
    toml = raw / "log.toml"
    toml.write_text(toml.read_text() + f"[split]\n{split}\n")


@pytest.mark.parametrize("form", ["column", "file"])
def test_the_log_may_bring_its_split(raw, form):
    table = [{**row, "part": "test" if i % 4 == 0 else "train"} for i, row in enumerate(rows())]
    for part in ("train", "test"):
        chosen = [row for row in table if row["part"] == part]
        (raw / "log" / f"{part}.csv").write_text(csv_text(chosen))
    own = {"column": 'column = "part"', "file": 'test = ["test.csv"]'}
    with_split(raw, f'kind = "{form}"\n{own[form]}')
    store = imported(raw)
    assert (store.n_train, store.n_test, store.split["kind"]) == (30, 10, "given")
    expected = [row["ts"] for i, row in enumerate(rows()) if i % 4 == 0]
    assert sorted(np.asarray(store.time[store.n_train :]).tolist()) == expected
    validate_store(store.path)


def test_a_given_split_by_time_is_one(raw):
    table = [{**row, "part": int(i >= 30)} for i, row in enumerate(rows())]
    (raw / "log" / "p.csv").write_text(csv_text(table))
    with_split(raw, 'kind = "column"\ncolumn = "part"\ntest = [1]')
    split = imported(raw).split
    assert (split["kind"], split["boundary"]) == ("time", rows()[30]["ts"])


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ('kind = "column"\ncolumn = "part"\ntest = ["x"]', "no test rows"),
        ('kind = "column"\ncolumn = "prt"\ntest = ["x"]', "split.column: no column 'prt'"),
        ('kind = "file"\ntest = ["q.csv"]', "split.test: no file 'q.csv'"),
        ('kind = "column"\ntest = ["x"]', "column: needed"),
        ('kind = "file"', "test: the names of the test files"),
        ('test = ["x"]', 'test: expected with kind = "column" or "file" only'),
        ('column = "part"', "column: needed"),
    ],
)
def test_a_given_split_that_is_not_there_is_refused(raw, split, expected):
    (raw / "log" / "p.csv").write_text(csv_text([{**row, "part": "a"} for row in rows()]))
    with_split(raw, split)
    assert expected in refusal(raw)


# joins


def test_how_many_rows_found_their_item_is_told_and_kept(raw, caplog):
    (raw / "log" / "p.csv").write_text(
        csv_text([{**row, "item": f"{i % 4}.0"} for i, row in enumerate(rows())])
    )
    (raw / "items.csv").write_text("id,brand\n0,a\n1,b\n2,c\n3,d\n")
    describe(raw)
    toml = raw / "log.toml"
    toml.write_text(
        toml.read_text().replace('candidate = ["item", "cat"]', 'candidate = ["item", "brand"]')
        + '[items]\nfiles = ["items.csv"]\nitem = "id"\n'
    )
    with caplog.at_level(logging.WARNING):
        store = imported(raw)
    assert (
        "0 of 40 rows found their item in [items]; ids are compared as text: '0.0' here, '0' there"
        in caplog.text
    )
    assert store.source["found"] == {"items": {"impressions": [0, N]}}


# histories in the rows


def with_history(raw, history, *, time='time = "ts"', features=""):
    describe(raw, features=features)
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('time = "ts"', time) + f"[history]\n{history}\n")


def histories(store):
    """The items and categories that each impression sees, oldest first, as ids."""
    found = []
    for row in range(store.n_impressions):
        seen = slice(store.offsets[store.user[row]], store.history_end[row])
        columns = (store.behaviours["item"][seen], store.behaviours["cat"][seen])
        found.append(list(zip(*(np.asarray(c).tolist() for c in columns), strict=True)))
    return found


def listed_rows(separator="^", wrap="{}"):
    """Rows with the items and categories that came before, oldest first; and these, with the ids of a store."""
    table, expected = [], []
    for i, row in enumerate(rows()):
        before = [(j % 4, j % 3) for j in range(max(0, i - 1 - i % 5), i)]
        items, cats = (separator.join(f"{k}{v[n]}" for v in before) for n, k in enumerate("ic"))
        table.append({**row, "items": wrap.format(items), "cats": wrap.format(cats)})
        expected.append([(item + 2, cat + 2) for item, cat in before])
    return table, expected


COLUMNS = 'columns = { item = "items", cat = "cats" }'


@pytest.mark.parametrize("time", ['time = "ts"', 'time = "row order"'])
def test_histories_may_come_with_the_rows(raw, time):
    table, expected = listed_rows()
    (raw / "log" / "p.csv").write_text(csv_text(table))
    with_history(raw, f'separator = "^"\n{COLUMNS}', time=time)
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('context = ["hour"]', ""))
    store = imported(raw)
    assert histories(store) == expected
    validate_store(store.path)


def test_lists_in_brackets_and_quotes_are_read(raw):
    table, expected = listed_rows(", ", '"[{}]"')
    (raw / "log" / "p.csv").write_text(csv_text(table))
    with_history(raw, COLUMNS)
    assert histories(imported(raw)) == expected


def test_lists_of_parquet_are_read(raw, tmp_path):
    table, expected = listed_rows()
    (tmp_path / "p.csv").write_text(csv_text(table))
    lists = ", ".join(
        f"list_filter(string_split(coalesce({c}, ''), '^'), lambda x: x != '') AS {c}"
        for c in ("items", "cats")
    )
    to_parquet(raw / "log" / "p.parquet", f"SELECT * REPLACE ({lists}) FROM '{tmp_path}/p.csv'")
    with_history(raw, COLUMNS)
    assert histories(imported(raw)) == expected


def test_lists_may_begin_with_the_latest(raw):
    table, expected = listed_rows()
    for row in table:
        row |= {c: "^".join(reversed(row[c].split("^"))) for c in ("items", "cats")}
    (raw / "log" / "p.csv").write_text(csv_text(table))
    with_history(raw, f'separator = "^"\nlatest_first = true\n{COLUMNS}')
    assert histories(imported(raw)) == expected


def test_listed_times_decide_what_a_row_sees(raw):
    table, expected = listed_rows()
    for row, seen in zip(table, expected, strict=True):
        # the last one is not before the row
        times = [row["ts"] - len(seen) + 1 + n for n in range(len(seen))]
        row["times"] = "^".join(map(str, times))
    (raw / "log" / "p.csv").write_text(csv_text(table))
    with_history(raw, f'separator = "^"\ntime = "times"\n{COLUMNS}')
    assert histories(imported(raw)) == [seen[:-1] for seen in expected]


def test_users_of_rows_with_lists_keep_their_profile(raw):
    table, _ = listed_rows()
    (raw / "log" / "p.csv").write_text(csv_text(table))
    (raw / "users.csv").write_text("user,age\n" + "".join(f"u{i},{i % 2}\n" for i in range(5)))
    with_history(raw, f'separator = "^"\n{COLUMNS}', features='profile = ["age"]')
    toml = raw / "log.toml"
    toml.write_text(toml.read_text() + '[users]\nfiles = ["users.csv"]\nuser = "user"\n')
    store = imported(raw)
    ages = np.asarray(store.profiles["age"])[np.asarray(store.user)]
    assert ages.tolist() == [i % 5 % 2 + 2 for i in range(N)]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ('columns = { item = "itms" }', "history.columns.item: no column 'itms'"),
        ('columns = { brand = "items" }', "history.columns.brand: no behaviour feature"),
        ("columns = {}", "columns: empty"),
        (f'{COLUMNS}\ntime = "cats"\nseparator = "^"', "expected whole numbers"),
        (
            f'{COLUMNS}\ntime = "cats"\nlatest_first = true',
            "latest_first: the times tell the order",
        ),
    ],
)
def test_histories_that_are_not_there_are_refused(raw, history, expected):
    (raw / "log" / "p.csv").write_text(csv_text(listed_rows()[0]))
    with_history(raw, history)
    assert expected in refusal(raw)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_empty_entry_of_a_list_is_refused_with_the_reason(raw, tmp_path, form):
    table, _ = listed_rows()
    for row in table:
        row |= {"items": "i1^^i3", "cats": "c1^c2^c3"}
    (tmp_path / "p.csv").write_text(csv_text(table))
    if form == "csv":
        (tmp_path / "p.csv").rename(raw / "log" / "p.csv")
    else:
        lists = "['i1', NULL, 'i3'] AS items, ['c1', 'c2', 'c3'] AS cats"
        to_parquet(raw / "log" / "p.parquet", f"SELECT * REPLACE ({lists}) FROM '{tmp_path}/p.csv'")
    with_history(raw, f'separator = "^"\n{COLUMNS}')
    told = "as many entries as items (empty and null ones of both are left out)"
    assert told in refusal(raw)


def test_lists_of_different_lengths_are_refused(raw):
    table, _ = listed_rows()
    table[7]["cats"] += "^c0"
    (raw / "log" / "p.csv").write_text(csv_text(table))
    with_history(raw, f'separator = "^"\n{COLUMNS}')
    assert "line 9: cats is" in (message := refusal(raw))
    assert "expected as many entries as items" in message


# rows whose cells are lists

EXPLODE = 'explode = ["ts", "item", "label", "cat"]'


@pytest.mark.parametrize("form", ["text", "lists"])
def test_each_entry_of_lists_may_be_a_row(raw, tmp_path, form):
    (raw / "log" / "p.csv").write_text(csv_text(rows()))
    alone = import_logs("table", raw, tmp_path / "alone")
    columns = ("ts", "item", "label", "cat")
    per_user = [[row for row in rows() if row["user"] == f"u{u}"] for u in range(5)]
    table = [
        {
            "user": own[0]["user"],
            **{c: f'"{",".join(str(row[c]) for row in own)}"' for c in columns},
        }
        for own in per_user
    ]
    (raw / "log" / "p.csv").write_text(csv_text(table))
    if form == "lists":
        lists = ", ".join(f"string_split({c}, ',') AS {c}" for c in columns)
        kinds = ", ".join(f"'{c}': 'VARCHAR'" for c in ("user", *columns))
        select = (
            f"SELECT * REPLACE ({lists}) FROM read_csv('{raw}/log/p.csv', columns = {{{kinds}}})"
        )
        to_parquet(raw / "log" / "p.parquet", select)
        (raw / "log" / "p.csv").unlink()
    describe(raw, EXPLODE)
    store = imported(raw)
    assert store.fingerprint == alone.fingerprint


def test_lists_of_a_row_must_be_equally_long(raw):
    (raw / "log" / "p.csv").write_text(
        f'user,ts,item,label,cat\nu,"{START},{START + 1}","a,b","0,1",c\n'
    )
    describe(raw, EXPLODE)
    assert "cat has 1 entries in a row where ts has 2" in refusal(raw)


def test_a_wrong_entry_of_a_list_is_located(raw):
    (raw / "log" / "p.csv").write_text(
        f'user,ts,item,label,cat\nu,"{START},soon","a,b","0,1","c,c"\n'
    )
    describe(raw, EXPLODE)
    assert "entry 2: ts is 'soon', expected a whole number" in refusal(raw)


# numbers of items and users


def with_numbers(raw, features, *, items="0,1.5\n1,2\n2,\n"):
    """Items i0 to i2 have prices, one of them empty; users u0 to u4 have ages."""
    (raw / "log" / "p.csv").write_text(csv_text(rows()))
    (raw / "items.csv").write_text("item,price\n" + "".join(f"i{line}\n" for line in items.split()))
    (raw / "users.csv").write_text("id,age\n" + "".join(f"u{i},{20 + i}\n" for i in range(5)))
    describe(raw, features=features)
    toml = raw / "log.toml"
    more = '[items]\nfiles = ["items.csv"]\nitem = "item"\n[users]\nfiles = ["users.csv"]\nuser = "id"\n'
    toml.write_text(toml.read_text() + more)


def test_numbers_of_items_and_users_are_those_of_their_impressions(raw):
    with_numbers(raw, 'numeric = ["price", "age"]\nfill = { price = -1.0 }')
    store = imported(raw)
    by_item = {0: 1.5, 1: 2.0, 2: -1.0, 3: -1.0}
    assert np.asarray(store.numerics["price"]).tolist() == [by_item[i % 4] for i in range(N)]
    assert np.asarray(store.numerics["age"]).tolist() == [20 + i % 5 for i in range(N)]


def test_an_item_without_a_number_is_refused(raw):
    with_numbers(raw, 'numeric = ["price"]')
    assert "price is None, expected a finite number" in refusal(raw)


def test_drawn_items_have_no_numbers_of_items(raw):
    with_numbers(raw, 'numeric = ["price"]\nfill = { price = 0.0 }')
    toml = raw / "log.toml"
    text = toml.read_text().replace("[impressions]", "[events]").replace('label = "label"\n', "")
    toml.write_text(text + "[negatives]\n")
    assert "which drawn negatives would lack" in refusal(raw)


def test_a_number_of_users_without_a_value_is_refused_with_its_file_and_the_key_that_fills(raw):
    with_numbers(raw, 'numeric = ["age"]')
    (raw / "users.csv").write_text("id,age\nu0,1\nu1,\nu2,3\n")
    assert "[users] (users.csv)" in (message := refusal(raw))
    assert "features.fill = { age = ... }" in message
