"""MovieLens CSV and 100K: small logs checked by hand, and the published counts of the real logs."""

import gzip

import numpy as np
import pytest
from raw_logs import LOGS, cells, history, import_raw, real_files, write_raw
from slow_cases import fast_only

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.store import validate_store


def test_a_small_csv_log_by_hand(tmp_path):
    store = import_raw("movielens", tmp_path)
    assert store.source["rows"]["ratings"] == {"read": 8, "kept": 7, "dropped": {"repeated": 1}}
    assert store.label.tolist() == [0, 1, 1, 0, 1, 1, 0]
    # Movies 1, 3 and 6 of the training part; movie 9 is rated in the test part only.
    assert store.candidates["item"].tolist() == [3, 4, 2, 2, 3, 2, 1]
    # Adventure, Animation, Comedy; no genre listed is unknown.
    assert cells(store, "impressions/candidate.genres") == [
        [4],
        [1],
        [2, 3],
        [2, 3],
        [4],
        [2, 3],
        [1],
    ]
    # 1995 of (1995) and of (1996), after a comma and quotes in the title; no year is unknown.
    assert store.candidates["year"].tolist() == [2, 1, 2, 2, 2, 2, 1]
    # Half stars 1, 7, 8, 9 and 10 of the training part.
    assert history(store, 2) == [(964981247, 3, 2, 2), (964982224, 4, 1, 5)]
    assert store.profiles == {}
    assert validate_store(store.path) == []


def test_half_stars_count_for_the_threshold(tmp_path):
    raw = write_raw(tmp_path / "raw", "movielens")
    store = import_logs("movielens", raw, tmp_path / "out", {"min_rating": "3.5"})
    assert store.label.tolist() == [0, 1, 1, 1, 1, 1, 0]
    with pytest.raises(UserError, match=r"option min_rating is 0\.5, expected 1 to 5"):
        import_logs("movielens", raw, tmp_path / "b", {"min_rating": "0.5"})


@pytest.mark.parametrize("folder", fast_only(["ml-25m"], ["", "ml-25m", "downloads/ml-25m"]))
@pytest.mark.parametrize("packed", [False, True])
def test_line_ends_packing_and_the_archives_folder_change_nothing(tmp_path, folder, packed):
    plain = import_raw("movielens", tmp_path, out="plain")
    for name in ("ratings.csv", "movies.csv"):
        content = LOGS["movielens"][name].replace("\r\n", "\n").rstrip("\n").encode()
        file = tmp_path / "other" / folder / (f"{name}.gz" if packed else name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(content) if packed else content)
    other = import_logs("movielens", tmp_path / "other", tmp_path / "b")
    assert other.fingerprint == plain.fingerprint


def test_a_small_100k_log_by_hand(tmp_path):
    store = import_raw("movielens-100k", tmp_path)
    assert store.source["rows"]["ratings"] == {"read": 7, "kept": 6, "dropped": {"repeated": 1}}
    # The two ratings of 881250949 are the test part and one request.
    assert store.request.tolist() == [0, 1, 2, 3, 4, 4]
    assert store.candidates["item"].tolist() == [3, 4, 2, 3, 1, 3]
    # Children's, Comedy, Drama; Action is in the test part only, and "unknown" is no genre.
    assert cells(store, "impressions/candidate.genres") == [[2, 3], [1], [4], [2, 3], [1], [2, 3]]
    # 1990 and 1995 by the release date; movie 267 has none.
    assert store.candidates["year"].tolist() == [3, 1, 2, 3, 3, 3]
    # User 196 is not in the training part: his profile values are unknown unless a training user has them too.
    assert store.profiles["age"].tolist() == [3, 1, 2]
    assert store.profiles["occupation"].tolist() == [3, 1, 2]
    # The first characters of 40206, T8H1N and 00501.
    assert store.profiles["region"].tolist() == [3, 1, 2]
    assert validate_store(store.path) == []


def test_ratings_of_100k_from_four_on_are_clicks(tmp_path):
    store = import_raw("movielens-100k", tmp_path)
    # Ratings 1, 4, 2, 4 of the training part; 5 and 3 of the request in the test part.
    assert store.label.tolist() == [0, 1, 0, 1, 1, 0]


@pytest.fixture(scope="module", params=["movielens-100k", "movielens"])
def real(request, tmp_path_factory):
    raw = real_files({"movielens-100k": "ml-100k", "movielens": "ml-latest-small"}[request.param])
    return request.param, import_logs(request.param, raw, tmp_path_factory.mktemp("r") / "store")


@pytest.mark.slow
def test_real_sets_have_their_published_counts(real):
    name, store = real
    users, items, rows, base_rate = {
        "movielens-100k": (943, 1_682, 100_000, 0.554),
        "movielens": (610, 9_724, 100_836, 0.482),
    }[name]
    assert (store.n_users, store.n_impressions, store.n_events) == (users, rows, rows)
    assert store.source["rows"]["ratings"] == {
        "read": rows,
        "kept": rows,
        "dropped": {"repeated": 0},
    }
    assert store.label.mean() == pytest.approx(base_rate, abs=0.0005)
    # Rated movies of the training part have ids of their own; the others share one.
    known = len(np.unique(store.candidates["item"]))
    assert known == store.schema.vocabularies["item"] - 1
    assert known <= items + 1
    assert validate_store(store.path) == []


@pytest.mark.slow
def test_the_longest_real_history(real):
    name, store = real
    lengths = np.diff(store.offsets)
    longest, median = {
        "movielens-100k": (737, 65),
        "movielens": (2_698, 70.5),
    }[name]
    assert (lengths.max(), np.median(lengths)) == (longest, median)
