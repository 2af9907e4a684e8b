"""MIND: news shown and clicked; a history is one fixed list per user, without times.

A user of the store is one (user, history) pair, so that each row has its own list if a user's lists differ.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.importers.declaration import Check, ListFeature, Log, Rows, Table
from scaling.importers.located_files import locate
from scaling.importers.split_options import CommonOptions
from scaling.importers.sql import PERSON
from scaling.importers.times import hour, weekday

__all__ = ["MindOptions", "mind"]


logger = logging.getLogger(__name__)

NEWS = ("item", "category", "subcategory", "entities")
MOST_ENTITIES = 4
TIME = "epoch(try_strptime(Time, '%m/%d/%Y %I:%M:%S %p'))::BIGINT"
NO_TAB = "\x1f"  # a separator that does not occur: SQL cuts the lines at the first tabs only


@dataclass(frozen=True)
class MindOptions(CommonOptions):
    """Options; the test part is the published development day."""

    test_from: str = "2019-11-15"


def mind(raw: Path, options: MindOptions) -> Log:
    """Return the log of every behaviors.tsv and news.tsv in `raw`, or in its folders for training and development.

    Raises:
        UserError: there is only the test set, which has no labels.
    """
    rows = f"""SELECT UserID || coalesce(' ' || md5(nullif(trim(History), '')), '') AS user, {TIME} AS time,
                      string_split(nullif(trim(History), ''), ' ') AS history,
                      unnest(string_split(trim(Impressions), ' ')) AS shown FROM behaviors"""
    # counted from the end, because a title may contain tabs; Wikidata's ids of what the title names
    entities = """array_to_string(regexp_extract_all(split_part(line, chr(9), -2), '"WikidataId": *"([^"]+)"', 1), ',')"""
    histories = f"SELECT user, any_value(history) AS history FROM ({rows}) GROUP BY user"
    return Log(
        tables=_tables(raw),
        impressions=Rows(
            f"""SELECT user, time, shown[:-3] AS item, shown[-1] = '1' AS label, {hour("time")} AS hour,
                       {weekday("time")} AS weekday FROM ({rows})"""
        ),
        # One second apart, the latest just before the first impression of the whole log.
        events=Rows(
            f"""SELECT user, first - (len(history) + 1 - position) AS time, history[position] AS item
                FROM (SELECT *, unnest(generate_series(1, len(history))) AS position FROM ({histories}), start)"""
        ),
        whole={"start": f"SELECT min({TIME}) AS first FROM behaviors"},
        items=rf"""SELECT split_part(line, chr(9), 1) AS item, min(split_part(line, chr(9), 2)) AS category,
                         min(split_part(line, chr(9), 3)) AS subcategory, min({entities}) AS entities FROM news GROUP BY item""",
        behaviour=NEWS,
        candidate=NEWS,
        context=("hour", "weekday"),
        split=options.parts(),
        min_count=options.min_count,
        lists={"entities": ListFeature(MOST_ENTITIES)},
        own_lists=True,
        person=PERSON,
    )


def _tables(raw: Path) -> dict[str, Table]:
    return {
        "behaviors": Table(
            _labelled(raw, "behaviors.tsv"),
            {
                "ImpressionID": "text",
                "UserID": "text",
                "Time": "text",
                "History": "text?",
                "Impressions": "text",
            },
            separator="\t",
            header=False,
            quote="",
            checks=(
                Check(
                    "Time",
                    f"{TIME} BETWEEN 1 AND 4102444799",
                    "a time such as 11/9/2019 9:05:58 AM",
                ),
                Check(
                    "Impressions",
                    r"regexp_full_match(Impressions, '\S+-[01]( \S+-[01])* *')",
                    "news ids, each with -0 or -1 at its end",
                ),
            ),
            drop_repeats=True,
            user="UserID",
        ),
        "news": Table(
            _labelled(raw, "news.tsv"),
            {"line": "text"},
            separator=NO_TAB,
            header=False,
            quote="",
            # A title may contain a tab, so only the fields before it are checked.
            checks=(
                Check(
                    "line",
                    r"regexp_matches(line, '^[^\t ]+\t[^\t]*\t[^\t]*\t')",
                    "a news id, a category, a subcategory, a title, ... separated by '\\t'",
                ),
            ),
        ),
    }


def _labelled(raw: Path, name: str) -> tuple[str, ...]:
    found = locate(raw, name)
    kept = tuple(file for file in found if "test" not in Path(file).parent.name.lower())
    for file in sorted({*found} - {*kept}):
        logger.info("%s: not used, the test set has no labels", raw / file)
    if not kept:
        raise UserError(
            f"{raw}: has only the test set, which has no labels; expected the training or the development set"
        )
    return kept
