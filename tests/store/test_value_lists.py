"""Features with several values per cell, or with weights: what is written is read, and what is wrong is said."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from list_logs import LIST_SCHEMA, write_list_store
from store_edits import edit_array, set_row

from scaling.errors import UserError
from scaling.store import ValueLists, open_store, validate_store


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write_list_store(tmp_path_factory.mktemp("lists") / "store")


@pytest.fixture
def copy(tmp_path):
    return write_list_store(tmp_path / "copy").path


def test_a_store_with_lists_is_valid(stored):
    assert validate_store(stored.path) == []


def test_features_with_lists_are_not_in_the_groups_of_plain_ones(stored):
    assert set(stored.behaviours) == {"item"}
    assert set(stored.contexts) == {"hour"}
    assert set(stored.lists) == {
        *("behaviours/feature.tags", "behaviours/feature.price", "impressions/candidate.tags"),
        *("impressions/context.words", "profile/feature.interests"),
    }


def test_schema_comes_back_from_its_json(stored):
    assert stored.schema == LIST_SCHEMA
    assert open_store(stored.path, verify=True).fingerprint == stored.fingerprint


def test_schema_of_plain_features_has_no_new_keys():
    plain = replace(LIST_SCHEMA, behaviour=LIST_SCHEMA.behaviour[:1])
    assert plain.to_json()["behaviour"] == [{"name": "item", "vocabulary": "item"}]


@given(st.lists(st.lists(st.integers(1, 200), min_size=1, max_size=6, unique=True), min_size=1))
def test_cells_come_back_padded(cells):
    ids = np.array([value for cell in cells for value in sorted(cell)], dtype=np.uint8)
    offsets = np.concatenate([[0], np.cumsum([len(cell) for cell in cells])])
    lists = ValueLists(ids, offsets, ids / np.float32(2), 6)
    rows = np.arange(len(cells))[::-1].copy()
    found, weights = lists.padded(rows[:, None])
    assert found.shape == (len(cells), 1, 6)
    assert [sorted(cell) for cell in cells] == [row[row > 0].tolist() for row in found[::-1, 0]]
    np.testing.assert_array_equal(weights, found / 2)


def test_order_of_rows_does_not_change_the_store(tmp_path, stored, monkeypatch):
    import list_logs

    made = list_logs.write_store

    def reversed_rows(path, schema, events, impressions, *args, **settings):
        def turned(value):
            if isinstance(value, dict):
                return {k: turned(v) for k, v in value.items()}
            return value if value is None else value[::-1]

        events, impressions = (
            type(rows)(**{k: turned(v) for k, v in vars(rows).items()})
            for rows in (events, impressions)
        )
        return made(path, schema, events, impressions, *args, **settings)

    monkeypatch.setattr(list_logs, "write_store", reversed_rows)
    assert write_list_store(tmp_path / "turned").fingerprint == stored.fingerprint


@pytest.mark.parametrize(
    ("name", "edit", "expected"),
    [
        ("behaviours/feature.tags", set_row(0, 0), "row 0 is not an id of 'tag', or not above"),
        ("behaviours/feature.tags", set_row(0, 12), "row 0 is not an id of 'tag', or not above"),
        ("behaviours/feature.tags.offsets", set_row(0, 1), "runs from 1 to"),
        ("behaviours/feature.tags.offsets", set_row(3, 0), "row 2 has not 1 to 3 values"),
        ("impressions/context.words.weights", set_row(2, -1), "row 2 is not a finite number above"),
        ("behaviours/feature.price.weights", set_row(2, np.nan), "row 2 is not finite"),
        ("profile/feature.interests.offsets", lambda a: a[:-1], "40 rows found"),
    ],
)
def test_broken_lists_have_a_line(copy, name, edit, expected):
    edit_array(copy, name, edit)
    assert any(f"{name}.npy: {expected}" in line for line in validate_store(copy))


def test_the_weight_of_a_missing_number_must_be_1(copy):
    row = int(np.argmax(open_store(copy).lists["behaviours/feature.price"].ids == 1))
    edit_array(copy, "behaviours/feature.price.weights", set_row(row, 7))
    assert any(
        f"row {row} is the weight of the unknown id" in line for line in validate_store(copy)
    )


def test_ids_of_a_cell_must_ascend(copy):
    lists = open_store(copy).lists["behaviours/feature.tags"]
    row = int(np.argmax(np.diff(lists.offsets) > 1))
    second = int(lists.offsets[row]) + 1
    edit_array(copy, "behaviours/feature.tags", set_row(second, int(lists.ids[second - 1])))
    assert any(
        f"row {second} is not an id of 'tag', or not above" in line for line in validate_store(copy)
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda ids: np.zeros_like(ids), r"row 0 is \[0, 0, 0\], expected one id or more"),
        (
            lambda ids: ids[:, ::-1],
            "expected one id or more, each 1 to 11 and above the one before",
        ),
        (lambda ids: ids[:, :2], r"has shape \(400, 2\), expected \(400, 3\)"),
    ],
)
def test_wrong_cells_are_not_written(tmp_path, monkeypatch, change, expected):
    import list_logs

    made = list_logs.make_cells

    def changed(rng, n, feature):
        found = made(rng, n, feature)
        return {k: change(v) if k == "tags" and n == 400 else v for k, v in found.items()}

    monkeypatch.setattr(list_logs, "make_cells", changed)
    with pytest.raises(UserError, match=expected):
        write_list_store(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_weight_of_zero_has_no_mean(tmp_path, monkeypatch):
    import list_logs

    made = list_logs.make_cells
    monkeypatch.setattr(
        list_logs,
        "make_cells",
        lambda *given: {k: v * (k != "words.weights") for k, v in made(*given).items()},
    )
    with pytest.raises(
        UserError, match=r"context words: row 0 of words.weights is .* numbers above 0"
    ):
        write_list_store(tmp_path / "store")
