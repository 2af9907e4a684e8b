"""MovieLens 1M: every rating is an impression (a click if it is high) and an event in the user's later histories.

The user's id is not a feature, because in the MovieLens data sets it reveals when the user joined.
"""

import gzip
import hashlib
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scaling.errors import UserError
from scaling.importers.declaration import Check, ListFeature, Log, Rows, Table
from scaling.importers.located_files import locate
from scaling.importers.raw_files import find_files
from scaling.importers.split_options import CommonOptions
from scaling.importers.times import check_time, hour, weekday

__all__ = ["MOST_GENRES", "MOVIE", "MovieLens1MOptions", "movielens_1m", "plain_table"]


logger = logging.getLogger(__name__)

# `git hash-object ratings.dat` of the file that GroupLens published.
PUBLISHED_RATINGS = "77a7c4b150f588c23bb9e1f068aa996c0b413695"
MOVIE = ("item", "genres", "year")
# A movie of the early sets has at most this many genres.
MOST_GENRES = 6


@dataclass(frozen=True)
class MovieLens1MOptions(CommonOptions):
    """Options of the importer.

    Attributes:
        min_rating: lowest rating that counts as a click, 2 to 5.
    """

    min_rating: int = 4

    def __post_init__(self) -> None:
        """Refuse a threshold that leaves only one class."""
        super().__post_init__()
        if not 2 <= self.min_rating <= 5:
            raise UserError(f"option min_rating is {self.min_rating}, expected 2 to 5")


def movielens_1m(raw: Path, options: MovieLens1MOptions) -> Log:
    """Return the log of ratings.dat, users.dat and movies.dat in `raw`."""
    table = partial(plain_table, raw, separator="::")
    ratings = table(
        "ratings.dat",
        {"UserID": "int", "MovieID": "int", "Rating": "int", "Timestamp": "int"},
        checks=(Check("Rating", "Rating BETWEEN 1 AND 5", "1 to 5"), check_time("Timestamp")),
        drop_repeats=True,
        user="UserID",
    )
    users = table(
        "users.dat",
        {
            "UserID": "int",
            "Gender": "text?",
            "Age": "text?",
            "Occupation": "text?",
            "Zip-code": "text?",
        },
        key=("UserID",),
        user="UserID",
    )
    movies = table(
        "movies.dat", {"MovieID": "int", "Title": "text?", "Genres": "text?"}, key=("MovieID",)
    )
    return Log(
        tables={"ratings": ratings, "users": users, "movies": movies},
        impressions=Rows(
            f"""SELECT UserID AS user, Timestamp AS time, MovieID AS item, Rating AS rating,
                       Rating >= {options.min_rating} AS label, {hour("Timestamp")} AS hour,
                       {weekday("Timestamp")} AS weekday
                FROM ratings"""
        ),
        # The first digit of a zip code is a region of the USA.
        users="""SELECT UserID AS user, Gender AS gender, Age AS age, Occupation AS occupation,
                        "Zip-code"[1] AS region FROM users""",
        items=r"""SELECT MovieID AS item, Genres AS genres,
                         TRY_CAST(regexp_extract(Title, '\((\d{4})\)\s*$', 1) AS INTEGER) // 5 * 5 AS year
                  FROM movies""",
        behaviour=(*MOVIE, "rating"),
        candidate=MOVIE,
        context=("hour", "weekday"),
        profile=("gender", "age", "occupation", "region"),
        lists={"genres": ListFeature(MOST_GENRES, "|")},
        vocabularies={"genres": "genre"},
        split=options.parts(),
        min_count=options.min_count,
        facts={"is_published_file": _is_published(raw)},
    )


def plain_table(
    raw: Path, file: str, columns: dict[str, str], *, separator: str, **rules: Any
) -> Table:
    """Return a table of the early MovieLens sets: latin-1, without header and quotes."""
    return Table(
        locate(raw, file),
        columns,
        separator=separator,
        header=False,
        quote="",
        encoding="latin-1",
        **rules,
    )


def _is_published(raw: Path) -> bool:
    """Whether ratings.dat is byte for byte the published file; logs a warning if it is not."""
    file = find_files(raw, locate(raw, "ratings.dat"))[0].path
    blob = ""
    if file.suffix in ("", ".dat", ".gz"):
        try:
            content = (
                gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            )
        except (OSError, EOFError):
            return False  # reading the table later reports the damage
        blob = hashlib.sha1(
            b"blob %d\0" % len(content) + content, usedforsecurity=False
        ).hexdigest()
    if blob != PUBLISHED_RATINGS:
        logger.warning(
            "%s: is not the file that GroupLens published; say so when you report results", file
        )
    return blob == PUBLISHED_RATINGS
