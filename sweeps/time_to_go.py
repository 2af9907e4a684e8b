"""How long a study still takes, from one look at its cells: measured speeds where cells run, corrected estimates elsewhere.

`sweeps.dispatch.TimeLeft` watches a local sweep from its start and knows more; this also serves a process that comes later.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweeps.planning import Plan, PlannedCell

__all__ = ["TimeToGo", "seconds_to_go", "time_to_go"]


@dataclass(frozen=True)
class TimeToGo:
    """How long a study still takes.

    Attributes:
        under_way: seconds until all running and queued cells have ended; None if unknown.
        all_cells: the same for these and all others that the next submit would run; None if unknown.
        n_at_once: trainings that run now, and are assumed to go on side by side.
        pace: seconds that the running cells take over those that were estimated; None before one has reported a speed.
        unknown: why the times are unknown; empty if they are known, or nothing is left.
    """

    under_way: float | None
    all_cells: float | None
    n_at_once: int
    pace: float | None
    unknown: str = ""


def seconds_to_go(cell: PlannedCell) -> float | None:
    """Remaining time of a running cell in seconds, from its reported speed if there is one; None if it does not run."""
    state = cell.state
    if state.state != "running":
        return None
    if not state.n_steps or state.cell not in (None, cell.config.signature):
        return cell.seconds
    left = 1.0 - state.step / state.n_steps
    if state.samples_per_second:
        seconds = left * cell.config.n_samples / state.samples_per_second
        return seconds + cell.evaluation_seconds
    return left * cell.seconds


def time_to_go(plan: Plan) -> TimeToGo:
    """Return how long a study still takes, from the states in its plan.

    As many trainings as now are assumed to run at once; a free place takes the longest that waits. A waiting cell takes
    its estimate, times what running cells of its grade (else all that run) take over theirs.
    """
    running, queued, others = [], [], []
    for unit in plan.units(plan.cells):
        standings = {cell.standing for cell in unit}
        if "running" in standings:
            running.append(unit)
        elif "queued" in standings:
            queued.append([cell for cell in unit if cell.standing == "queued"])
        elif left := [cell for cell in unit if cell.goes_on]:
            others.append(left)
    paces = _paces([cell for unit in running for cell in unit])
    overall = _mean([pace for of_grade in paces.values() for pace in of_grade])
    of_grades = {grade: _mean(of_grade) for grade, of_grade in paces.items()}
    if not running:
        return TimeToGo(None, None, 0, None, _why_unknown(plan, len(queued), len(others)))

    def waits(units: Sequence[Sequence[PlannedCell]]) -> list[float]:
        return [sum(map(estimated, unit)) + plan.start_seconds for unit in units]

    def estimated(cell: PlannedCell) -> float:
        return cell.seconds * (of_grades.get(cell.config.grade_name) or overall or 1.0)

    def rest(unit: Sequence[PlannedCell]) -> float:
        """Seconds of a training that runs: of the cell that it is at, and of those that follow."""
        return sum(
            seconds_to_go(cell) or 0.0 if _is_at(cell) else estimated(cell)
            for cell in unit
            if cell.state.state != "done"
        )

    ends = [rest(unit) for unit in running]
    return TimeToGo(
        _until_the_last(ends, waits(queued)),
        _until_the_last(ends, waits([*queued, *others])),
        len(running),
        overall,
    )


def _is_at(cell: PlannedCell) -> bool:
    """Whether a training is at this cell, and not at another one that shares it."""
    return cell.state.state == "running" and cell.state.cell in (None, cell.config.signature)


def _paces(cells: Sequence[PlannedCell]) -> Mapping[str, list[float]]:
    """Seconds taken over seconds estimated of the cells that have reported a speed, by grade."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        estimated = cell.seconds - cell.evaluation_seconds
        speed = cell.state.samples_per_second
        # a cell that shares a training adds only its last samples to it
        if _is_at(cell) and speed and estimated > 0:
            pace = cell.n_trained / speed / estimated
            found.setdefault(cell.config.grade_name, []).append(pace)
    return found


def _mean(paces: Sequence[float]) -> float | None:
    """Geometric mean; None of none."""
    return math.exp(sum(map(math.log, paces)) / len(paces)) if paces else None


def _until_the_last(ends: Sequence[float], waiting: Sequence[float]) -> float:
    places = list(ends)
    heapq.heapify(places)
    for seconds in sorted(waiting, reverse=True):
        heapq.heapreplace(places, places[0] + seconds)
    return max(places)


def _why_unknown(plan: Plan, n_queued: int, n_others: int) -> str:
    if n_queued:
        return "no cell runs yet"
    if n_others and plan.silence:
        return "no cell runs, and the queue does not answer"
    return "no cell runs" if n_others else ""
