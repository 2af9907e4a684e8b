"""Features with several values or with weights: rows carry the rank of their cell until they are written.

Each distinct cell is split and encoded once. Ranks follow the order of the cells' contents, so that rows sorted by ranks
have the order of `scaling.store.rows`. A number of an event is such a cell, too: one id whose weight is the number.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scaling.arrays import Array
from scaling.errors import UserError
from scaling.importers.declaration import EventNumber, ListFeature
from scaling.importers.list_cells import cell_values, cell_weights, is_value
from scaling.importers.pipeline.engine import Engine
from scaling.importers.sql import quoted
from scaling.store import UNKNOWN, Feature, Schema, feature_arrays

__all__ = [
    "Append",
    "CellColumn",
    "RankedCells",
    "cell_files",
    "counts_in_cells",
    "expanding",
    "map_cells",
    "rank_cells",
    "rank_numbers",
    "rank_table",
    "split_cells",
    "standardisation",
]


logger = logging.getLogger(__name__)
# Takes the name of an array and its next rows.
Append = Callable[[str, Array], None]
PRESENT = UNKNOWN + 1  # the id of a number that is there


class CellColumn(NamedTuple):
    """A column, the rows that have it, and the number of cells that a row counts as; all are SQL."""

    column: str
    rows: str
    n: str = "1"


@dataclass(frozen=True)
class RankedCells:
    """The distinct cells of one feature, by rank.

    Attributes:
        ids: of all cells, one after the other.
        offsets: where each cell begins in `ids`, and the end of the last one, int64.
        weights: of the ids, float32; None: all are 1.
    """

    ids: Array
    offsets: Array
    weights: Array | None

    def count_ids(self, engine: Engine, ranks: str) -> int:
        """Return the number of ids in all cells of the SELECT `ranks`, whose only column is `id`."""
        total = 0
        for piece in engine.stream(f"SELECT id, count(*)::BIGINT AS n FROM ({ranks}) GROUP BY id"):
            rank = piece["id"]
            total += int(((self.offsets[rank + 1] - self.offsets[rank]) * piece["n"]).sum())
        return total


def rank_table(name: str) -> str:
    """Return the quoted name of the table with the rank `id` of each cell `value` of a feature; null is one, too."""
    return f"core.{quoted(f'ranks of {name}')}"


def split_cells(engine: Engine, name: str, rule: ListFeature, columns: Sequence[CellColumn]) -> int:
    """Create the table of the distinct cells of a feature with their values; return how many cells of all rows were cut.

    The table has the columns `value` (the cell), `number`, `values` (those that are kept), `weights` and `cut`.
    """
    distinct = _distinct(columns)
    weights = cell_weights("value", rule) if rule.weighted else "[]::DOUBLE[]"
    sql = (
        f"SELECT value, {cell_values('value', rule)} AS entries, {weights} AS weights FROM ({distinct}) "
        "WHERE value IS NOT NULL"
    )
    sql = f"SELECT *, list_filter(entries, lambda x: {is_value('x', rule)}) AS filled FROM ({sql})"
    first = "list_filter(filled, lambda x, i: list_position(filled, x) = i)"
    sql = f"SELECT *, {first} AS found FROM ({sql})"
    kept = f"found[:{rule.max_values}]"
    sql = f"SELECT *, {kept} AS kept FROM ({sql})"
    values, weights = "kept", "weights"
    if rule.weighted:  # equal values stay, so that their weights are added
        pairs = "list_filter(list_zip(entries, weights), lambda p: list_contains(kept, p[1]))"
        values, weights = (f"list_transform({pairs}, lambda p: p[{i}])" for i in (1, 2))
    engine.run(
        f"CREATE TABLE {_split_table(name)} AS SELECT value, row_number() OVER () AS number, {values} AS values, "
        f"{weights} AS weights, len(found) > {rule.max_values} AS cut FROM ({sql})"
    )
    _warn_of_separator(engine, name, rule)
    cells = f"(SELECT value FROM {_split_table(name)} WHERE cut)"
    cut = 0
    if engine.value(f"SELECT count(*) FROM {cells}"):
        for column, rows, n in columns:
            cut += engine.value(
                f"SELECT coalesce(sum(n), 0)::BIGINT FROM (SELECT {column} AS value, {n} AS n FROM {rows}) "
                f"JOIN {cells} USING (value)"
            )
        logger.warning(
            "%s: %s cells have more than %d distinct values; the first %d of these are kept",
            *(name, f"{cut:,}", rule.max_values, rule.max_values),
        )
    return cut


def _warn_of_separator(engine: Engine, name: str, rule: ListFeature) -> None:
    most, example = engine.rows(
        f"SELECT max(len(values)), max(value) FROM {_split_table(name)} WHERE NOT starts_with(value, chr(31))"
    )[0]
    if most == 1:
        logger.warning(
            "%s: no cell has more than one value, e.g. %r; is the separator really %r?",
            *(name, example, rule.separator),
        )


def counts_in_cells(name: str, counted: str) -> str:
    """Return a SELECT of the values in a list feature's cells and their counts, from that of the cells and theirs."""
    values = (
        f"SELECT unnest(list_distinct(c.values)) AS value, n FROM ({counted}) s "
        f"JOIN {_split_table(name)} c ON c.value = s.value"
    )
    return f"SELECT value, sum(n) AS n FROM ({values}) GROUP BY value"


