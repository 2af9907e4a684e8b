"""An import in shards gives the bytes of one job, whatever its shards and workers, and whatever happens to them."""

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import duckdb
import pytest
from listed_tables import DIALECTS, make_listed, write_listed
from raw_logs import assert_same_files, write_raw
from slow_cases import fast_only
from table_logs import START, TOML, changed, make_rows, write_table_log

from scaling.cli.app import main
from scaling.errors import UserError
from scaling.importers import IMPORTERS, import_logs
from scaling.importers.pipeline import local_workers
from scaling.importers.pipeline.sharded import job_order, work_folder
from scaling.importers.pipeline.sharded.job_order import PHASES
from scaling.store import open_store

ROW_ORDER = """
[impressions]
files = ["part-*.csv"]
user = "user"
time = "row order"
item = "item"
label = "click"
[[impressions.drop]]
reason = "robots"
column = "user"
equals = ["u3"]
[features]
behaviour = ["item"]
candidate = ["item"]
[vocabularies]
hashed = { item = 50 }
"""
LISTS = """
[impressions]
files = ["shown.csv"]
user = "user"
time = "time"
item = "item"
label = "click"
[history]
columns = { item = "items" }
separator = "^"
[users]
files = ["users.csv"]
user = "user"
[features]
behaviour = ["item"]
candidate = ["item"]
profile = ["age"]
[split]
kind = "user"
test_fraction = 0.4
"""


def table_log(folder, toml=TOML):
    return "table", write_table_log(folder, toml=toml)


def by_user(folder):
    return table_log(folder, TOML + '[split]\nkind = "user"\ntest_fraction = 0.3\n')


def given(folder):
    toml = TOML + '[split]\nkind = "column"\ncolumn = "tab"\ntest = ["a"]\n'
    return table_log(folder, toml.replace('context = ["hour", "tab"]', 'context = ["hour"]'))


def repeats(folder):
    rows = make_rows()
    rows["shown"] += rows["shown"][5:30]
    toml = changed('label = "click"', 'label = "click"\ndrop_repeats = true')
    return "table", write_table_log(folder, rows, toml)


def negatives_without_items(folder):
    folder.mkdir()
    (folder / "e.csv").write_text(
        "user,time,item,kind\n"
        + "".join(
            f"u{i % 9},{START + i * 7 % 50},i{i * 5 % 17},k{i * 5 % 17 % 4}\n" for i in range(200)
        )
    )
    (folder / "log.toml").write_text(
        '[events]\nfiles = ["e.csv"]\nuser = "user"\ntime = "time"\nitem = "item"\n'
        '[features]\nbehaviour = ["item"]\ncandidate = ["item", "kind"]\n[negatives]\nseed = 3\n'
    )
    return "table", folder


def row_order(folder):
    folder.mkdir()
    for part in range(4):
        rows = (f"u{i * 7 % 11},i{i % 13},{i % 3 % 2}\n" for i in range(part * 9, part * 9 + 30))
        (folder / f"part-{part}.csv").write_text("user,item,click\n" + "".join(rows))
    (folder / "log.toml").write_text(ROW_ORDER)
    return "table", folder


def lists(folder):
    folder.mkdir()
    rows = (
        f"u{i % 7},{START + i * 3 % 40},i{i % 13},{i % 2},{'^'.join(f'i{j}' for j in range(i % 4))}\n"
        for i in range(90)
    )
    (folder / "shown.csv").write_text("user,time,item,click,items\n" + "".join(rows))
    (folder / "users.csv").write_text("user,age\n" + "".join(f"u{i},{i % 3}\n" for i in range(9)))
    (folder / "log.toml").write_text(LISTS)
    return "table", folder


def several_values(folder):
    return "table", write_listed(folder, make_listed(), DIALECTS["bars"])


def of_set(name):
    return lambda folder: (name, write_raw(folder, name))


def vk_lsvd(folder):
    folder.mkdir()
    for week in range(3):
        duckdb.execute(
            f"COPY (SELECT (i * 7 % 12)::UINTEGER AS user_id, (i % 31)::UINTEGER AS item_id, 1::UTINYINT AS place, "
            f"2::UTINYINT AS platform, 3::UTINYINT AS agent, (i % 9)::UTINYINT AS timespent, i % 4 = 0 AS like "
            f"FROM range({40 + week}) t(i)) TO '{folder}/week_{week:02d}.parquet' (FORMAT parquet)"
        )
    return "vk-lsvd", folder


