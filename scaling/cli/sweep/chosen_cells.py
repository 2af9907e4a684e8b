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
    """Return the cells that meet all conditions `KEY=VALUE`.

    Raises:
        UserError: a condition is malformed, or no cell meets all conditions.
    """
    cells = list(made.cells)
    for condition in only or ():
        key, equals, wanted = condition.partition("=")
        columns = ("grade", "n_samples", "seed")
        if not equals or key not in columns:
            raise UserError(f"--only {condition}: expected KEY=VALUE{nearest(key, columns)}")
        name = "grade_name" if key == "grade" else key
        values = {str(getattr(c.config, name)) for c in made.cells}
        if wanted not in values:
            raise UserError(f"--only {condition}: no cell has that {key}{nearest(wanted, values)}")
        cells = [cell for cell in cells if str(getattr(cell.config, name)) == wanted]
        if not cells:
            raise UserError(
                f"--only {condition}: no cell meets this and the other conditions; a cell must meet all of them"
            )
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
