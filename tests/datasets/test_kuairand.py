"""KuaiRand: times, repeats and the leaking file in a small log, and counts of the real log."""

from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest
from raw_logs import KUAIRAND, cells, history, import_raw, real_files

from scaling.audit import audit_store
from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.store import validate_store

LOG = "log_standard_4_08_to_4_21_pure.csv"


kuairand = partial(import_raw, "kuairand")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return kuairand(tmp_path_factory.mktemp("small"))


def test_rows_add_up_and_both_periods_are_read(store):
    assert store.source["rows"]["log"] == {"read": 7, "kept": 6, "dropped": {"repeated": 1}}
    assert store.label.tolist() == [1, 0, 1, 0, 1, 0]
    assert validate_store(store.path) == []


def test_the_time_is_time_ms_not_date_and_hourmin(store):
    # 1649347201 is 8 April, 00:00:01 in Shanghai; one row's hourmin says 23:00 of the day before.
    assert store.time[:2].tolist() == [1649347201, 1649347201]
    assert len(np.unique(store.contexts["hour"][:2])) == 1
    # Shown within one second of each other, in different milliseconds: one request, and no history.
    assert store.request[:2].tolist() == [0, 0]
    assert history(store, 1) == []
    assert [event[0] for event in history(store, 4)] == [1649347201, 1649347201]


def test_the_test_part_begins_on_7_may_in_shanghai(store):
    assert store.split == {"kind": "time", "boundary": 1_651_852_800, "n_train": 3}


def test_the_action_is_part_of_the_history(store):
    # hated, engaged, watched, clicked, shown in sorted order of those that occur: engaged, shown, watched.
    actions = store.behaviours["action"][store.offsets[0] : store.offsets[1]]
    assert actions.tolist() == [4, 3, 1]
    assert store.schema.vocabularies["action"] == 5


def test_lists_of_tags_ranges_and_unknown_streamers(store):
    # Tags "39" and "2,39"; the third video has none.
    assert cells(store, "impressions/candidate.tags") == [[3], [2, 3], [3], [1], [1], [3]]
    # duration_ms is 0 in one row.
    assert store.candidates["duration"][1] == 1
    # Users 1, 2 and 3: -124 is unknown, and user 3 has no row.
    assert store.profiles["is_live_streamer"].tolist() == [2, 1, 1]
    assert store.profiles["fans_user_num_range"].tolist() == [3, 2, 1]
    assert store.profiles["onehot_feat4"].tolist() == [1, 2, 1]


def test_the_statistics_are_refused_as_a_leak_unless_the_option_says_leak(tmp_path, store):
    assert store.schema.numeric == ()
    for word in ("yes", "true"):
        with pytest.raises(UserError, match=r"leaks the test part.*expected no, or leak"):
            kuairand(tmp_path, options={"statistics": word}, out=word)
    leaking = kuairand(tmp_path, options={"statistics": "leak"}, files=STATISTIC, out="leak")
    assert leaking.schema.numeric == ("log_shown", "play_rate", "valid_play_rate", "like_rate")
    assert leaking.numerics["play_rate"].tolist() == pytest.approx([0.5, 0.25, 0.5, 0, 0, 0.5])
    assert leaking.source["options"]["statistics"] == "leak"


STATISTIC = {
    "video_features_statistic_pure.csv": (
        "video_id,show_cnt,play_cnt,valid_play_cnt,like_cnt\n10,100,50,20,1\n11,40,10,5,0\n12,0,0,0,0\n"
    )
}


def test_the_random_log_is_an_option(tmp_path):
    assert kuairand(tmp_path, options={"random_log": "true"}).n_impressions == 7


def test_parts_and_the_archives_folder_change_nothing(tmp_path, store):
    header, *rows = KUAIRAND[LOG].splitlines(keepends=True)
    moved = {f"KuaiRand-27K/data/{name}": text for name, text in KUAIRAND.items()}
    moved |= {
        f"KuaiRand-27K/data/{LOG}": None,
        "KuaiRand-27K/data/log_standard_4_08_to_4_21_27k_part1.csv": header + rows[0],
        "KuaiRand-27K/data/log_standard_4_08_to_4_21_27k_part2.csv": header + "".join(rows[1:]),
    }
    other = kuairand(tmp_path, dict.fromkeys(KUAIRAND) | moved)
    assert other.fingerprint == store.fingerprint


def test_another_label(tmp_path):
    store = kuairand(tmp_path, options={"label": "long_view", "test_fraction": "0.4"})
    assert store.label.tolist() == [1, 0, 1, 0, 0, 0]
    with pytest.raises(UserError, match="option label is 'play_time_ms', expected one of is_click"):
        kuairand(tmp_path, options={"label": "play_time_ms"}, out="b")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("1649347201500,1", "1649347201500,2", "line 2: is_click is '2', expected 0 or 1"),
        (
            "1649347201500",
            "1649347201",
            "line 2: time_ms is '1649347201', expected ms since 1970, 13",
        ),
        ("1649347201500", "-1649347201500", "line 2: time_ms is '-1649347201500'"),
        (
            "1649481000000,1,1",
            "1649481000000,1,",
            "line 5: is_like is empty, expected a whole number",
        ),
    ],
)
def test_an_invalid_cell_is_reported(tmp_path, old, new, expected):
    with pytest.raises(UserError) as caught:
        kuairand(tmp_path, {LOG: KUAIRAND[LOG].replace(old, new, 1)})
    assert f"{LOG}: {expected}" in str(caught.value)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    raw = real_files("kuairand-pure-late")
    return import_logs("kuairand", raw, tmp_path_factory.mktemp("real") / "store")


@pytest.mark.slow
def test_the_real_log_has_its_counts(real):
    assert real.source["rows"]["log"] == {
        "read": 228_329,
        "kept": 222_869,
        "dropped": {"repeated": 5_460},
    }
    assert real.n_users == 25_156
    assert real.n_test == 28_792
    assert real.label.mean() == pytest.approx(0.442, abs=0.01)
    assert validate_store(real.path) == []


@pytest.mark.slow
def test_the_days_of_the_real_log_are_those_of_shanghai(real):
    first, last = (
        datetime.fromtimestamp(int(t), tz=UTC) + timedelta(hours=8)
        for t in (real.time.min(), real.time.max())
    )
    assert (first.month, first.day) == (4, 24)  # the first rows were shown in the last hour before
    assert (last.month, last.day) == (5, 8)
    assert real.time[real.n_train] >= 1_651_852_800 > real.time[real.n_train - 1]


@pytest.mark.slow
def test_the_real_log_has_no_leak(real):
    audit = audit_store(real)
    assert audit.is_clean
    # As the log's own first look has it: the video alone 0.67, the tab 0.60.
    auc = {(facts.group, facts.name): facts.auc for facts in audit.features}
    assert auc["candidate", "item"] == pytest.approx(0.668, abs=0.01)
    assert auc["context", "tab"] == pytest.approx(0.602, abs=0.01)
