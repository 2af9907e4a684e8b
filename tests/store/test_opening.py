"""Opening a damaged store: the message names the file, what was found and what was expected."""

from dataclasses import replace

import numpy as np
import pytest
from store_edits import edit_array, edit_document, set_row
from store_logs import make_log, write_log

from scaling.errors import UserError
from scaling.metrics import true_limits
from scaling.store import open_store


def fails(path, *, verify=False):
    with pytest.raises(UserError) as caught:
        open_store(path, verify=verify)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_not_a_store_says_how_to_make_one(tmp_path):
    assert "scaling data import" in fails(tmp_path)


def test_a_truncated_array_names_file_and_rows_found_and_expected(store):
    file = store.path / "impressions/time.npy"
    with file.open("rb+") as stream:
        stream.truncate(file.stat().st_size - 8 * 20)
    message = fails(store.path)
    assert str(file) in message
    assert "100 rows found" in message
    assert "120" in message


def test_a_missing_array_names_file_and_rows(store):
    (store.path / "behaviours/feature.item.npy").unlink()
    message = fails(store.path)
    assert "behaviours/feature.item.npy: missing; expected 200 rows of uint16" in message


def test_an_array_of_another_type_is_refused(store):
    edit_array(store.path, "impressions/user", lambda a: a.astype(np.int64))
    assert "type is int64, expected int32" in fails(store.path)


def test_a_file_that_is_not_an_array_is_refused(store):
    (store.path / "profile/feature.age.npy").write_bytes(b"not an array")
    assert "not a .npy array" in fails(store.path)


def test_a_nan_label_names_its_row(store):
    def with_nan(label):
        label = label.astype(np.float32)
        label[17] = np.nan
        return label

    edit_array(store.path, "impressions/label", with_nan)
    assert "label.npy: row 17 is nan" in fails(store.path)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("{", "not valid JSON"),
        ("[]", "schema_version is None"),
        ('{"schema_version": 99}', "schema_version is 99, this version reads 1"),
        ('{"schema_version": 1}', "dataset.json: fingerprint: missing"),
    ],
)
def test_a_broken_document_is_reported(store, document, expected):
    (store.path / "dataset.json").write_text(document)
    assert expected in fails(store.path)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda d: d.update(split=None), "split: input should be an object, got None"),
        (
            lambda d: d["split"].update(n_train="x"),
            "split.n_train: input should be a valid integer",
        ),
        (lambda d: d["split"].update(n_train=120), "split.n_train is 120, expected 1 to 119"),
        (lambda d: d["split"].update(n_train=0), "split.n_train is 0, expected 1 to 119"),
        (
            lambda d: d["split"].update(kind="date"),
            "split.kind: 'date' is not one of 'time', 'user'",
        ),
        (lambda d: d["split"].pop("boundary"), "split: a split by time needs a boundary"),
        (lambda d: d["split"].update(boundary="noon"), "split.boundary: input should be a valid"),
        (lambda d: d["counts"].update(users=None), "counts.users: input should be a valid integer"),
        (lambda d: d["counts"].update(events=-1), "counts.events: input should be greater than or"),
        (lambda d: d.pop("arrays"), "arrays: missing"),
        (lambda d: d["arrays"].pop("behaviours/time"), "arrays: no entry 'behaviours/time'"),
        (lambda d: d["arrays"]["behaviours/time"].pop("sha256"), "behaviours/time.sha256: missing"),
        (lambda d: d.update(source=None), "source: input should be an object, got None"),
        (lambda d: d["source"].update(importer=3), "source.importer: input should be a valid str"),
        (lambda d: d["source"].update(options=[1]), "source.options: input should be"),
        (
            lambda d: d.update(truth={"bayes_auc": "x"}),
            "truth.bayes_auc: input should be a valid n",
        ),
        (
            lambda d: d.update(truth={"bayes_auc": np.nan}),
            "truth.bayes_auc is NaN",
        ),
        (
            lambda d: d.update(utc_offset_seconds=None),
            "utc_offset_seconds: input should be a valid",
        ),
        (
            lambda d: d.update(history_quantiles={"p50": None}),
            "history_quantiles.p50: input should",
        ),
        (lambda d: d["schema"].update(behaviour=[3]), "schema.behaviour.0: input should be"),
        (lambda d: d["schema"]["profile"][0].pop("vocabulary"), "profile.0.vocabulary: missing"),
        (
            lambda d: d["schema"]["vocabularies"].pop("age"),
            "vocabulary 'age' of feature 'age' needs",
        ),
        (lambda d: d["schema"].update(numeric=["../x"]), "feature name '../x' must be"),
    ],
)
def test_a_damaged_key_is_named_with_what_was_expected(store, edit, expected):
    edit_document(store.path, edit)
    message = fails(store.path)
    assert message.startswith(str(store.path / "dataset.json"))
    assert expected in message


