"""Impressions, events and users in the engine: which rows are kept, and in which part each row is.

Creates the views `__impressions` and `__events`, both with `__test` and the events also with the user's number `__user`,
and the table `core.users` (`user`, `number` in sorted order, `trained`). The views are in the same schema as the raw
tables, because names in another schema would hide those.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from scaling.errors import UserError
from scaling.importers.declaration import GivenSplit, Log, Rows, TimeSplit, UserSplit
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.reading import RowCounts, log_counts
from scaling.importers.sql import text
from scaling.importers.times import LATEST

__all__ = [
    "Parts",
    "find_parts",
    "keep_impressions",
    "make_parts",
    "make_rows",
    "numbered_users",
    "part_sizes",
    "refuse_empty_part",
    "refuse_none",
    "user_rows",
]


logger = logging.getLogger(__name__)
# 1990: nobody logged clicks before, but seconds that are read as milliseconds are from 1970.
_EARLY = 631_152_000
ORPHAN = "of users without an impression"


@dataclass(frozen=True)
class Parts:
    """What the part of a row depends on, of all impressions: unix seconds, or None where it depends on something else.

    Attributes:
        boundary: the first second of the test part of a split by time.
        first_given: time of the first test impression of a split that the log brings.
    """

    boundary: int | None = None
    first_given: int | None = None


def make_rows(engine: Engine, log: Log) -> tuple[dict[str, RowCounts], int | None]:
    """Create the views and the table; return the row counts, and the boundary of a split by time (unix seconds).

    Raises:
        UserError: a time or a label is invalid, or a part has no impressions.
    """
    counts = {"impressions": keep_impressions(engine, log)}
    refuse_none(counts["impressions"])
    parts = find_parts(engine, log)
    engine.run(f"CREATE TABLE core.users AS {numbered_users(log, parts, user_rows(log))}")
    counts |= make_parts(engine, log, parts)
    for name, count in counts.items():
        if count.kept < count.read:
            log_counts(name, count)
    refuse_empty_part(*part_sizes(engine))
    return counts, parts.boundary


def keep_impressions(engine: Engine, log: Log) -> RowCounts:
    """Create `__kept`, the impressions that are not dropped, and check them.

    Raises:
        UserError: a time or a label is invalid.
    """
    counts = _keep(engine, "__kept", log.impressions)
    _refuse(engine, "__kept", "impressions", has_label=log.negatives is None)
    return counts


def refuse_none(counts: RowCounts) -> None:
    """Refuse a log of which no impression was kept; that of the events none is kept is allowed.

    Raises:
        UserError: with the number of rows.
    """
    if not counts.kept:
        raise UserError(
            f"impressions: all {counts.read:,} rows were dropped, expected some to be kept"
        )


def find_parts(engine: Engine, log: Log) -> Parts:
    """Return what the parts depend on, from `__kept`.

    Raises:
        UserError: the split that the log brings has no test rows.
    """
    _warn_of_early_times(engine)
    if isinstance(log.split, TimeSplit):
        return Parts(_boundary(engine, log.split))
    if isinstance(log.split, GivenSplit):
        first = _first_given(engine)
        last = engine.value("SELECT max(time) FROM __kept WHERE NOT __given_test")
        # one by time, if all training times lie before all test times
        return Parts(first if last is not None and last < first else None, first)
    return Parts()


def user_rows(log: Log) -> str:
    """Return a SELECT of a row for each user of `__kept`, from which its part follows."""
    first_trained = ""
    if isinstance(log.split, GivenSplit):
        first_trained = "min(time) FILTER (NOT __given_test) AS first_trained, "
    return f"SELECT user, min(time) AS first, {first_trained}{_user_in_test(log)} AS in_test FROM __kept GROUP BY user"


def numbered_users(log: Log, parts: Parts, rows: str, others: str = "") -> str:
    """Return a SELECT of all users with their numbers from `rows`, a SELECT as `user_rows`; `others` are further columns."""
    trained = "NOT in_test"
    if isinstance(log.split, GivenSplit):
        trained = "first_trained IS NOT NULL"
    if parts.boundary is not None:
        trained = f"first < {parts.boundary}"
    return (
        "SELECT user, (row_number() OVER (ORDER BY user) - 1)::INTEGER AS number, "
        f"in_test, {trained} AS trained{others} FROM ({rows})"
    )


def make_parts(engine: Engine, log: Log, parts: Parts) -> dict[str, RowCounts]:
    """Create `__impressions` and `__events` from `__kept` and `core.users`; return the row counts of own events.

    Raises:
        UserError: a user or a time of an event is invalid.
    """
    # The part of a row follows from its time, from its user, or from itself.
    in_test = of_events = "u.in_test"
    if isinstance(log.split, GivenSplit):
        in_test, of_events = "r.__given_test", f"r.time >= {parts.first_given}"
    if parts.boundary is not None:
        in_test = of_events = f"r.time >= {parts.boundary}"
    joined = "JOIN core.users u USING (user)"
    engine.run(
        f"CREATE VIEW __impressions AS SELECT r.*, {in_test} AS __test FROM __kept r "
        + (joined if parts.boundary is None else "")
    )
    if log.events is None:
        engine.run(
            f"CREATE VIEW __events AS SELECT r.*, u.number AS __user FROM __impressions r {joined}"
        )
        return {}
    of_events = "NOT u.trained" if log.own_lists else of_events
    return {"events": _make_events(engine, log.events, of_events)}


def part_sizes(engine: Engine) -> tuple[int, int]:
    """Return the numbers of all impressions and of those of the test part."""
    n, n_test = engine.rows("SELECT count(*), count(*) FILTER (__test) FROM __impressions")[0]
    return n, n_test


def refuse_empty_part(n: int, n_test: int) -> None:
    """Refuse a split that leaves a part without impressions.

    Raises:
        UserError: names the part.
    """
    if not 0 < n_test < n:
        part = "test" if n_test == 0 else "training"
        raise UserError(
            f"impressions: the split leaves the {part} part without impressions; "
            "choose another test_fraction or test_from"
        )


def _keep(engine: Engine, table: str, rows: Rows) -> RowCounts:
    """Create `table` with the rows that are not dropped; it is stored unless that would only copy stored rows."""
    marked = f"SELECT *, {_reason(rows.drop)} AS __reason FROM ({rows.select})"
    if not engine.is_plain(marked):
        engine.run(f"CREATE TABLE {table}_marked AS {marked}")
        marked = f"SELECT * FROM {table}_marked"
    engine.run(
        f"CREATE VIEW {table} AS SELECT * EXCLUDE __reason FROM ({marked}) WHERE __reason = 0"
    )
    found = dict(engine.rows(f"SELECT __reason, count(*) FROM ({marked}) GROUP BY ALL"))
    dropped = {r: found.get(code, 0) for code, r in enumerate(rows.drop, start=1)}
    return RowCounts(sum(found.values()), dropped)


def _make_events(engine: Engine, rows: Rows, in_test: str) -> RowCounts:
    drop = {**rows.drop, ORPHAN: "__user IS NULL"}
    joined = (
        f"SELECT r.*, u.number AS __user, {in_test} AS __test "
        f"FROM ({rows.select}) r LEFT JOIN core.users u USING (user)"
    )
    counts = _keep(engine, "__events", Rows(joined, drop))
    _refuse(engine, "__events", "events", has_label=False)
    return counts


def _reason(drop: Mapping[str, str]) -> str:
    rules = "".join(
        f"WHEN {condition} THEN {code} " for code, condition in enumerate(drop.values(), 1)
    )
    return f"(CASE {rules}ELSE 0 END)::SMALLINT" if rules else "0::SMALLINT"


def _refuse(engine: Engine, table: str, name: str, *, has_label: bool) -> None:
    """Check users, times and labels of the selected rows.

    The checks of a `Table` come first and name the file and the line.

    Raises:
        UserError: the smallest invalid value of the first column that has one.
    """
    checks = {
        "user": ("user IS NOT NULL", "a user"),
        "time": (f"time > 0 AND time < {LATEST}", "unix seconds before 2100"),
    }
    if has_label:
        checks["label"] = ("label::INTEGER IN (0, 1)", "0 or 1")
    every = ", ".join(f"bool_and(coalesce({holds}, false))" for holds, _ in checks.values())
    (hold,) = engine.rows(f"SELECT {every} FROM {table}")
    for (column, (holds, expected)), good in zip(checks.items(), hold, strict=True):
        if good is False:  # NULL if there are no rows
            bad = engine.value(
                f"SELECT {column}::VARCHAR FROM {table} WHERE NOT coalesce({holds}, false) ORDER BY 1 LIMIT 1"
            )
            raise UserError(f"{name}: {column} is {bad}, expected {expected}")


def _warn_of_early_times(engine: Engine) -> None:
    first, last = engine.rows("SELECT min(time), max(time) FROM __kept")[0]
    if last is not None and last < _EARLY:
        logger.warning(
            "impressions: all times lie between %s and %s; are they really in the unit that was given?",
            *(
                datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")
                for second in (first, last)
            ),
        )


def _boundary(engine: Engine, split: TimeSplit) -> int:
    """Return the first second of the test part; for a fraction, the second of the earliest of the latest impressions."""
    if split.boundary is not None:
        return split.boundary
    assert split.test_fraction is not None
    total = engine.value("SELECT count(*) FROM __kept")
    left = max(1, round(split.test_fraction * total))
    # First by day, then by second of that day, which avoids a sort of all times.
    day, left = _unit_of(engine, left, 86_400, "true")
    return _unit_of(engine, left, 1, f"time // 86400 = {day}")[0]


def _first_given(engine: Engine) -> int:
    """The time of the first test impression of a split that the log brings.

    Raises:
        UserError: there is none.
    """
    first = engine.value("SELECT min(time) FROM __kept WHERE __given_test")
    if first is None:
        raise UserError(
            "impressions: the split that the log brings has no test rows; see split.column and split.test"
        )
    return int(first)


def _unit_of(engine: Engine, left: int, width: int, where: str) -> tuple[int, int]:
    """Return the unit of `width` seconds with the `left`-latest impression, and its rank from the end of that unit."""
    for unit, count in engine.rows(
        f"SELECT time // {width} AS unit, count(*) FROM __kept WHERE {where} GROUP BY 1 ORDER BY 1 DESC"
    ):
        if count >= left:
            return int(unit), left
        left -= count
    raise AssertionError("more test impressions than impressions")


def _user_in_test(log: Log) -> str:
    split = log.split
    if not isinstance(split, UserSplit):
        return "false"
    # The first 32 bits of the digest, as a share of their range.
    digest = f"md5({text(f'{split.seed}:')} || {log.person})"
    return f"('0x' || substr({digest}, 1, 8))::UBIGINT < {round(split.test_fraction * 2**32)}"
