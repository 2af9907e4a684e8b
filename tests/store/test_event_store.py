import hashlib
import json
import resource
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from store_edits import edit_array, edit_document, set_row

from scaling.errors import UserError
from scaling.metrics import true_limits
from scaling.store import Events, Feature, Impressions, Schema, open_store, write_store

SCHEMA = Schema(
    behaviour=(Feature("item", "item"), Feature("action", "action")),
    candidate=(Feature("item", "item"),),
    context=(Feature("hour", "hour"),),
    profile=(Feature("age", "age"),),
    numeric=("price",),
    vocabularies={"item": 300, "action": 5, "hour": 26, "age": 4},
)


def make_log(n_events=200, n_impressions=120, n_users=9, seed=0, last_second=60):
    """A random log in which many rows share a second."""
    rng = np.random.default_rng(seed)
    start = 1_700_000_000
    events = Events(
        user=rng.integers(0, n_users - 1, n_events),
        time=start + rng.integers(0, last_second, n_events),
        features={
            "item": rng.integers(1, 300, n_events),
            "action": rng.integers(1, 5, n_events),
        },
    )
    time = start + rng.integers(0, last_second, n_impressions)
    time[:2] = start, start + last_second
    impressions = Impressions(
        user=rng.integers(0, n_users, n_impressions),
        time=time,
        label=rng.integers(0, 2, n_impressions),
        in_test=time >= start + 0.8 * last_second,
        candidates={"item": rng.integers(1, 300, n_impressions)},
        contexts={"hour": rng.integers(1, 26, n_impressions)},
        numerics={"price": rng.normal(size=n_impressions)},
    )
    return events, impressions, {"age": rng.integers(1, 4, n_users)}


def write(path, log, **changes):
    events, impressions, profiles = log
    arguments = {
        "n_users": len(profiles["age"]),
        "split": {"kind": "time", "boundary": 1_700_000_048},
        "source": {"kind": "test"},
    }
    return write_store(path, SCHEMA, events, impressions, profiles, **(arguments | changes))


@pytest.fixture
def store(tmp_path):
    return write(tmp_path / "store", make_log())


def fails(path, *, verify=False):
    with pytest.raises(UserError) as caught:
        open_store(path, verify=verify)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_history_is_exactly_the_events_strictly_before_the_second(store):
    events, impressions, _ = make_log()
    expected = sorted(
        (
            int(impressions.user[i]),
            int(impressions.time[i]),
            int(impressions.candidates["item"][i]),
            sorted(
                (int(events.time[e]), int(events.features["item"][e]))
                for e in range(len(events.time))
                if events.user[e] == impressions.user[i] and events.time[e] < impressions.time[i]
            ),
        )
        for i in range(len(impressions.time))
    )
    found = []
    for i in range(store.n_impressions):
        user = store.user[i]
        rows = slice(store.offsets[user], store.history_end[i])
        history = sorted(
            zip(
                store.event_time[rows].tolist(),
                store.behaviours["item"][rows].tolist(),
                strict=True,
            )
        )
        found.append((int(user), int(store.time[i]), int(store.candidates["item"][i]), history))
    assert sorted(found) == expected


def test_parts_are_a_prefix_and_a_suffix_sorted_by_time_and_user(store):
    n = store.n_train
    assert store.time[:n].max() < store.split["boundary"] <= store.time[n:].min()
    for rows in (slice(0, n), slice(n, None)):
        keys = list(zip(store.time[rows].tolist(), store.user[rows].tolist(), strict=True))
        assert keys == sorted(keys)


def test_a_request_is_one_user_at_one_second_and_ids_are_dense(store):
    keys = list(zip(store.user.tolist(), store.time.tolist(), strict=True))
    assert len(set(zip(keys, store.request.tolist(), strict=True))) == len(set(keys))
    assert np.array_equal(np.unique(store.request), np.arange(len(set(keys))))
    assert (np.diff(store.request) >= 0).all()


