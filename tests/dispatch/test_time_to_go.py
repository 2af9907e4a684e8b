"""The time to go of a sweep from one look at its cells."""

from dataclasses import replace

import pytest
from small_studies import plan_of

from scaling.records import RunState
from sweeps.planning import QueuedJob
from sweeps.time_to_go import seconds_to_go, time_to_go

START = 10.0
QUEUED = QueuedJob("1", "PENDING", "Priority")


def going(step, speed=None, **more):
    return RunState("running", step, 100, samples_per_second=speed, **more)


@pytest.fixture
def plan(study_file):
    """Four cells, SUAN-0 and SUAN-1 with 160 and 320 samples: estimated at a second for two samples, without evaluation."""
    made, _ = plan_of(study_file)
    cells = [
        replace(cell, seconds=cell.config.n_samples / 2, evaluation_seconds=0.0)
        for cell in made.cells
    ]
    return replace(made, cells=tuple(cells), start_seconds=START)


def with_states(plan, *states, jobs=()):
    cells = [replace(cell, state=state) for cell, state in zip(plan.cells, states, strict=True)]
    cells = [replace(c, job=QUEUED) if i in jobs else c for i, c in enumerate(cells)]
    return replace(plan, cells=tuple(cells))


def test_running_cells_go_on_at_their_own_speeds(plan):
    found = time_to_go(
        with_states(plan, going(50, 4.0), going(50, 2.0), RunState("done"), RunState("done"))
    )
    # half of 160 samples at 4 a second, and of 320 at 2
    assert found.under_way == found.all_cells == pytest.approx(80.0)
    assert found.n_at_once == 2


def test_waiting_cells_take_as_much_longer_as_the_running_ones_of_their_grade(plan):
    # the grade runs at 1 sample a second in place of 2
    states = [going(50, 1.0), RunState("missing"), RunState("done"), RunState("done")]
    found = time_to_go(with_states(plan, *states))
    assert found.pace == pytest.approx(2.0)
    assert found.under_way == pytest.approx(80.0)
    assert found.all_cells == pytest.approx(80.0 + 2 * 160 + START)


def test_cells_of_a_grade_that_does_not_run_follow_the_others(plan):
    states = [going(50, 1.0), RunState("done"), RunState("missing"), RunState("done")]
    found = time_to_go(with_states(plan, *states))
    assert found.all_cells == pytest.approx(80.0 + 2 * 80 + START)


def test_queued_cells_are_under_way_and_others_are_not(plan):
    states = [going(50, 2.0), RunState("missing"), RunState("missing"), RunState("done")]
    found = time_to_go(with_states(plan, *states, jobs=[1]))
    assert found.under_way == pytest.approx(40.0 + 160 + START)
    assert found.all_cells == pytest.approx(40.0 + 160 + START + 80 + START)


def test_a_free_place_takes_the_longest_that_waits(plan):
    states = [going(50, 2.0), going(90, 2.0), RunState("missing"), RunState("missing")]
    found = time_to_go(with_states(plan, *states))
    # places are free after 40 and 16 seconds; 320 samples begin at the second, 160 at the first
    assert found.all_cells == pytest.approx(16 + 160 + START)


def test_before_a_cell_reports_its_speed_there_is_an_estimate_and_no_pace(plan):
    states = [RunState("running"), RunState("done"), RunState("done"), RunState("done")]
    found = time_to_go(with_states(plan, *states))
    assert (found.under_way, found.pace) == (80.0, None)


@pytest.mark.parametrize(("jobs", "why"), [((), "no cell runs"), ((0,), "no cell runs yet")])
def test_nothing_is_known_while_no_cell_runs(plan, jobs, why):
    found = time_to_go(with_states(plan, *[RunState("missing")] * 4, jobs=jobs))
    assert (found.under_way, found.all_cells, found.unknown) == (None, None, why)


def test_a_finished_study_has_nothing_to_go_and_nothing_unknown(plan):
    found = time_to_go(with_states(plan, *[RunState("done")] * 4))
    assert (found.under_way, found.unknown) == (None, "")


def test_a_cell_that_waits_for_retry_takes_no_time(plan):
    failed = RunState("failed", failure="exception")
    states = [going(50, 2.0), failed, RunState("done"), RunState("done")]
    assert time_to_go(with_states(plan, *states)).all_cells == pytest.approx(40.0)


def test_a_later_cell_of_a_shared_training_has_all_of_its_own_part_to_go(study_file):
    made, _ = plan_of(study_file, "train.share_prefix=true", 'grid.grade=["SUAN-0"]')
    first, second = made.cells
    state = going(50, 2.0, cell=first.config.signature)
    at_first, later = (replace(cell, state=state, seconds=80.0) for cell in (first, second))
    plan = replace(made, cells=(at_first, later))
    assert seconds_to_go(later) == 80.0
    assert time_to_go(plan).n_at_once == 1
    assert time_to_go(plan).under_way > seconds_to_go(at_first) + 1
