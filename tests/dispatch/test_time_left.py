"""The time left of a sweep settles early, although the plan's estimates are wrong; on a simulated clock."""

import heapq
import random
from dataclasses import dataclass, replace

import pytest
from small_studies import plan_of

from scaling.records import RunState
from sweeps.dispatch import TimeLeft, local_pool

START = 4.0


@dataclass
class Simulated:
    """A training in a simulated pool: when its steps begin, and what its cells really take."""

    unit: tuple
    begin: float
    seconds: dict  # by signature: training, evaluation

    @property
    def end(self):
        return self.begin + sum(a + b for a, b in self.seconds.values())

    def states(self, now):
        """The states that the files of its cells would show."""
        found, begin = {}, self.begin
        for cell in self.unit:
            training, evaluation = self.seconds[cell.config.signature]
            if now < self.begin:
                state = RunState("missing")
            elif now >= begin + training + evaluation:
                state = RunState("done")
            elif now >= begin:
                state = going = self._going(cell, (now - begin) / training)
            else:
                state = going  # a later cell of the same training
            found[cell.config.signature] = state
            begin += training + evaluation
        return found

    def _going(self, cell, share):
        before = 1 - cell.n_trained / cell.config.n_samples
        step = int(1000 * (before + (1 - before) * min(1.0, share)))
        return RunState("running", step, 1000, cell=cell.config.signature)


def pool(plan, cells, n_processes, wrong, seed):
    """Simulate `run_local`; a grade takes `wrong` times its estimates, and starting a process up to twice its own."""
    draw = random.Random(seed)
    free = [0.0] * n_processes
    trainings = []
    for job in (one.cells for one in local_pool._pack(plan, cells, n_processes)):
        now = free[0] + START * draw.uniform(1.0, 2.0)
        for unit in plan.units(job):
            seconds = {}
            for cell in unit:
                factor = wrong[cell.config.grade_name] * draw.uniform(0.9, 1.1)
                training = cell.seconds - cell.evaluation_seconds
                evaluation = cell.evaluation_seconds
                seconds[cell.config.signature] = (training * factor, evaluation * factor)
            trainings.append(Simulated(unit, now, seconds))
            now = trainings[-1].end
        heapq.heapreplace(free, now)
    return trainings, max(free)


def study(study_file, *overrides, scale=1.0):
    """A plan of two grades, four sizes and three seeds, with cells of 10 to 400 seconds."""
    sizes = "grid.n_samples=[40,80,160,320]"
    plan, _ = plan_of(study_file, sizes, "grid.n_seeds=3", *overrides)
    seconds = {
        cell.config.signature: scale
        * cell.n_trained
        / 160
        * (200.0 if cell.config.grade_name == "SUAN-1" else 50.0)
        for cell in plan.cells
    }
    cells = tuple(
        replace(
            cell,
            seconds=seconds[cell.config.signature] + 5.0 * scale,
            evaluation_seconds=5.0 * scale,
        )
        for cell in plan.cells
    )
    return replace(plan, cells=cells, start_seconds=START), cells


def errors(plan, cells, wrong, *, n_processes=2, every=10.0, seed=0):
    """Return (time left as estimated - truth) / truth after 25, 50 and 75 % of the run."""
    trainings, total = pool(plan, cells, n_processes, wrong, seed)
    clock, found, now = TimeLeft(plan, cells, n_processes), [], 0.0
    marks = [0.25, 0.5, 0.75]
    while marks:
        now += every
        states = {}
        for training in trainings:
            states |= training.states(now)
        left = clock.look(states, now)
        if now >= marks[0] * total:
            found.append((left - (total - now)) / (total - now))
            marks.pop(0)
    return found


WRONG = [
    {"SUAN-0": 1.0, "SUAN-1": 1.0},
    {"SUAN-0": 2.0, "SUAN-1": 2.0},
    {"SUAN-0": 0.5, "SUAN-1": 0.5},
    {"SUAN-0": 1.4, "SUAN-1": 0.8},
    {"SUAN-0": 0.8, "SUAN-1": 1.4},
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_the_time_left_is_within_a_quarter_of_the_truth(study_file, wrong, seed):
    plan, cells = study(study_file)
    assert max(map(abs, errors(plan, cells, wrong, seed=seed))) < 0.25


@pytest.mark.parametrize("every", [0.5, 10.0])
def test_short_cells_count_too_although_looks_miss_them(study_file, every):
    plan, cells = study(study_file, scale=0.2)
    wrong = {"SUAN-0": 1.5, "SUAN-1": 1.5}
    assert max(map(abs, errors(plan, cells, wrong, every=every))) < 0.25


def test_cells_of_one_training_count_only_what_they_add(study_file):
    plan, cells = study(study_file, "train.share_prefix=true", "train.schedule=constant")
    assert {cell.n_trained < cell.config.n_samples for cell in cells} == {False, True}
    assert max(map(abs, errors(plan, cells, {"SUAN-0": 1.6, "SUAN-1": 1.6}))) < 0.25


def test_one_long_training_is_judged_by_its_own_speed(study_file):
    plan, cells = study(study_file, scale=20)
    last = cells[-1:]
    assert last[0].config.grade_name == "SUAN-1"
    plan = replace(plan, cells=last)
    assert max(map(abs, errors(plan, last, {"SUAN-1": 3.0}))) < 0.05


def test_a_resumed_training_has_less_left_and_teaches_nothing_by_what_it_had(study_file):
    plan, cells = study(study_file)
    half = RunState("preempted", step=500, n_steps=1000)
    one = (replace(cells[-1], state=half),)
    clock = TimeLeft(plan, one, 1)
    signature = one[0].config.signature
    total = one[0].seconds
    waiting = clock.look({signature: half}, 0.0)
    assert waiting == pytest.approx(total / 2 + START, abs=5)
    starting = clock.look({signature: RunState("running")}, 2.0)
    going = clock.look({signature: RunState("running", 503, 1000)}, START + 1.0)
    assert starting == pytest.approx(total / 2, rel=0.1)
    assert going == pytest.approx(total / 2, rel=0.1)


def test_nothing_is_left_of_cells_that_ended_in_any_way(study_file):
    plan, cells = study(study_file)
    clock = TimeLeft(plan, cells, 2)
    running = dict.fromkeys((c.config.signature for c in cells), RunState("running", 1, 2))
    assert clock.look(running, 10.0) > 0
    for state in ("done", "failed", "lost"):
        assert clock.look(dict.fromkeys(running, RunState(state)), 20.0) == 0
