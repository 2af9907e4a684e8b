"""Which cells a verb means, and whether the user means it."""

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
    """The one cell whose signature begins so.

    Raises:
        UserError: none does, or several do.
    """
    matches = [c for c in made.cells if cell and c.config.signature.startswith(cell)]
    if len(matches) != 1:
        signatures = [c.config.signature for c in made.cells]
        what = (
            f"{len(matches)} cells begin so"
            if matches
            else f"no such cell{nearest(cell, signatures)}"
        )
        raise UserError(f"cell {cell}: {what}; `scaling plan {study} --json` lists the signatures")
    return matches[0]


def chosen_by(made: Plan, only: list[str] | None) -> list[PlannedCell]:
    """The cells that meet all of the conditions KEY=VALUE.

    Raises:
        UserError: a condition is wrong, or no cell of the grid meets it.
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
                f"--only {condition}: no cell meets this and the other conditions; several mean all of them"
            )
    return cells


def confirm(question: str, yes: bool) -> bool:
    """Ask on the terminal; without one, `--yes` has to be given.

    Raises:
        UserError: nobody can be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody can be asked here; add --yes")
    return typer.confirm(question, err=True)
