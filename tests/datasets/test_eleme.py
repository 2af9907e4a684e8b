"""Ele.me: how lists in each row and times without dates become a store."""

from functools import partial

import numpy as np
import pytest
from raw_logs import ELEME, ELEME_COLUMNS, LOGS, eleme_row, history, import_raw

from scaling.audit import audit_store
from scaling.errors import UserError
from scaling.importers.datasets.eleme import COLUMNS
from scaling.store import validate_store

# 1 and 2 April 2022, 12:00 in Shanghai.
NOON = 1_648_785_600
NEXT_NOON = NOON + 86_400
LISTS = {
    "shop_id_list": "s1;s2;s3",
    "item_id_list": "0012;13;14",
    "timediff_list": "90000;4000;60",
    "hours_list": "11;11;12",
}


eleme = partial(import_raw, "eleme")


def days(tmp_path, *first, second=(), out="out", options=None):
    """Import the rows `first` of day 1 and `second` of day 2, with a plain click and a plain non-click on each day."""
    plain = (eleme_row(label=1, user_id="p"), eleme_row(label=0, user_id="p", item_id="q"))
    files = {
        "D1_0.csv": "\n".join([*first, *plain]) + "\n",
        "D1_1.csv": None,
        "D2_0.csv": "\n".join([*second, *plain]) + "\n",
    }
    return eleme(tmp_path, files, options, out)


