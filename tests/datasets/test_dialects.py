"""The same log in random dialects: however its files are written, the store has the same fingerprint."""

import csv
import gzip
import json
import random
from datetime import UTC, datetime, timedelta
from itertools import groupby

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import fast_only

from scaling.importers import import_logs
from scaling.importers.pipeline import Limits

START = 1_700_000_000
TOML = """
zone = "Asia/Shanghai"
[impressions]
files = ["log"]
user = "user"
time = "ts"
item = "item"
label = "label"
{layout}
[features]
behaviour = ["item", "cat", "tags"]
candidate = ["item", "cat", "tags"]
context = ["hour"]
numeric = ["price"]
behaviour_numeric = ["price"]
fill = {{ price = -1.0 }}
[lists.tags]
separator = {list_separator}
max_values = 3
"""
# What stands for an empty cell, the text between columns, and the quotes.
EMPTY, SEPARATORS, QUOTING = ("", "NULL", "\\N"), (",", "\t", ";", "|", "::"), ("minimal", "all")
TIMES = ("s", "ms", "us", "real", "iso", "iso with offset", "format")
LISTS = ("bars", "commas", "brackets", "python", "json")
FORMS = ("csv", "gz", "parquet", "parquet texts")


def make_rows(seed=0, n=90):
    rng = random.Random(seed)
    return [
        {
            "user": f"{rng.randrange(9):03d}",
            "ts": START + 61 * rng.randrange(300),
            "item": f"i{rng.randrange(12)}",
            "label": rng.randrange(2),
            "cat": rng.choice(["a", "b c", "d", None]),
            "tags": [f"t{rng.randrange(6)}" for _ in range(rng.randrange(5))],
            "price": rng.choice([None, 0.5, -2.25, 3.0]),
        }
        for _ in range(n)
    ]


