"""Small files in the layouts of the public data sets, with the quirks of the real files, and imports of them."""

from pathlib import Path

import numpy as np
import pytest

from scaling.importers import import_logs
from scaling.store import EventStore

__all__ = [
    "LOGS",
    "assert_same_files",
    "cells",
    "eleme_row",
    "history",
    "import_raw",
    "real_files",
    "write_raw",
]

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"

MOVIELENS = {
    # CRLF, half stars, sorted by user and movie, one exact repeat.
    "ratings.csv": (
        "userId,movieId,rating,timestamp\r\n"
        "1,1,4.0,964982703\r\n"
        "1,3,0.5,964981247\r\n"
        "1,6,4.5,964982224\r\n"
        "2,1,3.5,964982900\r\n"
        "2,1,3.5,964982900\r\n"
        "2,3,5.0,964983000\r\n"
        "3,1,4.0,964983100\r\n"
        "3,9,2.0,964983200\r\n"
    ),
    "movies.csv": (
        "movieId,title,genres\r\n"
        "1,Toy Story (1995),Adventure|Animation\r\n"
        '3,"American President, The ""Uncut"" (1996)",Comedy\r\n'
        "6,No Year,(no genres listed)\r\n"
        "9,Misérables (2011),Drama\r\n"
    ),
    "tags.csv": "userId,movieId,tag,timestamp\r\n1,1,fun,964982703\r\n",
    "links.csv": "movieId,imdbId,tmdbId\r\n1,0114709,862\r\n6,0113497,\r\n",
}

MOVIELENS_100K = {
    "u.data": (
        "196\t242\t3\t881250949\n"
        "196\t257\t5\t881250949\n"
        "22\t242\t1\t878887116\n"
        "22\t267\t4\t878887117\n"
        "244\t51\t2\t880606923\n"
        "244\t51\t2\t880606923\n"
        "244\t242\t4\t880606930\n"
    ),
    "u.user": "22|25|M|writer|40206\n196|49|F|other|T8H1N\n244|7|M|student|00501\n",
    "u.item": "".join(
        f"{item}|{title}|{date}||http://x/{item}|{'|'.join(flags)}\n"
        for item, title, date, flags in (
            (51, "Amélie (1994)", "01-Jan-1994", "0" * 8 + "1" + "0" * 10),
            (242, "Kolya (1996)", "24-Jan-1997", "0" * 4 + "11" + "0" * 13),
            (257, "Men in Black (1997)", "04-Jul-1997", "01" + "0" * 17),
            (267, "unknown", "", "1" + "0" * 18),
        )
    ).encode("latin-1"),
}

# 1494000000 is 2017-05-06 00:00 in Shanghai, 1494604800 is 2017-05-13 00:00.
TAOBAO_ADS = {
    "raw_sample.csv": (
        "user,time_stamp,adgroup_id,pid,nonclk,clk\n"
        "581738,1494137644,1,430548_1007,1,0\n"
        "449818,1494138000,1,430548_1007,0,1\n"
        "449818,1494138000,63133,430539_1007,1,0\n"
        "449818,1494138000,63133,430539_1007,1,0\n"
        "777,1494604799,2,430539_1007,0,1\n"
        "777,1494604800,63133,430548_1007,1,0\n"
        "581738,1494605000,2,430548_1007,0,1\n"
    ),
    "ad_feature.csv": (
        "adgroup_id,cate_id,campaign_id,customer,brand,price\n"
        "63133,6406,83237,1,95471,170.0\n"
        "1,9025,108570,25682,NULL,199.0\n"
        "2,6406,1,2,95471,99999999.0\n"
    ),
    # A space at the end of the header; user 777 has no profile.
    "user_profile.csv": (
        "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
        "occupation,new_user_class_level \n"
        "581738,0,5,2,5,,3,0,3\n"
        "449818,19,4,1,4,2,3,0,\n"
    ),
    "behavior_log.csv": (
        "user,time_stamp,btag,cate,brand\n"
        "449818,1493741625,pv,6250,91286\n"
        "449818,1494137999,cart,6406,95471\n"
        "449818,1494137999,cart,6406,95471\n"
        "449818,1494138000,buy,6406,95471\n"
        "581738,1494604900,fav,9025,5\n"
        "581738,0,pv,9025,5\n"
        "581738,-2,pv,9025,5\n"
        "581738,4294967295,pv,9025,5\n"
        "123,1494000000,pv,9025,5\n"
    ),
}

