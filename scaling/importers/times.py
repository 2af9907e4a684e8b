"""SQL for times: unix seconds from other units, and the hour and weekday of a log's own zone."""

from scaling.importers.log import Check

__all__ = ["check_time", "hour", "seconds", "weekday"]

UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
LATEST = 4_102_444_800  # 2100-01-01: later times are not in the unit that was said


def seconds(column: str, unit: str = "s") -> str:
    """Return the whole unix seconds of a column in `unit`: s, ms, us or ns."""
    return column if unit == "s" else f"{column} // {UNITS[unit]}"


def check_time(column: str, unit: str = "s") -> Check:
    """Return the check that a column holds times after 1970 and before 2100 in `unit`."""
    return Check(
        column,
        f"{column} > 0 AND {column} < {LATEST * UNITS[unit]}",
        f"a time in {unit} since 1970, before 2100",
    )


def hour(time: str, utc_offset_seconds: int = 0) -> str:
    """Return the hour of the day, 0 to 23, of unix seconds."""
    return f"(({time}) + {utc_offset_seconds}) // 3600 % 24"


def weekday(time: str, utc_offset_seconds: int = 0) -> str:
    """Return the day of the week of unix seconds, 0 for Monday."""
    # 1970-01-01 was a Thursday.
    return f"((({time}) + {utc_offset_seconds}) // 86400 + 3) % 7"