def rank_cells(engine: Engine, feature: Feature) -> RankedCells:
    """Create the table of ranks of a list feature, whose cells are split and whose vocabulary is there.

    Raises:
        UserError: the weights of a cell add up to more than 32 bits hold.
    """
    split, vocabulary = _split_table(feature.name), f"vocabulary {feature.vocabulary}"
    entries = (
        "SELECT number, unnest(values) AS value, generate_subscripts(values, 1) AS place"
        + (", unnest(weights) AS weight" if feature.weighted else ", 1::DOUBLE AS weight")
        + f" FROM {split}"
    )
    coded = (
        f"SELECT e.number, coalesce(v.id, {UNKNOWN})::UINTEGER AS id, e.weight, e.place FROM ({entries}) e "
        f"LEFT JOIN core.{quoted(vocabulary)} v ON v.value::VARCHAR = e.value"
    )
    if feature.weighted:
        # sorted by place, too, because a sum of real numbers depends on their order
        triples = "list_sort(list({'id': id, 'place': place, 'weight': weight}))"
        ids = "list_sort(list_distinct(list_transform(triples, lambda t: t.id)))"
        own = "list_transform(list_filter(triples, lambda t: t.id = x), lambda t: t.weight)"
        total = f"coalesce(TRY_CAST(list_sum({own}) AS FLOAT), 'inf'::FLOAT)"
        weights = f"list_transform(ids, lambda x: {total} + 0::FLOAT)"
        cells = f"SELECT number, {triples} AS triples FROM ({coded}) GROUP BY number"
        cells = f"SELECT *, {ids} AS ids FROM ({cells})"
        cells = f"SELECT number, ids, {weights} AS weights FROM ({cells})"
    else:
        ids = "list_sort(list_distinct(list(id)))"
        cells = f"SELECT number, ids, list_transform(ids, lambda x: 1::FLOAT) AS weights FROM (SELECT number, {ids} AS ids FROM ({coded}) GROUP BY number)"
    every = (
        f"SELECT s.value, coalesce(c.ids, [{UNKNOWN}]::UINTEGER[]) AS ids, coalesce(c.weights, [1]::FLOAT[]) AS weights "
        f"FROM (SELECT value, number FROM {split} UNION ALL SELECT NULL, NULL) s LEFT JOIN ({cells}) c USING (number)"
    )
    order = "ids, weights" if feature.weighted else "ids"
    engine.run(
        f"CREATE TABLE {rank_table(feature.name)} AS "
        f"SELECT *, (dense_rank() OVER (ORDER BY {order}) - 1)::UINTEGER AS id FROM ({every})"
    )
    engine.run(f"DROP TABLE {split}")
    one_of_each = f"SELECT id, any_value(ids) AS ids, any_value(weights) AS weights FROM {rank_table(feature.name)} GROUP BY id"
    ranked = _read_cells(engine, feature, one_of_each)
    if ranked.weights is not None and not np.isfinite(ranked.weights).all():
        raise UserError(
            f"{feature.name}: the weights of a value in one cell add up to more than 32 bits hold"
        )
    return ranked


def standardisation(engine: Engine, numbers: str) -> tuple[float, float]:
    """Return the mean and the standard deviation (1 if it is 0) of the numbers in a SELECT of `value` and its count `n`.

    Sums are exact before they are rounded, so they depend neither on the order of the rows nor on threads.
    """
    table = "core.counted_numbers"
    engine.run(
        f"CREATE OR REPLACE TABLE {table} AS SELECT value::DOUBLE + 0::DOUBLE AS value, sum(n)::DOUBLE AS n "
        f"FROM ({numbers}) WHERE value IS NOT NULL GROUP BY value"
    )

    def terms(term: Callable[[Array, Array], Array]) -> Iterator[float]:
        for piece in engine.stream(f"SELECT * FROM {table}"):
            yield from term(piece["value"], piece["n"]).tolist()

    kinds, n, first = engine.rows(f"SELECT count(*), sum(n), min(value) FROM {table}")[0]
    if kinds < 2:
        return (first or 0.0), 1.0
    mean = math.fsum(terms(lambda value, count: value * count)) / n
    variance = math.fsum(terms(lambda value, count: count * (value - mean) ** 2)) / n
    return mean, math.sqrt(variance) or 1.0