def test_a_table_instead_of_a_column_is_reported_with_its_shape(store):
    edit_array(store.path, "impressions/user", lambda a: np.stack([a, a], axis=1))
    assert "user.npy: shape is (120, 2), expected (120,)" in fails(store.path)


def test_an_array_of_python_objects_is_refused(store):
    edit_array(store.path, "impressions/user", lambda a: a.astype(object))
    assert "type is object, expected int32" in fails(store.path)


def test_verify_compares_the_truth_with_the_stored_probabilities(tmp_path):
    events, impressions, profiles = make_log()
    log = (events, replace(impressions, probability=np.full(120, 0.25)), profiles)
    truth = true_limits(np.full(9, 0.25))
    store = write_log(tmp_path / "store", log, truth=truth)
    open_store(store.path, verify=True)
    edit_document(store.path, lambda d: d["truth"].update(bayes_logloss=0.1))
    assert "truth.bayes_logloss is 0.1, but the stored prob" in fails(store.path, verify=True)
    bare = write_log(tmp_path / "bare", make_log(), truth=truth)
    assert "truth: present, but there is no" in fails(bare.path, verify=True)


@pytest.mark.parametrize("label", [0, 1])
def test_a_training_part_with_one_class_is_refused(tmp_path, store, label):
    events, impressions, profiles = make_log()
    one = np.where(impressions.in_test, impressions.label, label)
    expected = f"is {label} in every row of the training part"
    with pytest.raises(UserError, match=f"label: {expected}"):
        write_log(tmp_path / "other", (events, replace(impressions, label=one), profiles))
    assert not (tmp_path / "other").exists()

    def set_training(labels):
        labels[: store.n_train] = label
        return labels

    edit_array(store.path, "impressions/label", set_training)
    assert f"label.npy: {expected}" in fails(store.path, verify=True)


def swap_times(array):
    # The first two adjacent events with different times, both of user 0.
    row = int(np.flatnonzero(np.diff(array) > 0)[0])
    array[[row, row + 1]] = array[[row + 1, row]]
    return array


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("behaviours/time", swap_times, "events must be sorted by (user, time)"),
        ("behaviours/offsets", set_row(3, 0), "offsets.npy: row 2 decreases"),
        ("behaviours/offsets", set_row(-1, 7), "expected 0 to 200"),
        (
            "behaviours/feature.item",
            set_row(5, 300),
            "row 5 is not an id of 'item', expected 1 to 299",
        ),
        ("behaviours/feature.item", set_row(5, 0), "row 5 is not an id of 'item'"),
        ("impressions/candidate.item", set_row(8, 999), "candidate.item.npy: row 8"),
        ("impressions/history_end", lambda a: a + 1, "history_end.npy: row"),
        ("impressions/label", set_row(9, 2), "label.npy: row 9 is neither 0 nor 1"),
        (
            "impressions/user",
            set_row(4, 9),
            "user.npy: row 4 is not a user number, expected 0 to 8",
        ),
        ("impressions/numeric.price", set_row(6, np.nan), "numeric.price.npy: row 6 is not finite"),
        ("impressions/request", set_row(30, 0), "request.npy: row 29"),
        ("profile/feature.age", lambda a: a % 3 + 1, "contents differ from the sha256"),
    ],
)
def test_verify_names_the_first_row_that_breaks_the_format(store, name, change, expected):
    edit_array(store.path, name, change)
    open_store(store.path)
    message = fails(store.path, verify=True)
    assert expected in message
    assert name.split("/")[1] in message


def test_an_event_at_the_impressions_second_in_its_history_is_a_leak(store):
    # The row after the history is never earlier than the impression; pulling it in must be noticed.
    inside = np.flatnonzero(store.history_end < store.offsets[store.user + 1])

    def pull_in(end):
        end[inside[0]] += 1
        return end

    edit_array(store.path, "impressions/history_end", pull_in)
    assert f"row {inside[0]} does not end" in fails(store.path, verify=True)


def test_verify_refuses_parts_that_overlap_in_time(store):
    edit_document(store.path, lambda d: d["split"].update(boundary=d["split"]["boundary"] + 100))
    assert "parts overlap in time" in fails(store.path, verify=True)


def test_verify_refuses_parts_that_share_a_user(store):
    edit_document(store.path, lambda d: d.update(split={"kind": "user", "n_train": store.n_train}))
    assert "has a user who is also in the training part" in fails(store.path, verify=True)


def test_an_edited_document_breaks_the_fingerprint(store):
    edit_document(store.path, lambda d: d.update(utc_offset_seconds=3600))
    assert "fingerprint" in fails(store.path, verify=True)