def row_of(store, **wanted):
    """Return the first impression (of the test part, with `test`) whose history has `events` events."""
    first = store.n_train if wanted.get("test") else 0
    return next(
        i for i in range(first, store.n_impressions) if len(history(store, i)) == wanted["events"]
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return eleme(tmp_path_factory.mktemp("small"))


def test_the_columns_are_the_39_of_the_layout():
    assert [name for name in COLUMNS if name != "file"] == ELEME_COLUMNS


def test_the_day_is_that_of_the_file_name_and_the_last_is_the_test_part(store):
    assert store.split == {"kind": "time", "boundary": 1_648_828_800, "n_train": 4}
    assert sorted(set(store.time.tolist())) == [NOON, NOON + 6_800, NEXT_NOON]
    assert validate_store(store.path) == []


def test_another_first_day_moves_the_whole_log(tmp_path, store):
    moved = eleme(tmp_path, options={"first_day": "2022-04-03"})
    assert np.array_equal(moved.time, store.time + 2 * 86_400)


def test_the_lists_are_the_history_oldest_first_at_their_time_before_the_request(store):
    times = [event[0] for event in history(store, 0)]
    assert times == [NOON - 90_000, NOON - 4_000, NOON - 60]
    # Both rows of day 1 that show these lists share them.
    assert history(store, 1) == history(store, 0)
    # Item 0012 is not item 12: ids are text; the candidate of the first row is the list's first item.
    items = [event[2] for event in history(store, 0)]
    assert items[0] == store.candidates["item"][0]
    assert len(set(items)) == 3


def test_empty_lists_padding_and_lists_that_start_with_a_semicolon(store):
    # D1: none, ";s1" is one entry; D2: three and two zeros of padding, none.
    assert [len(history(store, i)) for i in range(6)] == [3, 3, 1, 0, 3, 0]


def test_missing_values_are_unknown(store):
    row = next(i for i in range(4) if store.time[i] == NOON + 6_800)
    assert (store.contexts["city"][row], store.candidates["rank_7"][row]) == (1, 1)
    assert store.numerics["log_avg_price"][row] == 0
    assert store.contexts["district"][row] != 1
    # Gender is -99.
    assert store.profiles["gender"][store.user[row]] == 1


def test_two_users_with_the_same_lists_do_not_share_them(tmp_path):
    rows = [eleme_row(label=1, user_id=user, **LISTS) for user in ("07", "7")]
    store = days(tmp_path, *rows)
    assert store.n_users == 3
    assert store.n_events == 6


def test_the_lists_of_a_test_row_alone_give_no_ids(tmp_path):
    rows = [eleme_row(label=1, **LISTS)]
    other = eleme_row(label=1, **LISTS | {"shop_id_list": "s1;s2;new"})
    store = days(tmp_path, *rows, second=[other])
    event = store.behaviours["shop"][store.history_end[row_of(store, events=3, test=True)] - 1]
    assert event == 1


def test_a_split_by_user_has_all_lists_of_a_person_in_one_part(tmp_path):
    rows = [
        eleme_row(
            label=i % 2, user_id=f"u{i % 6}", shop_id_list=";".join("s" * i), times=43_200 + i
        )
        for i in range(36)
    ]
    options = {"split": "user", "test_fraction": "0.5"}
    store = eleme(tmp_path, {**dict.fromkeys(LOGS["eleme"]), "D1_0.csv": "\n".join(rows)}, options)
    person = (store.time - store.time.min()) % 6
    assert store.n_users == 36
    assert not {*person[: store.n_train]} & {*person[store.n_train :]}


def test_a_row_never_sees_a_longer_list_of_the_same_user(tmp_path):
    shorter = {name: text.rsplit(";", 1)[0] for name, text in LISTS.items()}
    store = days(tmp_path, eleme_row(label=1, **shorter), second=[eleme_row(label=1, **LISTS)])
    lengths = sorted(len(history(store, i)) for i in range(store.n_impressions))
    assert lengths == [0, 0, 0, 0, 2, 3]


def test_times_follow_from_differences_and_order(tmp_path):
    cases = {
        "90000;4000;60": [90_000, 4_000, 60],
        "-90000;-4000;-60": [90_000, 4_000, 60],
        # The order is that of the list, whatever the differences say.
        "10;4000;60": [4_001, 4_000, 60],
        "0;0;0": [3, 2, 1],
        "": [3, 2, 1],
        ";;": [3, 2, 1],
        "x;4000.6;": [4_002, 4_001, 1],
    }
    rows = [
        eleme_row(label=1, user_id=f"a{i}", **LISTS | {"timediff_list": differences})
        for i, differences in enumerate(cases)
    ]
    store = days(tmp_path, *rows)
    for user, expected in enumerate(cases.values()):
        row = int(np.flatnonzero(store.user == user)[0])
        ago = [int(store.time[row]) - event[0] for event in history(store, row)]
        assert ago == expected


def test_the_unit_of_the_differences_is_an_option(tmp_path):
    store = days(tmp_path, eleme_row(label=1, **LISTS), options={"timediff": "min"})
    row = row_of(store, events=3)
    assert int(store.time[row]) - history(store, row)[2][0] == 3_600


@pytest.mark.slow
def test_shorter_lists_end_with_the_longest(tmp_path):
    store = days(tmp_path, eleme_row(label=1, **LISTS | {"shop_id_list": "s2;s3"}))
    full = days(tmp_path, eleme_row(label=1, **LISTS | {"shop_id_list": ";s2;s3"}), out="b")
    assert history(store, row_of(store, events=3)) == history(full, row_of(full, events=3))


def test_the_time_of_day_in_several_formats(tmp_path):
    cases = {
        ("45296", 12): 45_296,
        ("12:34:56", 12): 45_296,
        ("2022-04-01 12:34:56", 12): 45_296,
        # 12:34:56 in Shanghai as unix time, in seconds and in milliseconds.
        ("1648787696", 12): 45_296,
        ("1648787696123", 12): 45_296,
        # Not what the hour says, or not readable: the hour alone.
        ("45296", 18): 64_800,
        ("lunch", 12): 43_200,
        ("", 0): 0,
    }
    rows = [
        eleme_row(label=1, user_id=f"a{i}", times=times, hours=hours)
        for i, (times, hours) in enumerate(cases)
    ]
    store = days(tmp_path, *rows)
    for user, second_of_day in enumerate(cases.values()):
        row = int(np.flatnonzero(store.user == user)[0])
        assert int(store.time[row]) == NOON - 43_200 + second_of_day


def test_a_log_without_any_history_is_a_store_too(tmp_path):
    store = days(tmp_path)
    assert (store.n_events, store.n_impressions) == (0, 4)
    assert validate_store(store.path) == []
    assert audit_store(store).without_history == {"train": 1.0, "test": 1.0}


@pytest.mark.slow
def test_one_day_alone_is_split_by_share(tmp_path):
    store = eleme(tmp_path, {"D2_0.csv": None}, {"test_fraction": "0.25"})
    assert store.n_test == 1


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"label": 2}, "line 1: label is '2', expected 0 or 1"),
        ({"label": ""}, "line 1: label is empty, expected a whole number"),
        ({"hours": 24}, "line 1: hours is '24', expected an hour, 0 to 23"),
        ({"times": -43_200}, "line 1: times is '-43200', expected a time"),
        ({"avg_price": "cheap"}, "line 1: avg_price is 'cheap', expected a number"),
        ({"user_id": "7,8"}, "line 1: 40 field(s), expected 39 separated by ','"),
    ],
)
def test_an_invalid_cell_is_reported(tmp_path, cells, expected):
    with pytest.raises(UserError) as caught:
        days(tmp_path, eleme_row(**cells))
    assert f"D1_0.csv: {expected}" in str(caught.value)


def test_a_file_whose_name_has_no_day_is_refused(tmp_path):
    renamed = dict.fromkeys(ELEME) | {"train.csv": ELEME["D1_0.csv"]}
    with pytest.raises(UserError, match=r"expected files D1_0.csv, D1_1.csv"):
        eleme(tmp_path, renamed)
