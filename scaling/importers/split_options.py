"""Options that every importer has (split, min_count), and how `--option NAME=VALUE` texts become their values.

Not here: which texts of a raw file are null (`scaling.importers.pipeline.cell_parsing`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

from scaling.errors import UserError, nearest
from scaling.importers.declaration import TimeSplit, UserSplit

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["CommonOptions", "read_options"]


T = TypeVar("T", bound="DataclassInstance")

_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class CommonOptions:
    """Options that every importer has; an importer may add its own and change the defaults.

    Attributes:
        split: "time" or "user".
        test_fraction: share of the latest impressions, or of the users, that are the test part.
        test_from: start of the test part in the data set's own time zone, e.g. 2017-05-13 or
            2017-05-13T12:00:00, instead of `test_fraction`. A default date of a data set is overridden by a
            `test_fraction` other than the default, and by a split by user.
        split_seed: seed of a split by user.
        min_count: number of training rows in which a value must occur to have its own id.
    """

    split: str = "time"
    test_fraction: float = 0.2
    test_from: str = ""
    split_seed: int = 0
    min_count: int = 1

    def __post_init__(self) -> None:
        """Refuse values that are invalid for every data set."""
        if self.split not in ("time", "user"):
            raise UserError(f"option split is {self.split!r}, expected time or user")
        if not 0 < self.test_fraction < 1:
            raise UserError(
                f"option test_fraction is {self.test_fraction}, expected a number between 0 and 1"
            )
        if self.min_count < 1:
            raise UserError(f"option min_count is {self.min_count}, expected 1 or more")
        if self.test_from:
            if self.split == "user" and self.test_from != type(self).test_from:
                raise UserError(
                    "option test_from: expected with split=time only; a split by user has no start"
                )
            self._moment()

    def parts(self, zone: int | str = 0) -> TimeSplit | UserSplit:
        """Return the split; `test_from` is a time in `zone` (seconds from UTC or an IANA name)."""
        if self.split == "user":
            return UserSplit(self.test_fraction, self.split_seed)
        default = type(self)
        wants_share = self.test_fraction != default.test_fraction
        if self.test_from and not (wants_share and self.test_from == default.test_from):
            moment = self._moment()
            if isinstance(zone, str):  # a named zone has summer time
                return TimeSplit(boundary=int(moment.replace(tzinfo=ZoneInfo(zone)).timestamp()))
            return TimeSplit(boundary=int(moment.timestamp()) - zone)
        return TimeSplit(self.test_fraction)

    def _moment(self) -> datetime:
        try:
            moment = datetime.fromisoformat(self.test_from)
        except ValueError as error:
            raise UserError(
                f"option test_from is {self.test_from!r}, expected a date such as 2017-05-13 or 2017-05-13T12:00:00"
            ) from error
        if moment.tzinfo is not None:
            raise UserError(
                f"option test_from is {self.test_from!r}, expected a time in the data set's own zone, without a "
                "time zone in the text"
            )
        return moment.replace(tzinfo=UTC)


def read_options(defaults: T, given: Mapping[str, str]) -> T:
    """Return `defaults` with the values in `given`, each converted to the type of its default.

    Raises:
        UserError: an option is unknown, or a value does not have the option's type.
    """
    known = asdict(defaults)
    values = {}
    for name, text in given.items():
        if name not in known:
            raise UserError(f"option {name}: unknown{nearest(name, known)}")
        kind = type(known[name])
        try:
            values[name] = _BOOLEANS[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError) as error:
            wanted = {int: "a whole number", bool: "true or false"}.get(kind, "a number")
            raise UserError(f"option {name} is {text!r}, expected {wanted}") from error
    if "test_fraction" in values and "test_from" in known:
        values.setdefault("test_from", "")  # a fraction that is given counts, also the default one
    return replace(defaults, **values)
