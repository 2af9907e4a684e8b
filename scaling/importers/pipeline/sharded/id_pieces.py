"""The middle jobs of a sharded import: values counted by shard and numbered over all, and the encoded rows of each shard.

Each function makes one piece: it writes into a folder, and returns what the piece states.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.importers.pipeline.cell_ranks import (
    CellColumn,
    RankedCells,
    cell_files,
    map_cells,
    rank_table,
)
from scaling.importers.pipeline.engine import Engine
from scaling.importers.pipeline.id_joins import Found, encode_items, find_lost, report_found
from scaling.importers.pipeline.negatives import (
    POOL_COUNTS,
    check_candidates,
    draw_from_pool,
    make_pool,
)
from scaling.importers.pipeline.reading import log_counts
from scaling.importers.pipeline.row_selection import make_parts, part_sizes, refuse_empty_part
from scaling.importers.pipeline.sharded.raw_pieces import added_counts, open_shard, parts_of
from scaling.importers.pipeline.sharded.work_folder import (
    ShardedImport,
    parquet,
    part_files,
    write_parquet,
    write_parts,
)
from scaling.importers.pipeline.sorted_output import (
    count_values,
    encode_impressions,
    encoded_events,
    encoded_profiles,
    impressions_with_history,
    training_sizes,
)
from scaling.importers.pipeline.vocabularies import (
    ITEMS,
    Counted,
    Features,
    cell_columns,
    find_features,
    has_item_features,
    item_counts,
    number_values,
    rank_all,
    ranked_features,
    schema_of,
    split_lists,
    training_numbers,
    value_counts,
    vocabulary_table,
)
from scaling.store import Schema

__all__ = [
    "count_shard",
    "encode_shard",
    "found_of",
    "number_ids",
    "place_rows",
    "ranked_cells",
    "schema_of_job",
]


# Keys of so many impressions of each shard tell how to cut all into ranges of about the same size.
_SAMPLE = 10_000
# An impression's part, time (before 2100) and user (int32) as one number in the order of the store: 1, 32 and 31 bits.
_PLACE = (
    "(in_test::UTINYINT::UBIGINT * 9223372036854775808::UBIGINT "
    "+ time::UBIGINT * 2147483648::UBIGINT + user::UBIGINT)"
)


def count_shard(job: ShardedImport, engine: Engine, shard: int, folder: Path) -> dict[str, Any]:
    """Make the events of a shard; count the values of each vocabulary, the items, and the events of each user."""
    events = open_shard(job, engine, shard)
    log = replace(job.log, events=events)
    counts = make_parts(engine, log, parts_of(job))
    features = find_features(engine, log)
    if log.negatives is not None:
        check_candidates(log, features)
        write_parquet(engine, POOL_COUNTS, folder / "pool.parquet")
    if events is not None:
        write_parquet(engine, "SELECT * FROM __events", folder / "events.parquet")
    for file, selects in _files_of_counts(value_counts(log, features, of_items=False)).items():
        counted = (
            f"SELECT value, sum(n)::BIGINT AS n FROM ({' UNION ALL '.join(selects)}) GROUP BY value"
        )
        write_parquet(engine, counted, folder / file)
    for name, columns in cell_columns(log, features).items():
        own = [
            f"SELECT {one.column} AS value FROM {one.rows}" for one in columns if one.rows != ITEMS
        ]
        if own:
            cells = f"SELECT value, count(*) AS n FROM ({' UNION ALL '.join(own)}) GROUP BY value"
            write_parquet(engine, cells, folder / f"cells-{name}.parquet")
    for name, numbers in training_numbers(log, features).items():
        write_parquet(engine, numbers, folder / f"numbers-{name}.parquet")
    if has_item_features(log, features):
        items = f"SELECT item, n::BIGINT AS n FROM ({item_counts(log, features)})"
        write_parquet(engine, items, folder / "item_counts.parquet")
    write_parquet(
        engine,
        "SELECT number, coalesce(n, 0)::BIGINT AS n FROM core.users LEFT JOIN "
        "(SELECT __user AS number, count(*) AS n FROM __events GROUP BY ALL) USING (number)",
        folder / "user_events.parquet",
    )
    places = "SELECT p.__test AS in_test, p.time, u.number AS user FROM __impressions p JOIN core.users u USING (user)"
    sample = (
        f"SELECT {_PLACE} FROM ({places}) USING SAMPLE reservoir({_SAMPLE} ROWS) REPEATABLE (1)"
    )
    n, n_test = part_sizes(engine)
    made = counts.get("events")
    return {
        "n": n,
        "n_test": n_test,
        "n_events": engine.value("SELECT count(*) FROM __events"),
        "read": made.read if made else 0,
        "dropped": dict(made.dropped) if made else {},
        "found": find_lost(engine, log, features),
        "features": asdict(features),
        "sample": [row[0] for row in engine.rows(sample)],
    }


def number_ids(job: ShardedImport, engine: Engine, _: int, folder: Path) -> dict[str, Any]:
    """Number the values of each vocabulary, and make the pool of negatives, over all shards."""
    log, made = job.log, job.documents("values")
    events = added_counts(made)
    if log.events is not None and events.kept < events.read:
        log_counts("events", events)
    refuse_empty_part(sum(one["n"] for one in made), sum(one["n_test"] for one in made))
    report_found(job.log, found_of(job))
    features = Features(**made[0]["features"])
    if log.items is not None:
        engine.run(
            f"CREATE VIEW core.items AS SELECT * FROM {parquet([job.piece('whole') / 'items.parquet'])}"
        )
    if has_item_features(log, features):
        rows = parquet(_of_shards(job, "values", "item_counts.parquet"))
        engine.run(
            f"CREATE TABLE core.item_counts AS SELECT item, sum(n)::BIGINT AS n FROM {rows} GROUP BY item"
        )
    columns = {
        name: [*_cells_of(job, name, own)] for name, own in cell_columns(log, features).items()
    }
    cut = split_lists(engine, log, columns)
    schema = number_values(engine, log, _all_counts(job, features))
    numbers = {
        name: f"SELECT value, n FROM {parquet(_of_shards(job, 'values', f'numbers-{name}.parquet'))}"
        for name in log.event_numeric
    }
    moments = rank_all(engine, log, schema, columns, numbers)[1]
    for table, file in _id_tables(job, schema).items():
        write_parquet(engine, f"SELECT value, id FROM {table}", folder / file)
    for feature in ranked_features(schema):
        for path in cell_files(engine.folder, feature):
            shutil.copyfile(path, folder / path.name)
    encode_items(engine, schema, features)
    if has_item_features(log, features):
        write_parquet(engine, "SELECT * FROM core.item_ids", folder / "item_ids.parquet")
    if log.negatives is not None:
        rows = parquet(_of_shards(job, "values", "pool.parquet"))
        make_pool(engine, f"SELECT __test, item, sum(n)::BIGINT AS n FROM {rows} GROUP BY ALL")
        write_parquet(engine, "SELECT * FROM core.pool", folder / "pool.parquet")
    return {"vocabularies": schema.vocabularies, "cut_cells": cut, "standardised": moments}


def _cells_of(job: ShardedImport, name: str, columns: Sequence[CellColumn]) -> Iterator[CellColumn]:
    """Yield the columns of a feature's cells over all shards: those of the items, and the counts of the shards."""
    yield from (one for one in columns if one.rows == ITEMS)
    if any(one.rows != ITEMS for one in columns):
        files = _of_shards(job, "values", f"cells-{name}.parquet")
        yield CellColumn("value", parquet(files), "n")


