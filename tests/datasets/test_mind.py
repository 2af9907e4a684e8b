"""MIND: one fixed list per user, text with quotes and tabs, times without leading zeros."""

from functools import partial

import pytest
from raw_logs import MIND, cells, history, import_raw

from scaling.errors import UserError
from scaling.store import validate_store

TRAIN = "MINDsmall_train/behaviors.tsv"


mind = partial(import_raw, "mind")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return mind(tmp_path_factory.mktemp("small"))


def test_every_news_that_was_shown_is_an_impression(store):
    assert store.source["rows"]["behaviors"] == {"read": 5, "kept": 5, "dropped": {"repeated": 0}}
    assert store.source["rows"]["impressions"]["kept"] == 11 == store.n_impressions
    assert store.label.tolist() == [0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 0]
    # Shown together: 2, 3, 2 in training, 2 and 2 on the day of development.
    assert store.request.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert validate_store(store.path) == []


def test_times_have_no_leading_zeros_and_no_zone(store):
    # 11/11/2019 9:05:58 AM, 11/12/2019 6:11:30 PM, 11/13/2019 12:00:00 AM
    assert sorted(set(store.time.tolist()))[:3] == [1573463158, 1573582290, 1573603200]
    assert store.split == {"kind": "time", "boundary": 1_573_776_000, "n_train": 7}


def test_a_history_is_the_users_list_oldest_first_before_the_first_impression(store):
    # N55189 N42782, each with category and subcategory; the day of development shows the same list.
    listed = [(1573463156, 5, 2, 3), (1573463157, 4, 4, 4)]
    assert [history(store, row) for row in (0, 1, 5, 7)] == [listed] * 4
    # The list of U91836 is empty.
    assert history(store, 2) == []


def test_titles_with_quotes_and_tabs_do_not_break_the_news(store):
    # N42782 is sports/news in spite of an open quote; N20678 is news/newsus before a title with tabs.
    assert store.candidates["category"].tolist() == [3, 4, 3, 3, 4, 3, 1, 4, 4, 4, 3]
    # N99999 is no listed news; N88888 is shown first on the test day, but its category is known.
    assert store.candidates["item"].tolist() == [3, 6, 2, 3, 4, 2, 7, 4, 6, 1, 3]


def test_entities_are_those_of_the_title(store):
    # Q1, Q31 and Q43274; a title with tabs has its entities, too.
    found = cells(store, "impressions/candidate.entities")
    assert found == [[1], [2, 4], [3], [1], [1], [3], [1], [1], [2, 4], [1], [1]]


def test_blank_lines_are_skipped(tmp_path, store):
    files = {name: "\n" + text.replace("\n", "\n\n") for name, text in MIND.items()}
    assert mind(tmp_path, files).fingerprint == store.fingerprint


def test_the_list_of_a_test_row_alone_gives_no_ids(tmp_path, store):
    file = "MINDsmall_dev/behaviors.tsv"
    longer = MIND[file].replace("N55189 N20678", "N55189 N20678 N77777")
    new = mind(tmp_path, {file: longer})
    assert new.n_events == store.n_events + 1
    assert new.schema.vocabularies == store.schema.vocabularies


def test_a_split_by_user_has_all_lists_of_a_person_in_one_part(tmp_path):
    rows = "".join(
        f"{i}\tU{i % 6}\t11/11/2019 9:05:{i:02d} AM\t{'N55189 ' * i}\tN55689-1 N35729-0\n"
        for i in range(36)
    )
    files = {name: rows if "behaviors" in name else text for name, text in MIND.items()}
    store = mind(tmp_path, files, {"split": "user", "test_fraction": "0.5"})
    person = (store.time - store.time.min()) % 6
    assert store.n_users == 36
    assert not {*person[: store.n_train]} & {*person[store.n_train :]}


def test_a_list_that_grows_is_not_seen_by_earlier_rows(tmp_path):
    files = {
        "MINDsmall_dev/behaviors.tsv": "2\tU13740\t11/15/2019 7:00:00 AM\tN55189 N42782 N20678\tN55689-0 N42782-1\n"
    }
    store = mind(tmp_path, files)
    assert len(history(store, 0)) == 2
    assert len(history(store, store.n_train)) == 3


def test_one_folder_alone_is_split_by_share(tmp_path):
    files = dict.fromkeys(MIND) | {
        f"sub/{name.split('/')[1]}": MIND[name] for name in MIND if "train" in name
    }
    assert mind(tmp_path, files, {"test_fraction": "0.25"}).n_test == 2


def test_the_test_set_is_not_imported(tmp_path, store):
    files = {
        "MINDlarge_test/behaviors.tsv": "1\tU1\t11/16/2019 7:00:00 AM\tN1\tN2 N3\n",
        "MINDlarge_test/news.tsv": "N2\ta\tb\tt\t\thttps://x\t[]\t[]\n",
    }
    assert mind(tmp_path, files).fingerprint == store.fingerprint
    with pytest.raises(UserError, match="has only the test set, which has no labels"):
        mind(tmp_path, dict.fromkeys(MIND) | files, out="b")


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            TRAIN,
            "N35729-0",
            "N35729",
            "line 1: Impressions is 'N55689-1 N35729', expected news ids, each",
        ),
        (
            TRAIN,
            "N35729-0",
            "N35729-2",
            "line 1: Impressions is 'N55689-1 N35729-2', expected news ids",
        ),
        (
            TRAIN,
            "11/11/2019",
            "2019-11-11",
            "line 1: Time is '2019-11-11 9:05:58 AM', expected a time such",
        ),
        (TRAIN, "\t11/12", " 11/12", "line 2: 4 field(s), expected 5 separated by '\\t'"),
        ("MINDsmall_train/news.tsv", "\tsports\tnews\t", " ", "line 2: line is 'N42782 A title"),
    ],
)
def test_an_invalid_cell_is_reported(tmp_path, file, old, new, expected):
    with pytest.raises(UserError) as caught:
        mind(tmp_path, {file: MIND[file].replace(old, new, 1)})
    assert f"{file}: {expected}" in str(caught.value)
    assert "\n" not in str(caught.value)
