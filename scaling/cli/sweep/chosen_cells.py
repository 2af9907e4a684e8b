"""Selects the cells that a verb works on, and asks the user to confirm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from sweeps.planning import Plan, PlannedCell

__all__ = ["cell_by_signature", "chosen_by", "confirm"]


def cell_by_signature(made: Plan, cell: str, study: Path) -> PlannedCell:
    """Return the one cell whose signature begins with the text `cell`.

    Raises:
        UserError: no cell matches, or several do.
    """
    matches = [c for c in made.cells if cell and c.config.signature.startswith(cell)]
    if len(matches) != 1:
        signatures = [c.config.signature for c in made.cells]
        what = (
            f"{len(matches)} cells have signatures that begin so"
            if matches
            else f"no such cell{nearest(cell, signatures)}"
        )
        raise UserError(f"cell {cell}: {what}; `scaling plan {study} --json` lists the signatures")
    return matches[0]


def chosen_by(made: Plan, only: list[str] | None) -> list[PlannedCell]:
    """Return the cells that meet the conditions `KEY=VALUE`: one of the values given for each key.

    Raises:
        UserError: a condition is malformed, or no cell meets all conditions.
    """
    columns = {"grade": "grade_name", "n_samples": "n_samples", "seed": "seed"}
    wanted: dict[str, set[str]] = {}
    for condition in only or ():
        key, equals, value = condition.partition("=")
        if not equals or key not in columns:
            raise UserError(f"--only {condition}: expected KEY=VALUE{nearest(key, columns)}")
        values = {str(getattr(c.config, columns[key])) for c in made.cells}
        if value not in values:
            raise UserError(f"--only {condition}: no cell has that {key}{nearest(value, values)}")
        wanted.setdefault(key, set()).add(value)
    cells = [
        cell
        for cell in made.cells
        if all(str(getattr(cell.config, columns[key])) in wanted[key] for key in wanted)
    ]
    if not cells:
        conditions = " ".join(f"--only {condition}" for condition in only or ())
        raise UserError(f"{conditions}: no cell meets a condition on each key")
    return cells


def confirm(question: str, yes: bool) -> bool:
    """Ask the user on the terminal; without a terminal, `--yes` must be given.

    Raises:
        UserError: stdin is no terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UserError(f"{question} Cannot ask without a terminal; add --yes")
    return typer.confirm(question, err=True)
