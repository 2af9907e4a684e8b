"""The two Taobao logs: display ads with the users' behaviour, and UserBehavior, which has no impressions."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

from scaling.errors import UserError
from scaling.importers.declaration import Check, Log, Negatives, Rows, Table
from scaling.importers.located_files import column_called, locate
from scaling.importers.split_options import CommonOptions
from scaling.importers.times import check_time, hour, weekday

__all__ = ["TaobaoAdsOptions", "UserBehaviorOptions", "taobao_ads", "taobao_userbehavior"]


ZONE = 8 * 3600  # Asia/Shanghai, without summer time
PROFILE = (
    "cms_segid",
    "cms_group_id",
    "final_gender_code",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
)


@dataclass(frozen=True)
class TaobaoAdsOptions(CommonOptions):
    """Options; the test part is the last day, as in the split of the data set's authors.

    Attributes:
        first_day, last_day: days of the behaviour log; rows of other days are dropped.
    """

    test_from: str = "2017-05-13"
    first_day: str = "2017-04-22"
    last_day: str = "2017-05-13"

    def __post_init__(self) -> None:
        """Refuse invalid days."""
        super().__post_init__()
        _span(self.first_day, self.last_day)


@dataclass(frozen=True)
class UserBehaviorOptions(CommonOptions):
    """Options; the test part is the last day.

    Attributes:
        positive: the behaviour that counts as a click: pv, buy, cart, fav or all.
        negatives: number of items drawn for each click.
        draw: "popularity" or "uniform".
        seed: seed of the draws.
        first_day, last_day: days of the log; rows of other days are dropped.
    """

    test_from: str = "2017-12-03"
    positive: str = "pv"
    negatives: int = 4
    draw: Literal["popularity", "uniform"] = "popularity"
    seed: int = 0
    first_day: str = "2017-11-25"
    last_day: str = "2017-12-03"

    def __post_init__(self) -> None:
        """Refuse invalid days, names and numbers."""
        super().__post_init__()
        _span(self.first_day, self.last_day)
        if self.positive not in ("pv", "buy", "cart", "fav", "all"):
            raise UserError(
                f"option positive is {self.positive!r}, expected pv, buy, cart, fav or all"
            )
        if self.draw not in ("popularity", "uniform"):
            raise UserError(f"option draw is {self.draw!r}, expected popularity or uniform")
        if self.negatives < 1:
            raise UserError(f"option negatives is {self.negatives}, expected 1 or more")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"option seed is {self.seed}, expected 0 or more, below 2^63")


def taobao_ads(raw: Path, options: TaobaoAdsOptions) -> Log:
    """Return the log of raw_sample, ad_feature, user_profile and behavior_log in `raw`.

    The published files and the data set's web page name some columns differently; both names are accepted.
    """
    samples, behaviours = locate(raw, "raw_sample.csv"), locate(raw, "behavior_log.csv")
    ads, profiles = locate(raw, "ad_feature.csv"), locate(raw, "user_profile.csv")
    user, other = (
        column_called(raw, files, "user", "user_id", "userid") for files in (samples, behaviours)
    )
    owner = column_called(raw, profiles, "userid", "user_id", "user")
    nonclk = column_called(raw, samples, "nonclk", "noclk")
    tables = {
        "raw_sample": _sample_table(samples, user, nonclk),
        "ad_feature": Table(
            ads,
            {
                "adgroup_id": "int",
                **dict.fromkeys(("cate_id", "campaign_id", "customer", "brand"), "text?"),
                "price": "float?",
            },
            key=("adgroup_id",),
        ),
        "user_profile": Table(
            profiles,
            {owner: "int", **dict.fromkeys(PROFILE, "text?")},
            key=(owner,),
            user=owner,
        ),
        "behavior_log": _behaviour_table(behaviours, other, options),
    }
    return Log(
        tables=tables,
        impressions=Rows(
            f"""SELECT s.{user} AS user, time_stamp AS time, s.adgroup_id AS item, clk AS label, pid,
                       {hour("time_stamp", ZONE)} AS hour, {weekday("time_stamp", ZONE)} AS weekday,
                       ln(1 + greatest(coalesce(a.price, 0), 0)) AS log_price
                FROM raw_sample s LEFT JOIN ad_feature a ON a.adgroup_id = s.adgroup_id"""
        ),
        events=Rows(
            f"""SELECT {other} AS user, time_stamp AS time, cate AS category, nullif(brand, 'NULL') AS brand,
                       CASE btag WHEN 'ipv' THEN 'pv' ELSE btag END AS action
                FROM behavior_log"""
        ),
        users=f"SELECT {owner} AS user, {', '.join(PROFILE)} FROM user_profile",
        items="""SELECT adgroup_id AS item, cate_id AS category, nullif(brand, 'NULL') AS brand,
                        campaign_id AS campaign, customer FROM ad_feature""",
        behaviour=("category", "brand", "action"),
        candidate=("item", "category", "brand", "campaign", "customer"),
        context=("pid", "hour", "weekday"),
        profile=PROFILE,
        numeric=("log_price",),
        split=options.parts(ZONE),
        min_count=options.min_count,
        utc_offset_seconds=ZONE,
    )


def _sample_table(files: tuple[str, ...], user: str, nonclk: str) -> Table:
    return Table(
        files,
        {
            user: "int",
            "time_stamp": "int",
            "adgroup_id": "int",
            "pid": "text?",
            nonclk: "int",
            "clk": "int",
        },
        checks=(
            check_time("time_stamp"),
            Check("clk", "clk IN (0, 1)", "0 or 1"),
            Check(nonclk, f"{nonclk} = 1 - clk", "1 minus clk"),
        ),
        drop_repeats=True,
        user=user,
    )


def _behaviour_table(files: tuple[str, ...], user: str, options: TaobaoAdsOptions) -> Table:
    return Table(
        files,
        {user: "int", "time_stamp": "int", "btag": "text", "cate": "text?", "brand": "text?"},
        drop=_outside("time_stamp", options.first_day, options.last_day),
        checks=(
            Check("btag", "btag IN ('pv', 'ipv', 'cart', 'fav', 'buy')", "pv, cart, fav or buy"),
        ),
        drop_repeats=True,
        user=user,
    )


def taobao_userbehavior(raw: Path, options: UserBehaviorOptions) -> Log:
    """Return the log of UserBehavior.csv in `raw`, with sampled negatives."""
    table = Table(
        locate(raw, "UserBehavior.csv"),
        {"user": "int", "item": "int", "category": "text", "behaviour": "text", "timestamp": "int"},
        header=False,
        drop=_outside("timestamp", options.first_day, options.last_day),
        checks=(
            Check("behaviour", "behaviour IN ('pv', 'buy', 'cart', 'fav')", "pv, buy, cart or fav"),
        ),
        drop_repeats=True,
        user='"user"',
    )
    other = (
        {}
        if options.positive == "all"
        else {f"behaviour is not {options.positive}": f"behaviour != '{options.positive}'"}
    )
    time = "timestamp"
    return Log(
        tables={"behaviours": table},
        impressions=Rows(
            f"""SELECT user, {time} AS time, item, behaviour, {hour(time, ZONE)} AS hour,
                       {weekday(time, ZONE)} AS weekday FROM behaviours""",
            drop=other,
        ),
        events=Rows(f"SELECT user, {time} AS time, item, behaviour AS action FROM behaviours"),
        # A few items have two categories.
        items="SELECT item, min(category) AS category FROM behaviours GROUP BY item",
        behaviour=("item", "category", "action"),
        candidate=("item", "category"),
        context=("hour", "weekday"),
        split=options.parts(ZONE),
        min_count=options.min_count,
        utc_offset_seconds=ZONE,
        negatives=Negatives(options.negatives, options.draw, options.seed),
    )


def _outside(column: str, first_day: str, last_day: str) -> dict[str, str]:
    start, stop = _span(first_day, last_day)
    return {f"outside {first_day} to {last_day}": f"{column} < {start} OR {column} >= {stop}"}


def _span(first_day: str, last_day: str) -> tuple[int, int]:
    """Return the first second of the first day, and the first second after the last day, in Shanghai (unix time)."""
    try:
        first, last = date.fromisoformat(first_day), date.fromisoformat(last_day)
    except ValueError as error:
        raise UserError(
            f"options first_day and last_day: {error}, expected dates such as 2017-05-06"
        ) from error
    if last < first:
        raise UserError(
            f"options first_day and last_day: {last_day} is before {first_day}, expected it on or after that day"
        )
    midnights = (datetime(d.year, d.month, d.day, tzinfo=UTC) for d in (first, last + timedelta(1)))
    start, stop = (int(midnight.timestamp()) - ZONE for midnight in midnights)
    return start, stop
