"""Yambda (Yandex Music): tracks that were played, and whether they were listened to; times count from an unknown start."""

from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.importers.declaration import Check, Log, Rows, Table
from scaling.importers.located_files import locate
from scaling.importers.split_options import CommonOptions
from scaling.importers.times import hour, weekday

__all__ = ["YambdaOptions", "yambda"]


# Time 0 of the log in a store; the data do not tell the real day.
EPOCH = 1_704_067_200  # 2024-01-01
LATEST = 10 * 366 * 86_400


@dataclass(frozen=True)
class YambdaOptions(CommonOptions):
    """Options.

    Attributes:
        listened_pct: a play of at least this percentage of the track is a positive.
    """

    listened_pct: int = 50

    def __post_init__(self) -> None:
        """Refuse percentages that every play or none reaches."""
        super().__post_init__()
        if not 0 < self.listened_pct <= 100:
            raise UserError(f"option listened_pct is {self.listened_pct}, expected 1 to 100")


def yambda(raw: Path, options: YambdaOptions) -> Log:
    """Return the log of the listens of one size; the artists are used if their file is there.

    Raises:
        UserError: there are listens of several sizes.
    """
    listens = locate(raw, "listens.parquet")
    if len(listens) > 1:
        raise UserError(
            f"{raw}: {len(listens)} sizes of the data ({', '.join(listens)}); give the folder of one of them"
        )
    tables = {
        "listens": Table(
            listens,
            {
                "uid": "text",
                "timestamp": "int",
                "item_id": "text",
                "is_organic": "int",
                "played_ratio_pct": "int",
            },
            checks=(
                Check(
                    "timestamp",
                    f"timestamp BETWEEN 0 AND {LATEST}",
                    "seconds since the log's start",
                ),
                Check("is_organic", "is_organic IN (0, 1)", "0 or 1"),
                Check("played_ratio_pct", "played_ratio_pct >= 0", "a percentage of at least 0"),
            ),
            user="uid",
        )
    }
    item_features: tuple[str, ...] = ()
    artists = _beside(raw, listens[0], "artist_item_mapping.parquet")
    if artists is not None:
        tables["artists"] = Table((artists,), {"artist_id": "int", "item_id": "text"})
        item_features = ("artist",)
    listened = f"played_ratio_pct >= {options.listened_pct}"
    time = f"({EPOCH} + timestamp)"
    return Log(
        tables=tables,
        impressions=Rows(
            f"""SELECT uid AS user, {time} AS time, item_id AS item, {listened} AS label, is_organic::VARCHAR AS organic,
                       {hour(time)} AS hour, {weekday(time)} AS weekday,
                       CASE WHEN {listened} THEN 'listened' ELSE 'left' END AS play FROM listens"""
        ),
        items="SELECT item_id AS item, min(artist_id)::VARCHAR AS artist FROM artists GROUP BY item_id"
        if item_features
        else None,
        behaviour=("item", *item_features, "play"),
        candidate=("item", *item_features),
        context=("hour", "weekday", "organic"),
        split=options.parts(),
        min_count=options.min_count,
    )


def _beside(raw: Path, listens: str, name: str) -> str | None:
    """The file of all sizes, in the folder of the listens or up to two folders above."""
    place = Path(listens).parent
    for above in (place, place / "..", place / ".." / ".."):
        if (raw / above / name).is_file():
            return str(above / name)
    return None
