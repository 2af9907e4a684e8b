"""Grid and plan are values; dispatch is tested on submitit's real local executor."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest

import scaling.training.loop
import sweeps.dispatch.local_pool
from scaling.errors import UserError
from scaling.records import RunStore, claim
from scaling.records.attempts import is_gone, last_attempt
from scaling.strict_values import from_document
from scaling.study import RunConfig, data_facts, ensure_data, load_study
from sweeps.dispatch import run_debug, run_local
from sweeps.dispatch.local_pool import pack_longest_first
from sweeps.dispatch.worker import run_cells
from sweeps.planning import grid_cells, make_plan
from sweeps.status import progress_line, status_rows


def study_and_facts(study_file, *overrides):
    study = load_study(study_file, overrides)
    return study, data_facts(study.data)


def plan_of(study_file, *overrides, root="runs"):
    study, facts = study_and_facts(study_file, *overrides)
    runs = RunStore(study_file.parent / root)
    return make_plan(study, facts, runs), runs


def test_a_grid_has_a_cell_for_each_combination(study_file):
    study, facts = study_and_facts(
        study_file, "grid.n_seeds=[3,2]", 'grid.model={norm=["rms","layer"]}'
    )
    cells = grid_cells(study, facts)
    assert len(cells) == 2 * (3 + 2) * 2
    assert len({cell.signature for cell in cells}) == len(cells)
    assert {cell.model.norm for cell in cells} == {"rms", "layer"}


def test_all_means_the_whole_training_part(study_file):
    study, facts = study_and_facts(study_file, 'grid.n_samples=[160,"all"]')
    assert {cell.n_samples for cell in grid_cells(study, facts)} == {160, 1200}


def test_more_samples_than_the_data_has_is_refused(study_file):
    study, facts = study_and_facts(study_file, "grid.n_samples=[1201]")
    with pytest.raises(UserError, match="1201 is more than the 1200 training impressions"):
        grid_cells(study, facts)


def test_two_names_for_one_grade_are_refused(study_file):
    own = "grades.own={n_layers=1,n_heads=1,d=2,max_len=8}"
    study, facts = study_and_facts(study_file, own, 'grid.grade=["SUAN-0","own"]')
    with pytest.raises(UserError, match="are the same run"):
        grid_cells(study, facts)


def test_a_suan_stands_once_beside_the_windows_of_a_lightsuan(study_file):
    study, facts = study_and_facts(
        study_file,
        'grid.grade=["SUAN-1","LightSUAN-1"]',
        "grid.model={window=[2,4],dilation=[2,4,8]}",
    )
    told = Counter((cell.grade_name, cell.n_samples) for cell in grid_cells(study, facts))
    assert set(told.values()) == {1, 6}
    assert told["SUAN-1", 160] == 1


def test_workers_and_cluster_are_not_in_the_signature(study_file):
    plain, facts = study_and_facts(study_file)
    other, _ = study_and_facts(study_file, "slurm.gpus=2", "slurm.max_parallel=1", "slurm.cpus=3")
    assert grid_cells(plain, facts) == grid_cells(other, facts)


def test_an_edited_grid_keeps_the_signatures_of_the_cells_it_had(study_file):
    before, facts = study_and_facts(study_file)
    after, _ = study_and_facts(study_file, "grid.n_samples=[160,320,640]")
    old = {cell.signature for cell in grid_cells(before, facts)}
    assert old < {cell.signature for cell in grid_cells(after, facts)}


def test_a_plan_writes_nothing(study_file):
    before = sorted(study_file.parent.rglob("*"))
    plan_of(study_file)
    assert sorted(study_file.parent.rglob("*")) == before


def test_a_plan_needs_no_data_when_it_will_be_generated(study_file, tmp_path):
    missing = f'data.path="{tmp_path / "later"}"'
    plan, _ = plan_of(study_file, missing, "data.generate={n_train=500}")
    assert plan.data.fingerprint is None
    assert [row["signature"] for row in plan.rows()] == [None] * 4


def test_data_generated_otherwise_are_refused(study_file):
    study = load_study(study_file, ["data.generate={n_train=500}"])
    with pytest.raises(UserError, match=r"remove the folder or give data\.path another one"):
        data_facts(study.data)


def test_missing_data_are_generated_once(study_file, tmp_path):
    study = load_study(
        study_file, [f'data.path="{tmp_path / "new"}"', "data.generate={n_train=50,n_test=20}"]
    )
    first = ensure_data(study.data)
    stamp = (tmp_path / "new" / "dataset.json").stat().st_mtime_ns
    assert ensure_data(study.data).fingerprint == first.fingerprint
    assert (tmp_path / "new" / "dataset.json").stat().st_mtime_ns == stamp


def test_jobs_hold_each_cell_once_the_longest_first(study_file):
    plan, _ = plan_of(study_file)
    cells = [replace(c, seconds=s) for c, s in zip(plan.cells, (1.0, 50.0, 4.0, 4.5), strict=True)]
    jobs = pack_longest_first([[cell] for cell in cells], 10.0)
    assert [[cell.seconds for cell in job] for job in jobs] == [[50.0], [4.5, 4.0, 1.0]]


@pytest.mark.slow
def test_local_and_debug_give_the_same_records(study_file):
    small = 'grid.grade=["SUAN-0"]'
    plan, local = plan_of(study_file, small)
    run_local(plan, local, plan.cells, n_jobs=2, watch=lambda: None)
    plan, debug = plan_of(study_file, small, root="debug")
    run_debug(plan, debug, plan.cells, lambda: None)
    ours = [(r.signature, r.metrics, r.train_loss) for r in local.read_all()]
    theirs = [(r.signature, r.metrics, r.train_loss) for r in debug.read_all()]
    assert len(ours) == 2
    assert ours == theirs


def test_never_more_jobs_at_once_than_asked(study_file, monkeypatch):
    active, most = set(), 0

    class Executor:
        def __init__(self, folder):
            pass

        def update_parameters(self, **parameters):
            pass

        def submit(self, function, *arguments):
            return Job()

    class Job:
        job_id = "1"

        def __init__(self):
            nonlocal most
            active.add(self)
            most = max(most, len(active))
            self.polls = 2

        def done(self):
            self.polls -= 1
            if self.polls == 0:
                active.discard(self)
            return self.polls == 0

        class paths:
            stderr = "missing"

    monkeypatch.setattr("submitit.LocalExecutor", Executor)
    monkeypatch.setattr(sweeps.dispatch.local_pool, "_SECONDS_PER_JOB", 0.0)
    monkeypatch.setattr(sweeps.dispatch.local_pool, "_POLL_SECONDS", 0.0)
    plan, runs = plan_of(study_file, "grid.n_seeds=5")
    run_local(plan, runs, plan.cells, n_jobs=3, watch=lambda: None)
    assert most == 3


def test_a_cell_whose_process_is_killed_is_lost_and_its_batch_mate_left_missing(study_file):
    sizes = ('grid.grade=["SUAN-4"]', "grid.n_samples=[1100,1200]")
    plan, runs = plan_of(study_file, *sizes)
    cells = [replace(cell, seconds=1.0) for cell in plan.cells]
    killed = []

    def kill_the_first():
        for cell in cells:
            number, attempt = last_attempt(runs.folder(cell.config.signature))
            if number and not killed:
                killed.append(cell.config.signature)
                os.kill(attempt["pid"], signal.SIGKILL)

    run_local(plan, runs, cells, n_jobs=1, watch=kill_the_first)
    states = {c.config.signature: runs.state(c.config.signature) for c in cells}
    assert states[killed[0]].state == "lost"
    assert "the worker process died" in states[killed[0]].message
    assert sorted(state.state for state in states.values()) == ["lost", "missing"]


IGNORE_INTERRUPTS = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
DRIVER = [sys.executable, "-m", "scaling", "submit", "study.toml", "--jobs", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True])
def test_a_terminated_driver_takes_its_workers_along_and_the_next_one_goes_on(
    study_file, background
):
    """A shell makes its background processes, and all that they start, ignore interrupts."""
    text = study_file.read_text().replace('["SUAN-0", "SUAN-1"]', '["SUAN-4"]')
    study_file.write_text(text.replace("[160, 320]", "[1100, 1200]"))
    plan, runs = plan_of(study_file, root="runs/tiny")
    ignore = [sys.executable, "-c", IGNORE_INTERRUPTS] if background else []
    driver = subprocess.Popen(
        [*ignore, *DRIVER], cwd=study_file.parent, stderr=subprocess.PIPE, text=True
    )
    attempts = []
    deadline = time.monotonic() + 60
    while not attempts and time.monotonic() < deadline:
        time.sleep(0.05)
        attempts = [
            attempt
            for number, attempt in (
                last_attempt(runs.folder(c.config.signature)) for c in plan.cells
            )
            if number
        ]
    driver.terminate()
    _, err = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert err.splitlines()[-1] == "interrupted"
    assert all(is_gone(attempt, 1e9) for attempt in attempts)
    states = {runs.state(c.config.signature).state for c in plan.cells}
    assert states <= {"missing", "preempted", "done"}
    subprocess.run(DRIVER, cwd=study_file.parent, check=True, capture_output=True, timeout=100)
    assert len(runs.read_all()) == 2


@pytest.mark.slow
def test_two_drivers_at_once_train_each_cell_once(study_file):
    drivers = [
        subprocess.Popen(DRIVER, cwd=study_file.parent, stderr=subprocess.PIPE) for _ in range(2)
    ]
    for driver in drivers:
        driver.communicate(timeout=100)
    _, runs = plan_of(study_file, root="runs/tiny")
    assert len(runs.read_all()) == 4
    for record in runs.read_all():
        lines = (runs.folder(record.signature) / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line)["step"] for line in lines]
        assert steps == sorted(set(steps))


@pytest.mark.parametrize(
    "axis",
    ["model={dropout=[0,0.5]}", "train={learning_rate=[1,0.01]}", "train={batch_size=[8,16]}"],
)
def test_a_planned_cell_has_the_signature_of_its_document(study_file, axis):
    """A whole number on a float axis is a float, for the planner as for the worker."""
    study, facts = study_and_facts(study_file, f"grid.{axis}")
    for cell in grid_cells(study, facts):
        document = json.loads(json.dumps(asdict(cell)))
        assert from_document(RunConfig, document, "job").signature == cell.signature


def test_a_failed_cell_does_not_stop_the_next(study_file):
    plan, runs = plan_of(study_file, "grid.train={learning_rate=[1e30,0.01]}")
    run_debug(plan, runs, plan.cells, lambda: None)
    states = [runs.state(cell.config.signature).state for cell in plan.cells]
    assert states == ["failed", "done"] * 4


def test_a_finished_cell_is_not_trained_again(study_file, monkeypatch):
    plan, runs = plan_of(study_file)
    run_debug(plan, runs, plan.cells[:1], lambda: None)
    monkeypatch.setattr(scaling.training.loop, "train_model", None)
    cell = plan.cells[0].config
    documents = [json.loads((runs.folder(cell.signature) / "config.json").read_text())]
    assert run_cells(str(plan.data.path), str(runs.root), documents) == []


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


@pytest.mark.slow
def test_one_training_gives_the_records_of_all_its_cells(study_file):
    options = ('grid.grade=["SUAN-0"]', "train.share_prefix=true")
    plan, runs = plan_of(study_file, *options)
    run_local(plan, runs, plan.cells, n_jobs=2, watch=lambda: None)
    plan, _ = plan_of(study_file, *options)
    assert [cell.standing for cell in plan.cells] == ["done", "done"]
    spent = [cell.spent_seconds > 0 for cell in plan.cells]
    assert sorted(spent) == [False, True]  # the shared attempt counts once


def test_progress_tells_the_states_and_the_running_cells_figures(study_file):
    plan, runs = plan_of(study_file)
    first, second = (cell.config.signature for cell in plan.cells[:2])
    lease = claim(runs.folder(first), done=lambda: False)
    lease.update(step=5, n_steps=20, loss=0.6543, samples_per_second=3210.0)
    lease.beat()
    runs.fail(second, "the loss is nan at step 4")
    expected = "0/4 cells done, 1 failed | SUAN-0 D=160 s0 25% loss 0.6543 3.2k samples/s"
    assert progress_line(plan, runs) == expected
    lease.close()


def test_status_rows_carry_the_reason_of_a_failure(study_file):
    plan, runs = plan_of(study_file)
    runs.fail(plan.cells[0].config.signature, "out of luck")
    plan, _ = plan_of(study_file)
    assert status_rows(plan)[0]["message"] == "out of luck"


def test_an_unwritable_runs_folder_says_so(study_file, tmp_path):
    (tmp_path / "file").write_text("")
    plan, _ = plan_of(study_file)
    with pytest.raises(UserError, match="cannot be written"):
        run_local(plan, RunStore(tmp_path / "file" / "x"), plan.cells, n_jobs=1, watch=lambda: None)


def test_the_training_part_stays_whole(tiny_store):
    """The store that these tests share is only read."""
    assert np.asarray(tiny_store.label).flags.writeable is False
