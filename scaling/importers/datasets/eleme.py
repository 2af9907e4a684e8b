"""Ele.me: 39 columns without a header; each impression has its user's history as lists, and no row has a date.

A store has one history per user, so here each combination of user, history and profile is a user of the store. Rows
with the same lists share them, and no row can see the list of another. docs/data/eleme.md explains how times are derived.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

from scaling.errors import UserError
from scaling.importers.declaration import Check, Log, Rows, Table, TimeSplit, UserSplit
from scaling.importers.located_files import locate
from scaling.importers.split_options import CommonOptions

__all__ = ["ElemeOptions", "eleme"]


ZONE = 8 * 3600  # Asia/Shanghai
PROFILE = ("gender", "visit_city", "is_supervip", "ctr_30", "ord_30")
LISTS = (
    "shop_id_list",
    "item_id_list",
    "category_1_id_list",
    "merge_standard_food_id_list",
    "brand_id_list",
    "price_list",
    "shop_aoi_id_list",
    "shop_geohash6_list",
    "timediff_list",
    "hours_list",
    "time_type_list",
    "weekdays_list",
)
# The event of the released model: shop, item, category, area of interest and hour.
TOKEN = {
    "shop": "shop_id_list",
    "item": "item_id_list",
    "category": "category_1_id_list",
    "aoi": "shop_aoi_id_list",
    "hour": "hours_list",
}
COLUMNS = {
    "label": "int",
    "user_id": "text",
    "gender": "text?",
    "visit_city": "text?",
    "avg_price": "float?",
    "is_supervip": "text?",
    "ctr_30": "text?",
    "ord_30": "text?",
    "total_amt_30": "float?",
    **dict.fromkeys(("shop_id", "item_id", "city_id", "district_id", "shop_aoi_id"), "text?"),
    **dict.fromkeys(("shop_geohash_6", "shop_geohash_12", "brand_id", "category_1_id"), "text?"),
    **dict.fromkeys(("merge_standard_food_id", "rank_7", "rank_30", "rank_90"), "text?"),
    **dict.fromkeys(LISTS, "text?"),
    "times": "text?",
    "hours": "int",
    "time_type": "text?",
    "weekdays": "text?",
    "geohash12": "text?",
    "file": "file",
}
UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600}
TEN_YEARS = 315_360_000


@dataclass(frozen=True)
class ElemeOptions(CommonOptions):
    """Options; the test part is the last day unless `test_from` or `test_fraction` is given.

    Attributes:
        first_day: date of the files D1_*; the rows have no date.
        timediff: unit of timediff_list: ms, s, min or h.
    """

    first_day: str = "2022-04-01"
    timediff: str = "s"

    def __post_init__(self) -> None:
        """Refuse an invalid day or unit."""
        super().__post_init__()
        try:
            date.fromisoformat(self.first_day)
        except ValueError as error:
            raise UserError(
                f"option first_day: {error}, expected a date such as 2022-04-01"
            ) from error
        if self.timediff not in UNITS:
            raise UserError(
                f"option timediff is {self.timediff!r}, expected one of {', '.join(UNITS)}"
            )

    def midnight(self, day: int) -> int:
        """Return the first second (unix time) of day D`day` in Shanghai."""
        first = date.fromisoformat(self.first_day)
        start = datetime(first.year, first.month, first.day, tzinfo=UTC)
        return int(start.timestamp()) - ZONE + (day - 1) * 86_400


def eleme(raw: Path, options: ElemeOptions) -> Log:
    """Return the log of the files D1_0.csv, D1_1.csv, ... in `raw`.

    Raises:
        UserError: the name of a file has no day.
    """
    files = locate(raw, "D[0-9]*_[0-9]*.csv")
    days = [
        int(found[1]) for file in files if (found := re.match(r"D(\d+)_\d+\.csv", Path(file).name))
    ]
    if len(days) < len(files):
        raise UserError(
            f"{raw}: expected files D1_0.csv, D1_1.csv, ...: the number after D is the day"
        )
    rows = Table(
        files,
        COLUMNS,
        header=False,
        checks=(
            Check("label", "label IN (0, 1)", "0 or 1"),
            Check("hours", "hours BETWEEN 0 AND 23", "an hour, 0 to 23"),
            Check("times", "NOT coalesce(starts_with(times, '-'), false)", "a time"),
        ),
        drop_repeats=True,
        user="user_id",
    )
    return Log(
        tables={"rows": rows},
        impressions=Rows(f"SELECT {_impression()} FROM ({_timed(options)})"),
        events=Rows(_events(options)),
        users=f"SELECT user, {_profile()} FROM ({_timed(options)}) GROUP BY user",
        behaviour=tuple(TOKEN),
        candidate=(
            "shop",
            "item",
            "category",
            "aoi",
            "brand",
            "food",
            "rank_7",
            "rank_30",
            "rank_90",
        ),
        context=("hour", "weekday", "time_type", "city", "district", "geohash"),
        profile=PROFILE,
        numeric=("log_avg_price", "log_amount"),
        split=_parts(options, days),
        min_count=options.min_count,
        own_lists=True,
        person="regexp_replace(user, ' [0-9a-f]{32}$', '')",
        utc_offset_seconds=ZONE,
    )


def _parts(options: ElemeOptions, days: list[int]) -> TimeSplit | UserSplit:
    default = ElemeOptions()
    is_given = options.test_from or options.test_fraction != default.test_fraction
    if options.split == "user" or is_given or len(set(days)) < 2:
        return replace(options).parts(ZONE)
    return TimeSplit(boundary=options.midnight(max(days)))


def _timed(options: ElemeOptions) -> str:
    """Return a SELECT of the rows with `time` and `user`; rows with the same user, lists and profile share a `user`."""
    # `times` is a moment or a time of day in one of several formats; it counts only if its hour equals `hours`.
    clock = f"""coalesce(
        CASE WHEN TRY_CAST(times AS BIGINT) >= 1e12 THEN (TRY_CAST(times AS BIGINT) // 1000 + {ZONE}) % 86400
             WHEN TRY_CAST(times AS BIGINT) >= 1e9 THEN (TRY_CAST(times AS BIGINT) + {ZONE}) % 86400
             ELSE TRY_CAST(times AS BIGINT) END,
        epoch(TRY_CAST(times AS TIMESTAMP))::BIGINT % 86400,
        epoch(TRY_CAST(times AS TIME))::BIGINT)"""
    day = "regexp_extract(file, 'D([0-9]+)_', 1)::BIGINT"
    known = " || ';' || ".join(f"coalesce({column}, '')" for column in (*TOKEN.values(), *PROFILE))
    has_history = " || ".join(f"coalesce({column}, '')" for column in TOKEN.values())
    return f"""
        SELECT *, {options.midnight(1)} + ({day} - 1) * 86400
                  + CASE WHEN clock // 3600 = hours THEN clock ELSE hours * 3600 END AS time
        FROM (SELECT *, {clock} AS clock, user_id || ' ' || md5({known}) AS user, {has_history} != '' AS has_history
              FROM rows)"""


def _profile() -> str:
    """Return the columns of the users; all rows of a user have the same values. -99 and -1 mean unknown."""
    known = (f"nullif(nullif(any_value({c}), '-99'), '-1') AS {c}" for c in PROFILE)
    return ", ".join(known)


def _impression() -> str:
    """Return the columns of the impressions; in places and ranks, -1 means unknown."""

    def known(column: str) -> str:
        return f"nullif({column}, '-1')"

    return f"""user, time, label, shop_id AS shop, item_id AS item, category_1_id AS category,
        {known("shop_aoi_id")} AS aoi, brand_id AS brand, merge_standard_food_id AS food, {known("rank_7")} AS rank_7,
        {known("rank_30")} AS rank_30, {known("rank_90")} AS rank_90, hours::VARCHAR AS hour, weekdays AS weekday,
        time_type, {known("city_id")} AS city, {known("district_id")} AS district,
        {known("shop_geohash_6")} AS geohash,
        ln(1 + greatest(coalesce(avg_price, 0), 0)) AS log_avg_price,
        ln(1 + greatest(coalesce(total_amt_30, 0), 0)) AS log_amount"""


def _events(options: ElemeOptions) -> str:
    """Return a SELECT of the entries of the lists, oldest first, each in a different second before the first impression.

    The entry with rank r, counted from 0 at the end, is `timediff` before the user's first impression, but at least
    r + 1 seconds before it and at least one second before the next entry. A list shorter than the longest list of
    its row is aligned at the end. An entry that is empty or 0 in every list is padding and is dropped.
    """
    longest = f"greatest({', '.join(f'coalesce(len({_split(column)}), 0)' for column in LISTS)})"
    entries = ", ".join(f"{_entry(column)} AS {name}" for name, column in TOKEN.items())
    some = " OR ".join(f"nullif({name}, '0') IS NOT NULL" for name in TOKEN if name != "hour")
    difference = f"coalesce(abs(TRY_CAST({_entry('timediff_list')} AS DOUBLE)), 0)"
    seconds = f"least({difference} * {UNITS[options.timediff]}, {TEN_YEARS})"
    first = f"""SELECT * FROM ({_timed(options)}) WHERE has_history
                QUALIFY row_number() OVER (PARTITION BY user ORDER BY time, timediff_list) = 1"""
    return f"""
        SELECT user, time - rank - greatest(max(ago - rank) OVER (PARTITION BY user ORDER BY rank), 1)::BIGINT AS time,
               * EXCLUDE (user, time, ago, rank)
        FROM (SELECT user, time, row_number() OVER (PARTITION BY user ORDER BY position DESC) - 1 AS rank,
                     ago, {", ".join(TOKEN)}
              FROM (SELECT user, time, position, {seconds} AS ago, {entries}
                    FROM (SELECT *, unnest(generate_series(1, n)) AS position FROM (SELECT *, {longest} AS n FROM ({first}))))
              WHERE {some})"""


def _split(column: str) -> str:
    return f"string_split(nullif({column}, ''), ';')"


def _entry(column: str) -> str:
    """Return SQL for the entry at `position` of `n` in a list that is aligned at the end."""
    return f"nullif(trim({_split(column)}[position - n + len({_split(column)})]), '')"
