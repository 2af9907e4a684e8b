"""Bad input for every importer: one line with file, row and column, and nothing is left behind."""

import gzip

import pytest
from raw_logs import LOGS, assert_same_files, import_raw, write_raw
from slow_cases import fast_only

from scaling.cli.app import main
from scaling.errors import UserError
from scaling.importers import IMPORTERS, import_logs

SETS = sorted(LOGS)
# The file of impressions, its separator, and a line of it whose cells the tests replace.
MAIN = {
    "movielens": ("ratings.csv", ",", "1,1,4.0,964982703"),
    "movielens-100k": ("u.data", "\t", "196\t257\t5\t881250949"),
    "taobao-ads": ("raw_sample.csv", ",", "777,1494604799,2,430539_1007,0,1"),
    "taobao-userbehavior": ("UserBehavior.csv", ",", "1,2333346,2520771,pv,1511561733"),
    "eleme": ("D2_0.csv", ",", None),
    "kuairand": ("log_standard_4_22_to_5_08_pure.csv", ",", "3,10,20220508,1100,1651978800123"),
    "mind": ("MINDsmall_dev/behaviors.tsv", "\t", "11/15/2019 7:00:00 AM"),
}
NEEDED = {
    "movielens": ("ratings.csv", "movies.csv"),
    "movielens-100k": ("u.data", "u.user", "u.item"),
    "taobao-ads": ("raw_sample.csv", "ad_feature.csv", "user_profile.csv", "behavior_log.csv"),
    "taobao-userbehavior": ("UserBehavior.csv",),
    "kuairand": ("user_features_pure.csv", "video_features_basic_pure.csv"),
}


def content(name, file):
    text = LOGS[name][file]
    return text if isinstance(text, bytes) else text.encode()


