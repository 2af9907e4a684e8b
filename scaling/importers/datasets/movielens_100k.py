"""MovieLens 100K: u.data, u.user and u.item; see `scaling.importers.datasets.movielens_1m`."""

from functools import partial
from pathlib import Path

from scaling.importers.datasets.movielens_1m import (
    MOST_GENRES,
    MOVIE,
    MovieLens1MOptions,
    plain_table,
)
from scaling.importers.declaration import Check, ListFeature, Log, Rows
from scaling.importers.sql import text
from scaling.importers.times import check_time, hour, weekday

__all__ = ["movielens_100k"]


# The last 18 columns of u.item, in order; before them is a column "unknown", which means "no genre known".
GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
# The first year of each age group of MovieLens 1M.
AGES = (56, 50, 45, 35, 25, 18)


def movielens_100k(raw: Path, options: MovieLens1MOptions) -> Log:
    """Return the log of u.data, u.user and u.item in `raw`."""
    table = partial(plain_table, raw)
    ratings = table(
        "u.data",
        {"user": "int", "item": "int", "rating": "int", "timestamp": "int"},
        separator="\t",
        checks=(Check("rating", "rating BETWEEN 1 AND 5", "1 to 5"), check_time("timestamp")),
        drop_repeats=True,
        user='"user"',
    )
    users = table(
        "u.user",
        {"user": "int", "age": "int?", "gender": "text?", "occupation": "text?", "zip": "text?"},
        separator="|",
        key=("user",),
        user='"user"',
    )
    plain = ("title", "release_date", "video_release_date", "url", "unknown")
    items = table(
        "u.item",
        {"item": "int", **dict.fromkeys((*plain, *GENRES), "text?")},
        separator="|",
        key=("item",),
    )
    genres = ", ".join(f"""CASE WHEN "{name}" = '1' THEN {text(name)} END""" for name in GENRES)
    age = " ".join(f"WHEN age >= {first} THEN {first}" for first in AGES)
    return Log(
        tables={"ratings": ratings, "users": users, "movies": items},
        impressions=Rows(
            f"""SELECT user, timestamp AS time, item, rating, rating >= {options.min_rating} AS label,
                       {hour("timestamp")} AS hour, {weekday("timestamp")} AS weekday
                FROM ratings"""
        ),
        # The first character of a zip code is a region of the USA, or a letter elsewhere.
        users=f"""SELECT user, gender, CASE {age} WHEN age > 0 THEN 1 END AS age, occupation,
                         zip[1] AS region FROM users""",
        items=rf"""SELECT item, concat_ws('|', {genres}) AS genres,
                          TRY_CAST(regexp_extract(release_date, '(\d{{4}})$', 1) AS INTEGER) // 5 * 5 AS year
                   FROM movies""",
        behaviour=(*MOVIE, "rating"),
        candidate=MOVIE,
        context=("hour", "weekday"),
        profile=("gender", "age", "occupation", "region"),
        lists={"genres": ListFeature(MOST_GENRES, "|")},
        vocabularies={"genres": "genre"},
        split=options.parts(),
        min_count=options.min_count,
    )