def time_as(kind, seconds):
    moment = datetime.fromtimestamp(seconds, UTC)
    return {
        "s": lambda: seconds,
        "ms": lambda: seconds * 1000 + seconds % 1000,
        "us": lambda: seconds * 1_000_000 + 5,
        "real": lambda: f"{seconds}.0",
        "iso": lambda: (moment + timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S"),
        "iso with offset": lambda: moment.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        "format": lambda: (moment + timedelta(hours=8)).strftime("%d/%m/%Y %H.%M.%S"),
    }[kind]()


UNITS = {
    **dict.fromkeys(("s", "real"), 'unit = "s"'),
    "ms": 'unit = "ms"',
    "us": 'unit = "us"',
    **dict.fromkeys(("iso", "iso with offset"), 'unit = "timestamp"'),
    "format": 'unit = "timestamp"\nformat = "%d/%m/%Y %H.%M.%S"',
}


def list_as(kind, values):
    return {
        "bars": lambda: "|".join(values),
        "commas": lambda: ",".join(values),
        "brackets": lambda: f"[{'^'.join(values)}]",
        "python": lambda: str(values),
        "json": lambda: json.dumps(values),
    }[kind]()


LIST_SEPARATORS = {"bars": "|", "brackets": "^"}


def write(folder, rows, dialect):
    """Write the rows in a dialect, cut into files and folders."""
    rows = random.Random(dialect["order"]).sample(rows, len(rows))
    cells = [
        {
            name: dialect["empty"]
            if value is None or value == []
            else time_as(dialect["time"], value)
            if name == "ts"
            else list_as(dialect["lists"], value)
            if name == "tags"
            else value
            for name, value in row.items()
        }
        for row in rows
    ]
    parts = [cells[i :: dialect["files"]] for i in range(dialect["files"])]
    log = folder / "log"
    for number, part in enumerate(parts):
        if dialect["partitions"]:
            part = sorted(part, key=lambda row: row["label"])
            for label, own in groupby(part, key=lambda row: row["label"]):
                place = log / f"label={label}"
                write_file(place / f"part-{number}", [drop(row, "label") for row in own], dialect)
        else:
            write_file(log / f"part-{number}", part, dialect)
    layout = [UNITS[dialect["time"]]]
    if dialect["empty"]:
        layout.append(f"null = [{json.dumps(dialect['empty'])}]")
    if dialect["form"] in ("csv", "gz"):
        layout.append(f"separator = {json.dumps(dialect['separator'])}")
    separator = json.dumps(LIST_SEPARATORS.get(dialect["lists"], ","))
    toml = TOML.format(layout="\n".join(layout), list_separator=separator)
    (folder / "log.toml").write_text(toml)
    return folder


def drop(row, name):
    return {key: value for key, value in row.items() if key != name}


def write_file(file, rows, dialect):
    file.parent.mkdir(parents=True, exist_ok=True)
    if not rows:
        return
    form, separator = dialect["form"], dialect["separator"]
    names = list(rows[0])
    random.Random(dialect["order"]).shuffle(names)
    plain = file.with_suffix(".tmp")
    one = "\x1e" if len(separator) > 1 or form.startswith("parquet") else separator
    with plain.open("w", newline="", encoding="utf-8") as stream:
        quoting = {"minimal": csv.QUOTE_MINIMAL, "all": csv.QUOTE_ALL}[dialect["quoting"]]
        writer = csv.DictWriter(stream, names, delimiter=one, quoting=quoting)
        writer.writeheader()
        writer.writerows(rows)
    text = plain.read_text()
    plain.unlink()
    if form == "csv":
        file.with_suffix(".csv").write_text(text.replace(one, separator))
    elif form == "gz":
        file.with_suffix(".csv.gz").write_bytes(
            gzip.compress(text.replace(one, separator).encode())
        )
    else:
        file.with_suffix(".csv").write_text(text)
        to_parquet(file, names, dialect)


def to_parquet(file, names, dialect):
    """Turn the CSV file into a Parquet file, with real lists and numbers or as texts."""
    source, kinds = file.with_suffix(".csv"), ", ".join(f"'{name}': 'VARCHAR'" for name in names)
    columns = dict.fromkeys(names)
    if dialect["form"] == "parquet":
        empty = f"nullif(CASE WHEN {{0}} = '{dialect['empty']}' THEN NULL ELSE {{0}} END, '')"
        columns["price"] = f"{empty.format('price')}::DOUBLE"
        if dialect["time"] in ("s", "ms", "us"):
            columns["ts"] = "ts::BIGINT"
        separator = LIST_SEPARATORS.get(dialect["lists"], ",")
        entries = f"string_split(trim({empty.format('tags')}, '[]'), '{separator}')"
        columns["tags"] = f"list_transform({entries}, lambda x: trim(x, ' \"'''))"
    select = ", ".join(f"{sql or name} AS {name}" for name, sql in columns.items())
    duckdb.execute(
        f"COPY (SELECT {select} FROM read_csv('{source}', header = true, delim = chr(30), quote = '\"', "
        f"auto_detect = false, columns = {{{kinds}}})) TO '{file.with_suffix('.parquet')}' (FORMAT parquet)"
    )
    source.unlink()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The fingerprint of the log in the plainest dialect."""
    return imported(tmp_path_factory.mktemp("plain"), PLAIN)


PLAIN = {
    "empty": "",
    "separator": ",",
    "quoting": "minimal",
    "time": "s",
    "lists": "bars",
    "form": "csv",
    "files": 1,
    "partitions": False,
    "order": 0,
    "threads": 1,
}


def imported(folder, dialect):
    raw = folder / "raw"
    raw.mkdir()
    write(raw, make_rows(), dialect)
    limits = Limits(threads=dialect["threads"])
    return import_logs("table", raw, folder / "out", limits=limits).fingerprint


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "empty": st.sampled_from(EMPTY),
            "separator": st.sampled_from(SEPARATORS),
            "quoting": st.sampled_from(QUOTING),
            "time": st.sampled_from(TIMES),
            "lists": st.sampled_from(LISTS),
            "form": st.sampled_from(FORMS),
            "files": st.integers(1, 3),
            "partitions": st.booleans(),
            "order": st.integers(0, 99),
            "threads": st.integers(1, 3),
        }
    )
)
def test_a_log_has_one_fingerprint_in_every_dialect(tmp_path_factory, plain, dialect):
    assert imported(tmp_path_factory.mktemp("dialect"), dialect) == plain


@pytest.mark.parametrize("lists", LISTS)
@pytest.mark.parametrize("form", fast_only(["csv"], ["csv", "parquet"]))
def test_each_way_to_write_lists_gives_the_fingerprint(tmp_path, plain, lists, form):
    assert imported(tmp_path, PLAIN | {"lists": lists, "form": form, "order": 3}) == plain


@pytest.mark.parametrize("time", TIMES)
def test_each_way_to_write_times_gives_the_fingerprint(tmp_path, plain, time):
    assert imported(tmp_path, PLAIN | {"time": time}) == plain
