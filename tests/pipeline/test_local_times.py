"""Hours and weekdays in SQL are those of Python's calendar, in the zone of the log."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pytest

from scaling.importers.times import has_summer_time, hour, offset_of, weekday

TIMES = np.random.default_rng(0).integers(10**8, 2 * 10**9, 300).tolist()


def values(sql):
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        return [
            engine.execute(f"SELECT {sql.replace('TIME', str(t))}").fetchone()[0] for t in TIMES
        ]


@pytest.mark.parametrize("zone", [0, 28_800, -18_000, "America/New_York", "Asia/Kolkata"])
def test_hours_and_weekdays_are_those_of_the_calendar(zone):
    info = ZoneInfo(zone) if isinstance(zone, str) else timezone(timedelta(seconds=zone))
    local = [datetime.fromtimestamp(t, info) for t in TIMES]
    assert values(hour("TIME", zone)) == [moment.hour for moment in local]
    assert values(weekday("TIME", zone)) == [moment.weekday() for moment in local]


@pytest.mark.parametrize(
    ("zone", "hours", "changes"),
    [("Europe/Berlin", 1, True), ("America/New_York", -5, True), ("Asia/Shanghai", 8, False)],
)
def test_the_offset_of_a_zone_is_that_without_summer_time(zone, hours, changes):
    assert (offset_of(zone), has_summer_time(zone)) == (hours * 3600, changes)
