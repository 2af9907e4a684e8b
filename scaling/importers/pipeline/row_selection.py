"""Impressions, events and users in the engine: which rows are kept, and in which part each row is.

Creates the views `__impressions` and `__events`, both with `__test` and the events also with the user's number `__user`,
and the table `core.users` (`user`, `number` in sorted order, `trained`). The views are in the same schema as the raw
tables, because names in another schema would hide those.
"""

from collections.abc import Mapping

from scaling.errors import UserError
from scaling.importers.declaration import Log, Rows, TimeSplit
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.reading import RowCounts, log_counts
from scaling.importers.sql import text
from scaling.importers.times import LATEST

__all__ = ["make_rows"]


ORPHAN = "of users without an impression"


def make_rows(engine: Engine, log: Log) -> tuple[dict[str, RowCounts], int | None]:
    """Create the views and the table; return the row counts, and the boundary of a split by time (unix seconds).

    Raises:
        UserError: a time or a label is invalid, or a part has no impressions.
    """
    counts = {"impressions": _keep(engine, "__kept", log.impressions, "impressions")}
    _refuse(engine, "__kept", "impressions", has_label=log.negatives is None)
    boundary = _boundary(engine, log.split) if isinstance(log.split, TimeSplit) else None
    # The part of a row follows from its time or from its user.
    trained, in_test = "NOT in_test", "u.in_test"
    if boundary is not None:
        trained, in_test = f"first < {boundary}", f"r.time >= {boundary}"
    engine.run(
        f"""CREATE TABLE core.users AS
            SELECT user, (row_number() OVER (ORDER BY user) - 1)::INTEGER AS number, in_test, {trained} AS trained
            FROM (SELECT user, min(time) AS first, {_user_in_test(log)} AS in_test FROM __kept GROUP BY user)"""
    )
    joined = "JOIN core.users u USING (user)"
    engine.run(
        f"CREATE VIEW __impressions AS SELECT r.*, {in_test} AS __test FROM __kept r "
        + (joined if boundary is None else "")
    )
    if log.events is None:
        engine.run(
            f"CREATE VIEW __events AS SELECT r.*, u.number AS __user FROM __impressions r {joined}"
        )
    else:
        counts["events"] = _make_events(
            engine, log.events, "NOT u.trained" if log.own_lists else in_test
        )
    for name, count in counts.items():
        if count.kept < count.read:
            log_counts(name, count)
    _require_parts(engine)
    return counts, boundary


def _keep(engine: Engine, table: str, rows: Rows, name: str) -> RowCounts:
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
    counts = RowCounts(sum(found.values()), dropped)
    # No event is allowed: every history is then empty.
    if not counts.kept and name == "impressions":
        raise UserError(f"{name}: all {counts.read:,} rows were dropped, expected some to be kept")
    return counts


def _make_events(engine: Engine, rows: Rows, in_test: str) -> RowCounts:
    drop = {**rows.drop, ORPHAN: "__user IS NULL"}
    joined = (
        f"SELECT r.*, u.number AS __user, {in_test} AS __test "
        f"FROM ({rows.select}) r LEFT JOIN core.users u USING (user)"
    )
    counts = _keep(engine, "__events", Rows(joined, drop), "events")
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


def _unit_of(engine: Engine, left: int, width: int, where: str) -> tuple[int, int]:
    """Return the unit of `width` seconds with the `left`-latest impression, and its rank from the end of that unit."""
    for unit, count in engine.rows(
        f"SELECT time // {width} AS unit, count(*) FROM __kept WHERE {where} GROUP BY unit ORDER BY unit DESC"
    ):
        if count >= left:
            return int(unit), left
        left -= count
    raise AssertionError("more test impressions than impressions")


def _user_in_test(log: Log) -> str:
    split = log.split
    if isinstance(split, TimeSplit):
        return "false"
    # The first 32 bits of the digest, as a share of their range.
    digest = f"md5({text(f'{split.seed}:')} || {log.person})"
    return f"('0x' || substr({digest}, 1, 8))::UBIGINT < {round(split.test_fraction * 2**32)}"


def _require_parts(engine: Engine) -> None:
    n, n_test = engine.rows("SELECT count(*), count(*) FILTER (__test) FROM __impressions")[0]
    if not 0 < n_test < n:
        part = "test" if n_test == 0 else "training"
        raise UserError(
            f"impressions: the split leaves the {part} part without impressions; "
            "choose another test_fraction or test_from"
        )
