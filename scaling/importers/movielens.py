"""MovieLens 1M into an event store.

Every rating is an impression (clicked if the rating is high) and an event of the user's later history.
The user's id is not a feature: in this data set it tells the time of joining.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.errors import UserError
from scaling.importers.delimited import find_file, read_bytes, read_columns, require
from scaling.importers.options import read_options
from scaling.importers.vocabulary import Vocabulary
from scaling.store import Events, EventStore, Feature, Impressions, Schema, write_store

__all__ = ["MovieLensOptions", "import_movielens_1m"]

Array = NDArray[Any]
logger = logging.getLogger(__name__)

# `git hash-object ratings.dat` of the file that GroupLens published.
PUBLISHED_RATINGS = "77a7c4b150f588c23bb9e1f068aa996c0b413695"
LATEST = 4_102_444_800  # 2100-01-01: later times are not in seconds
MOVIE_FEATURES = ("item", "genre", "year")
PROFILE_FEATURES = ("gender", "age", "occupation", "region")


@dataclass(frozen=True)
class MovieLensOptions:
    """What a study may vary.

    Attributes:
        min_rating: lowest rating that counts as a click, 2 to 5.
        test_fraction: share of the impressions, latest first, in the test part.
    """

    min_rating: int = 4
    test_fraction: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values that leave one class or one part empty."""
        if not 2 <= self.min_rating <= 5:
            raise UserError(f"option min_rating: {self.min_rating} is not 2 to 5")
        if not 0 < self.test_fraction < 1:
            raise UserError(f"option test_fraction: {self.test_fraction} is not between 0 and 1")


