"""Columns of a table file with several uses, and names of features that the importer uses itself."""

import duckdb
import numpy as np
import pytest

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.store import validate_store

START = 1_700_000_000
N = 40
TOML = """
[impressions]
files = ["log.{suffix}"]
user = "user"
time = "ts"
item = "item"
label = "label"
{more}
[features]
behaviour = ["item"]
candidate = ["item"]
{features}
{sections}
"""


def described(tmp_path, features="", *, more="", sections="", suffix="csv"):
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    (raw / "log.toml").write_text(
        TOML.format(suffix=suffix, more=more, features=features, sections=sections)
    )
    return raw


def write_log(raw, **columns):
    """Write rows of five users and four items; each of `columns` is made from the number of the row."""
    own = {
        "user": lambda i: f"u{i % 5}",
        "ts": lambda i: START + 60 * i,
        "item": lambda i: f"i{i % 4}",
        "label": lambda i: i % 2,
    } | columns
    lines = [",".join(own), *(",".join(str(of(i)) for of in own.values()) for i in range(N))]
    (raw / "log.csv").write_text("\n".join(lines) + "\n")


def write_parquet(raw, **columns):
    """Write the same rows as Parquet; each of `columns` is SQL of the number i of the row."""
    own = {
        "user": "'u' || i % 5",
        "ts": f"{START} + 60 * i",
        "item": "'i' || i % 4",
        "label": "i % 2",
    } | columns
    select = ", ".join(f"{sql} AS {name}" for name, sql in own.items())
    duckdb.sql(f"COPY (SELECT {select} FROM range({N}) t(i)) TO '{raw / 'log.parquet'}'")


def imported(raw):
    store = import_logs("table", raw, raw.parent / "out")
    validate_store(store.path)
    return store


def refusal(raw):
    with pytest.raises(UserError) as caught:
        import_logs("table", raw, raw.parent / "out")
    assert "\n" not in str(caught.value)
    assert not (raw.parent / "out").exists()
    return str(caught.value)


def histories(store):
    """The items that each impression sees, oldest first, as ids."""
    return [
        np.asarray(store.behaviours["item"][store.offsets[user] : end]).tolist()
        for user, end in zip(store.user, store.history_end, strict=True)
    ]


def numbers(store, name):
    return np.load(store.path / "impressions" / f"numeric.{name}.npy")


# an id and a number


def test_a_user_that_is_a_number_too_keeps_every_digit(tmp_path):
    raw = described(tmp_path, 'numeric = ["uid"]\ncolumns = { uid = "user" }')
    write_log(raw, user=lambda i: 900_000_000_000_000_000 + i % 6)
    store = imported(raw)
    assert len(np.unique(store.user)) == 6
    assert np.unique(numbers(store, "uid")).tolist() == [np.float32(9e17)]


def test_an_item_that_is_a_number_too_finds_its_row_by_its_text(tmp_path):
    raw = described(
        tmp_path,
        'numeric = ["i"]\ncolumns = { i = "item" }',
        sections='[items]\nfiles = ["items.csv"]\nitem = "item"',
    )
    write_log(raw, item=lambda i: f"{i % 4:03}")
    (raw / "items.csv").write_text("item\n" + "".join(f"{i:03}\n" for i in range(4)))
    store = imported(raw)
    assert store.source["found"]["items"]["impressions"] == [N, N]
    assert sorted(np.unique(numbers(store, "i"))) == [0, 1, 2, 3]


def test_a_category_that_is_a_number_too_is_the_same_value_in_both_tables(tmp_path):
    raw = described(
        tmp_path,
        'numeric = ["d"]\ncolumns = { d = "dur" }',
        sections='[events]\nfiles = ["events.csv"]\nuser = "user"\ntime = "ts"\nitem = "item"',
    )
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('["item"]', '["item", "dur"]'))
    write_log(raw, dur=lambda i: 15 * (1 + i % 2))
    (raw / "events.csv").write_text(
        "user,ts,item,dur\n" + "".join(f"u{i % 5},{START + 60 * i},i0,15\n" for i in range(N))
    )
    store = imported(raw)
    assert store.schema.vocabularies["dur"] == 2 + 2  # two values


def test_the_error_of_a_second_reading_names_the_column_of_the_file(tmp_path):
    raw = described(tmp_path, 'numeric = ["i"]\ncolumns = { i = "item" }')
    write_log(raw, item=lambda i: "seven" if i == 6 else i)
    assert "log.csv: line 8: item is 'seven', expected a number" in refusal(raw)