def fails(tmp_path, name, files):
    raw = write_raw(tmp_path / "raw", name, files)
    with pytest.raises(UserError) as caught:
        import_logs(name, raw, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_importer_of_a_published_set_of_text_files_has_a_small_log():
    of_parquet = {"yambda", "vk-lsvd"}
    assert set(IMPORTERS) - {"table", "movielens-1m", *of_parquet} == set(LOGS)


@pytest.mark.parametrize(("name", "file"), [(n, f) for n, files in NEEDED.items() for f in files])
def test_a_missing_file_is_named(tmp_path, name, file):
    message = fails(tmp_path, name, {file: None})
    assert "missing" in message
    assert file.split("_pure")[0] in message


@pytest.mark.parametrize("name", SETS)
def test_an_empty_folder(tmp_path, name):
    assert str(tmp_path / "raw") in fails(tmp_path, name, {**dict.fromkeys(LOGS[name]), "x": ""})


@pytest.mark.parametrize("name", SETS)
def test_an_empty_file(tmp_path, name):
    file = MAIN[name][0]
    assert f"{file}: is empty" in fails(tmp_path, name, {file: ""})


@pytest.mark.parametrize("name", SETS)
def test_a_wrong_separator(tmp_path, name):
    file, separator, _ = MAIN[name]
    message = fails(tmp_path, name, {file: content(name, file).replace(separator.encode(), b"|")})
    assert f"{file}: line 1" in message
    assert f"separated by {separator!r}" in message


@pytest.mark.parametrize("name", ["movielens", "taobao-ads", "kuairand"])
def test_a_missing_column(tmp_path, name):
    file = MAIN[name][0]
    header, *rows = content(name, file).decode().splitlines(keepends=True)
    column = header.strip().split(",")[1]
    message = fails(tmp_path, name, {file: header.replace(f",{column}", ",other") + "".join(rows)})
    assert f"{file}: line 1: no column {column!r}" in message


@pytest.mark.parametrize("name", ["movielens-100k", "taobao-userbehavior", "eleme", "mind"])
def test_a_line_with_one_field_too_few(tmp_path, name):
    file, separator, _ = MAIN[name]
    first, _, rest = content(name, file).partition(b"\n")
    short = first.rsplit(separator.encode(), 1)[0]
    n = first.count(separator.encode())
    message = fails(tmp_path, name, {file: short + b"\n" + rest})
    assert f"{file}: line 1: {n} field(s), expected {n + 1}" in message


@pytest.mark.parametrize("name", SETS)
def test_a_cut_gzip_file(tmp_path, name):
    file = MAIN[name][0]
    packed = gzip.compress(content(name, file))[:-1]
    message = fails(tmp_path, name, {file: None, f"{file}.gz": packed})
    assert f"{file}.gz: damaged or cut .gz file" in message


@pytest.mark.parametrize(
    "name", ["movielens", "taobao-ads", "taobao-userbehavior", "kuairand", "mind"]
)
def test_bytes_that_are_not_utf8(tmp_path, name):
    file = MAIN[name][0]
    lines = content(name, file).splitlines(keepends=True)
    lines[1] = b"\xff" + lines[1]
    message = fails(tmp_path, name, {file: b"".join(lines)})
    assert f"{file}: line 2" in message
    assert "not UTF-8 text" in message


@pytest.mark.parametrize(
    ("name", "old", "new", "column"),
    [
        ("movielens", "964982703", "-964982703", "timestamp"),
        ("movielens", "964982703", "964982703000", "timestamp"),
        ("movielens", "964982703", "then", "timestamp"),
        ("movielens", "4.0", "4.2", "rating"),
        ("movielens", "4.0", "6.0", "rating"),
        ("movielens-100k", "881250949", "-1", "timestamp"),
        ("movielens-100k", "881250949", "99999999999", "timestamp"),
        ("movielens-100k", "\t5\t", "\t0\t", "rating"),
        ("taobao-ads", "1494604799", "0", "time_stamp"),
        ("taobao-ads", "1494604799", "noon", "time_stamp"),
        ("taobao-ads", ",0,1", ",0,-1", "clk"),
        ("taobao-userbehavior", "1511561733", "1511561733.5", "timestamp"),
        ("taobao-userbehavior", "pv", "click", "behaviour"),
        ("kuairand", "1651978800123", "-1651978800123", "time_ms"),
        ("kuairand", "1651978800123", "99999999999999", "time_ms"),
        ("mind", "11/15/2019", "15/11/2019", "Time"),
        ("mind", "2019", "9999", "Time"),
    ],
)
def test_an_invalid_cell_is_reported_with_file_line_and_column(tmp_path, name, old, new, column):
    file, _, line = MAIN[name]
    text = content(name, file).decode()
    at = text.index(line)
    number = text[:at].count("\n") + 1
    message = fails(
        tmp_path, name, {file: text[:at] + line.replace(old, new, 1) + text[at + len(line) :]}
    )
    assert f"{file}: line {number}: {column} is '" in message


@pytest.mark.parametrize("name", SETS)
def test_the_command_line_prints_the_error_in_one_line(tmp_path, capsys, name):
    file = MAIN[name][0]
    raw = write_raw(tmp_path / "raw", name, {file: ""})
    with pytest.raises(SystemExit) as exited:
        main(["--quiet", "data", "import", name, str(raw), str(tmp_path / "out")])
    assert exited.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {raw / file}: is empty\n"


@pytest.mark.parametrize("name", fast_only(["taobao-ads"], SETS))
def test_row_order_line_ends_and_packing_change_no_byte(tmp_path, name):
    first = import_raw(name, tmp_path, out="first")
    headed = {"movielens", "taobao-ads", "kuairand"}
    files = dict.fromkeys(LOGS[name])
    for file in LOGS[name]:
        lines = content(name, file).splitlines()
        head = lines[:1] if name in headed else []
        text = b"\r\n".join([*head, *reversed(lines[len(head) :])])
        files[f"{file}.gz"] = gzip.compress(text)
    assert_same_files(first, import_raw(name, tmp_path, files, out="second"))