LOGS = {
    "table": table_log,
    "a split by user": by_user,
    "a split of the log": given,
    "repeats": repeats,
    "negatives without items": negatives_without_items,
    "row order": row_order,
    "lists in rows": lists,
    "several values in a cell": several_values,
    "vk-lsvd": vk_lsvd,
    **{
        name: of_set(name)
        for name in ("mind", "eleme", "kuairand", "taobao-ads", "taobao-userbehavior", "movielens")
    },
}


@pytest.mark.parametrize("log", fast_only(["table"], LOGS))
def test_the_bytes_are_those_of_one_job(tmp_path, log):
    name, raw = LOGS[log](tmp_path / "raw")
    one = import_logs(name, raw, tmp_path / "one")
    assert_same_files(one, import_logs(name, raw, tmp_path / "three", shards=3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "raw", "three"]


@pytest.mark.slow
@pytest.mark.parametrize(("shards", "workers"), [(1, 1), (1, 2), (2, 2), (5, 1), (5, 2)])
def test_the_bytes_depend_on_no_number_of_shards_or_workers(tmp_path, shards, workers):
    name, raw = negatives_without_items(tmp_path / "raw")
    one = import_logs(name, raw, tmp_path / "one")
    many = import_logs(name, raw, tmp_path / "many", shards=shards, workers=local_workers(workers))
    assert_same_files(one, many)
    open_store(many.path, verify=True)


@pytest.mark.slow
def test_more_shards_than_users_leave_some_empty(tmp_path):
    name, raw = row_order(tmp_path / "raw")
    one = import_logs(name, raw, tmp_path / "one")
    assert_same_files(one, import_logs(name, raw, tmp_path / "many", shards=40))


@pytest.mark.slow
@pytest.mark.parametrize("order", range(len(PHASES)), ids=[phase.name for phase in PHASES])
def test_an_import_goes_on_where_it_was_stopped(tmp_path, monkeypatch, order):
    name, raw = table_log(tmp_path / "raw")
    one = import_logs(name, raw, tmp_path / "one")
    made, filled = [], job_order._filled

    def note(job, fill, number, folder):
        made.append((fill, number))
        return filled(job, fill, number, folder)

    def stop_in_the_phase(job, fill, number, folder):
        document = note(job, fill, number, folder)
        if fill is PHASES[order].fill:
            raise KeyboardInterrupt  # all files are written, but for the last
        return document

    monkeypatch.setattr(job_order, "_filled", stop_in_the_phase)
    with pytest.raises(KeyboardInterrupt):
        import_logs(name, raw, tmp_path / "two", shards=2)
    assert not (tmp_path / "two").exists()
    monkeypatch.setattr(job_order, "_filled", note)
    assert_same_files(one, import_logs(name, raw, tmp_path / "two", shards=2))
    assert len(made) == len(set(made)) + 1  # none but the stopped one was made twice


@pytest.mark.slow
@pytest.mark.parametrize("name_of_phase", ["read", "ids", "sort"])
def test_a_piece_that_was_changed_is_made_again(tmp_path, monkeypatch, caplog, name_of_phase):
    name, raw = table_log(tmp_path / "raw")
    one = import_logs(name, raw, tmp_path / "one")
    made, filled = [], job_order._filled

    def stop_at_the_end(job, fill, number, folder):
        made.append((fill, number))
        if fill is PHASES[-1].fill:
            raise KeyboardInterrupt
        return filled(job, fill, number, folder)

    monkeypatch.setattr(job_order, "_filled", stop_at_the_end)
    with pytest.raises(KeyboardInterrupt):
        import_logs(name, raw, tmp_path / "two", shards=2)
    (work,) = tmp_path.glob(".two.import/*/")
    file = next(
        path
        for path in sorted((work / name_of_phase / "00000").rglob("*.*"))
        if path.suffix != ".json"
    )
    file.write_bytes(file.read_bytes() + b"x")
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        import_logs(name, raw, tmp_path / "two", shards=2)
    assert made[0] == (next(one.fill for one in PHASES if one.name == name_of_phase), 0)
    assert "damaged; it is made again" in caplog.text
    monkeypatch.setattr(job_order, "_filled", filled)
    assert_same_files(one, import_logs(name, raw, tmp_path / "two", shards=2))


def test_a_piece_that_is_made_twice_is_the_first(tmp_path):
    job = work_folder.ShardedImport(None, tmp_path, tmp_path / "out", {}, None, 1)

    def fill(text):
        def write(folder):
            (folder / "file").write_text(text)
            return {"text": text}

        return write

    job.make("rows", 0, fill("first"))
    job.make("rows", 0, fill("second"))
    assert job.documents("rows") == [{"text": "first"}]
    assert (job.piece("rows") / "file").read_text() == "first"
    assert list((job.folder / "unfinished").iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"n": 1}', '{"n": 2, "digest": "x"}', "[" * 100_000])
def test_a_piece_that_is_not_as_it_was_written_is_told(tmp_path, text):
    job = work_folder.ShardedImport(None, tmp_path, tmp_path / "out", {}, None, 1)
    job.make("rows", 0, lambda _: {"n": 1, "by number": {10: 0.1, 9: (1, 2)}})
    assert job.document("rows") == {"n": 1, "by number": {"10": 0.1, "9": [1, 2]}}
    (job.piece("rows") / "piece.json").write_text(text)
    with pytest.raises(UserError, match=r"piece\.json: damaged; remove .*\.out\.import"):
        job.document("rows")


def test_a_file_that_is_no_piece_is_passed_over(tmp_path):
    job = work_folder.ShardedImport(None, tmp_path, tmp_path / "out", {}, None, 1)
    job.make("rows", 0, lambda _: {})
    (job.piece("rows").parent / ".nfs0000000001").touch()
    assert job.done("rows") == {0}


def test_a_claim_is_for_one_until_it_is_old(tmp_path, monkeypatch):
    job = work_folder.ShardedImport(None, tmp_path, tmp_path / "out", {}, None, 1)
    (job.folder / "claims").mkdir(parents=True)
    with job.claimed("rows", 0, "one") as first, job.claimed("rows", 0, "other") as second:
        assert (first, second) == (True, False)
        os.utime(job.folder / "claims" / "rows-0", (time.time() - 60,) * 2)
        with job.claimed("rows", 0, "other") as second:
            assert second
    # a worker that was killed and lives again need not wait
    (job.folder / "claims" / "rows-1").write_text("one")
    with job.claimed("rows", 1, "one") as again:
        assert again


def run(raw, out, *options):
    command = [sys.executable, "-m", "scaling", "data", "import", "table", str(raw), str(out)]
    return subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_after_a_kill_the_same_command_goes_on(tmp_path, victim):
    import psutil

    _, raw = row_order(tmp_path / "raw")
    one = import_logs("table", raw, tmp_path / "one")
    options = ("--shards", "4", "--jobs", "2")
    process = run(raw, tmp_path / "out", *options)
    while not list(tmp_path.glob(".out.import/*/rows/*")):
        assert process.poll() is None
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    if victim == "worker":
        workers = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
        workers[0].send_signal(signal.SIGKILL)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "ended by signal 9" in error
        assert "the same command goes on" in error
    else:
        process.kill()
        process.communicate()
        psutil.wait_procs(children, timeout=60)
        assert [child for child in children if child.is_running()] == []
    assert not (tmp_path / "out").exists()
    process = run(raw, tmp_path / "out", *options)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert_same_files(one, open_store(tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out", "raw"]


def break_line(raw):
    file = raw / "part-2.csv"
    file.write_text(file.read_text().replace("\n", "\nu1,i1,7\n", 1))


def repeat_item(raw):
    with (raw / "items.csv").open("a") as file:
        file.write('v3,"k, 3"\n')


def repeat_user(raw):
    with (raw / "users.csv").open("a") as file:
        file.write("004,1\n")


def drop_all(raw):
    toml = raw / "log.toml"
    toml.write_text(
        toml.read_text()
        .replace('equals = ["u3"]', "below = 1e9\n")
        .replace('column = "user"', 'column = "click"')
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("log", "spoil", "expected"),
    [
        (row_order, break_line, "part-2.csv: line 2: click is '7', expected 0 or 1"),
        (table_log, repeat_item, "items.csv: line 32: video is v3 again"),
        (table_log, repeat_user, "users.csv: line 17: user is 004 again"),
        (row_order, lambda raw: (raw / "part-1.csv").write_text("user,item\nu,i\n"), "click"),
        (row_order, drop_all, "impressions: all "),
    ],
)
def test_an_error_is_the_line_of_one_job(tmp_path, log, spoil, expected):
    _, raw = log(tmp_path / "raw")
    spoil(raw)
    with pytest.raises(UserError) as of_one:
        import_logs("table", raw, tmp_path / "out")
    with pytest.raises(UserError) as of_shards:
        import_logs("table", raw, tmp_path / "out", shards=3)
    assert expected in str(of_one.value)
    assert str(of_shards.value) == str(of_one.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_shows_an_error_of_a_process_as_its_line(tmp_path):
    _, raw = row_order(tmp_path / "raw")
    break_line(raw)
    process = run(raw, tmp_path / "out", "--shards", "3", "--jobs", "2")
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert error.splitlines()[-1].endswith("part-2.csv: line 2: click is '7', expected 0 or 1")


@pytest.mark.slow
def test_what_is_warned_of_is_that_of_one_job(tmp_path, caplog):
    caplog.set_level(logging.INFO)  # a test of --quiet may have changed it
    rows = make_rows()
    rows["shown"][1:] = [
        [*row[:5], ("NULL", "a|b", "c")[i % 3]] for i, row in enumerate(rows["shown"][1:])
    ]
    rows["items"][1:] = [[f"x{item}", kind] for item, kind in rows["items"][1:]]
    raw = write_table_log(tmp_path / "raw", rows)
    warned = []
    for shards in (None, 3):
        caplog.clear()
        import_logs("table", raw, tmp_path / f"out-{shards}", shards=shards)
        warned.append([r.getMessage() for r in caplog.records if r.levelname == "WARNING"])
    assert warned[0] == warned[1]
    assert [
        any(word in line for line in warned[0])
        for word in ("NULL", "look like lists", "compared as text")
    ] == [True] * 3


@pytest.mark.slow
def test_another_number_of_shards_or_a_mended_file_begins_anew(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    _, raw = row_order(tmp_path / "raw")
    good = (raw / "part-2.csv").read_text()
    break_line(raw)
    for shards in (3, 2):
        with pytest.raises(UserError):
            import_logs("table", raw, tmp_path / "out", shards=shards)
    (raw / "part-2.csv").write_text(good)
    store = import_logs("table", raw, tmp_path / "out", shards=2)
    assert_same_files(store, import_logs("table", raw, tmp_path / "one"))
    assert caplog.text.count("begins anew") == 2


@pytest.mark.slow
def test_an_importer_that_does_not_say_whose_rows_it_has_is_refused(tmp_path, monkeypatch):
    _, raw = row_order(tmp_path / "raw")
    table = IMPORTERS["table"]

    def nobodys(raw, options):
        log = table.declare(raw, options)
        tables = {name: replace(one, user="") for name, one in log.tables.items()}
        return replace(log, tables=tables)

    monkeypatch.setitem(IMPORTERS, "table", replace(table, declare=nobodys))
    with pytest.raises(UserError, match="user u0 has impressions in several shards"):
        import_logs("table", raw, tmp_path / "out", shards=2)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--jobs", "2"], "expected with --shards only"),
        (["--shards", "2", "--slurm", "partition=x"], "expected with --cluster slurm only"),
        (
            ["--shards", "2", "--cluster", "slurm", "--slurm", "cpus=two"],
            "cpus=two: expected a whole",
        ),
    ],
)
def test_options_that_need_others_say_so(tmp_path, capsys, options, expected):
    with pytest.raises(SystemExit) as exited:
        main(["data", "import", "table", str(tmp_path), str(tmp_path / "out"), *options])
    assert exited.value.code == 2
    assert expected in capsys.readouterr().err
