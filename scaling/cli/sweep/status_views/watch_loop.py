"""Looks at a sweep again and again: a live view on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.cli.output import counted, print_parts
from scaling.cli.sweep.plan_verbs import load_plan, load_study_and_store
from scaling.cli.sweep.status_views.status_text import (
    cell_table,
    chosen_rows,
    print_status_json,
    status_parts,
    totals_text,
)
from scaling.cli.tables import Table

if TYPE_CHECKING:
    from scaling.cli.sweep.status_views.law_so_far import LawSoFar
    from sweeps.planning import Plan
    from sweeps.queue import QueuedTask, SilentSchedulerError

__all__ = ["SECONDS_BETWEEN_QUERIES", "watch_study"]


logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_BETWEEN_FRAMES = 1.0
_IDLE_LOOKS = 6
SECONDS_BETWEEN_QUERIES = 30.0  # of SLURM's controller, which all users of the cluster share
_MOST_FAILURES = 5
_BAR_WIDTH = 24  # characters
_NOT_OF_RUNNING = ("state", "attempt", "logloss", "auc", "why")
_NOT_OF_FAILED = ("step", "samples_per_second", "heartbeat_seconds", "loss", "eta_seconds")


def watch_study(
    study: Path,
    overrides: list[str] | None,
    runs: Path | None,
    only: list[str] | None,
    *,
    as_json: bool,
) -> Plan:
    """Show the status again and again until no cell is running or queued, or the user ends it; return the last plan.

    A terminal has a live view. Elsewhere the table is printed at the beginning and at the end, and the totals in
    between; JSON is one line for each look.
    """
    if as_json or not sys.stdout.isatty():
        return _lines(study, overrides, runs, only, as_json=as_json)
    made, has_ended = _live(study, overrides, runs, only)
    if not has_ended:
        logger.info(
            "no longer watched; the cells go on, and `scaling status %s --watch` shows them again",
            study,
        )
    return made


def _lines(
    study: Path,
    overrides: list[str] | None,
    runs: Path | None,
    only: list[str] | None,
    *,
    as_json: bool,
) -> Plan:
    for number, (made, is_last) in enumerate(_looks(study, overrides, runs)):
        if as_json:
            print_status_json(made, only, indent=None)
        else:
            parts = status_parts(made, only)
            print_parts(parts if is_last or not number else parts[-1:])
        if not is_last:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    return made


def _live(
    study: Path, overrides: list[str] | None, runs: Path | None, only: list[str] | None
) -> tuple[Plan, bool]:
    """Draw until the sweep has ended (True) or the user presses q (False)."""
    from scaling.cli.sweep.status_views.key_presses import quitting_key
    from scaling.cli.sweep.status_views.law_so_far import LawSoFar
    from scaling.cli.terminal import live_view

    _, store = load_study_and_store(study, overrides, runs)
    law = LawSoFar(store.root)
    with live_view() as view, quitting_key() as pressed_within:
        for made, is_last in _looks(study, overrides, runs):
            law.look(_finished(made))
            whole = status_parts(made, only)
            if is_last:
                law.finish(_finished(made))
                view.show(_screen(made, only, law), [*whole, *law.parts()])
                return made, True
            following = time.monotonic() + _SECONDS_BETWEEN_LOOKS
            n_fits = None
            while time.monotonic() < following:
                if n_fits != law.n_fits:
                    n_fits = law.n_fits
                    view.show(_screen(made, only, law), [*whole, *law.parts()])
                if pressed_within(_SECONDS_BETWEEN_FRAMES):
                    return made, False
    raise AssertionError("after each look but the last there is another")


def _finished(made: Plan) -> frozenset[str]:
    return frozenset(cell.config.signature for cell in made.with_standing("done"))


def _looks(
    study: Path, overrides: list[str] | None, runs: Path | None
) -> Iterator[tuple[Plan, bool]]:
    """Yield the plan whenever it is asked for, and whether it is the last.

    The last one has no cell running or queued. Processes of a local sweep end and start between cells, so where
    something ran and cells are left, this must be seen several times in a row.
    """
    from sweeps.queue import SilentSchedulerError, ask_queue, read_submissions

    tasks: Sequence[QueuedTask] | SilentSchedulerError | None = None
    asked, has_run, n_idle = -math.inf, False, 0
    while True:
        _, store = load_study_and_store(study, overrides, runs)
        if time.monotonic() - asked > SECONDS_BETWEEN_QUERIES:
            try:
                tasks = ask_queue(store, read_submissions(store))
            except SilentSchedulerError as error:
                tasks = error
            asked = time.monotonic()
        made, _ = load_plan(study, overrides, runs, reading=True, tasks=tasks)
        if made.with_standing("running", "queued"):
            has_run, n_idle = True, 0
        else:
            n_idle += 1
        goes_on = has_run and any(cell.goes_on for cell in made.cells)
        is_last = n_idle >= (_IDLE_LOOKS if goes_on else 1)
        yield made, is_last
        if is_last:
            return


def _screen(made: Plan, only: list[str] | None, law: LawSoFar) -> list[str | Table]:
    """The live view from top to bottom: totals, the law so far, failures, cells that run."""
    from sweeps.status import status_totals

    totals = status_totals(made)
    n_done, n_cells = totals["states"].get("done", 0), totals["n_cells"]
    filled = _BAR_WIDTH * n_done // n_cells
    bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
    rows = chosen_rows(made, only)
    running = [row for row in rows if row["state"] == "running"]
    speed = sum(row["samples_per_second"] or 0.0 for row in running)
    together = f"; {speed:,.0f} samples/s together" if speed else ""
    parts: list[str | Table] = [f"{made.study.name}  {bar}  q ends the view, the cells go on"]
    parts += [f"{totals_text(totals)}{together}", *law.parts()]
    failed = [row for row in rows if row["state"] in ("failed", "lost")]
    if failed:
        table = cell_table(failed[:_MOST_FAILURES], made, without=_NOT_OF_FAILED)
        parts += ["", f"{counted(len(failed), 'cell')} failed or lost", table]
    if running:
        parts += ["", cell_table(running, made, without=_NOT_OF_RUNNING)]
    return parts
