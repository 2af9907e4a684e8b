"""The importers of Yambda and VK-LSVD on hand-made files in their layouts."""

import duckdb
import numpy as np
import pytest

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.importers.datasets.vk_lsvd import EPOCH, WEEK
from scaling.importers.datasets.yambda import EPOCH as YAMBDA_EPOCH


def write(path, select):
    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")


@pytest.fixture
def listens(tmp_path):
    raw = tmp_path / "raw"
    write(
        raw / "flat" / "50m" / "listens.parquet",
        "SELECT (i % 20 * 10)::UINTEGER AS uid, (i // 2 * 5)::UINTEGER AS timestamp, (i * 7 % 31)::UINTEGER AS item_id, "
        "(i % 3 = 0)::UTINYINT AS is_organic, (i * 13 % 120)::USMALLINT AS played_ratio_pct, "
        "200::UINTEGER AS track_length_seconds FROM range(1000) t(i)",
    )
    return raw


@pytest.mark.parametrize("where", ["", "flat", "flat/50m"])
def test_yambda_is_read_from_any_of_its_folders(listens, tmp_path, where):
    store = import_logs("yambda", listens / where, tmp_path / "out")
    assert store.n_impressions == 1000
    assert int(store.time[0]) == YAMBDA_EPOCH
    expected = (np.arange(1000) * 13 % 120 >= 50).sum()
    assert int(np.asarray(store.label).sum()) == expected


def test_yambda_takes_the_smallest_artist_of_a_track(listens, tmp_path):
    write(
        listens / "artist_item_mapping.parquet",
        "SELECT (k * 10 + i % 4)::UINTEGER AS artist_id, i::UINTEGER AS item_id FROM range(30) a(i), range(2) b(k)",
    )
    store = import_logs("yambda", listens / "flat" / "50m", tmp_path / "out")
    # four artists, padding and unknown
    assert store.schema.vocabularies["artist"] == 6
    assert [feature.name for feature in store.schema.behaviour] == ["item", "artist", "play"]


def test_the_share_that_counts_as_listened_is_an_option(listens, tmp_path):
    store = import_logs("yambda", listens, tmp_path / "out", {"listened_pct": "100"})
    assert int(np.asarray(store.label).sum()) == (np.arange(1000) * 13 % 120 >= 100).sum()
    with pytest.raises(UserError, match="listened_pct is 0"):
        import_logs("yambda", listens, tmp_path / "other", {"listened_pct": "0"})


def test_yambda_of_several_sizes_is_refused(listens, tmp_path):
    write(
        listens / "flat" / "500m" / "listens.parquet", f"FROM '{listens}/flat/50m/listens.parquet'"
    )
    with pytest.raises(UserError, match="2 sizes of the data"):
        import_logs("yambda", listens, tmp_path / "out")


@pytest.fixture
def weeks(tmp_path):
    raw = tmp_path / "raw"
    for week, part in ((0, "train"), (1, "train"), (2, "validation")):
        n = 300 - 100 * week
        write(
            raw / "interactions" / part / f"week_{week:02d}.parquet",
            f"SELECT (i % 17)::UINTEGER AS user_id, (i * 5 % 40)::UINTEGER AS item_id, (i % 5)::UTINYINT AS place, "
            "(i % 2)::UTINYINT AS platform, (i % 3)::UTINYINT AS agent, (i % 90)::UTINYINT AS timespent, "
            f'i % 4 = 0 AS "like", i % 50 = 0 AS share FROM range({n}) t(i)',
        )
    return raw


def test_vk_lsvd_has_its_last_week_as_the_test_part_and_the_order_of_its_rows(weeks, tmp_path):
    store = import_logs("vk-lsvd", weeks, tmp_path / "out")
    assert (store.n_train, store.n_test) == (500, 100)
    assert store.split == {"kind": "time", "boundary": EPOCH + 2 * WEEK, "n_train": 500}
    first = np.arange(300) * WEEK // 300 + EPOCH
    assert np.array_equal(store.time[:300], first)
    assert np.array_equal(store.label[:300], np.arange(300) % 4 == 0)


def test_vk_lsvd_reads_users_and_videos_where_they_are(weeks, tmp_path):
    write(
        weeks / "metadata" / "items_metadata.parquet",
        "SELECT i::UINTEGER AS item_id, (i % 6)::UINTEGER AS author_id, 30::UTINYINT AS duration FROM range(40) t(i)",
    )
    write(
        weeks / "metadata" / "users_metadata.parquet",
        "SELECT i::UINTEGER AS user_id, (i % 3)::UTINYINT AS age, 1::UTINYINT AS gender, 2::UTINYINT AS geo "
        "FROM range(17) t(i)",
    )
    for number, folder in enumerate((weeks, weeks / "interactions")):
        store = import_logs("vk-lsvd", folder, tmp_path / f"out{number}")
        assert store.schema.vocabularies["author"] == 8
        assert list(store.profiles) == ["age", "gender", "geo"]
        assert store.source["found"]["items"]["impressions"] == [600, 600]


@pytest.mark.parametrize(
    ("options", "n_test"),
    [({"test_week": "1"}, 300), ({"test_week": "-2", "test_fraction": "0.5"}, 300)],
)
def test_the_test_part_of_vk_lsvd_is_an_option(weeks, tmp_path, options, n_test):
    assert import_logs("vk-lsvd", weeks, tmp_path / "out", options).n_test == n_test


def test_the_label_of_vk_lsvd_is_an_option(weeks, tmp_path):
    store = import_logs("vk-lsvd", weeks, tmp_path / "out", {"label": "share"})
    assert int(np.asarray(store.label).sum()) == 6 + 4 + 2
    with pytest.raises(UserError, match=r"label is 'lke'.*like"):
        import_logs("vk-lsvd", weeks, tmp_path / "other", {"label": "lke"})


@pytest.mark.parametrize("name", ["yambda", "vk-lsvd"])
def test_an_empty_folder_is_refused(name, tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UserError, match="missing"):
        import_logs(name, tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cut_week_is_refused(weeks, tmp_path):
    week = weeks / "interactions" / "train" / "week_01.parquet"
    week.write_bytes(week.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"week_01\.parquet: cannot be read as Parquet"):
        import_logs("vk-lsvd", weeks, tmp_path / "out")