def test_files_without_a_header_may_have_such_columns(tmp_path):
    raw = described(
        tmp_path,
        'numeric = ["uid"]\ncolumns = { uid = "user" }',
        more='names = ["user", "ts", "item", "label"]',
    )
    write_log(raw, user=lambda i: f"0{i % 5}")
    log = raw / "log.csv"
    log.write_text(log.read_text().split("\n", 1)[1])
    store = imported(raw)
    assert sorted(np.unique(numbers(store, "uid"))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("role", ["numeric", "behaviour_numeric"])
def test_the_time_may_be_a_number_too(tmp_path, role):
    raw = described(tmp_path, f'{role} = ["moment"]\ncolumns = {{ moment = "ts" }}')
    write_log(raw)
    assert imported(raw).n_impressions == N


# histories


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_null_texts_in_a_history_are_unknown_and_null_cells_are_empty(tmp_path, suffix):
    raw = described(
        tmp_path,
        more='null = ["NULL"]',
        sections='[history]\ncolumns = { item = "h" }\nseparator = "^"',
        suffix=suffix,
    )
    write_log(raw, h=lambda i: "NULL" if i % 2 else "i1^NULL^i3")
    write_parquet(raw, h="CASE WHEN i % 2 = 0 THEN ['i1', 'NULL', 'i3'] END")
    store = imported(raw)
    assert store.schema.vocabularies["item"] == 2 + 4
    assert sorted(map(tuple, histories(store))) == [()] * 20 + [(3, 1, 5)] * 20


def test_users_with_other_nulls_in_their_lists_are_others(tmp_path):
    raw = described(
        tmp_path,
        more='null = ["NULL"]',
        sections='[history]\ncolumns = { item = "h" }\nseparator = "^"',
    )
    write_log(raw, user=lambda _: "u", h=lambda i: "i1^NULL" if i % 2 else "NULL^i1")
    assert sorted(map(tuple, histories(imported(raw)))) == [(1, 3)] * 20 + [(3, 1)] * 20


def test_a_null_number_in_a_history_is_missing(tmp_path):
    raw = described(
        tmp_path,
        'behaviour_numeric = ["price"]',
        more='null = ["NULL"]',
        sections='[history]\ncolumns = { item = "h", price = "p" }\nseparator = "^"',
    )
    write_log(raw, h=lambda _: "i1^i2", p=lambda i: f"{i}^NULL")
    store = imported(raw)
    assert sorted(np.load(store.path / "behaviours" / "feature.price.npy")) == [1] * N + [2] * N


# exact ids


HISTORY = '[history]\ncolumns = { item = "h" }'


@pytest.mark.parametrize(
    ("columns", "more", "sections"),
    [
        ({"item": f"({2**53} + i % 2)::DOUBLE"}, "", ""),
        ({"h": f"[{2**53}::DOUBLE]"}, "", HISTORY),
        ({"item": f"[{2**53}::DOUBLE]"}, 'explode = ["item"]', ""),
        ({"h": "[16777216::FLOAT]"}, "", HISTORY),
    ],
)
def test_ids_that_a_real_number_cannot_tell_apart_are_refused(tmp_path, columns, more, sections):
    raw = described(tmp_path, more=more, sections=sections, suffix="parquet")
    write_parquet(raw, **columns)
    assert "write ids as whole numbers or text" in refusal(raw)


@pytest.mark.parametrize(
    ("columns", "more", "sections"),
    [
        ({"item": "i % 4", "h": "[(i % 4)::DOUBLE]"}, "", HISTORY),
        ({"item": f"[({2**53 - 4} + i % 4)::DOUBLE]"}, 'explode = ["item"]', ""),
    ],
)
def test_real_numbers_in_lists_are_the_ids_of_the_whole_numbers(tmp_path, columns, more, sections):
    raw = described(tmp_path, more=more, sections=sections, suffix="parquet")
    write_parquet(raw, **columns)
    assert imported(raw).schema.vocabularies["item"] == 2 + 4


def test_numbers_in_a_history_may_be_large(tmp_path):
    raw = described(
        tmp_path,
        'behaviour_numeric = ["price"]',
        sections='[history]\ncolumns = { item = "h", price = "p" }',
        suffix="parquet",
    )
    write_parquet(raw, h="['i1', 'i2']", p="[1e20, i]::DOUBLE[]")
    assert imported(raw).n_events == 2 * N


# names


OWN_NAMES = ("value", "n", "number", "trained", "in_test", "unit")


@pytest.mark.parametrize("place", ["context", "profile", "items"])
def test_features_may_have_the_names_of_the_importers_own_columns(tmp_path, place):
    names = ", ".join(f'"{name}"' for name in OWN_NAMES)
    features = "" if place == "items" else f"{place} = [{names}]\n"
    columns = ", ".join(f'{name} = "c"' for name in OWN_NAMES)
    raw = described(
        tmp_path,
        f"{features}columns = {{ {columns} }}",
        sections="".join(
            f'[{one}s]\nfiles = ["{one}s.csv"]\n{one} = "{one}"\n' for one in ("user", "item")
        ),
    )
    if place == "items":
        toml = raw / "log.toml"
        toml.write_text(toml.read_text().replace('["item"]', f'["item", {names}]'))
    for one in ("user", "item"):
        own = "c" if place in (one + "s", {"user": "profile"}.get(one)) else "other"
        rows = "".join(f"{one[0]}{i},{i % 3}\n" for i in range(5))
        (raw / f"{one}s.csv").write_text(f"{one},{own}\n{rows}")
    write_log(raw, **({"c": lambda i: i % 3} if place == "context" else {}))
    sizes = imported(raw).schema.vocabularies
    assert {name: sizes[name] for name in OWN_NAMES} == dict.fromkeys(OWN_NAMES, 2 + 3)


def test_a_number_of_events_is_no_vocabulary(tmp_path):
    raw = described(
        tmp_path,
        'context = ["tag"]\nbehaviour_numeric = ["price"]\nvocabularies = { tag = "price" }',
    )
    write_log(raw, tag=lambda i: i % 3, price=lambda i: i)
    message = refusal(raw)
    assert message.startswith("features.vocabularies.tag: 'price' is a number of events")
