"""Validation of stores that another program wrote wrongly: one line per broken rule, and no damage raises an error."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_edits import edit_array, edit_document, set_row

from scaling.errors import UserError
from scaling.store import sees_only_the_past, validate_store

ARRAYS = [
    "behaviours/offsets",
    "behaviours/time",
    "behaviours/feature.item",
    "impressions/user",
    "impressions/time",
    "impressions/history_end",
    "impressions/request",
    "impressions/label",
    "impressions/candidate.item",
    "impressions/context.hour",
    "impressions/probability",
    "profile/feature.age",
]


@pytest.fixture
def copy(tiny_store, tmp_path):
    return shutil.copytree(tiny_store.path, tmp_path / "copy")


def test_a_valid_store_breaks_no_rule(tiny_store):
    assert validate_store(tiny_store.path) == []


def test_a_folder_that_is_not_a_store_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"not a data set \(no dataset.json\)"):
        validate_store(tmp_path)


def test_every_bad_key_of_the_document_has_a_line(copy):
    def break_three_keys(document):
        document["counts"]["users"] = "many"
        document["split"].pop("n_train")
        document["utc_offset_seconds"] = None

    edit_document(copy, break_three_keys)
    keys = [line.split(": ")[1] for line in validate_store(copy)]
    assert sorted(keys) == ["counts.users", "split.n_train", "utc_offset_seconds"]


def test_every_array_that_is_missing_cut_or_of_another_type_has_a_line(copy):
    (copy / "behaviours/time.npy").unlink()
    edit_array(copy, "impressions/user", lambda a: a.astype(np.int64))
    edit_array(copy, "impressions/label", lambda a: a[:-1])
    edit_document(copy, lambda d: d["arrays"].pop("impressions/context.hour"))
    lines = validate_store(copy)
    assert [line.split(": ")[1].split(";")[0] for line in lines] == [
        "missing",
        "type is int64, expected int32",
        "1,599 rows found, dataset.json says 1,600",
        "arrays",
    ]


@pytest.mark.parametrize(
    ("name", "edit", "expected"),
    [
        ("behaviours/offsets", set_row(0, 1), "runs from 1 to"),
        ("behaviours/offsets", set_row(4, -7), "row 3 decreases"),
        ("behaviours/time", set_row(1, 2**40), "row 1 is later than the next event"),
        ("behaviours/feature.item", set_row(7, 0), "row 7 is not an id of 'item'"),
        ("impressions/user", set_row(9, -1), "row 9 is not a user number"),
        ("impressions/user", set_row(9, 2**31 - 1), "row 9 is not a user number"),
        ("impressions/time", set_row(0, 2**40), "row 0 breaks the order by (part, time, user)"),
        ("impressions/history_end", set_row(3, 2**40), "row 3 is outside the user's events"),
        ("impressions/history_end", set_row(3, -1), "row 3 is outside the user's events"),
        ("impressions/request", lambda a: a + 1, "row 0 is 1, expected 0"),
        ("impressions/request", set_row(5, 99), "is not followed by the right request number"),
        ("impressions/label", set_row(2, 2), "row 2 is neither 0 nor 1"),
        ("impressions/probability", set_row(2, 1.5), "row 2 is not between 0 and 1"),
        ("impressions/probability", set_row(2, np.nan), "row 2 is not between 0 and 1"),
        ("impressions/candidate.item", set_row(2, 255), "row 2 is not an id of 'item'"),
        ("profile/feature.age", set_row(2, 0), "row 2 is not an id of 'age'"),
    ],
)
def test_a_broken_rule_is_reported_with_its_array_and_row(copy, name, edit, expected):
    edit_array(copy, name, edit)
    lines = validate_store(copy)
    assert any(
        line.startswith(f"{copy / name}.npy: {expected}") or expected in line for line in lines
    )
    assert f"{copy / name}.npy: contents differ from the sha256" in "\n".join(lines)


def with_a_later_boundary(document):
    document["split"].update(n_train=1300)
    # the components of the logit have the length of the test part
    kept = {n: a for n, a in document["arrays"].items() if not n.startswith("truth/")}
    document["arrays"] = kept


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda d: d["counts"].update(requests=3), "counts.requests is 3, but"),
        (lambda d: d["arrays"]["impressions/user"].update(dtype="<i8"), "expected '<i4'"),
        (lambda d: d["arrays"]["impressions/user"].update(rows=5), "rows is 5, expected 1600"),
        (lambda d: d.update(fingerprint="0" * 64), "fingerprint does not match"),
        (lambda d: d["truth"].update(bayes_logloss=0.1), "truth.bayes_logloss is 0.1"),
        (with_a_later_boundary, "has a user who is also in the training part"),
    ],
)
def test_a_document_that_disagrees_with_the_arrays_is_reported(copy, edit, expected):
    edit_document(copy, edit)
    assert expected in "\n".join(validate_store(copy))


@pytest.mark.parametrize("p", [0.0, 1.0, -1.0, np.nan, np.inf])
def test_a_probability_that_is_none_is_a_line_and_no_warning(copy, p):
    file = copy / "impressions" / "probability.npy"
    values = np.load(file)
    values[-1] = p
    np.save(file, values)
    assert "is not between 0 and 1" in "\n".join(validate_store(copy))


@pytest.mark.parametrize("junk", [1.0, 1e30, np.nan, np.inf])
def test_components_that_do_not_add_up_are_reported(copy, junk):
    file = copy / "truth" / "component.item.npy"
    values = np.load(file)
    values[7] += np.float32(junk)
    np.save(file, values)
    assert "the components do not add up" in "\n".join(validate_store(copy))


@pytest.fixture(scope="module")
def tiny_path(tiny_store):
    return tiny_store.path


@pytest.mark.slow
@settings(max_examples=60)
@given(st.sampled_from(ARRAYS), st.integers(0, 2**31), st.binary(min_size=1, max_size=8))
def test_no_damage_raises_an_error_and_none_goes_unnoticed(
    tmp_path_factory, tiny_path, name, position, junk
):
    path = shutil.copytree(tiny_path, tmp_path_factory.mktemp("fuzz") / "store")
    file = path / f"{name}.npy"
    content = bytearray(file.read_bytes())
    at = 128 + position % (len(content) - 128 - len(junk))
    changed = content[at : at + len(junk)] != junk
    content[at : at + len(junk)] = junk
    file.write_bytes(content)
    lines = validate_store(path)
    assert bool(lines) == changed
    assert all("\n" not in line and line.startswith(str(path)) for line in lines)
    shutil.rmtree(path)


def test_an_event_at_the_impressions_very_second_is_not_the_past(store):
    row = int(np.flatnonzero(store.history_end < store.offsets[store.user + 1])[0])
    end, time, rows = store.history_end.copy(), store.time.copy(), slice(row, row + 1)
    time[row] = store.event_time[end[row]]
    assert sees_only_the_past(replace(store, time=time), rows).tolist() == [True]
    end[row] += 1
    assert sees_only_the_past(replace(store, time=time, history_end=end), rows).tolist() == [False]


def test_a_boundary_at_the_last_training_second_is_an_overlap(store):
    last = int(store.time[store.n_train - 1])
    edit_document(store.path, lambda d: d["split"].update(boundary=last))
    assert any(
        f"the parts overlap in time at {last}" in line for line in validate_store(store.path)
    )
