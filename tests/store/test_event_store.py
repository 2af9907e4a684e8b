"""What a store holds, and how it is written from arrays."""

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
from raw_logs import assert_same_files
from store_edits import edit_document
from store_logs import make_log, write_log

from scaling.errors import UserError
from scaling.store import Events, HistoryLengths, Impressions, open_store
from scaling.store.manifest import document_fingerprint


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
    one, two = write_log(folder / "one", make_log()), write_log(folder / "two", other)
    assert one.fingerprint == two.fingerprint
    assert_same_files(one, two)


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
    write_log(path, log, split={"kind": "time", "boundary": boundary})
    assert open_store(path, verify=True).n_events == n_events


def test_the_fingerprint_changes_with_any_value_and_not_with_the_source(tmp_path, store):
    assert (
        write_log(tmp_path / "a", make_log(), source={"kind": "other"}).fingerprint
        == store.fingerprint
    )
    events, impressions, profiles = make_log()
    profiles["age"][0] = profiles["age"][0] % 3 + 1
    assert (
        write_log(tmp_path / "b", (events, impressions, profiles)).fingerprint != store.fingerprint
    )


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


def test_base_rates_come_from_the_labels_not_from_the_document(store):
    edit_document(store.path, lambda d: d.update(base_rate={"train": 0.999, "test": 0.999}))
    again, n = open_store(store.path, verify=True), store.n_train
    assert again.base_rate == {"train": store.label[:n].mean(), "test": store.label[n:].mean()}


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
        write_log(tmp_path / "store", (events, replace(impressions, **change), profiles))
    assert expected in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(tmp_path):
    (tmp_path / "store").mkdir()
    with pytest.raises(UserError, match="already exists"):
        write_log(tmp_path / "store", make_log())


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        with pytest.raises(UserError, match="No space left on device"):
            write_log(mount / "store", make_log(n_events=20_000))
        assert list(mount.iterdir()) == []
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_file_size_limit_leaves_nothing_behind(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32_768, hard))
    try:
        with pytest.raises(UserError, match="File too large"):
            write_log(tmp_path / "store", make_log(n_events=20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["split"].update(n_train=d["split"]["n_train"] - 1),
        lambda d: d.update(utc_offset_seconds=d["utc_offset_seconds"] + 3600),
        lambda d: d["schema"]["vocabularies"].update(item=10**6),
    ],
)
def test_the_fingerprint_covers_all_that_a_model_can_see_beside_the_arrays(tmp_path, change):
    store = write_log(tmp_path / "store", make_log())
    document = json.loads((store.path / "dataset.json").read_text())
    assert document_fingerprint(document) == store.fingerprint
    change(document)
    assert document_fingerprint(document) != store.fingerprint


def test_quantiles_of_history_lengths_are_those_of_all_lengths():
    lengths, counted = np.random.default_rng(0).geometric(0.02, 137), HistoryLengths()
    counted.add(lengths[:50])
    counted.add(lengths[50:])
    shares = {"min": 0, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "max": 1}
    expected = {name: np.quantile(lengths, share) for name, share in shares.items()}
    assert counted.quantiles() == pytest.approx(expected)