def import_movielens_1m(raw: Path, out: Path, options: Mapping[str, str]) -> EventStore:
    """Import the folder `raw` of ratings.dat, users.dat and movies.dat into a store at `out`.

    The test part is the last `test_fraction` of the ratings by global time. Rows that repeat another are
    dropped; the store's source tells how many rows were read, kept and dropped.

    Raises:
        UserError: bad options, a missing or damaged file (with file and line), or `out` cannot be written.
    """
    chosen = read_options(MovieLensOptions(), options)
    ratings, rows = _read_ratings(raw)
    users, movies = _read_users(raw), _read_movies(raw)
    n = len(ratings["user"])
    n_test = max(1, round(chosen.test_fraction * n))
    boundary = int(np.sort(ratings["time"])[n - n_test])
    in_test = ratings["time"] >= boundary
    user_ids, user = np.unique(ratings["user"], return_inverse=True)
    item_ids, item = np.unique(ratings["item"], return_inverse=True)

    vocabularies, ids, profiles = {}, {}, {}
    for name, values in {
        "rating": ratings["rating"],
        "hour": ratings["time"] // 3600 % 24,
        "weekday": (ratings["time"] // 86_400 + 3) % 7,  # 0 is Monday: 1970-01-01 was a Thursday
    }.items():
        vocabularies[name] = Vocabulary(values[~in_test])
        ids[name] = vocabularies[name].encode(values)
    trained = np.bincount(item[~in_test], minlength=len(item_ids)) > 0
    for name in MOVIE_FEATURES:
        of_movie = item_ids if name == "item" else _joined(movies, name, item_ids)
        vocabularies[name] = Vocabulary(of_movie[trained])
        ids[name] = vocabularies[name].encode(of_movie)[item]
    trained = np.bincount(user[~in_test], minlength=len(user_ids)) > 0
    for name in PROFILE_FEATURES:
        of_user = _joined(users, name, user_ids)
        vocabularies[name] = Vocabulary(of_user[trained])
        profiles[name] = vocabularies[name].encode(of_user)
    return write_store(
        out,
        _schema({name: vocabulary.size for name, vocabulary in vocabularies.items()}),
        Events(user, ratings["time"], {n: ids[n] for n in (*MOVIE_FEATURES, "rating")}),
        Impressions(
            user=user,
            time=ratings["time"],
            label=ratings["rating"] >= chosen.min_rating,
            in_test=in_test,
            candidates={name: ids[name] for name in MOVIE_FEATURES},
            contexts={name: ids[name] for name in ("hour", "weekday")},
        ),
        profiles,
        n_users=len(user_ids),
        split={"kind": "time", "boundary": boundary},
        source={
            "kind": "import",
            "importer": "movielens-1m",
            "options": asdict(chosen),
            **rows,
        },
    )


def _schema(sizes: dict[str, int]) -> Schema:
    def features(*names: str) -> tuple[Feature, ...]:
        return tuple(Feature(name, name) for name in names)

    return Schema(
        behaviour=features(*MOVIE_FEATURES, "rating"),
        candidate=features(*MOVIE_FEATURES),
        context=features("hour", "weekday"),
        profile=features(*PROFILE_FEATURES),
        vocabularies=sizes,
    )


def _read_ratings(raw: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the ratings without repeats, and the counts and facts for the store's source."""
    file = find_file(raw, "ratings.dat")
    content = read_bytes(file)
    names = ("user", "item", "rating", "time")
    columns = read_columns(
        file, content, "::", dict.fromkeys(("UserID", "MovieID", "Rating", "Timestamp"), int)
    )
    rating, time = columns["Rating"], columns["Timestamp"]
    require(file, "Rating", rating, (rating >= 1) & (rating <= 5), "1 to 5")
    require(file, "Timestamp", time, (time > 0) & (time < LATEST), "unix seconds before 2100")
    rows = np.stack(list(columns.values()), axis=1)
    order = np.lexsort(rows.T[::-1])
    rows = rows[order]
    fresh = np.append(True, (rows[1:] != rows[:-1]).any(axis=1))
    read, kept = len(rows), int(fresh.sum())
    logger.info(
        "%s: %s rows read = %s kept + %s repeated",
        file,
        *(f"{c:,}" for c in (read, kept, read - kept)),
    )
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if blob != PUBLISHED_RATINGS:
        logger.warning("%s: is not the file that GroupLens published; say so with any result", file)
    facts = {
        "rows": {"read": read, "kept": kept, "dropped": {"repeated": read - kept}},
        "is_published_file": blob == PUBLISHED_RATINGS,
    }
    return dict(zip(names, rows[fresh].T, strict=True)), facts


def _read_users(raw: Path) -> dict[str, Array]:
    file = find_file(raw, "users.dat")
    columns = read_columns(
        file,
        read_bytes(file),
        "::",
        {"UserID": int, "Gender": str, "Age": str, "Occupation": str, "Zip-code": str},
    )
    _require_own_ids(file, "UserID", columns["UserID"])
    return {
        "id": columns["UserID"],
        "gender": columns["Gender"].astype(str),
        "age": columns["Age"].astype(str),
        "occupation": columns["Occupation"].astype(str),
        # The first digit of a zip code is a region of the USA.
        "region": columns["Zip-code"].astype("U1"),
    }


def _read_movies(raw: Path) -> dict[str, Array]:
    """Return id, first genre and five-year period of release of every movie."""
    file = find_file(raw, "movies.dat")
    columns = read_columns(
        file, read_bytes(file), "::", {"MovieID": int, "Title": str, "Genres": str}
    )
    _require_own_ids(file, "MovieID", columns["MovieID"])
    periods = [
        str(int(found[1]) // 5 * 5) if (found := re.search(r"\((\d{4})\)\s*$", title)) else ""
        for title in columns["Title"]
    ]
    return {
        "id": columns["MovieID"],
        "genre": np.array([genres.split("|")[0] for genres in columns["Genres"]]),
        "year": np.array(periods),
    }


def _require_own_ids(file: Path, column: str, ids: Array) -> None:
    first = np.zeros(len(ids), dtype=bool)
    first[np.unique(ids, return_index=True)[1]] = True
    require(file, column, ids, first, "an id that no earlier line has")


def _joined(table: dict[str, Array], name: str, ids: Array) -> Array:
    """Return the table's text column `name` for each of `ids`; empty where the table lacks the id."""
    order = np.argsort(table["id"], kind="stable")
    at = np.minimum(np.searchsorted(table["id"][order], ids), len(order) - 1)
    row = order[at]
    return np.where(table["id"][row] == ids, table[name][row], "")