# 1511539200 is 2017-11-25 00:00 in Shanghai, 1512230400 is 2017-12-03 00:00.
TAOBAO_USERBEHAVIOR = {
    "UserBehavior.csv": (
        "1,2268318,2520377,pv,1511544070\n"
        "1,2333346,2520771,pv,1511561733\n"
        "1,2576651,149192,buy,1512172885\n"
        "1,2576651,149192,buy,1512172885\n"
        "100,2268318,2520377,cart,1511561000\n"
        "100,4973305,2520377,pv,1512230400\n"
        "1000,3830808,4181361,fav,1512230500\n"
        "1000,2268318,2520377,pv,1512000000\n"
        "1000,2268318,2520377,pv,1505088000\n"
        "1000,2268318,2520377,pv,-1200000000\n"
        "1000,2268318,2520377,pv,2122867355\n"
    ),
}

ELEME_COLUMNS = (  # noqa: SIM905
    "label user_id gender visit_city avg_price is_supervip ctr_30 ord_30 total_amt_30 shop_id item_id "
    "city_id district_id shop_aoi_id shop_geohash_6 shop_geohash_12 brand_id category_1_id "
    "merge_standard_food_id rank_7 rank_30 rank_90 shop_id_list item_id_list category_1_id_list "
    "merge_standard_food_id_list brand_id_list price_list shop_aoi_id_list shop_geohash6_list "
    "timediff_list hours_list time_type_list weekdays_list times hours time_type weekdays geohash12"
).split()


def eleme_row(**cells: object) -> str:
    """One line of 39 cells, with the values of a plain row for those that are not given."""
    plain = dict.fromkeys(ELEME_COLUMNS, "") | {
        "label": 0,
        "user_id": "0007",
        "gender": 1,
        "visit_city": 3,
        "avg_price": 31.5,
        "is_supervip": 0,
        "ctr_30": 2,
        "ord_30": 1,
        "total_amt_30": 60.2,
        "shop_id": "s1",
        "item_id": "0012",
        "city_id": 3,
        "district_id": 7,
        "shop_aoi_id": 11,
        "shop_geohash_6": "wtw3sj",
        "shop_geohash_12": "wtw3sjq6n1x5",
        "brand_id": 5,
        "category_1_id": 9,
        "merge_standard_food_id": 77,
        "rank_7": 1,
        "rank_30": 2,
        "rank_90": 3,
        "times": 43_200,
        "hours": 12,
        "time_type": "lunch",
        "weekdays": 4,
        "geohash12": "wtw3sjq6n1x5",
    }
    row = plain | {name: cells[name] for name in cells}
    return ",".join(str(row[name]) for name in ELEME_COLUMNS)