def _files_of_counts(counts: Mapping[str, Sequence[Counted]]) -> dict[str, list[str]]:
    """Return the SELECTs of a shard by the name of the file of their sum, one for each vocabulary and list feature."""
    files: dict[str, list[str]] = {}
    for place, counted in enumerate(counts.values()):
        for one in counted:
            files.setdefault(f"values-{place}-{one.of_list}.parquet", []).append(one.select)
    return files


def _all_counts(job: ShardedImport, features: Features) -> dict[str, list[Counted]]:
    """Return the counts of values over all shards."""
    of_rows, of_items = (value_counts(job.log, features, of_items=items) for items in (False, True))
    counts: dict[str, list[Counted]] = {}
    for place, name in enumerate(of_rows):
        counts[name] = [*of_items[name]]
        for of_list in sorted({one.of_list for one in of_rows[name]}):
            files = _of_shards(job, "values", f"values-{place}-{of_list}.parquet")
            counts[name].append(Counted(f"SELECT value, n FROM {parquet(files)}", of_list))
    return counts


def _id_tables(job: ShardedImport, schema: Schema) -> dict[str, str]:
    """Return the tables with the ids of values and the ranks of cells, and the names of their files."""
    names = [name for name in schema.vocabularies if name not in job.log.event_numeric]
    tables = {vocabulary_table(name): f"vocabulary-{i}.parquet" for i, name in enumerate(names)}
    ranked = [feature.name for feature in ranked_features(schema)]
    return tables | {rank_table(name): f"ranks-{name}.parquet" for name in ranked}


