"""Options of an importer: strings from the command line into the fields of a frozen dataclass."""

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


@dataclass(frozen=True)
class CommonOptions:
    """What a study may vary of every data set; an importer adds its own and may change the defaults.

    Attributes:
        split: "time" or "user".
        test_fraction: share of the impressions (latest first) or of the users in the test part.
        test_from: first moment of the test part in the data set's own zone, e.g. 2017-05-13 or
            2017-05-13T12:00:00; in place of `test_fraction`. Where a data set has a default date, another
            `test_fraction` or a split by user takes its place.
        split_seed: of a split by user.
        min_count: rows of the training part in which a value must occur to have an id of its own.
    """

    split: str = "time"
    test_fraction: float = 0.2
    test_from: str = ""
    split_seed: int = 0
    min_count: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no data set can have."""
        if self.split not in ("time", "user"):
            raise UserError(f"option split: {self.split!r} is not time or user")
        if not 0 < self.test_fraction < 1:
            raise UserError(f"option test_fraction: {self.test_fraction} is not between 0 and 1")
        if self.min_count < 1:
            raise UserError(f"option min_count: {self.min_count} is not 1 or more")
        if self.test_from:
            if self.split == "user" and self.test_from != type(self).test_from:
                raise UserError("option test_from: a split by user has no first moment")
            self._moment()

    def parts(self, zone: int | str = 0) -> TimeSplit | UserSplit:
        """Return the split; `test_from` is read in `zone`: seconds from UTC or an IANA name."""
        if self.split == "user":
            return UserSplit(self.test_fraction, self.split_seed)
        default = type(self)
        wants_share = self.test_fraction != default.test_fraction
        if self.test_from and not (wants_share and self.test_from == default.test_from):
            moment = self._moment()
            if isinstance(zone, str):  # with its summer time
                return TimeSplit(boundary=int(moment.replace(tzinfo=ZoneInfo(zone)).timestamp()))
            return TimeSplit(boundary=int(moment.timestamp()) - zone)
        return TimeSplit(self.test_fraction)

    def _moment(self) -> datetime:
        try:
            moment = datetime.fromisoformat(self.test_from)
        except ValueError as error:
            raise UserError(
                f"option test_from: {self.test_from!r} is not a date such as 2017-05-13 or 2017-05-13T12:00:00"
            ) from error
        if moment.tzinfo is not None:
            raise UserError(
                f"option test_from: {self.test_from!r} names a zone; give the time in the data set's own"
            )
        return moment.replace(tzinfo=UTC)


def read_options(defaults: T, given: Mapping[str, str]) -> T:
    """Return `defaults` with the `given` values, each converted to its default's type.

    Raises:
        UserError: an unknown option or a value that is not of the option's type.
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
            raise UserError(f"option {name}: {text!r} is not {wanted}") from error
    return replace(defaults, **values)


_BOOLEANS = {"true": True, "false": False}
