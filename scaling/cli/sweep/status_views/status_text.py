"""The state of a sweep as a table of cells and a line of totals, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scaling.cli.output import format_about, format_duration, format_hours
from scaling.cli.sweep.chosen_cells import chosen_by
from scaling.cli.sweep.plan_verbs import STANDINGS
from scaling.cli.tables import Table

if TYPE_CHECKING:
    from sweeps.planning import Plan

__all__ = ["cell_table", "chosen_rows", "print_status_json", "status_parts", "totals_text"]


_COLUMNS = {
    "signature": "cell",
    "grade": "grade",
    "n_samples": "n_samples",
    "seed": "seed",
    "state": "state",
    "step": "step",
    "samples_per_second": "samples/s",
    "heartbeat_seconds": "heartbeat",
    "attempt": "attempt",
    "loss": "loss",
    "logloss": "logloss",
    "auc": "auc",
    "eta_seconds": "eta",
    "why": "why",
}


def chosen_rows(made: Plan, only: list[str] | None) -> list[dict[str, Any]]:
    """Return `sweeps.status.status_rows` of the chosen cells.

    Raises:
        UserError: a condition is malformed, or no cell meets it.
    """
    from sweeps.status import status_rows

    chosen = {cell.config.signature for cell in chosen_by(made, only)}
    return [
        row
        for row, cell in zip(status_rows(made), made.cells, strict=True)
        if cell.config.signature in chosen
    ]


def print_status_json(made: Plan, only: list[str] | None, indent: int | None) -> None:
    """Print cells and totals as one JSON document."""
    from sweeps.status import status_totals

    document = {
        "study": made.study.name,
        "cells": chosen_rows(made, only),
        "totals": status_totals(made),
    }
    print(json.dumps(document, indent=indent, allow_nan=False), flush=True)


def status_parts(made: Plan, only: list[str] | None) -> list[str | Table]:
    """Return the table of the chosen cells, and the line of totals."""
    from sweeps.status import status_totals

    return [cell_table(chosen_rows(made, only), made), "", totals_text(status_totals(made))]


def cell_table(rows: Sequence[dict[str, Any]], made: Plan, without: Sequence[str] = ()) -> Table:
    """Return a table of cells; columns that say nothing, and those in `without`, are left out."""
    columns = {key: name for key, name in _COLUMNS.items() if key not in without}
    columns |= {axis: axis for axis in made.study.grid.axes}
    for key in ("samples_per_second", "heartbeat_seconds", "loss", "eta_seconds", "logloss", "auc"):
        if all(row[key] is None for row in rows):
            columns.pop(key, None)
    if all(row["why"] in ("", "will run") for row in rows):
        columns.pop("why", None)
    return Table(
        list(columns.values()), [[_cell_text(key, row) for key in columns] for row in rows]
    )


def _cell_text(key: str, row: dict[str, Any]) -> object:
    value = row[key]
    if key == "signature" and value is not None:
        return value[:8]
    if key == "step":
        return f"{value}/{row['n_steps']}" if value or row["state"] == "running" else ""
    if key in ("heartbeat_seconds", "eta_seconds") and value is not None:
        return format_duration(value)
    if key == "attempt":
        return value or None
    return value


def totals_text(totals: dict[str, Any]) -> str:
    """Return e.g. `3/8 cells done, 2 running; 0.12 GPU-hours spent, about 0.30 to do; about 3:10 to go, 2 at once`."""
    states = totals["states"]
    parts = [f"{states.get('done', 0)}/{totals['n_cells']} cells done"]
    parts += [f"{states[name]} {name}" for name in STANDINGS[1:] if states.get(name)]
    text = (
        f"{', '.join(parts)}; {format_hours(totals['gpu_hours_spent'])} GPU-hours spent, "
        f"about {format_hours(totals['gpu_hours_to_do'])} to do{_to_go_text(totals)}"
    )
    if totals["queue"] == "known":
        return text
    return f"{text}; state of the queue unknown: {totals['queue']}"


def _to_go_text(totals: dict[str, Any]) -> str:
    soon, everything = totals["eta_seconds"], totals["all_cells_eta_seconds"]
    if soon is None or everything is None:
        return f"; time to go unknown: {totals['eta_unknown']}" if totals["eta_unknown"] else ""
    text = f"; {format_about(soon)} to go"
    if format_about(everything) != format_about(soon):
        text += f" for these, {format_about(everything)} for all"
    text += f", {totals['n_at_once']} at once"
    return text if totals["pace"] else f"{text} (by estimates, no speed is measured yet)"
