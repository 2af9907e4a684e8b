import gzip

import numpy as np
import pytest
from raw_logs import assert_same_files, cells, real_files

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.store import open_store

RATINGS = """\
3::20::5::978300760
1::10::4::978300760
1::20::3::978300760
1::30::5::978300761
2::10::2::978300800
2::10::2::978300800
1::40::1::978300900
3::99::4::978301000
"""
USERS = """\
1::F::1::10::48067
2::M::56::16::70072-1234
3::M::25::15::V5117
"""
MOVIES = """\
10::Toy Story (1995)::Animation|Children's|Comedy
20::Misérables, Les: Part 2 (1987)::Drama
30::No Year Given::Comedy
40::Jumanji (1996)::Adventure
"""


def make_raw(folder, ratings=RATINGS, users=USERS, movies=MOVIES):
    folder.mkdir(parents=True)
    for name, text in (("ratings", ratings), ("users", users), ("movies", movies)):
        if text is not None:
            (folder / f"{name}.dat").write_bytes(text.encode("latin-1"))
    return folder


def rows_of(store):
    """Impressions as (user, item, label, history of items), all as stored ids."""
    return [
        (
            int(store.user[i]),
            int(store.candidates["item"][i]),
            int(store.label[i]),
            store.behaviours["item"][store.offsets[store.user[i]] : store.history_end[i]].tolist(),
        )
        for i in range(store.n_impressions)
    ]


def test_a_small_log_by_hand(tmp_path):
    # Seven distinct ratings; the last two are the test part; items 40 and 99 are in no other.
    store = import_logs(
        "movielens-1m", make_raw(tmp_path / "raw"), tmp_path / "out", {"test_fraction": "0.3"}
    )
    assert rows_of(store) == [
        (0, 2, 1, []),
        (0, 3, 0, []),
        (2, 3, 1, []),
        (0, 4, 1, [2, 3]),
        (1, 2, 0, []),
        (0, 1, 0, [2, 3, 4]),
        (2, 1, 1, [3]),
    ]
    assert (store.n_train, store.split["boundary"]) == (5, 978300900)
    assert store.request.tolist() == [0, 0, 1, 2, 3, 4, 5]
    # Genres of the training part: Animation, Children's, Comedy, Drama; Adventure and no movie at all are unknown.
    genres = [[2, 3, 4], [5], [5], [4], [2, 3, 4], [1], [1]]
    assert cells(store, "impressions/candidate.genres") == genres
    # Release periods: 1985, 1995; a title without a year is unknown.
    assert store.candidates["year"].tolist() == [3, 2, 2, 1, 3, 3, 1]
    assert store.behaviours["rating"].tolist() == [4, 3, 5, 1, 2, 5, 4]
    assert store.profiles["region"].tolist() == [2, 3, 4]
    assert store.profiles["gender"].tolist() == [2, 3, 3]
    rows = store.source["rows"]
    assert rows["ratings"] == {"read": 8, "kept": 7, "dropped": {"repeated": 1}}
    assert rows["impressions"] == {"read": 7, "kept": 7, "dropped": {}}
    open_store(store.path, verify=True)


def test_the_threshold_of_a_click_is_an_option(tmp_path):
    raw = make_raw(tmp_path / "raw")
    low = import_logs("movielens-1m", raw, tmp_path / "low", {"min_rating": "2"})
    assert low.label.mean() == pytest.approx(6 / 7)
    assert low.source["options"]["min_rating"] == 2


def test_gzip_and_crlf_change_nothing(tmp_path):
    plain = import_logs("movielens-1m", make_raw(tmp_path / "raw"), tmp_path / "plain")
    packed = make_raw(tmp_path / "packed", None, USERS.replace("\n", "\r\n"))
    (packed / "ratings.dat.gz").write_bytes(gzip.compress(RATINGS.rstrip("\n").encode()))
    assert import_logs("movielens-1m", packed, tmp_path / "b").fingerprint == plain.fingerprint


def test_raw_may_be_the_folder_above(tmp_path):
    plain = import_logs("movielens-1m", make_raw(tmp_path / "raw" / "ml-1m"), tmp_path / "plain")
    above = import_logs("movielens-1m", tmp_path / "raw", tmp_path / "above")
    assert above.fingerprint == plain.fingerprint


def test_the_order_of_the_raw_rows_changes_no_byte(tmp_path):
    first = import_logs("movielens-1m", make_raw(tmp_path / "raw"), tmp_path / "first")
    backwards = ["".join(reversed(t.splitlines(keepends=True))) for t in (RATINGS, USERS, MOVIES)]
    second = import_logs(
        "movielens-1m", make_raw(tmp_path / "raw2", *backwards), tmp_path / "second"
    )
    assert_same_files(first, second)


