"""A plan: read-only, estimated from finished runs, with cells that share a training as one unit."""

from collections import Counter
from dataclasses import replace

import pytest
from small_studies import plan_of

from scaling.records import RunState
from sweeps.dispatch import run_debug


def test_a_plan_writes_nothing(study_file):
    before = sorted(study_file.parent.rglob("*"))
    plan_of(study_file)
    assert sorted(study_file.parent.rglob("*")) == before


def test_a_plan_needs_no_data_when_it_will_be_generated(study_file, tmp_path):
    missing = f'data.path="{tmp_path / "later"}"'
    plan, _ = plan_of(study_file, missing, "data.generate={n_train=500}")
    assert plan.data.fingerprint is None
    assert [row["signature"] for row in plan.rows()] == [None] * 4


def test_the_plan_knows_what_is_done_and_measures_from_it(study_file):
    plan, runs = plan_of(study_file)
    run_debug(plan, runs, plan.cells[:1], lambda: None)
    plan, _ = plan_of(study_file)
    assert [cell.state.state for cell in plan.cells] == ["done", "missing", "missing", "missing"]
    assert [cell.source for cell in plan.cells] == ["run", "run", "guess", "guess"]
    own = [cell.seconds + plan.start_seconds for cell in plan.cells]
    assert plan.seconds == pytest.approx(sum(own[1:]))


def test_cells_of_one_training_are_one_unit_and_cost_less(study_file):
    alone, _ = plan_of(study_file, 'train.schedule="constant"')
    together, _ = plan_of(study_file, 'train.schedule="constant"', "train.share_prefix=true")
    assert [len(unit) for unit in alone.units(alone.cells)] == [1, 1, 1, 1]
    assert [len(unit) for unit in together.units(together.cells)] == [2, 2]
    assert (alone.n_trained, together.n_trained) == (2 * (160 + 320), 2 * 320)
    assert together.seconds < alone.seconds


def test_the_key_of_a_cell_is_its_signature_or_that_of_its_shared_training(study_file):
    alone, _ = plan_of(study_file)
    together, _ = plan_of(study_file, "train.share_prefix=true")
    assert [cell.key for cell in alone.cells] == [cell.config.signature for cell in alone.cells]
    keys = [f"trajectory-{cell.config.trajectory}" for cell in together.cells]
    assert [cell.key for cell in together.cells] == keys
    assert len(set(keys)) == 2


def test_a_plan_shows_the_state_of_a_shared_training_for_all_its_cells(study_file):
    plan, runs = plan_of(study_file, "train.share_prefix=true")
    runs.fail(plan.cells[0].key, "out of luck")
    again, _ = plan_of(study_file, "train.share_prefix=true")
    assert [cell.standing for cell in again.cells] == ["failed", "failed", "missing", "missing"]


@pytest.mark.parametrize(
    ("state", "failures", "goes_on"),
    [
        (RunState("lost", failure="lost"), {}, True),
        (RunState("preempted", failure="preempted"), {}, True),
        (RunState("failed", failure="exception"), {"exception": 1}, False),
        (RunState("failed", failure="oom"), {"oom": 1}, True),
        (RunState("failed", failure="oom"), {"oom": 2}, False),
        (RunState("done"), {}, False),
    ],
)
def test_the_next_submit_continues_what_no_user_need_decide(study_file, state, failures, goes_on):
    plan, _ = plan_of(study_file)
    cell = replace(plan.cells[0], state=state, failures=Counter(failures))
    assert cell.goes_on is goes_on


def test_time_that_was_spent_counts_on_every_device(study_file):
    plan, _ = plan_of(study_file, "slurm.gpus=2")
    cells = tuple(replace(cell, spent_seconds=100.0) for cell in plan.cells)
    assert replace(plan, cells=cells).spent_seconds == 4 * 2 * 100.0


@pytest.mark.parametrize(
    ("failures", "memory", "time"), [({"oom": 2}, 4, 1), ({"timeout": 1, "oom": 1}, 2, 2)]
)
def test_what_a_cell_ran_out_of_is_doubled_each_time(study_file, failures, memory, time):
    cell = replace(plan_of(study_file)[0].cells[0], failures=Counter(failures))
    assert (cell.memory_factor, cell.time_factor) == (memory, time)
