"""MovieLens 20M, 25M, 32M and latest: CSV with headers and half stars, without a file of users."""

from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.importers.datasets.movielens_1m import MOVIE
from scaling.importers.declaration import Check, ListFeature, Log, Rows, Table
from scaling.importers.located_files import locate
from scaling.importers.split_options import CommonOptions
from scaling.importers.times import check_time, hour, weekday

__all__ = ["MovieLensOptions", "movielens"]


# A movie of the later sets has at most this many genres.
MOST_GENRES = 10


@dataclass(frozen=True)
class MovieLensOptions(CommonOptions):
    """Options of the importer.

    Attributes:
        min_rating: lowest rating that counts as a click, 1 to 5 in half stars.
    """

    min_rating: float = 4.0

    def __post_init__(self) -> None:
        """Refuse a threshold that leaves only one class."""
        super().__post_init__()
        if not 1 <= self.min_rating <= 5:
            raise UserError(f"option min_rating is {self.min_rating}, expected 1 to 5")


def movielens(raw: Path, options: MovieLensOptions) -> Log:
    """Return the log of ratings.csv and movies.csv in `raw`."""
    ratings = Table(
        locate(raw, "ratings.csv"),
        {"userId": "int", "movieId": "int", "rating": "float", "timestamp": "int"},
        checks=(
            Check(
                "rating",
                "rating BETWEEN 0.5 AND 5 AND rating * 2 = trunc(rating * 2)",
                "0.5 to 5 in half stars",
            ),
            check_time("timestamp"),
        ),
        drop_repeats=True,
        user="userId",
    )
    movies = Table(
        locate(raw, "movies.csv"),
        {"movieId": "int", "title": "text?", "genres": "text?"},
        key=("movieId",),
    )
    return Log(
        tables={"ratings": ratings, "movies": movies},
        impressions=Rows(
            f"""SELECT userId AS user, timestamp AS time, movieId AS item, (rating * 2)::INTEGER AS half_stars,
                       rating >= {options.min_rating} AS label, {hour("timestamp")} AS hour,
                       {weekday("timestamp")} AS weekday
                FROM ratings"""
        ),
        items=r"""SELECT movieId AS item, nullif(genres, '(no genres listed)') AS genres,
                         TRY_CAST(regexp_extract(title, '\((\d{4})\)\s*$', 1) AS INTEGER) // 5 * 5 AS year
                  FROM movies""",
        behaviour=(*MOVIE, "half_stars"),
        candidate=MOVIE,
        context=("hour", "weekday"),
        lists={"genres": ListFeature(MOST_GENRES, "|")},
        vocabularies={"genres": "genre"},
        split=options.parts(),
        min_count=options.min_count,
    )
