"""VK-LSVD: short videos shown, by weeks; the rows of a week are in the order of their times, which are not told."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from scaling.errors import UserError, nearest
from scaling.importers.declaration import Check, Log, Rows, Table, TimeSplit, UserSplit
from scaling.importers.located_files import locate
from scaling.importers.split_options import CommonOptions
from scaling.importers.sql import quoted

__all__ = ["VkLsvdOptions", "vk_lsvd"]


WEEK = 7 * 86_400
WEEKS = "week_*.parquet"
# The start of week 0 in a store; the data do not tell the real day.
EPOCH = 1_735_689_600  # 2025-01-01
Answer = Literal["like", "dislike", "share", "bookmark", "click_on_author", "open_comments"]


@dataclass(frozen=True)
class VkLsvdOptions(CommonOptions):
    """Options.

    Attributes:
        label: what counts as a click: like, dislike, share, bookmark, click_on_author or open_comments.
        test_week: the first week of the test part, as in the files' names; -1: the last week that is there; -2: as
            `test_fraction` or `test_from` say.
    """

    label: str = "like"
    test_week: int = -1

    def __post_init__(self) -> None:
        """Refuse a label that the log does not have."""
        super().__post_init__()
        if self.label not in get_args(Answer):
            raise UserError(
                f"option label is {self.label!r}{nearest(self.label, get_args(Answer))}"
            )
        if self.test_week < -2:
            raise UserError(f"option test_week is {self.test_week}, expected -2 or more")


def vk_lsvd(raw: Path, options: VkLsvdOptions) -> Log:
    """Return the log of all weeks in `raw`; the metadata of users and videos are used if they are there.

    Raises:
        UserError: a file has no week in its name.
    """
    weeks, label = locate(raw, WEEKS), quoted(options.label)
    tables = {
        "interactions": Table(
            weeks,
            {
                "user_id": "text",
                "item_id": "text",
                "place": "text?",
                "platform": "text?",
                "agent": "text?",
                "timespent": "int",
                options.label: "int",
                "file": "file",
                "row": "row",
            },
            checks=(
                Check(options.label, f"{label} IN (0, 1)", "true or false"),
                Check("timespent", "timespent >= 0", "seconds of at least 0"),
            ),
            user="user_id",
        )
    }
    items = _metadata(raw, "items_metadata.parquet")
    users = _metadata(raw, "users_metadata.parquet")
    of_item: tuple[str, ...] = ()
    of_user: tuple[str, ...] = ()
    if items is not None:
        tables["videos"] = Table(
            (items,), {"item_id": "text", "author_id": "text?", "duration": "text?"}
        )
        of_item = ("author", "duration")
    if users is not None:
        columns = {"user_id": "text", "age": "text?", "gender": "text?", "geo": "text?"}
        tables["people"] = Table((users,), columns, key=("user_id",), user="user_id")
        of_user = ("age", "gender", "geo")
    week = "regexp_extract(file, 'week_([0-9]+)', 1)::BIGINT"
    # spread evenly over the week, in the order of the rows
    time = f"{EPOCH} + {WEEK} * {week} + (r.row - f.first) * {WEEK} // f.n"
    return Log(
        tables=tables,
        impressions=Rows(
            f"""SELECT user_id AS user, {time} AS time, item_id AS item, {label} AS label, place, platform, agent,
                       CASE WHEN {label} = 1 THEN 'yes' WHEN timespent = 0 THEN 'skipped' ELSE 'seen' END AS answer
                FROM interactions r JOIN weeks f USING (file)"""
        ),
        whole={
            "weeks": "SELECT file, min(row) AS first, count(*) AS n FROM interactions GROUP BY file"
        },
        users="SELECT user_id AS user, age, gender, geo FROM people" if of_user else None,
        items="SELECT item_id AS item, author_id AS author, duration FROM videos"
        if of_item
        else None,
        behaviour=("item", *of_item, "answer"),
        candidate=("item", *of_item),
        context=("place", "platform", "agent"),
        profile=of_user,
        split=_split(options, weeks),
        min_count=options.min_count,
    )


def _split(options: VkLsvdOptions, weeks: tuple[str, ...]) -> TimeSplit | UserSplit:
    if options.split == "user" or options.test_week == -2:
        return options.parts()
    numbers = [re.search(r"week_(\d+)", Path(file).name) for file in weeks]
    if weeks == (WEEKS,):  # reading the files says that they are missing
        return TimeSplit(boundary=EPOCH)
    if not all(numbers):
        raise UserError(f"{weeks[0]}: no week in the name, expected names such as week_07.parquet")
    last = max(int(found[1]) for found in numbers if found)
    week = last if options.test_week == -1 else options.test_week
    return TimeSplit(boundary=EPOCH + WEEK * week)


def _metadata(raw: Path, name: str) -> str | None:
    """The file in `raw`, up to two folders below, or beside the folder of a subsample."""
    (found, *_) = locate(raw, name)
    if (raw / found).is_file():
        return found
    for above in ("..", "../..", "../../.."):
        for folder in ("", "metadata"):
            if (raw / above / folder / name).is_file():
                return str(Path(above) / folder / name)
    return None