def test_ids_take_the_smallest_type_and_arrays_are_read_only(store):
    assert store.behaviours["item"].dtype == np.uint16
    assert store.behaviours["action"].dtype == store.label.dtype == np.uint8
    assert store.user.dtype == np.int32
    assert store.numerics["price"].dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        store.label[0] = 1


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_store_does_not_depend_on_the_order_of_the_raw_rows(tmp_path_factory, random):
    rng = np.random.default_rng(random.randrange(2**32))
    events, impressions, profiles = make_log()
    folder = tmp_path_factory.mktemp("order")
    of_event, of_impression = rng.permutation(200), rng.permutation(120)

    def shuffled(columns, order):
        return {name: column[order] for name, column in columns.items()}

    other = (
        Events(events.user[of_event], events.time[of_event], shuffled(events.features, of_event)),
        Impressions(
            *(getattr(impressions, n)[of_impression] for n in ("user", "time", "label", "in_test")),
            *(
                shuffled(getattr(impressions, n), of_impression)
                for n in ("candidates", "contexts", "numerics")
            ),
        ),
        profiles,
    )
    one, two = write(folder / "one", make_log()), write(folder / "two", other)
    assert one.fingerprint == two.fingerprint
    for file in one.path.rglob("*.npy"):
        assert file.read_bytes() == (two.path / file.relative_to(one.path)).read_bytes()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 30), st.integers(3, 30), st.integers(2, 6), st.integers(0, 9), st.integers(1, 5)
)
def test_a_written_store_passes_its_own_checks(tmp_path_factory, n_events, n, n_users, seed, last):
    path = tmp_path_factory.mktemp("valid") / "store"
    events, impressions, profiles = make_log(n_events, n, n_users, seed, last)
    labels = impressions.label[~impressions.in_test]
    assume(labels.min() < labels.max())
    log = events, impressions, profiles
    boundary = 1_700_000_000 + int(np.ceil(0.8 * last))
    write(path, log, split={"kind": "time", "boundary": boundary})
    assert open_store(path, verify=True).n_events == n_events


def test_the_fingerprint_changes_with_any_value_and_not_with_the_source(tmp_path, store):
    assert (
        write(tmp_path / "a", make_log(), source={"kind": "other"}).fingerprint == store.fingerprint
    )
    events, impressions, profiles = make_log()
    profiles["age"][0] = profiles["age"][0] % 3 + 1
    assert write(tmp_path / "b", (events, impressions, profiles)).fingerprint != store.fingerprint


def test_a_store_written_with_numpy_and_json_alone_is_valid(tmp_path):
    """The format as docs/file-formats.md describes it for other programs."""
    arrays = {
        "behaviours/offsets": np.array([0, 2, 2], "<i8"),
        "behaviours/time": np.array([10, 20], "<i8"),
        "behaviours/feature.item": np.array([2, 1], "u1"),
        "impressions/user": np.array([1, 0, 0], "<i4"),
        "impressions/time": np.array([5, 20, 21], "<i8"),
        "impressions/history_end": np.array([2, 1, 2], "<i8"),
        "impressions/request": np.array([0, 1, 2], "<i4"),
        "impressions/label": np.array([0, 1, 1], "u1"),
        "impressions/candidate.item": np.array([3, 2, 2], "u1"),
    }
    for name, array in arrays.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, array)
    item = {"name": "item", "vocabulary": "item"}
    schema = {"behaviour": [item], "candidate": [item], "context": [], "profile": [], "numeric": []}
    document = {
        "schema_version": 1,
        "schema": schema | {"vocabularies": {"item": 4}},
        "utc_offset_seconds": 0,
        "arrays": {
            name: {
                "dtype": array.dtype.str,
                "rows": len(array),
                "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
            }
            for name, array in arrays.items()
        },
    }
    content = json.dumps(document | {"n_train": 2}, sort_keys=True, separators=(", ", ": "))
    document |= {
        "counts": {"users": 2, "events": 2, "impressions": 3, "requests": 3},
        "split": {"kind": "time", "boundary": 21, "n_train": 2},
        "history_quantiles": {"min": 0.0, "max": 2.0},
        "truth": None,
        "source": {"kind": "hand"},
        "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
    }
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    store = open_store(tmp_path, verify=True)
    assert store.n_test == 1
    # A test part of one class is allowed: its AUC is left out.
    assert store.base_rate == {"train": 0.5, "test": 1.0}


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
        (lambda d: d["split"].update(kind="date"), "split.kind: 'date' is not one of 'time' or"),
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
            "truth.bayes_auc: input should be a fini",
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


