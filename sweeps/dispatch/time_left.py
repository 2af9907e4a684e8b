"""How long a local sweep still takes: the plan's estimates, corrected by what its cells have taken so far."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaling.records import RunState
from sweeps.planning import Plan, PlannedCell

__all__ = ["TimeLeft"]


# An estimate is trusted as much as observations over this share of all the work, and at most this many seconds.
_TRUST_SHARE, _MOST_TRUST_SECONDS = 0.03, 30.0
# Short cells share a process (`local_pool.py`), so each of them pays a part of its start.
_SECONDS_PER_START = 25.0


# the cells of one training
_Unit = tuple[PlannedCell, ...]


@dataclass
class _Pace:
    """Seconds taken, and the seconds that were estimated for the same work."""

    taken: float = 0.0
    estimated: float = 0.0

    def ratio(self, expected: float, trust: float) -> float:
        """Return taken / estimated; before there are `trust` seconds of each, it is close to `expected`."""
        return (self.taken + trust * expected) / (self.estimated + trust)


class TimeLeft:
    """Watches the cells of a sweep; each look learns how much longer they take than estimated.

    It learns this for all cells together, for the cells of a grade, and for each training by itself.
    """

    def __init__(self, plan: Plan, cells: Sequence[PlannedCell], n_processes: int) -> None:
        """Begin before the first process starts.

        Args:
            plan: the plan of the study.
            cells: those that are trained.
            n_processes: how many are trained at the same time.
        """
        self._units = plan.units(cells)
        self._n_processes, self._start_seconds = n_processes, plan.start_seconds
        self._last_look = 0.0
        self._n_unfinished = len(self._units)
        work = sum(cell.seconds for cell in cells)
        self._trust = min(_MOST_TRUST_SECONDS, _TRUST_SHARE * work)
        self._done = {cell.config.signature: _work_done(cell, cell.state, 0.0) for cell in cells}
        self._ran: set[str] = set()
        self._starts = {unit[0].key: self._start_of(unit) for unit in self._units}
        self._all = _Pace()
        self._grades = {unit[0].config.grade_name: _Pace() for unit in self._units}
        self._trainings = {unit[0].key: _Pace() for unit in self._units}

    def look(self, states: Mapping[str, RunState], elapsed: float) -> float:
        """Return the seconds until all cells have ended.

        Args:
            states: the current state of each cell, by its signature.
            elapsed: seconds since the sweep began.
        """
        passed = max(0.0, elapsed - self._last_look)
        self._last_look = max(self._last_look, elapsed)
        self._all.taken += passed * min(self._n_processes, self._n_unfinished)
        running, waiting = [], []
        for unit in self._units:
            now = [(cell, states[cell.config.signature]) for cell in unit]
            done = sum(self._advance(cell, state) for cell, state in now)
            is_running = any(state.state == "running" for _, state in now)
            start = self._credit_start(unit, passed, is_running, done > 0)
            self._all.estimated += start + done
            for pace in self._paces(unit[0]):
                pace.estimated += done
                # before its first step, a process is starting
                if any(state.state == "running" and state.n_steps for _, state in now):
                    pace.taken += max(0.0, passed - start)
            rest = sum(self._rest(cell, state) for cell, state in now)
            if is_running:
                running.append((unit, rest))
            elif rest:
                waiting.append((unit, rest))
        self._n_unfinished = len(running) + len(waiting)
        return self._until_the_last(running, waiting)

    def _paces(self, cell: PlannedCell) -> tuple[_Pace, _Pace]:
        return self._grades[cell.config.grade_name], self._trainings[cell.key]

    def _advance(self, cell: PlannedCell, state: RunState) -> float:
        """Return the estimated seconds of what was done since the last look."""
        signature = cell.config.signature
        before = self._done[signature]
        after = self._done[signature] = _work_done(cell, state, before)
        if state.state == "running":
            self._ran.add(signature)
        return max(0.0, after - before)

    def _credit_start(self, unit: _Unit, passed: float, is_running: bool, has_begun: bool) -> float:
        """Return the estimated seconds of a process's start that are over since the last look."""
        left = self._starts[unit[0].key]
        over = left if has_begun else min(left, passed) if is_running else 0.0
        self._starts[unit[0].key] -= over
        return over

    def _rest(self, cell: PlannedCell, state: RunState) -> float:
        """Return the estimated seconds of what is left."""
        stopped = state.state in ("lost", "preempted") and cell.config.signature in self._ran
        if state.state == "failed" or stopped:  # not tried again in this sweep
            return 0.0
        return max(0.0, cell.seconds - self._done[cell.config.signature])

    def _until_the_last(
        self, running: Sequence[tuple[_Unit, float]], waiting: Sequence[tuple[_Unit, float]]
    ) -> float:
        """Return when the last process ends, if a free one always takes the longest training that waits."""
        overall = self._all.ratio(1.0, self._trust * self._n_processes)
        ends = [0.0] * max(0, self._n_processes - len(running))
        for unit, rest in running:
            of_grade, own = self._paces(unit[0])
            ends.append(rest * own.ratio(of_grade.ratio(overall, self._trust), self._trust))
        heapq.heapify(ends)
        times = [
            rest * self._paces(unit[0])[0].ratio(overall, self._trust)
            + self._start_of(unit) * max(1.0, overall)
            for unit, rest in waiting
        ]
        for seconds in sorted(times, reverse=True):
            heapq.heapreplace(ends, ends[0] + seconds)
        return max(ends)

    def _start_of(self, unit: _Unit) -> float:
        """Return the estimated seconds of a process's start that are due to this training."""
        seconds = sum(cell.seconds for cell in unit)
        return self._start_seconds * min(1.0, seconds / _SECONDS_PER_START)


def _work_done(cell: PlannedCell, state: RunState, before: float) -> float:
    """Return the estimated seconds of what is done of a cell; `before` if its process has not said yet."""
    if state.state == "done":
        return cell.seconds
    if not state.n_steps:
        return before if state.state == "running" else 0.0
    if state.cell not in (None, cell.config.signature):  # the training is at another cell
        return 0.0
    # a cell that shares a training adds only its last samples to it
    own = cell.n_trained / cell.config.n_samples
    share = 1.0 - (1.0 - state.step / state.n_steps) / own
    return min(1.0, max(0.0, share)) * (cell.seconds - cell.evaluation_seconds)
