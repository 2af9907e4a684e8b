"""The first jobs of a sharded import: from raw files to the impressions, events and users of each shard.

Each function makes one piece: it writes into a folder, and returns what the piece states.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from scaling.errors import UserError
from scaling.importers.declaration import Rows, Table
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.id_joins import make_lookup
from scaling.importers.pipeline.odd_cells import (
    count_listed,
    count_suspects,
    report_listed,
    report_suspects,
)
from scaling.importers.pipeline.reading import (
    REPEATED,
    RowCounts,
    keep_rows,
    log_counts,
    refuse_no_rows,
    report_empty,
    report_order,
    stage_files,
    staged_rows,
    with_content,
)
from scaling.importers.pipeline.row_selection import (
    Parts,
    find_parts,
    keep_impressions,
    numbered_users,
    refuse_none,
    user_rows,
)
from scaling.importers.pipeline.sharded.work_folder import (
    ShardedImport,
    parquet,
    part_files,
    write_parquet,
    write_parts,
)
from scaling.importers.raw_files import RawFile
from scaling.importers.sql import quoted

__all__ = [
    "keep_shard",
    "number_users",
    "open_shard",
    "parts_of",
    "read_group",
    "read_whole",
    "table_counts",
]


def read_group(job: ShardedImport, engine: Engine, number: int, folder: Path) -> dict[str, Any]:
    """Read a group of files: check its rows, and write those that are kept, by shard."""
    group = job.groups[number]
    table = job.log.tables[group.table]
    filled = with_content(list(group.files))
    stated = {"empty": [str(file.path) for file in group.files if file not in filled]}
    if not filled:
        return {**stated, "read": 0, "dropped": dict.fromkeys(table.drop, 0)}
    counts = stage_files(engine, group.table, table, filled, "core.staged")
    shard = "0"
    if table.user:
        digest = f"('0x' || substr(md5(({table.user})::VARCHAR), 1, 15))::UBIGINT"
        shard = f"({digest} % {job.n_shards})::INTEGER"
    # by position, because raw columns may have any name
    columns = ", ".join(f"{quoted(name)} AS c{i}" for i, name in enumerate(table.columns))
    rows = staged_rows(table, "core.staged")
    write_parts(
        engine, f"SELECT {columns}, {shard} AS shard FROM ({rows})", "shard", folder / "rows"
    )
    return {**stated, "read": counts.read, "dropped": dict(counts.dropped)}


def read_whole(job: ShardedImport, engine: Engine, _: int, folder: Path) -> dict[str, Any]:
    """Make what all shards need: the tables without users, the items, and `Log.whole`."""
    repeated = {}
    for place, (name, table) in enumerate(job.log.tables.items()):
        counts, filled = _read_counts(job, name)
        files = [file for group in job.groups if group.table == name for file in group.files]
        report_empty(
            name,
            len(files),
            [file.path for file in files if file not in filled],
            files[0],
        )
        report_order(name, table, filled, job.raw)
        refuse_no_rows(counts, filled[0])
        rows = _staged(job, name, None)
        if table.user:
            engine.run(f"CREATE VIEW {quoted(name)} AS {rows}")
            continue
        kept = keep_rows(engine, name, table, rows, counts, filled)
        repeated[name] = kept.dropped.get(REPEATED, 0)
        report_suspects(name, table, count_suspects(engine, name, table))
        report_listed(name, table, count_listed(engine, name, table))
        write_parquet(engine, f"SELECT * FROM {quoted(name)}", folder / f"table-{place}.parquet")
    for place, select in enumerate(job.log.whole.values()):
        write_parquet(engine, select, folder / f"whole-{place}.parquet")
    make_lookup(engine, "items", job.log.items)
    if job.log.items is not None:
        write_parquet(engine, "SELECT * FROM core.items", folder / "items.parquet")
    return {"repeated": repeated}


def keep_shard(job: ShardedImport, engine: Engine, shard: int, folder: Path) -> dict[str, Any]:
    """Write the impressions of a shard that are kept, its users, its events and its profiles."""
    log, whole = job.log, job.piece("whole")
    repeated, suspects, listed = {}, {}, {}
    for place, (name, table) in enumerate(log.tables.items()):
        if not table.user:
            rows = parquet([whole / f"table-{place}.parquet"])
            engine.run(f"CREATE VIEW {quoted(name)} AS SELECT * FROM {rows}")
            continue
        rows = _staged(job, name, shard)
        counts = RowCounts(engine.value(f"SELECT count(*) FROM ({rows})"), {})
        filled = _read_counts(job, name)[1]
        kept = keep_rows(engine, name, table, rows, counts, filled)
        repeated[name] = kept.dropped.get(REPEATED, 0)
        suspects[name] = count_suspects(engine, name, table)
        listed[name] = count_listed(engine, name, table)
    for place, name in enumerate(log.whole):
        rows = parquet([whole / f"whole-{place}.parquet"])
        engine.run(f"CREATE VIEW {quoted(name)} AS SELECT * FROM {rows}")
    made = keep_impressions(engine, log)
    write_parquet(engine, "SELECT * FROM __kept", folder / "kept.parquet")
    write_parquet(engine, user_rows(log), folder / "users.parquet")
    if log.events is not None:
        write_parquet(engine, log.events.select, folder / "events.parquet")
    make_lookup(engine, "profiles", log.users)
    if log.users is not None:
        write_parquet(engine, "SELECT * FROM core.profiles", folder / "profiles.parquet")
    return {
        "repeated": repeated,
        "suspects": suspects,
        "listed": listed,
        "read": made.read,
        "dropped": dict(made.dropped),
    }


def number_users(job: ShardedImport, engine: Engine, _: int, folder: Path) -> dict[str, Any]:
    """Find the parts of the log, and number all users.

    Raises:
        UserError: a user has impressions in several shards, or the log has none, or no test rows.
    """
    made = job.documents("rows")
    for name, counts in table_counts(job).items():
        log_counts(name, counts)
        if job.log.tables[name].user:
            table = job.log.tables[name]
            report_suspects(name, table, _added([one["suspects"][name] for one in made]))
            report_listed(name, table, _added_lists([one["listed"][name] for one in made]))
    counts = added_counts(made)
    refuse_none(counts)
    if counts.kept < counts.read:
        log_counts("impressions", counts)
    files = [job.piece("rows", shard) / "kept.parquet" for shard in range(job.n_shards)]
    engine.run(f"CREATE VIEW __kept AS SELECT * FROM {parquet(files)}")
    parts = find_parts(engine, job.log)
    users = " UNION ALL ".join(
        f"SELECT *, {shard} AS shard FROM {parquet([job.piece('rows', shard) / 'users.parquet'])}"
        for shard in range(job.n_shards)
    )
    twice = engine.rows(
        f"SELECT user::VARCHAR FROM ({users}) GROUP BY user HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
    )
    if twice:
        raise UserError(
            f"--shards: user {twice[0][0]} has impressions in several shards, because a table of this importer does not say whose "
            "rows it has (`user` in its declaration); leave out --shards"
        )
    numbered = numbered_users(job.log, parts, users, ", shard")
    write_parts(engine, numbered, "shard", folder / "users")
    n = engine.value(f"SELECT count(*) FROM {parquet(part_files(folder / 'users', None))}")
    return {"boundary": parts.boundary, "first_given": parts.first_given, "n_users": n}


def parts_of(job: ShardedImport) -> Parts:
    """Return the parts as `number_users` has found them."""
    found = job.document("users")
    return Parts(found["boundary"], found["first_given"])


def open_shard(job: ShardedImport, engine: Engine, shard: int) -> Rows | None:
    """Create `__kept`, `core.users`, `core.items` and `core.profiles` of a shard; return the rows of its own events."""
    log, rows = job.log, job.piece("rows", shard)
    views = {"__kept": [rows / "kept.parquet"]}
    if log.items is not None:
        views["core.items"] = [job.piece("whole") / "items.parquet"]
    if log.users is not None:
        views["core.profiles"] = [rows / "profiles.parquet"]
    for name, files in views.items():
        engine.run(f"CREATE VIEW {name} AS SELECT * FROM {parquet(files)}")
    users = part_files(job.piece("users") / "users", shard)
    engine.run(f"CREATE TABLE core.users AS SELECT * FROM {parquet(users)}")
    if log.events is None:
        return None
    return replace(log.events, select=f"SELECT * FROM {parquet([rows / 'events.parquet'])}")


def table_counts(job: ShardedImport) -> dict[str, RowCounts]:
    """Return the row counts of all raw tables, when the shards have dropped their repeats."""
    made = [job.document("whole"), *job.documents("rows")]
    found = {}
    for name, table in job.log.tables.items():
        counts, _ = _read_counts(job, name)
        if table.drop_repeats:
            n = sum(one["repeated"].get(name, 0) for one in made)
            counts = RowCounts(counts.read, {**counts.dropped, REPEATED: n})
        found[name] = counts
    return found


def added_counts(documents: list[dict[str, Any]]) -> RowCounts:
    """Return the sum of the counts `read` and `dropped` in documents of pieces."""
    dropped: dict[str, int] = {}
    for one in documents:
        for reason, n in one["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + n
    return RowCounts(sum(one["read"] for one in documents), dropped)


def _added(found: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for one in found:
        for column, counts in one.items():
            own = total.setdefault(column, {})
            for cell, n in counts.items():
                own[cell] = own.get(cell, 0) + n
    return total


def _added_lists(
    found: list[dict[str, tuple[int, int, str | None]]],
) -> dict[str, tuple[int, int, str]]:
    total = {}
    for column in found[0]:
        of_column = [one[column] for one in found]
        example = min((one[2] for one in of_column if one[2] is not None), default="")
        total[column] = (
            sum(one[0] for one in of_column),
            sum(one[1] for one in of_column),
            example,
        )
    return total


def _read_counts(job: ShardedImport, name: str) -> tuple[RowCounts, list[RawFile]]:
    """The counts of a raw table before repeats are dropped, and its files that are not empty."""
    documents, filled = [], []
    for number, group in enumerate(job.groups):
        if group.table == name:
            documents.append(job.document("read", number))
            empty = set(documents[-1]["empty"])
            filled += [file for file in group.files if str(file.path) not in empty]
    return added_counts(documents), filled


def _staged(job: ShardedImport, name: str, shard: int | None) -> str:
    """Return a SELECT of the rows of a raw table, of one shard or of all."""
    table = job.log.tables[name]
    files: list[Path] = []
    selects, before = [], 0
    for number, group in enumerate(job.groups):
        folder = job.piece("read", number) / "rows"
        if group.table != name or not folder.is_dir():
            continue
        of_group = part_files(folder, shard)
        if table.has_row_numbers:
            selects.append(_named(table, of_group, before))
            before += job.document("read", number)["read"]
        files += of_group
    return " UNION ALL ".join(selects) or _named(table, files, 0)


def _named(table: Table, files: list[Path], n_before: int) -> str:
    """Return a SELECT with the names of the columns; the numbers of rows count from `n_before`."""
    columns = ", ".join(
        f"c{i}{f' + {n_before}' if kind == 'row' else ''} AS {quoted(name)}"
        for i, (name, kind) in enumerate(table.columns.items())
    )
    return f"SELECT {columns} FROM {parquet(files)}"