_HISTORY = {
    "shop_id_list": "s1;s2;s3",
    "item_id_list": "0012;13;14",
    "category_1_id_list": "9;9;8",
    "merge_standard_food_id_list": "77;77;70",
    "brand_id_list": "5;;6",
    "price_list": "20;21;22",
    "shop_aoi_id_list": "11;11;12",
    "shop_geohash6_list": "wtw3sj;wtw3sj;wtw3sk",
    "timediff_list": "90000;4000;60",
    "hours_list": "11;11;12",
    "time_type_list": "lunch;lunch;lunch",
    "weekdays_list": "3;4;4",
}
ELEME = {
    "D1_0.csv": "".join(
        line + "\r\n"
        for line in (
            eleme_row(label=1, **_HISTORY),
            eleme_row(label=0, item_id="13", **_HISTORY),
            # No history, no profile, -1 for unknown values.
            eleme_row(
                user_id="08",
                gender=-99,
                city_id=-1,
                rank_7=-1,
                avg_price="",
                times=50_000,
                hours=13,
            ),
        )
    ),
    "D1_1.csv": eleme_row(
        label=1, user_id="9", **{name: ";" + v.split(";")[0] for name, v in _HISTORY.items()}
    )
    + "\n",
    # The last day is the test part: padding with 0, and the same user with a longer history.
    "D2_0.csv": "".join(
        line + "\n"
        for line in (
            eleme_row(label=1, **{name: v + ";0;0" for name, v in _HISTORY.items()}),
            eleme_row(label=0, user_id="08", item_id="99"),
        )
    ),
}

_KUAIRAND_LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,"
    "long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
KUAIRAND = {
    # date and hourmin disagree with time_ms; one exact repeat; two rows of one user in one second.
    "log_standard_4_08_to_4_21_pure.csv": _KUAIRAND_LOG
    + "1,10,20220408,0,1649347201500,1,0,0,0,0,0,1,61802,49866,0,0,0,0,1\n"
    + "1,11,20220407,2300,1649347201900,0,0,0,0,0,0,0,0,0,0,0,0,0,0\n"
    + "1,11,20220407,2300,1649347201900,0,0,0,0,0,0,0,0,0,0,0,0,0,0\n"
    + "2,10,20220409,1300,1649481000000,1,1,0,0,0,0,1,9000,8000,0,0,0,0,1\n",
    "log_standard_4_22_to_5_08_pure.csv": _KUAIRAND_LOG
    + "2,12,20220507,900,1651885200123,0,0,0,0,0,0,0,100,5000,0,0,0,0,4\n"
    + "1,12,20220508,1000,1651975200123,1,0,0,0,0,0,0,100,5000,0,0,0,0,4\n"
    + "3,10,20220508,1100,1651978800123,0,0,0,0,0,0,0,100,5000,0,0,0,0,14\n",
    "log_random_4_22_to_5_08_pure.csv": _KUAIRAND_LOG
    + "1,12,20220423,1000,1650679200000,0,0,0,0,0,0,0,100,5000,0,0,0,1,1\n",
    "user_features_pure.csv": (
        "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
        "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,"
        "register_days,register_days_range," + ",".join(f"onehot_feat{i}" for i in range(18)) + "\n"
        '1,full_active,0,0,1,514,500+,150,"[100,1k)",34,"[30,60)",799,730+,1,1,29,949,,0,0,14,135,6,3,0,,,,,,\n'
        '2,high_active,0,-124,1,457,"(250,500]",20,"[10,100)",3,"[1,5)",1474,730+,'
        "1,3,2,1160,4.0,0,0,31,283,6,2,2,1.0,0.0,1.0,0.0,0.0,0.0\n"
    ),
    "video_features_basic_pure.csv": (
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,"
        "server_height,music_id,music_type,tag\n"
        "10,7349781,NORMAL,2022-04-10,LongImport,0.0,87433.0,720.0,1280.0,9155697141,9.0,39\n"
        '11,2103883,NORMAL,2022-04-10,Kmovie,0.0,218066.0,720.0,1280.0,6355810746,9.0,"2,39"\n'
        "12,2103883,AD,2022-04-11,Web,0.0,,720.0,1280.0,0,,\n"
    ),
    "video_features_statistic_pure.csv": (
        "video_id,counts,show_cnt,long_view_rate\n10,102,2579.6,0.4\n11,136,4027.9,0.1\n12,3,10,0.9\n"
    ),
}

