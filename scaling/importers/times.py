"""SQL for times: unix seconds from other units, and the hour and weekday of a log's own zone."""

from datetime import datetime
from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from scaling.errors import UserError, nearest
from scaling.importers.declaration import Check
from scaling.importers.sql import quoted

__all__ = ["LATEST", "check_time", "has_summer_time", "hour", "offset_of", "seconds", "weekday"]


UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
LATEST = 4_102_444_800  # 2100-01-01: a later time is probably in another unit


def seconds(column: str, unit: str = "s") -> str:
    """Return SQL for the unix seconds, rounded down, of a column in `unit`: s, ms, us or ns."""
    return column if unit == "s" else f"{column} // {UNITS[unit]}"


def check_time(column: str, unit: str = "s", epoch: str = "") -> Check:
    """Return the check that a column has times in `unit` between 1970 and 2100, or not before its `epoch`."""
    if epoch:
        return Check(
            column,
            f"{quoted(column)} >= 0 AND {quoted(column)} < {LATEST * UNITS[unit]}",
            f"a time in {unit} since {epoch}",
        )
    return Check(
        column,
        f"{quoted(column)} > 0 AND {quoted(column)} < {LATEST * UNITS[unit]}",
        f"a time in {unit} since 1970, before 2100",
    )


def hour(time: str, zone: int | str = 0) -> str:
    """Return SQL for the hour of the day, 0 to 23, of unix seconds; `zone` is seconds from UTC or an IANA name."""
    if isinstance(zone, str):
        return f"hour({_local(time, zone)})"
    return f"(({time}) + {zone}) // 3600 % 24"


def weekday(time: str, zone: int | str = 0) -> str:
    """Return SQL for the day of the week of unix seconds, 0 for Monday; `zone` as in `hour`."""
    if isinstance(zone, str):
        return f"isodow({_local(time, zone)}) - 1"
    # 1970-01-01 was a Thursday.
    return f"((({time}) + {zone}) // 86400 + 3) % 7"


def offset_of(zone: str) -> int:
    """Return the seconds from UTC of a time zone, without summer time.

    Raises:
        UserError: there is no zone of that name.
    """
    try:
        info = ZoneInfo(zone)
    except (ValueError, KeyError, OSError) as error:
        # There are hundreds of zones, so only similar names are listed.
        near = get_close_matches(zone, available_timezones())
        hint = nearest(zone, near) if near else ", expected an IANA name such as Asia/Shanghai"
        raise UserError(f"zone: {zone!r} is unknown{hint}") from error
    return min(_offsets(info))


def has_summer_time(zone: str) -> bool:
    """Whether the zone's offset changes within a year."""
    return len(_offsets(ZoneInfo(zone))) > 1


def _offsets(info: ZoneInfo) -> set[int]:
    offsets = [info.utcoffset(datetime(2020, month, 1)) for month in (1, 7)]
    return {int(offset.total_seconds()) for offset in offsets if offset is not None}


def _local(time: str, zone: str) -> str:
    return f"timezone('{zone}', to_timestamp({time}))"