def rank_numbers(
    engine: Engine,
    feature: Feature,
    rule: EventNumber,
    moments: tuple[float, float],
    columns: Sequence[CellColumn],
) -> RankedCells:
    """Create the table of ranks of a number of events, from its mean and standard deviation.

    Raises:
        UserError: a number, or its distance from the mean, does not fit in 32 bits.
    """
    distinct = _distinct(columns, "::DOUBLE")
    mean, deviation = (f"'{moment!r}'::DOUBLE" for moment in moments)
    number = "value" if rule.fill is None else f"coalesce(value, '{rule.fill!r}'::DOUBLE)"
    # -0 and 0 are equal in a sort but differ in their bytes.
    weight = f"(({number} - {mean}) / {deviation})::FLOAT + 0::FLOAT"
    tried = f"(TRY_CAST(({number} - {mean}) / {deviation} AS FLOAT))"
    bad = engine.rows(
        f"SELECT value FROM ({distinct}) WHERE value IS NOT NULL AND NOT coalesce(isfinite({tried}), false) ORDER BY 1 LIMIT 1"
    )
    if bad:
        raise UserError(
            f"events: {feature.name} is {bad[0][0]}, expected a finite number whose distance from the mean has 32 bits"
        )
    cells = (
        f"SELECT value, CASE WHEN {number} IS NULL THEN {UNKNOWN} ELSE {PRESENT} END::UINTEGER AS one, "
        f"coalesce({weight}, 1::FLOAT) AS weight FROM ({distinct} UNION SELECT NULL::DOUBLE)"
    )
    engine.run(
        f"CREATE TABLE {rank_table(feature.name)} AS "
        f"SELECT *, (dense_rank() OVER (ORDER BY one, weight) - 1)::UINTEGER AS id FROM ({cells})"
    )
    one_of_each = f"SELECT id, [any_value(one)] AS ids, [any_value(weight)] AS weights FROM {rank_table(feature.name)} GROUP BY id"
    return _read_cells(engine, feature, one_of_each)


def expanding(schema: Schema, cells: Mapping[str, RankedCells], append: Append) -> Append:
    """Return a function that appends the cells where a feature's array is given ranks; it begins the arrays of offsets."""
    features = {
        path: feature
        for path, feature, _ in feature_arrays(schema, 0, 0, 0)
        if not feature.is_plain
    }
    ends = dict.fromkeys(features, 0)
    for path, feature in features.items():
        if feature.max_values > 1:
            append(f"{path}.offsets", np.zeros(1, dtype=np.int64))

    def expanded(name: str, rows: Array) -> None:
        if name not in features:
            append(name, rows)
            return
        feature = features[name]
        ranked = cells[feature.name]
        begin = ranked.offsets[rows]
        length = ranked.offsets[rows + 1] - begin
        end = np.cumsum(length)
        places = np.arange(end[-1] if len(end) else 0) + np.repeat(begin - (end - length), length)
        append(name, ranked.ids[places])
        if feature.max_values > 1:
            append(f"{name}.offsets", ends[name] + end)
            ends[name] += len(places)
        if ranked.weights is not None:
            append(f"{name}.weights", ranked.weights[places])

    return expanded


def _distinct(columns: Sequence[CellColumn], cast: str = "") -> str:
    selects = " UNION ALL ".join(
        f"SELECT {column}{cast} AS value FROM {rows}" for column, rows, _ in columns
    )
    return f"SELECT DISTINCT value FROM ({selects})"


def _split_table(name: str) -> str:
    return f"core.{quoted(f'cells of {name}')}"


def _read_cells(engine: Engine, feature: Feature, cells: str) -> RankedCells:
    """Write the ids, offsets and weights of cells, ordered by `id`, to files, and map them."""
    lengths = f"SELECT len(ids)::BIGINT AS n FROM ({cells}) ORDER BY id"
    values = f"SELECT id, unnest(ids) AS value, unnest(weights) AS weight FROM ({cells}) ORDER BY id, value"
    files = cell_files(engine.folder, feature)
    with files[0].open("wb") as ids, files[2].open("wb") as weights:
        for piece in engine.stream(values):
            ids.write(piece["value"].astype(np.uint32).data)
            weights.write(piece["weight"].astype(np.float32).data)
    with files[1].open("wb") as offsets:
        end = 0
        offsets.write(np.zeros(1, dtype=np.int64).data)
        for piece in engine.stream(lengths):
            ends = end + np.cumsum(piece["n"], dtype=np.int64)
            end = int(ends[-1])
            offsets.write(ends.data)
    return map_cells(engine.folder, feature)


def cell_files(folder: Path, feature: Feature) -> list[Path]:
    """Return the files with the ids, the offsets and the weights of a feature's cells."""
    return [folder / f"{feature.name}.{part}" for part in ("ids", "offsets", "weights")]


def map_cells(folder: Path, feature: Feature) -> RankedCells:
    """Return the cells of a feature whose files lie in `folder`."""
    mapped = [
        np.memmap(file, dtype, mode="r")
        for file, dtype in zip(
            cell_files(folder, feature), (np.uint32, np.int64, np.float32), strict=True
        )
    ]
    return RankedCells(mapped[0], mapped[1], mapped[2] if feature.weighted else None)
