"""Cells with several values, with weights, and numbers of events: what `scaling data import table` makes of them."""

import logging
import re
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listed_tables import DIALECTS, make_listed, reference, write_listed
from slow_cases import fast_only

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.importers.pipeline import Limits
from scaling.store import validate_store

run = partial(import_logs, "table")
START = 1_700_000_000
TOML = """
[impressions]
files = ["log.csv"]
user = "user"
time = "ts"
item = "item"
label = "label"
{more}
[features]
behaviour = ["item"]
candidate = ["item"]
context = ["tags"]
{features}
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return reference(make_listed(), tmp_path_factory.mktemp("reference") / "store")


@pytest.mark.parametrize("dialect", fast_only(["empty entries"], DIALECTS))
def test_every_dialect_gives_the_store_that_a_plain_reading_gives(tmp_path, expected, dialect):
    store = run(write_listed(tmp_path / "raw", make_listed(), DIALECTS[dialect]), tmp_path / "out")
    assert store.schema == expected.schema
    assert store.fingerprint == expected.fingerprint
    assert not validate_store(store.path)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    dialect=st.sampled_from(list(DIALECTS.values())),
    shuffled=st.integers(0, 100),
    threads=st.integers(1, 4),
)
def test_random_logs_in_any_dialect_and_order(tmp_path_factory, seed, dialect, shuffled, threads):
    folder, tables = tmp_path_factory.mktemp("random"), make_listed(seed)
    raw = write_listed(folder / "raw", tables, dialect, shuffled=shuffled)
    store = run(raw, folder / "out", limits=Limits(threads=threads))
    assert store.fingerprint == reference(tables, folder / "reference").fingerprint


# cells


def write_cells(folder, cells, lists, *, more="", features="", toml=TOML, **columns):
    """Write impressions with these cells in the column `tags`, three times over, so that all are in the training part."""
    names = ["user", "ts", "item", "label", "tags", *columns]
    lines = ["\t".join(names)]
    rows = list(zip(cells, *columns.values(), strict=True)) * 3
    for i, row in enumerate(rows):
        lines.append("\t".join(map(str, ["u", START + i, "i", i % 2, *row])))
    folder.mkdir(exist_ok=True)
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    more = f'separator = "\\t"\nquote = ""\n{more}'
    (folder / "log.toml").write_text(toml.format(more=more, features=features) + lists)
    return folder


def cells_of(store, name="tags"):
    """The ids of the first of three equal thirds of impressions, and their weights."""
    lists = store.lists[f"impressions/context.{name}"]
    ids, weights = lists.padded(np.arange(len(lists) // 3))
    ids = [row[row > 0].tolist() for row in ids]
    if weights is None:
        return ids
    return ids, [row[: len(own)].tolist() for own, row in zip(ids, weights, strict=True)]


LISTS = '[lists.tags]\nseparator = "|"\nmax_values = 3\n'


def test_equal_values_of_a_cell_count_once(tmp_path):
    store = run(write_cells(tmp_path / "raw", ["b|a|b", "a", "b|b"], LISTS), tmp_path / "out")
    assert cells_of(store) == [[2, 3], [2], [3]]


def test_a_cell_without_values_is_unknown(tmp_path):
    store = run(write_cells(tmp_path / "raw", ["a|b", "", "||", "[]"], LISTS), tmp_path / "out")
    assert cells_of(store) == [[2, 3], [1], [1], [1]]


def test_values_without_an_id_are_one_unknown_value(tmp_path):
    cells = ["a|b", "a|x|y", "z"]
    raw = write_cells(tmp_path / "raw", cells, f"{LISTS}[vocabularies]\nmin_count = 4\n")
    assert cells_of(run(raw, tmp_path / "out")) == [[1, 2], [1, 2], [1]]


def test_a_value_is_counted_once_per_cell(tmp_path):
    # "b" stands six times in the training part, but in three cells
    raw = write_cells(tmp_path / "raw", ["a|b|b", "a"], f"{LISTS}[vocabularies]\nmin_count = 4\n")
    assert cells_of(run(raw, tmp_path / "out")) == [[1, 2], [2]]


def test_the_first_values_of_long_cells_are_kept_and_the_cut_ones_told(tmp_path, caplog):
    raw = write_cells(tmp_path / "raw", ["d|d|c|b|a", "a|b|c", "e"], LISTS)
    with caplog.at_level(logging.WARNING):
        store = run(raw, tmp_path / "out")
    assert cells_of(store) == [[3, 4, 5], [2, 3, 4], [6]]
    assert "tags: 3 cells have more than 3 distinct values" in caplog.text
    assert store.source["cut_cells"] == {"tags": 3}


def test_values_that_are_cut_everywhere_have_no_id(tmp_path):
    store = run(write_cells(tmp_path / "raw", ["a|b|c|d"], LISTS), tmp_path / "out")
    assert store.schema.vocabularies["tags"] == 5


@pytest.mark.parametrize(
    ("cell", "n"),
    [
        ("['a, b', \"it's\"]", 2),
        ('["a, b", "c"]', 2),
        ("[1, 2.5, null]", 2),
        ("['it\\'s', 'c']", 2),
        ("(a, b)", 2),
        ("Film (1995), b", 2),
        ("'tis, 'b'", 2),
    ],
)
def test_quotes_and_brackets_around_lists_and_entries_are_syntax(tmp_path, cell, n):
    lists = "[lists.tags]\nmax_values = 9\n"
    store = run(write_cells(tmp_path / "raw", [cell], lists), tmp_path / "out")
    assert [len(ids) for ids in cells_of(store)] == [n]


def test_brackets_and_quotes_do_not_make_another_value(tmp_path):
    lists = "[lists.tags]\nmax_values = 9\n"
    cells = ["a, b (c)", "['a', 'b (c)']", '["a", "b (c)"]', "(a,b (c))", '"a","b (c)"']
    store = run(write_cells(tmp_path / "raw", cells, lists), tmp_path / "out")
    assert cells_of(store) == [[2, 3]] * len(cells)


def test_a_wrong_separator_is_told(tmp_path, caplog):
    raw = write_cells(tmp_path / "raw", ["a|b", "c"], "[lists.tags]\nmax_values = 9\n")
    with caplog.at_level(logging.WARNING):
        run(raw, tmp_path / "out")
    assert "tags: no cell has more than one value" in caplog.text


def test_a_hashed_vocabulary_has_buckets_for_all_values(tmp_path):
    raw = write_cells(
        tmp_path / "raw", ["a|b", "c"], f"{LISTS}[vocabularies]\nhashed = {{ tags = 1000 }}\n"
    )
    store = run(raw, tmp_path / "out")
    assert store.schema.vocabularies["tags"] == 1002
    assert [len(ids) for ids in cells_of(store)] == [2, 1]


def test_lists_and_single_values_may_share_ids(tmp_path):
    lists = f"{LISTS}"
    raw = write_cells(
        tmp_path / "raw",
        ["a|b", "c"],
        lists,
        features='vocabularies = { main = "tags" }',
        main="bd",
    )
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('context = ["tags"]', 'context = ["tags", "main"]'))
    store = run(raw, tmp_path / "out")
    assert cells_of(store) == [[2, 3], [4]]
    assert np.asarray(store.contexts["main"][:2]).tolist() == [3, 5]


# weights

WEIGHED = 'weights = "scores"\n'


def test_weights_stand_beside_their_values_and_those_of_equal_ones_are_added(tmp_path):
    raw = write_cells(
        tmp_path / "raw", ["b|a|b", "", "a"], LISTS + WEIGHED, scores=["1|2|0.5", "", "3"]
    )
    ids, weights = cells_of(run(raw, tmp_path / "out"))
    assert (ids, weights) == ([[2, 3], [1], [2]], [[2, 1.5], [1], [3]])


def test_weights_may_stand_in_the_entries(tmp_path):
    lists = LISTS + 'weight_separator = ":"\n'
    raw = write_cells(tmp_path / "raw", ["b:1|x:y:2|b:0.5", "", "[b:4]"], lists)
    ids, weights = cells_of(run(raw, tmp_path / "out"))
    assert (ids, weights) == ([[2, 3], [1], [2]], [[1.5, 2], [1], [4]])


def test_weights_of_values_that_are_cut_are_left_out(tmp_path):
    raw = write_cells(tmp_path / "raw", ["a|b|c|d|a"], LISTS + WEIGHED, scores=["1|2|3|9|5"])
    assert cells_of(run(raw, tmp_path / "out")) == ([[2, 3, 4]], [[6, 2, 3]])


@pytest.mark.parametrize(
    ("scores", "pooling"),
    [
        ("1|2|3", "mean"),
        ("1", "mean"),
        ("1|", "mean"),
        ("", "mean"),
        ("1|zero", "mean"),
        ("1|0", "mean"),
        ("1|-2", "mean"),
        ("1|inf", "mean"),
        ("1|nan", "sum"),
        ("1|1e39", "sum"),
        ("1|1e39", "mean"),
        ("1|1e-60", "mean"),
    ],
)
def test_wrong_weights_are_refused_with_their_line(tmp_path, scores, pooling):
    raw = write_cells(
        tmp_path / "raw",
        ["a|b", "a|b"],
        f'{LISTS}{WEIGHED}pooling = "{pooling}"\n',
        scores=["1|2", scores],
    )
    with pytest.raises(UserError, match=r"log\.csv: line 3: scores is .*expected a finite weight"):
        run(raw, tmp_path / "out")


def test_weights_that_add_up_to_more_than_32_bits_hold_are_refused(tmp_path):
    raw = write_cells(tmp_path / "raw", ["a|a"], LISTS + WEIGHED, scores=["3e38|3e38"])
    with pytest.raises(UserError, match="tags: the weights of a value in one cell add up to more"):
        run(raw, tmp_path / "out")


def test_an_entry_without_its_weight_is_refused(tmp_path):
    raw = write_cells(tmp_path / "raw", ["a:1|b"], LISTS + 'weight_separator = ":"\n')
    with pytest.raises(
        UserError, match=r"line 2: tags is 'a:1\|b', expected a finite weight above 0"
    ):
        run(raw, tmp_path / "out")


def test_sums_may_have_weights_of_any_sign(tmp_path):
    raw = write_cells(
        tmp_path / "raw",
        ["a|b"],
        f'{LISTS}{WEIGHED}pooling = "sum"\n',
        scores=["-1.5|0"],
    )
    assert cells_of(run(raw, tmp_path / "out")) == ([[2, 3]], [[-1.5, 0]])


# the mapping


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ("[lists.tgs]\nmax_values = 3", "lists.tgs: no feature has this name"),
        ("[lists.foo]\nmax_values = 3", "this name, expected one of: item, tags"),
        ("[lists.item]\nmax_values = 3", "lists.item: this feature has one value per cell"),
        ("[lists.tags]\nmax_values = 1", "max_values is 1, expected 2 to 256"),
        ("[lists.tags]\nmax_values = 257", "max_values is 257, expected 2 to 256"),
        ("[lists.tags]", "lists.tags.max_values: missing"),
        ('[lists.tags]\nmax_values = 3\nseparator = ""', "separator is empty"),
        ('[lists.tags]\nmax_values = 3\nweights = "w"\nweight_separator = ":"', "expected one of"),
        ('[lists.tags]\nmax_values = 3\nweights = "w"', "lists.tags.weights: no column 'w'"),
        (
            '[lists.tags]\nmax_values = 3\nweights = "item"',
            "column 'item' of [impressions] is also",
        ),
        ('[lists.tags]\nmax_values = 3\nseparater = "|"', "unknown key"),
    ],
)
def test_wrong_keys_have_a_line(tmp_path, lists, message):
    with pytest.raises(UserError, match=re.escape(message)):
        run(write_cells(tmp_path / "raw", ["a|b"], lists), tmp_path / "out")


@pytest.mark.parametrize("cells", [["a|b", "c"], ["[a, b]", "[c]"]])
def test_lists_that_are_mapped_as_single_values_are_told(tmp_path, caplog, cells):
    with caplog.at_level(logging.WARNING):
        run(write_cells(tmp_path / "raw", cells, ""), tmp_path / "out")
    assert "column 'tags' look like lists" in caplog.text
    assert "add [lists.tags] with separator" in caplog.text


def test_single_values_are_not_taken_for_lists(tmp_path, caplog):
    cells = ["a", "b, c", "[d]", *"efghijklmno", "p|q"]
    with caplog.at_level(logging.WARNING):
        run(write_cells(tmp_path / "raw", cells, ""), tmp_path / "out")
    assert "look like lists" not in caplog.text


# numbers of events


def write_numbers(folder, features, *, events="", items=None, more="", history=""):
    """Impressions of one user with prices, and what he did before; the last two of ten seconds are the test part."""
    folder.mkdir(exist_ok=True)
    lines = ["user,ts,item,label,price,prices,listed"]
    for i in range(10):
        price = ["", "1.5", "NaN", "4", "-2"][i % 5]
        lines.append(f"u,{START + i},i{i % 3},{i % 2},{price},{i}^{i + 1},a^b")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    if events:
        rows = [f"u,{START - 5 + i},i{i % 3},{price}" for i, price in enumerate(events.split())]
        (folder / "done.csv").write_text("\n".join(["user,ts,item,cost", *rows]) + "\n")
    toml = (
        '[impressions]\nfiles = ["log.csv"]\nuser = "user"\ntime = "ts"\nitem = "item"\nlabel = "label"\n'
        + more
        + '[features]\nbehaviour = ["item"]\ncandidate = ["item"]\n'
        + features
        + "\n"
        + history
    )
    if events:
        toml += '[events]\nfiles = ["done.csv"]\nuser = "user"\ntime = "ts"\nitem = "item"\n'
    if items is not None:
        (folder / "items.csv").write_text("id,cost\n" + "\n".join(items.split()) + "\n")
        toml += '[items]\nfiles = ["items.csv"]\nitem = "id"\n'
    (folder / "log.toml").write_text(toml)
    return folder


def numbers_of(store, path):
    """The ids and weights of a number."""
    cells = store.lists[path]
    return np.asarray(cells.ids).tolist(), np.asarray(cells.weights).tolist()


def test_a_number_of_events_is_standardised_over_the_training_part(tmp_path):
    raw = write_numbers(tmp_path / "raw", 'behaviour_numeric = ["price"]')
    store = run(raw, tmp_path / "out")
    trained = [1.5, 4, -2, 1.5]  # of the first eight rows; the others are empty
    mean, deviation = np.mean(trained), np.std(trained)
    assert store.source["standardised"] == {"price": pytest.approx([mean, deviation])}
    ids, weights = numbers_of(store, "behaviours/feature.price")
    assert ids == [1, 2, 1, 2, 2] * 2
    expected = [1, (1.5 - mean) / deviation, 1, (4 - mean) / deviation, (-2 - mean) / deviation]
    assert weights == pytest.approx(expected * 2)
    assert store.schema.vocabularies["price"] == 3
    assert not validate_store(store.path)


def test_a_missing_number_is_filled_before_it_is_standardised(tmp_path):
    fill = 'behaviour_numeric = ["price"]\nfill = { price = 10.0 }'
    store = run(write_numbers(tmp_path / "raw", fill), tmp_path / "out")
    trained = [10, 1.5, 10, 4, -2, 10, 1.5, 10]
    assert store.source["standardised"]["price"] == pytest.approx(
        [np.mean(trained), np.std(trained)]
    )
    assert numbers_of(store, "behaviours/feature.price")[0] == [2] * 10


def test_a_constant_number_is_zero(tmp_path):
    raw = write_numbers(
        tmp_path / "raw",
        'behaviour_numeric = ["price"]\ncolumns = { price = "cost" }',
        events="0.1 0.1 0.1",
    )
    store = run(raw, tmp_path / "out")
    assert store.source["standardised"]["price"] == [0.1, 1.0]
    assert numbers_of(store, "behaviours/feature.price") == ([2, 2, 2], [0, 0, 0])


def test_a_column_of_impressions_may_be_an_outcome_and_is_not_given_to_candidates(tmp_path):
    store = run(write_numbers(tmp_path / "raw", 'behaviour_numeric = ["price"]'), tmp_path / "out")
    assert set(store.lists) == {"behaviours/feature.price"}


def test_numbers_of_events_that_impressions_lack_are_of_behaviours_only(tmp_path):
    raw = write_numbers(tmp_path / "raw", 'behaviour_numeric = ["cost"]', events="0.5 2 8")
    store = run(raw, tmp_path / "out")
    assert [f.name for f in store.schema.candidate] == ["item"]
    assert set(store.lists) == {"behaviours/feature.cost"}


def test_numbers_of_items_are_joined_to_events_and_candidates(tmp_path):
    raw = write_numbers(tmp_path / "raw", 'behaviour_numeric = ["cost"]', items="i0,5 i1,7 i2,")
    store = run(raw, tmp_path / "out")
    # five of the eight training rows have an item with a number: i0 thrice, i1 thrice
    mean, deviation = 6.0, 1.0
    assert store.source["standardised"] == {"cost": [mean, deviation]}
    assert numbers_of(store, "behaviours/feature.cost") == (
        [2, 2, 1] * 3 + [2],
        [-1, 1, 1] * 3 + [-1],
    )
    assert "impressions/candidate.cost" in store.lists


def test_a_number_may_be_one_of_impressions_and_of_events(tmp_path):
    raw = write_numbers(
        tmp_path / "raw",
        'numeric = ["price"]\nbehaviour_numeric = ["price"]\nfill = { price = 0.0 }',
    )
    store = run(raw, tmp_path / "out")
    assert set(store.lists) == {"behaviours/feature.price", "impressions/candidate.price"}
    assert np.asarray(store.numerics["price"]).tolist() == [0, 1.5, 0, 4, -2] * 2


def test_numbers_may_come_as_lists_of_a_history(tmp_path):
    raw = write_numbers(
        tmp_path / "raw",
        'behaviour_numeric = ["price"]',
        history='[history]\nseparator = "^"\ncolumns = { item = "listed", price = "prices" }\n',
    )
    store = run(raw, tmp_path / "out")
    mean, deviation = store.source["standardised"]["price"]
    trained = [n for i in range(8) for n in (i, i + 1)]
    assert (mean, deviation) == pytest.approx((np.mean(trained), np.std(trained)))
    ids, weights = numbers_of(store, "behaviours/feature.price")
    found = sorted(round(w * deviation + mean) for w in weights)
    assert (set(ids), found) == ({2}, sorted(n for i in range(10) for n in (i, i + 1)))


def test_drawn_items_have_the_numbers_of_items_but_none_of_events(tmp_path):
    def drawn(folder, features, items):
        raw = write_numbers(folder, features, items=items)
        toml = raw / "log.toml"
        text = (
            toml.read_text().replace("[impressions]", "[events]").replace('label = "label"\n', "")
        )
        toml.write_text(text + "[negatives]\n")
        return run(raw, folder / "out")

    joined = drawn(tmp_path / "a", 'behaviour_numeric = ["cost"]', "i0,5 i1,7 i2,6")
    item = np.asarray(joined.candidates["item"])
    weights = np.asarray(joined.lists["impressions/candidate.cost"].weights)
    by_item = {tuple(pair) for pair in zip(item.tolist(), weights.tolist(), strict=True)}
    assert len(by_item) == 3  # each item has its own, drawn or not
    own = drawn(tmp_path / "b", 'behaviour_numeric = ["price"]', "i0,5 i1,7 i2,6")
    assert set(own.lists) == {"behaviours/feature.price"}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ('behaviour_numeric = ["pric"]', "features.behaviour_numeric: no column 'pric'"),
        ('behaviour_numeric = ["item"]', "'item' is a category, too"),
        ('behaviour_numeric = ["price", "price"]', "'price' occurs twice"),
        ('behaviour_numeric = ["listed"]', "line 2: listed is 'a^b', expected a number"),
    ],
)
def test_wrong_numbers_of_events_have_a_line(tmp_path, features, message):
    with pytest.raises(UserError, match=re.escape(message)):
        run(write_numbers(tmp_path / "raw", features), tmp_path / "out")


def test_the_order_of_rows_changes_no_byte_of_numbers_that_do_not_add_up_exactly(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        f"u{rng.integers(5)},{START + rng.integers(50)},i,{i % 2},{10 ** rng.uniform(-6, 6):.7g}"
        for i in range(5000)
    ]
    found = set()
    for order in range(2):
        raw = tmp_path / f"raw{order}"
        write_numbers(raw, 'behaviour_numeric = ["price"]')
        chosen = rng.permutation(rows) if order else rows
        (raw / "log.csv").write_text("\n".join(["user,ts,item,label,price", *chosen]) + "\n")
        store = run(raw, tmp_path / f"out{order}", limits=Limits(threads=1 + 3 * order))
        found.add((store.fingerprint, *store.source["standardised"]["price"]))
    assert len(found) == 1