def place_rows(job: ShardedImport, engine: Engine, _: int, folder: Path) -> dict[str, Any]:
    """Find where each user's events begin in the store, and cut users and impressions into ranges of about the same size."""
    users = " UNION ALL ".join(
        f"SELECT *, {shard} AS shard FROM {parquet([file])}"
        for shard, file in enumerate(_of_shards(job, "values", "user_events.parquet"))
    )
    engine.run(
        "CREATE TABLE core.ends AS SELECT number, shard, n, "
        f"(sum(n) OVER (ORDER BY number ROWS UNBOUNDED PRECEDING))::BIGINT AS last FROM ({users})"
    )
    firsts = "SELECT number, last - n AS first, shard FROM core.ends"
    write_parts(engine, firsts, "shard", folder / "firsts")
    with (folder / "offsets.bin").open("wb") as stream:
        stream.write(np.zeros(1, dtype=np.int64).data)
        for piece in engine.stream("SELECT last FROM core.ends ORDER BY number"):
            stream.write(np.ascontiguousarray(piece["last"], dtype=np.int64).data)
    # a user without events counts, too, because it has a profile
    total = engine.value("SELECT coalesce(max(last), 0) + count(*) FROM core.ends")
    starts = engine.rows(
        f"SELECT min(number) FROM core.ends GROUP BY (last + number) * {job.n_shards} // {total} ORDER BY 1"
    )
    return {
        "users": [start for (start,) in starts][1:],
        "impressions": _quantiles(job),
    }


def _quantiles(job: ShardedImport) -> list[int]:
    """Return the places at which the impressions are cut, from the samples of the shards."""
    weighted = sorted(
        (place, one["n"] / len(one["sample"]))
        for one in job.documents("values")
        for place in one["sample"]
    )
    below = np.cumsum([weight for _, weight in weighted])
    wanted = np.arange(1, job.n_shards) * below[-1] / job.n_shards
    cuts = {weighted[i][0] for i in np.searchsorted(below, wanted)}
    return sorted(cuts - {weighted[0][0]})


