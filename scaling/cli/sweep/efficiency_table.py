"""What jobs asked and used, as `scaling status --efficiency` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scaling.cli.output import counted, format_hours
from scaling.cli.tables import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sweeps.efficiency import ClassUse, Span

__all__ = ["efficiency_parts", "efficiency_totals"]


# Columns that are shown only where the peak of a device is known.
_OF_PEAKS = ("mfu", "mfu_of")


def efficiency_parts(rows: Sequence[ClassUse]) -> list[str | Table]:
    """Return a table with a row for each resource class, the totals, and what the study fixes for no need."""
    if not rows:
        return ["no job has trained a cell of this study yet"]
    documents = [_columns(row) for row in rows]
    if all(row.mfu is None for row in rows):
        documents = [{k: v for k, v in one.items() if k not in _OF_PEAKS} for one in documents]
    table = Table(list(documents[0]), [list(one.values()) for one in documents])
    return [table, "", _totals_text(rows), *filter(None, map(_fixed_text, rows))]


def efficiency_totals(rows: Sequence[ClassUse]) -> dict[str, Any]:
    """Return the sums over all classes."""
    return {
        "n_jobs": sum(row.n_jobs for row in rows),
        "n_starts": sum(row.n_starts for row in rows),
        "core_hours": sum(row.core_hours for row in rows),
        "gpu_hours": sum(row.gpu_hours for row in rows),
    }


def _columns(row: ClassUse) -> dict[str, object]:
    asked = row.asked
    return {
        "partition": _partition(row),
        "cores": asked.n_cores,
        "gpus": asked.n_gpus,
        "jobs": row.n_jobs,
        "cells": row.n_cells,
        "core_hours": row.core_hours,
        "gpu_hours": row.gpu_hours,
        "busy": row.busy_share,
        "mfu": row.mfu,
        "mfu_of": row.mfu_of,
        "gib_asked": _gib(row),
        "gib_max": row.memory_max_gib,
        "gib_median": row.memory_median_gib,
        "min_asked": asked.minutes,
        "min_longest": row.longest_minutes,
        "gib_next": _span(row.next_memory_gib),
        "min_next": _span(row.next_minutes),
    }


def _totals_text(rows: Sequence[ClassUse]) -> str:
    totals = efficiency_totals(rows)
    by_accounting = [row for row in rows if row.billed_by == "accounting"]
    text = (
        f"{counted(totals['n_jobs'], 'job')}: {format_hours(totals['core_hours'])} core-hours and "
        f"{format_hours(totals['gpu_hours'])} GPU-hours billed, "
        + ("by SLURM's accounting" if len(by_accounting) == len(rows) else "by their own clocks")
    )
    again = totals["n_starts"] - totals["n_jobs"]
    return f"{text}; {counted(again, 'start')} after being queued again" if again else text


def _fixed_text(row: ClassUse) -> str:
    """Return what the study fixes although the estimates say otherwise; empty if nothing."""
    fixed = [
        f"{key} ({_span_text(now)} {unit}; {_span_text(free)} without it)"
        for key, unit, now, free in (
            ("memory_gib", "GiB", row.next_memory_gib, row.free_memory_gib),
            ("time_minutes", "minutes", row.next_minutes, row.free_minutes),
        )
        if now != free
    ]
    where = f"{_partition(row)}, {_gib(row):g} GiB" if row.asked.memory_mib else _partition(row)
    return f"{where}: [slurm] fixes {' and '.join(fixed)}" if fixed else ""


def _partition(row: ClassUse) -> str:
    return row.asked.partition or ("default" if row.asked.cluster == "slurm" else "local")


def _gib(row: ClassUse) -> float | None:
    return None if row.asked.memory_mib is None else row.asked.memory_mib / 1024


def _span(span: Span | None) -> object:
    return span.low if span is not None and span.low == span.high else _span_text(span)


def _span_text(span: Span | None) -> str | None:
    if span is None:
        return None
    return f"{span.low:g}" if span.low == span.high else f"{span.low:g}-{span.high:g}"