def test_base_rates_come_from_the_labels_not_from_the_document(store):
    edit_document(store.path, lambda d: d.update(base_rate={"train": 0.999, "test": 0.999}))
    again, n = open_store(store.path, verify=True), store.n_train
    assert again.base_rate == {"train": store.label[:n].mean(), "test": store.label[n:].mean()}


def test_verify_compares_the_truth_with_the_stored_probabilities(tmp_path):
    events, impressions, profiles = make_log()
    log = (events, replace(impressions, probability=np.full(120, 0.25)), profiles)
    truth = true_limits(np.full(9, 0.25))
    store = write(tmp_path / "store", log, truth=truth)
    open_store(store.path, verify=True)
    edit_document(store.path, lambda d: d["truth"].update(bayes_logloss=0.1))
    assert "truth.bayes_logloss is 0.1, but the stored prob" in fails(store.path, verify=True)
    bare = write(tmp_path / "bare", make_log(), truth=truth)
    assert "truth: present, but there is no" in fails(bare.path, verify=True)


@pytest.mark.parametrize("label", [0, 1])
def test_a_training_part_with_one_class_is_refused(tmp_path, store, label):
    events, impressions, profiles = make_log()
    one = np.where(impressions.in_test, impressions.label, label)
    expected = f"is {label} in every row of the training part"
    with pytest.raises(UserError, match=f"label: {expected}"):
        write(tmp_path / "other", (events, replace(impressions, label=one), profiles))
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


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": np.full(120, np.nan)}, "label: row 0 is nan, expected 0 or 1"),
        ({"label": np.zeros(7)}, "label has shape (7,), expected (120,)"),
        ({"in_test": np.zeros(120, bool)}, "the split leaves the test part without impressions"),
        ({"in_test": np.ones(120, bool)}, "the split leaves the training part without"),
        (
            {"candidates": {"item": np.full(120, 300)}},
            "candidate item: row 0 is 300, expected 1 to 299",
        ),
        ({"candidates": {}}, "candidate feature 'item' has no values"),
        ({"user": np.full(120, 9)}, "impression user: row 0 is 9, expected 0 to 8"),
        ({"numerics": {"price": np.full(120, np.inf)}}, "numeric price: row 0 is inf"),
        ({"probability": np.ones(120)}, "probability: row 0 is 1.0"),
        ({"time": np.full(120, 2**61)}, "are they really in seconds?"),
    ],
)
def test_bad_rows_are_refused_before_anything_is_written(tmp_path, change, expected):
    events, impressions, profiles = make_log()
    with pytest.raises(UserError) as caught:
        write(tmp_path / "store", (events, replace(impressions, **change), profiles))
    assert expected in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(tmp_path):
    (tmp_path / "store").mkdir()
    with pytest.raises(UserError, match="already exists"):
        write(tmp_path / "store", make_log())


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        with pytest.raises(UserError, match="No space left on device"):
            write(mount / "store", make_log(n_events=20_000))
        assert list(mount.iterdir()) == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_file_size_limit_leaves_nothing_behind(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32_768, hard))
    try:
        with pytest.raises(UserError, match="File too large"):
            write(tmp_path / "store", make_log(n_events=20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(Path(tmp_path).iterdir()) == []