def encode_shard(job: ShardedImport, engine: Engine, shard: int, folder: Path) -> dict[str, Any]:
    """Draw the negatives of a shard and encode its rows; write them by the ranges in which they are in the store."""
    open_shard(job, engine, shard)
    make_parts(engine, replace(job.log, events=None), parts_of(job))
    if job.log.events is not None:
        rows = parquet([job.piece("values", shard) / "events.parquet"])
        engine.run(f"CREATE OR REPLACE VIEW __events AS SELECT * FROM {rows}")
    features = Features(**job.document("values")["features"])
    schema, ids = schema_of_job(job), job.piece("ids")
    tables = _id_tables(job, schema)
    if has_item_features(job.log, features):
        tables["core.item_ids"] = "item_ids.parquet"
    if job.log.negatives is not None:
        tables["core.pool"] = "pool.parquet"
    for table, file in tables.items():
        engine.run(f"CREATE VIEW {table} AS SELECT * FROM {parquet([ids / file])}")
    firsts = parquet(part_files(job.piece("ids", 1) / "firsts", shard))
    stated = {}
    if job.log.negatives is not None:
        counts = draw_from_pool(engine, job.log, features)
        stated = {"read": counts.read, "dropped": dict(counts.dropped)}
    encode_impressions(engine, job.log, features, schema)
    bounds = job.document("ids", 1)
    of_event, of_profile = (_range_of(column, bounds["users"]) for column in ("user", "number"))
    of_impression = _range_of("place", bounds["impressions"])
    rows = (
        f"SELECT r.* EXCLUDE (seen), seen, f.first + r.seen AS history_end, {_PLACE} AS place "
        f"FROM ({impressions_with_history()}) r JOIN {firsts} f ON r.user = f.number"
    )
    engine.run(
        f"CREATE TABLE core.placed AS SELECT * EXCLUDE (place), {of_impression} AS range FROM ({rows})"
    )
    write_parts(engine, "SELECT * EXCLUDE (seen) FROM core.placed", "range", folder / "impressions")
    lengths = dict(engine.rows("SELECT seen, count(*) FROM core.placed GROUP BY seen"))
    n_of_length = np.zeros(max(lengths, default=0) + 1, dtype=np.int64)
    n_of_length[list(lengths)] = list(lengths.values())
    np.save(folder / "lengths.npy", n_of_length)
    events = encoded_events(schema, features)
    write_parts(
        engine,
        f"SELECT *, {of_event} AS range FROM ({events})",
        "range",
        folder / "events",
    )
    if schema.profile:
        profiles = encoded_profiles(schema, features)
        write_parts(
            engine,
            f"SELECT *, {of_profile} AS range FROM ({profiles})",
            "range",
            folder / "profiles",
        )
    ranked = ranked_cells(job)
    sizes = engine.rows(
        "SELECT range, sum(n)::BIGINT, count(*) FROM "
        "(SELECT range, count(*) AS n FROM core.placed GROUP BY range, in_test, time, user) GROUP BY range ORDER BY range"
    )
    return {
        **stated,
        "sizes": training_sizes(engine),
        "n_values": count_values(engine, features, schema, ranked),
        "requests": {str(number): n_requests for number, _, n_requests in sizes},
    }


def schema_of_job(job: ShardedImport) -> Schema:
    """Return the store's schema, when the ids are numbered."""
    return schema_of(job.log, job.document("ids")["vocabularies"])


def ranked_cells(job: ShardedImport) -> dict[str, RankedCells]:
    """Return the cells of the features that are not plain, when the ids are numbered."""
    features = ranked_features(schema_of_job(job))
    return {feature.name: map_cells(job.piece("ids"), feature) for feature in features}


def found_of(job: ShardedImport) -> list[Found]:
    """Return how many rows of all shards have a row in the items and in the users."""
    shards = [[Found(*one) for one in made["found"]] for made in job.documents("values")]
    found = []
    for of_one in zip(*shards, strict=True):
        lost = min((one.lost for one in of_one if one.lost is not None), default=None)
        other = min((one.other for one in of_one if one.other is not None), default=None)
        n_found, n = (sum(getattr(one, name) for one in of_one) for name in ("n_found", "n"))
        found.append(of_one[0]._replace(n_found=n_found, n=n, lost=lost, other=other))
    return found


def _of_shards(job: ShardedImport, phase: str, name: str) -> list[Path]:
    return [job.piece(phase, shard) / name for shard in range(job.n_shards)]


def _range_of(value: str, bounds: Sequence[int]) -> str:
    """Return SQL for the number of bounds that are at most `value`, by halving."""

    def between(low: int, high: int) -> str:
        if low == high:
            return str(low)
        middle = (low + high) // 2
        return f"CASE WHEN {value} < {bounds[middle]}::UBIGINT THEN {between(low, middle)} ELSE {between(middle + 1, high)} END"

    return f"({between(0, len(bounds))})"
