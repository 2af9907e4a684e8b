"""Taobao display ads and UserBehavior: the quirks of their files in a small log, and counts of a real prefix."""

from functools import partial

import numpy as np
import pytest
from raw_logs import LOGS, history, import_raw, real_files

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.store import validate_store

ads = partial(import_raw, "taobao-ads")


def test_rows_of_the_ads_add_up(tmp_path):
    rows = ads(tmp_path).source["rows"]
    assert rows["raw_sample"] == {"read": 7, "kept": 6, "dropped": {"repeated": 1}}
    assert rows["behavior_log"] == {
        "read": 9,
        "kept": 5,
        "dropped": {"outside 2017-04-22 to 2017-05-13": 3, "repeated": 1},
    }
    assert rows["events"] == {
        "read": 5,
        "kept": 4,
        "dropped": {"of users without an impression": 1},
    }


def test_the_label_of_the_ads_is_clk(tmp_path):
    # User 449818 clicked on ad 1 and not on ad 63133 of the same second.
    assert ads(tmp_path).label.tolist() == [0, 1, 0, 1, 0, 1]


def test_the_test_part_is_the_last_day_in_shanghai(tmp_path):
    store = ads(tmp_path)
    # 1494604799 is 23:59:59 of 12 May there, and 15:59:59 in UTC.
    assert store.split == {"kind": "time", "boundary": 1_494_604_800, "n_train": 4}
    assert store.time[3:5].tolist() == [1_494_604_799, 1_494_604_800]
    assert store.utc_offset_seconds == 28_800
    # Hours 14, 14, 14 and 23 of the training part; midnight is of the test part only.
    assert store.contexts["hour"].tolist() == [2, 2, 2, 3, 1, 1]


def test_a_behaviour_at_the_impressions_second_is_not_its_history(tmp_path):
    store = ads(tmp_path)
    # cate 6250 and 6406, brand 91286 and 95471, action pv and cart; the buy is at the impression's second.
    assert history(store, 1) == [(1493741625, 2, 2, 4), (1494137999, 3, 3, 3)]
    assert history(store, 2) == history(store, 1)
    assert history(store, 0) == []
    # It runs through the test day: 1494604900 is before the impression of 1494605000.
    assert [event[0] for event in history(store, 5)] == [1494604900]


def test_brand_null_missing_profiles_and_empty_cells_are_unknown(tmp_path):
    store = ads(tmp_path)
    # Ad 1 has brand NULL, ads 2 and 63133 have 95471.
    assert store.candidates["brand"].tolist() == [1, 1, 3, 3, 3, 3]
    # The behaviours' brands are of the same vocabulary: 91286, 95471.
    assert store.schema.vocabularies["brand"] == 4
    # Users 777, 449818, 581738: the first has no profile.
    assert store.profiles["cms_segid"].tolist() == [1, 3, 2]
    assert store.profiles["pvalue_level"].tolist() == [1, 2, 1]
    # The header's last name ends in a blank.
    assert store.profiles["new_user_class_level"].tolist() == [1, 1, 2]
    assert store.numerics["log_price"].max() == pytest.approx(np.log(1e8), rel=1e-6)
    assert validate_store(store.path) == []


def test_the_column_names_of_the_web_page_are_read_too(tmp_path):
    files = LOGS["taobao-ads"]
    renamed = {
        "raw_sample.csv": files["raw_sample.csv"]
        .replace("user,", "user_id,", 1)
        .replace("nonclk", "noclk"),
        "behavior_log.csv": files["behavior_log.csv"].replace(",pv,", ",ipv,"),
        "user_profile.csv": files["user_profile.csv"].replace("userid", "user_id", 1),
    }
    assert ads(tmp_path, renamed, out="b").fingerprint == ads(tmp_path).fingerprint


def test_crlf_and_an_archives_folder_change_nothing(tmp_path):
    crlf = {
        f"taobao/{name}": text.replace("\n", "\r\n") for name, text in LOGS["taobao-ads"].items()
    }
    other = ads(tmp_path, dict.fromkeys(LOGS["taobao-ads"]) | crlf, out="b")
    assert other.fingerprint == ads(tmp_path).fingerprint


