"""The features that a table file names: which names they may have, and which sections may belong to them."""

from scaling.errors import UserError, nearest
from scaling.importers.mapping.table_file import TableFile
from scaling.importers.times import hour, weekday

__all__ = ["TIME_FEATURES", "check_features"]


# Features that follow from the time, unless `features.columns` gives them a column.
TIME_FEATURES = {"hour": hour, "weekday": weekday}
RESERVED = ("user", "time", "label")


def check_features(spec: TableFile) -> None:
    """Check the names in `[features]`, and that each section of a feature belongs to one.

    Raises:
        UserError: the first key that is wrong.
    """
    features = spec.features
    roles = ("behaviour", "candidate", "context", "profile")
    categories = [name for role in roles for name in getattr(features, role)]
    names = [*categories, *features.numeric, *features.behaviour_numeric]
    for role in (*roles, "numeric", "behaviour_numeric"):
        own = getattr(features, role)
        for i, name in enumerate(own):
            if name in own[:i]:
                raise UserError(f"features.{role}: {name!r} occurs twice, expected each name once")
    for name in names:
        if name in RESERVED or name.startswith("__"):
            raise UserError(
                f"features: {name!r} is a reserved name; choose another and give its column in features.columns"
            )
        alike = next(
            (other for other in names if other != name and other.lower() == name.lower()), None
        )
        if alike is not None:
            raise UserError(
                f"features: {name!r} and {alike!r} differ only in case; choose another name for one of them and give its column "
                "in features.columns"
            )
    for name in features.behaviour_numeric:
        if name in categories:
            raise UserError(
                f"features.behaviour_numeric: {name!r} is a category, too; choose another name for one of them and give its "
                "column in features.columns"
            )
    for name in spec.lists:
        if name not in categories:
            raise UserError(f"lists.{name}: no feature has this name{nearest(name, categories)}")
        if name == "item" or (name in TIME_FEATURES and name not in features.columns):
            raise UserError(
                f"lists.{name}: this feature has one value per cell; remove the section"
            )
    for name, other in features.vocabularies.items():
        if other in features.behaviour_numeric:
            raise UserError(
                f"features.vocabularies.{name}: {other!r} is a number of events (features.behaviour_numeric), which has no "
                "vocabulary; expected the name of a vocabulary of categories"
            )
    for key in ("columns", "vocabularies", "fill"):
        for name in getattr(features, key):
            if name not in names:
                raise UserError(
                    f"features.{key}.{name}: no feature has this name{nearest(name, names)}"
                )