MIND = {
    "MINDsmall_train/behaviors.tsv": (
        "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0\n"
        "2\tU91836\t11/12/2019 6:11:30 PM\t\tN20678-0 N42782-1 N35729-0\n"
        "3\tU13740\t11/13/2019 12:00:00 AM\tN55189 N42782\tN20678-0 N99999-0\n"
    ),
    "MINDsmall_train/news.tsv": (
        'N55189\tlifestyle\tlifestyleroyals\tThe "Brands" Queen, and\t\thttps://x\t[]\t[]\n'
        'N42782\tsports\tnews\tA title with a "\tAbstract\thttps://x\t[{"Label": "a ""b"""}]\t[]\n'
        "N55689\tsports\tfootball_nfl\tCharles\tAbstract\thttps://x\t"
        '[{"Label": "Charles", "WikidataId": "Q43274"}, {"WikidataId": "Q1"}]\t[]\n'
        "N35729\tnews\tnewspolitics\tPorsche\tAbstract\thttps://x\t[]\t[]\n"
        'N20678\tnews\tnewsus\tA \ttab\tin the title\thttps://x\t[{"WikidataId": "Q31"}]\t[]\n'
    ),
    "MINDsmall_dev/behaviors.tsv": (
        "1\tU80234\t11/15/2019 12:37:50 PM\tN55189 N20678\tN35729-0 N88888-1\n"
        "2\tU13740\t11/15/2019 7:00:00 AM\tN55189 N42782\tN55689-0 N42782-1\n"
    ),
    "MINDsmall_dev/news.tsv": "N88888\tsports\tfootball_nfl\tNew\t\thttps://x\t[]\t[]\n",
}

LOGS: dict[str, dict[str, str | bytes]] = {
    "movielens": MOVIELENS,
    "movielens-100k": MOVIELENS_100K,
    "taobao-ads": TAOBAO_ADS,
    "taobao-userbehavior": TAOBAO_USERBEHAVIOR,
    "eleme": ELEME,
    "kuairand": KUAIRAND,
    "mind": MIND,
}


def write_raw(folder: Path, name: str, files: dict[str, str | bytes | None] | None = None) -> Path:
    """Write the files of data set `name` into `folder`; `files` replaces some, None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (LOGS[name] | (files or {})).items():
        if content is None:
            continue
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def import_raw(
    name: str,
    folder: Path,
    files: dict[str, str | bytes | None] | None = None,
    options: dict[str, str] | None = None,
    out: str = "out",
) -> EventStore:
    """Write the files of data set `name` as in `write_raw`, and import them into the store `folder / out`."""
    return import_logs(name, write_raw(folder / f"raw-{out}", name, files), folder / out, options)


def real_files(folder: str) -> Path:
    """Return the folder with the real files of a data set; skips the test if it does not exist."""
    if not (REAL / folder).is_dir():
        pytest.skip(f"the real files of {folder} are not here")
    return REAL / folder


def cells(store: EventStore, path: str) -> list[list[int]]:
    """Return the ids in each cell of a feature with several values."""
    lists = store.lists[path]
    ids, _ = lists.padded(np.arange(len(lists)))
    return [row[row > 0].tolist() for row in ids]


def history(store: EventStore, row: int) -> list[tuple[int, ...]]:
    """The events in the history of impression `row`: (time, ids ...), in the store's order."""
    rows = slice(store.offsets[store.user[row]], store.history_end[row])
    columns = [store.event_time, *store.behaviours.values()]
    return list(zip(*(column[rows].tolist() for column in columns), strict=True))


def assert_same_files(one: EventStore, other: EventStore) -> None:
    """Both stores have the same files, dataset.json included, with the same bytes."""
    contents = [
        {file.relative_to(store.path): file.read_bytes() for file in store.path.rglob("*.*")}
        for store in (one, other)
    ]
    assert contents[0].keys() == contents[1].keys()
    assert [name for name in contents[0] if contents[0][name] != contents[1][name]] == []
