"""KuaiRand (Pure, 1K, 27K): short videos; every exposure is an impression, and an event in later histories."""

import logging
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.importers.declaration import Check, ListFeature, Log, Rows, Table
from scaling.importers.located_files import locate
from scaling.importers.split_options import CommonOptions
from scaling.importers.times import hour, weekday

__all__ = ["KuaiRandOptions", "kuairand"]


logger = logging.getLogger(__name__)

ZONE = 8 * 3600  # Asia/Shanghai
LABELS = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view")
LOG = {
    "user_id": "int",
    "video_id": "int",
    "date": "text",
    "hourmin": "text",
    "time_ms": "int",
    **dict.fromkeys(LABELS, "int"),
    "play_time_ms": "text?",
    "duration_ms": "int?",
    "profile_stay_time": "text?",
    "comment_stay_time": "text?",
    "is_profile_enter": "text?",
    "is_rand": "text?",
    "tab": "text",
}
PROFILE = (
    "user_active_degree",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
)
VIDEO = ("author", "video_type", "upload_type", "music_type", "tags")
MOST_TAGS = 4
STATISTICS = {
    "log_shown": "ln(1 + show_cnt)",
    "play_rate": "play_cnt / show_cnt",
    "valid_play_rate": "valid_play_cnt / show_cnt",
    "like_rate": "like_cnt / show_cnt",
}


@dataclass(frozen=True)
class KuaiRandOptions(CommonOptions):
    """Options of the importer.

    Attributes:
        label: the column that is the label: is_click, long_view, is_like, ...
        random_log: also import the log of randomly chosen videos, which was recorded beside the standard one.
        statistics: "no", or "leak" to use video_features_statistic in spite of the leak: these numbers cover the
            whole month, including the test part.
    """

    test_from: str = "2022-05-07"
    label: str = "is_click"
    random_log: bool = False
    statistics: str = "no"

    def __post_init__(self) -> None:
        """Refuse an unknown label, and statistics from the future unless the option says so."""
        super().__post_init__()
        if self.label not in LABELS:
            raise UserError(f"option label is {self.label!r}, expected one of {', '.join(LABELS)}")
        if self.statistics not in ("no", "leak"):
            raise UserError(
                f"option statistics: {self.statistics!r}: video_features_statistic is computed over the whole month and "
                "leaks the test part into the features; expected no, or leak to use it in spite of that"
            )


def kuairand(raw: Path, options: KuaiRandOptions) -> Log:
    """Return the log of log_standard_*, user_features_* and video_features_basic_* in `raw`."""
    tables = _tables(raw, options)
    numbers, join = "", ""
    statistics = locate(raw, "video_features_statistic_*.csv")
    if options.statistics == "leak":
        columns = ("show_cnt", "play_cnt", "valid_play_cnt", "like_cnt")
        tables["statistics"] = Table(
            statistics,
            {"video_id": "int", **dict.fromkeys(columns, "float?")},
            key=("video_id",),
        )
        numbers = "".join(
            f", coalesce(CASE WHEN show_cnt > 0 THEN {sql} END, 0) AS {name}"
            for name, sql in STATISTICS.items()
        )
        join = "LEFT JOIN statistics USING (video_id)"
    elif (raw / statistics[0]).is_file():
        logger.info("%s: not used, its numbers cover the whole month", raw / statistics[0])
    time = "time_ms // 1000"
    return Log(
        tables=tables,
        impressions=Rows(
            f"""SELECT user_id AS user, {time} AS time, video_id AS item, {options.label} AS label, tab,
                       {hour(time, ZONE)} AS hour, {weekday(time, ZONE)} AS weekday,
                       CASE WHEN duration_ms > 0 THEN floor(2 * log2(duration_ms / 1000))::INTEGER END AS duration,
                       CASE WHEN is_hate = 1 THEN 'hated'
                            WHEN is_like + is_follow + is_comment + is_forward > 0 THEN 'engaged'
                            WHEN long_view = 1 THEN 'watched' WHEN is_click = 1 THEN 'clicked' ELSE 'shown' END AS action
                       {numbers}
                FROM log {join}"""
        ),
        users=f"""SELECT user_id AS user, {", ".join(PROFILE).replace("is_live_streamer", "nullif(is_live_streamer, '-124') AS is_live_streamer")}
                  FROM users""",
        items="""SELECT video_id AS item, author_id AS author, video_type, upload_type, music_type,
                        tag AS tags FROM videos""",
        behaviour=("item", "author", "tags", "action"),
        candidate=("item", *VIDEO, "duration"),
        context=("tab", "hour", "weekday"),
        profile=PROFILE,
        numeric=tuple(STATISTICS) if numbers else (),
        lists={"tags": ListFeature(MOST_TAGS, ",")},
        vocabularies={"tags": "tag"},
        split=options.parts(ZONE),
        min_count=options.min_count,
        utc_offset_seconds=ZONE,
    )


def _tables(raw: Path, options: KuaiRandOptions) -> dict[str, Table]:
    """Return the tables of every import; the statistics are not among them."""
    logs = locate(raw, "log_standard_*.csv")
    if options.random_log:
        logs += locate(raw, "log_random_*.csv")
    return {
        "log": Table(
            logs,
            LOG,
            checks=(
                Check("time_ms", "time_ms BETWEEN 1e12 AND 4e12", "ms since 1970, 13 digits"),
                *(Check(name, f"{name} IN (0, 1)", "0 or 1") for name in LABELS),
            ),
            drop_repeats=True,
            user="user_id",
        ),
        "users": Table(
            locate(raw, "user_features_*.csv"),
            {"user_id": "int", **dict.fromkeys(PROFILE, "text?")},
            key=("user_id",),
            user="user_id",
        ),
        "videos": Table(
            locate(raw, "video_features_basic_*.csv"),
            {
                "video_id": "int",
                **dict.fromkeys(
                    ("author_id", "video_type", "upload_type", "music_type", "tag"), "text?"
                ),
            },
            key=("video_id",),
        ),
    }