def test_another_share_replaces_the_last_day(tmp_path):
    assert ads(tmp_path, options={"test_fraction": "0.5"}).n_test == 3
    assert (
        ads(tmp_path, options={"split": "user", "test_fraction": "0.3"}, out="b").split["kind"]
        == "user"
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("raw_sample.csv", ",0,1\n", ",0,2\n", "line 3: clk is '2', expected 0 or 1"),
        ("raw_sample.csv", ",0,1\n", ",1,1\n", "line 3: nonclk is '1', expected 1 minus clk"),
        ("raw_sample.csv", "1494137644", "-5", "line 2: time_stamp is '-5', expected a time"),
        ("raw_sample.csv", "1494137644", "1494137644000", "line 2: time_stamp is '1494137644000'"),
        (
            "behavior_log.csv",
            "cart",
            "look",
            "line 3: btag is 'look', expected pv, cart, fav or buy",
        ),
        ("ad_feature.csv", "\n2,", "\n1,", "line 4: adgroup_id is 1 again, expected a value"),
        ("user_profile.csv", "449818", "581738", "line 3: userid is 581738 again, expected"),
    ],
)
def test_an_invalid_cell_of_the_ads_is_reported(tmp_path, file, old, new, expected):
    with pytest.raises(UserError) as caught:
        ads(tmp_path, {file: LOGS["taobao-ads"][file].replace(old, new, 1)})
    assert f"{file}: {expected}" in str(caught.value)
    assert not (tmp_path / "out").exists()


def behaviours(tmp_path, options=None, out="out"):
    return import_raw("taobao-userbehavior", tmp_path, None, options, out)


def test_rows_of_userbehavior_add_up(tmp_path):
    rows = behaviours(tmp_path).source["rows"]
    assert rows["behaviours"] == {
        "read": 11,
        "kept": 7,
        "dropped": {"outside 2017-11-25 to 2017-12-03": 3, "repeated": 1},
    }
    assert rows["impressions"] == {"read": 7, "kept": 4, "dropped": {"behaviour is not pv": 3}}
    negatives = rows["negatives"]
    assert negatives["read"] == 16 == negatives["kept"] + sum(negatives["dropped"].values())


def test_positives_are_views_and_histories_hold_all_behaviours(tmp_path):
    store = behaviours(tmp_path)
    clicked = np.flatnonzero(store.label)
    times = [1511544070, 1511561733, 1512000000, 1512230400]
    assert store.time[clicked].tolist() == times
    # User 100 put an item in the cart before.
    assert [event[0] for event in history(store, clicked[3])] == [1511561000]
    assert store.split["boundary"] == 1_512_230_400


def test_any_behaviour_can_be_the_positive(tmp_path):
    store = behaviours(tmp_path, {"positive": "all"})
    assert store.label.sum() == 7
    with pytest.raises(
        UserError, match="option positive is 'views', expected pv, buy, cart, fav or all"
    ):
        behaviours(tmp_path, {"positive": "views"}, "b")
    with pytest.raises(UserError, match="option seed is -1, expected 0 or more"):
        behaviours(tmp_path, {"seed": "-1"}, "c")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    raw = real_files("taobao-userbehavior-prefix")
    return import_logs("taobao-userbehavior", raw, tmp_path_factory.mktemp("p") / "store")


@pytest.mark.slow
def test_the_real_prefix_has_its_counts(prefix):
    rows = prefix.source["rows"]
    assert rows["behaviours"] == {
        "read": 84_475,
        "kept": 84_440,
        "dropped": {"outside 2017-11-25 to 2017-12-03": 35, "repeated": 0},
    }
    # 35 of the 75,872 views are outside the span as well.
    assert rows["impressions"]["kept"] == int(prefix.label.sum()) == 75_837
    assert validate_store(prefix.path) == []


@pytest.mark.slow
def test_negatives_of_the_real_prefix_are_as_popular_as_its_positives(prefix):
    assert prefix.base_rate["train"] == pytest.approx(0.2, abs=0.001)
    part = slice(0, prefix.n_train)
    item, clicked = prefix.candidates["item"][part].astype(int), prefix.label[part] == 1
    size = prefix.schema.vocabularies["item"]
    popularity = np.bincount(item[clicked], minlength=size)
    drawn = np.bincount(item[~clicked], minlength=size)
    expected = popularity * ((~clicked).sum() / clicked.sum())
    common = np.argsort(popularity)[-200:]
    # Poisson draws: the statistic's mean is the number of items.
    assert ((drawn - expected)[common] ** 2 / expected[common]).mean() == pytest.approx(1, abs=0.35)
