"""Bad rows and a wrong TOML for `scaling data import table`: one line with the place, and nothing is left behind."""

import gzip

import duckdb
import pytest
import zstandard
from table_logs import START, as_parquet, changed, make_rows, write_table_log

from scaling.errors import UserError
from scaling.importers import import_logs


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
    raw = write_table_log(tmp_path / "raw")
    change(raw)
    with pytest.raises(UserError) as caught:
        import_logs("table", raw, tmp_path / "out")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]


@pytest.mark.slow
def test_the_bad_row_is_found_in_a_file_that_is_read_in_parallel(tmp_path):
    rows = make_rows()
    rows["shown"] += rows["shown"][1:] * 1500  # 450,000 rows: several pieces
    rows["shown"][400_000] = ["001", START, "v1", "3", "0", "a"]
    rows["shown"][410_000] = ["001", START, "v1", "4", "0", "a"]
    raw = write_table_log(tmp_path / "raw", rows)
    with pytest.raises(UserError, match="line 400,001: click is '3'"):
        import_logs("table", raw, tmp_path / "out")


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
            "label_when.at_least is inf, expected a finite number",
        ),
        (
            'zone = "Asia/Shanghai"',
            'zone = "here"',
            "'here' is unknown, expected an IANA name such as",
        ),
    ],
)
def test_a_wrong_toml_is_reported_with_the_key(tmp_path, old, new, expected):
    raw = write_table_log(tmp_path / "raw", toml=changed(old, new))
    with pytest.raises(UserError) as caught:
        import_logs("table", raw, tmp_path / "out")
    assert expected in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]
