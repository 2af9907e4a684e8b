"""`import_log`: the whole way from a declared log to a store; it calls the other modules of this folder in order."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.atomic_files import atomic_folder
from scaling.importers.declaration import Log
from scaling.importers.pipeline.engine import Engine, Limits, Progress, Report
from scaling.importers.pipeline.id_joins import find_lost, found_counts, make_lookups, report_found
from scaling.importers.pipeline.negatives import draw_negatives
from scaling.importers.pipeline.reading import read_table
from scaling.importers.pipeline.row_selection import make_rows
from scaling.importers.pipeline.sorted_output import write_rows
from scaling.importers.pipeline.vocabularies import (
    cell_columns,
    check_names,
    find_features,
    make_vocabularies,
    rank_all,
    split_lists,
    training_numbers,
)
from scaling.importers.sql import quoted
from scaling.store import EventStore, open_store

__all__ = ["import_log"]


# Usual share of the time of each step, in percent; used only to estimate the time left.
SHARES = {
    "reading": 30.0,
    "making rows": 15.0,
    "counting values": 10.0,
    "drawing negatives": 10.0,
    "encoding": 10.0,
    "writing events": 10.0,
    "writing impressions": 20.0,
}


def import_log(
    log: Log,
    raw: Path,
    out: Path,
    source: Mapping[str, Any],
    limits: Limits,
    report: Report | None = None,
) -> EventStore:
    """Import `log` from the folder `raw` into a new store at `out` and open it.

    `source` states where the log comes from; the numbers of rows read, kept and dropped of every table are added
    to it. Temporary files are written beside `out` and need about twice the size of the unpacked input.

    Raises:
        UserError: the input is bad (with file and line), or `out` cannot be written; nothing is left behind.
    """
    check_names(out, log)
    shares = {k: v for k, v in SHARES.items() if log.negatives or k != "drawing negatives"}
    progress = Progress(shares, report)
    with atomic_folder(out) as folder:
        work = folder / "work"
        work.mkdir()
        with Engine(work, limits, progress) as engine:
            with progress.step("reading"):
                counts = {
                    name: read_table(engine, name, table, raw) for name, table in log.tables.items()
                }
            with progress.step("making rows"):
                for name, select in log.whole.items():
                    engine.run(f"CREATE TABLE {quoted(name)} AS {select}")
                made, boundary = make_rows(engine, log)
                make_lookups(engine, log)
                features = find_features(engine, log)
                found = find_lost(engine, log, features)
                report_found(log, found)
            with progress.step("counting values"):
                columns = cell_columns(log, features)
                cut = split_lists(engine, log, columns)
                schema = make_vocabularies(engine, log, features)
                numbers = training_numbers(log, features)
                cells, moments = rank_all(engine, log, schema, columns, numbers)
            if log.negatives is not None:
                with progress.step("drawing negatives"):
                    made["negatives"] = draw_negatives(engine, log, features)
            for name, count in made.items():
                # A raw table of the same name may have dropped rows before; both counts are reported as one.
                counts[name] = counts[name].followed_by(count) if name in counts else count
            facts = {
                "rows": {name: count.to_json() for name, count in counts.items()},
                "found": found_counts(log, found),
                "cut_cells": cut,
                "standardised": moments,
            }
            write_rows(
                engine,
                log,
                features,
                schema,
                folder,
                cells,
                boundary=boundary,
                source={
                    **source,
                    **{name: fact for name, fact in facts.items() if fact},
                    **log.facts,
                },
            )
        shutil.rmtree(work)
    return open_store(out)
