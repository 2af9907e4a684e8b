"""Negatives drawn for logs that have only clicks or purchases, by a documented and seeded rule (docs/data.md).

Draw j for an impression is h(seed, user, time, item, j) modulo the size of the pool. The hash h mixes its 32-bit
inputs with the finaliser of MurmurHash3 (Appleby), so that any program can repeat the draws.
"""

from scaling.errors import UserError
from scaling.importers.declaration import Log, Negatives
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.reading import RowCounts, log_counts
from scaling.importers.pipeline.vocabularies import Features
from scaling.importers.sql import quoted

__all__ = ["POOL_COUNTS", "check_candidates", "draw_from_pool", "draw_negatives", "make_pool"]


TAKEN = "drawn items that the user took at the same second"
MASK = 0xFFFFFFFF
ROUNDS = ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1))  # shift and multiplier of the finaliser


# How often each item is an impression, from which the pool follows.
POOL_COUNTS = (
    "SELECT __test, item, count(*) AS n FROM __impressions WHERE item IS NOT NULL GROUP BY ALL"
)


def draw_negatives(engine: Engine, log: Log, features: Features) -> RowCounts:
    """Create the table `core.negatives`: rows of `__impressions` with another item.

    Raises:
        UserError: the impressions have no item, or a candidate feature is not a column of `items`.
    """
    check_candidates(log, features)
    make_pool(engine, POOL_COUNTS)
    counts = draw_from_pool(engine, log, features)
    log_counts("negatives", counts)
    return counts


def check_candidates(log: Log, features: Features) -> None:
    """Check that a drawn item has all that an impression needs.

    Raises:
        UserError: the impressions have no item, or a candidate feature is not a column of `items`.
    """
    if "item" not in features.impressions:
        raise UserError(
            "negatives: the impressions have no column item, expected one to draw other items from"
        )
    for name in log.candidate:
        if name != "item" and name not in features.items:
            raise UserError(
                f"negatives: candidate feature {name!r} must be a column of the items, because a drawn item has no row "
                "of its own"
            )


def make_pool(engine: Engine, counts: str) -> None:
    """Create the table `core.pool` from `counts`, a SELECT of all impressions as `POOL_COUNTS`."""
    engine.run(
        f"""CREATE TABLE core.pool AS
           SELECT __test, item, n, row_number() OVER part - 1 AS number, (sum(n) OVER part)::BIGINT - n AS first,
                  (sum(n) OVER whole)::BIGINT AS total, count(*) OVER whole AS items
           FROM ({counts})
           WINDOW whole AS (PARTITION BY __test),
                  part AS (PARTITION BY __test ORDER BY item ROWS UNBOUNDED PRECEDING)"""
    )


def draw_from_pool(engine: Engine, log: Log, features: Features) -> RowCounts:
    """Create the table `core.negatives` for the rows of `__impressions`, from `core.pool` and `core.users`."""
    assert log.negatives is not None
    engine.run(f"CREATE TABLE core.drawn AS {_draws(log, log.negatives, features)}")
    engine.run(
        """CREATE TABLE core.negatives AS SELECT * FROM core.drawn d
           ANTI JOIN __impressions p ON p.user = d.user AND p.time = d.time AND p.item = d.item"""
    )
    drawn = engine.value("SELECT count(*) FROM core.drawn")
    kept = engine.value("SELECT count(*) FROM core.negatives")
    engine.run("DROP TABLE core.drawn")
    return RowCounts(drawn, {TAKEN: drawn - kept})


def _draws(log: Log, rule: Negatives, features: Features) -> str:
    positives = (
        "SELECT p.*, u.number AS __user, pool.number AS __item, pool.total AS __total, pool.items AS __items, "
        "draw.j AS __j FROM __impressions p JOIN core.users u USING (user) "
        f"JOIN core.pool pool USING (__test, item), range({rule.per_positive}) draw(j)"
    )
    numbers = _mixed(_mixed(positives, rule.seed, 0, "__h0"), rule.seed, 1, "__h1")
    of_item = {name for name in log.candidate if name in features.items}
    columns = ", ".join(
        f"{'i' if name in of_item else 'd'}.{quoted(name)}"
        for name in features.impressions
        if name != "item"
    )
    item = "LEFT JOIN core.items i ON i.item = pool.item" if log.items_of_rows else ""
    size, match, join = {
        "popularity": ("__total", "d.__draw >= pool.first", "ASOF JOIN"),
        "uniform": ("__items", "d.__draw = pool.number", "JOIN"),
    }[rule.draw]
    # 64 bits, so that the remainder is practically uniform.
    draw = f"((__h0 * {MASK + 1}::UBIGINT + __h1) % {size}::UBIGINT)::BIGINT"
    return (
        f"SELECT {columns}, pool.item FROM (SELECT *, {draw} AS __draw FROM ({numbers})) d "
        f"{join} core.pool pool ON d.__test = pool.__test AND {match} {item}"
    )


def _mixed(rows: str, seed: int, salt: int, name: str) -> str:
    """Return `rows` with a column `name`: a 32-bit hash of the seed, the salt and the values a draw depends on."""
    sql = f"SELECT *, {salt}::UBIGINT AS {name} FROM ({rows})"
    for part in (str(seed), "__user", "time", "time // 4294967296", "__item", "__j"):
        sql = f"SELECT * REPLACE (xor({name}, ({part})::UBIGINT & {MASK}) AS {name}) FROM ({sql})"
        # One subquery per step, because a single expression would repeat its parts.
        for shift, factor in ROUNDS:
            sql = f"SELECT * REPLACE (xor({name}, {name} >> {shift}) AS {name}) FROM ({sql})"
            sql = f"SELECT * REPLACE (({name} * {factor}::UBIGINT) & {MASK} AS {name}) FROM ({sql})"
    return sql