def replaced(row, text):
    lines = RATINGS.splitlines()
    lines[row - 1] = text
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"ratings": None}, "ratings.dat: missing, and so are ratings.dat.gz and ratings.dat.zst"),
        ({"users": None}, "users.dat: missing"),
        ({"movies": ""}, "movies.dat: is empty"),
        (
            {"ratings": RATINGS.replace("::", ",")},
            "line 1: 1 field(s), expected 4 separated by '::'",
        ),
        ({"ratings": replaced(3, "1::20::3")}, "line 3: 3 field(s), expected 4"),
        # Two errors that keep the total number of fields.
        ({"ratings": replaced(3, "1::2\n1::2::3::4::5::6")}, "line 3: 2 field(s), expected 4"),
        ({"ratings": replaced(1, "1::2::3::4::5\n1::2::3")}, "line 1: 5 field(s), expected 4"),
        ({"ratings": replaced(4, " ")}, "line 4: 1 field(s), expected 4"),
        ({"ratings": replaced(2, "1::10::6::978300760")}, "line 2: Rating is '6', expected 1 to 5"),
        ({"ratings": replaced(2, "1::10::0::978300760")}, "line 2: Rating is '0', expected 1 to 5"),
        (
            {"ratings": replaced(5, "2::10::4.5::978300760")},
            "line 5: Rating is '4.5', expected a whole",
        ),
        (
            {"ratings": replaced(5, "2::10::::978300760")},
            "line 5: Rating is empty, expected a whole",
        ),
        (
            {"ratings": replaced(6, "2::10::4::-5")},
            "line 6: Timestamp is '-5', expected a time in s",
        ),
        ({"ratings": replaced(6, "2::10::4::978300760123")}, "line 6: Timestamp is '978300760123'"),
        ({"ratings": replaced(7, f"{2**63}::10::4::9")}, "line 7: UserID is"),
        (
            {"users": USERS.replace("1::F::1::10::48067", "1::F::1::10")},
            "users.dat: line 1: 4 field(s)",
        ),
        (
            {"users": USERS + "2::F::1::1::1\n"},
            "users.dat: line 4: UserID is 2 again, expected a value that no earlier",
        ),
        (
            {"movies": MOVIES + "10::A::B\n"},
            "movies.dat: line 5: MovieID is 10 again, expected a value that no earlier",
        ),
        ({"movies": "x::Title (1999)::Drama\n"}, "movies.dat: line 1: MovieID is 'x'"),
        ({"ratings": "1::10::4::5\n1::20::4::5\n"}, "leaves the training part without impressions"),
    ],
)
def test_bad_input_is_one_line_with_file_and_row_and_leaves_nothing(tmp_path, files, expected):
    raw = make_raw(tmp_path / "raw", **files)
    with pytest.raises(UserError) as caught:
        import_logs("movielens-1m", raw, tmp_path / "out")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["raw"]


def test_a_cut_gzip_file_is_reported(tmp_path):
    raw = make_raw(tmp_path / "raw", None)
    packed = gzip.compress(RATINGS.encode())
    for content in (packed[:-20], b"no gzip at all"):
        (raw / "ratings.dat.gz").write_bytes(content)
        with pytest.raises(UserError, match=r"ratings.dat.gz: damaged or cut .gz file"):
            import_logs("movielens-1m", raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("movielens1m", {}, "movielens1m: no such importer, did you mean movielens-1m?"),
        ("movielens-1m", {"min_ratin": "4"}, "option min_ratin: unknown, did you mean min_rating?"),
        (
            "movielens-1m",
            {"min_rating": "four"},
            "option min_rating is 'four', expected a whole number",
        ),
        ("movielens-1m", {"min_rating": "1"}, "option min_rating is 1, expected 2 to 5"),
        (
            "movielens-1m",
            {"test_fraction": "1.5"},
            "option test_fraction is 1.5, expected a number between 0 and 1",
        ),
    ],
)
def test_wrong_names_and_options_are_reported_with_the_nearest_valid_ones(
    tmp_path, name, options, expected
):
    with pytest.raises(UserError) as caught:
        import_logs(name, make_raw(tmp_path / "raw"), tmp_path / "out", options)
    assert expected in str(caught.value)


def test_folders_are_checked_before_the_work(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        import_logs("movielens-1m", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match="already exists"):
        import_logs("movielens-1m", make_raw(tmp_path / "raw"), tmp_path)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    raw = real_files("ml-1m")
    return import_logs("movielens-1m", raw, tmp_path_factory.mktemp("real") / "store")


@pytest.mark.slow
def test_movielens_1m_has_its_published_counts(real):
    assert (real.n_impressions, real.n_events, real.n_users) == (1_000_209, 1_000_209, 6_040)
    assert (real.split["boundary"], real.n_test) == (975_768_738, 200_042)
    assert real.label.mean() == pytest.approx((348_971 + 226_310) / 1_000_209)
    ratings = {3: 261_197, 4: 348_971, 5: 226_310}
    assert {r: int((real.behaviours["rating"] == r + 1).sum()) for r in ratings} == ratings


@pytest.mark.slow
def test_a_real_history_has_the_users_earlier_ratings(real):
    # An independent reading, line by line: user 1 of the file is user 0 of the store.
    with gzip.open(real_files("ml-1m") / "ratings.dat.gz", "rt") as lines:
        rated = [tuple(map(int, line.split("::"))) for line in lines if line.startswith("1::")]
    mine = np.flatnonzero(real.user == 0)
    assert len(mine) == len(rated)
    for i in mine:
        before = sorted(rating for _, _, rating, time in rated if time < real.time[i])
        history = real.behaviours["rating"][real.offsets[0] : real.history_end[i]]
        assert sorted((history - 1).tolist()) == before


@pytest.mark.slow
def test_a_real_store_passes_all_checks(real):
    assert open_store(real.path, verify=True).fingerprint == real.fingerprint
