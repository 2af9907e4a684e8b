"""Cells in processes of this machine, with submitit's real local executor."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from small_studies import plan_of

import scaling.training.loop
import sweeps.dispatch.local_pool
from scaling.errors import UserError
from scaling.records import RunStore, claim
from scaling.records.attempts import is_gone, last_attempt
from sweeps.dispatch import run_debug, run_local
from sweeps.dispatch.environment import choose_gpus, worker_environment
from sweeps.dispatch.local_pool import pack_longest_first
from sweeps.dispatch.worker import run_cells
from sweeps.status import progress_of, status_rows


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


@pytest.mark.slow
def test_a_cell_of_several_ranks_is_trained_by_as_many_processes(study_file):
    """Four are asked for, and there is room for two."""
    small = ('grid.grade=["SUAN-0"]', "grid.n_samples=[320]")
    plan, runs = plan_of(study_file, *small, "slurm.tasks_per_node=4")
    run_local(plan, runs, plan.cells, n_jobs=2, watch=lambda: None)
    (record,) = runs.read_all()
    assert [attempt["ranks"] for attempt in record.provenance["attempts"]] == [2]
    plan, alone = plan_of(study_file, *small, root="alone")
    run_debug(plan, alone, plan.cells, lambda: None)
    assert record.metrics == pytest.approx(alone.read_all()[0].metrics, abs=1e-5)
    assert record.signature == alone.read_all()[0].signature


def test_the_ranks_of_a_cell_take_as_many_places(study_file):
    settings = ("slurm.grades={SUAN-1={tasks_per_node=2}}",)
    plan, _ = plan_of(study_file, *settings)
    jobs = sweeps.dispatch.local_pool._pack(plan, plan.cells, 3)
    assert [job.n_ranks for job in jobs] == [2, 1]
    assert {c.config.grade_name for c in jobs[0].cells} == {"SUAN-1"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (["slurm.nodes=80"], "its batch has 16 impressions"),
        (["slurm.gpus=2", 'model.kind="din"'], "takes statistics over the batch"),
    ],
)
def test_more_ranks_than_a_cell_can_use_are_refused(study_file, changes, text):
    with pytest.raises(UserError, match=text):
        plan_of(study_file, *changes, "train.batch_size=16")


@pytest.mark.parametrize(
    ("driver", "own", "expected"), [("2,3", "1", "3"), ("4,5,6", "0,2", "4,6"), (None, "1", "1")]
)
def test_a_local_worker_keeps_to_the_gpus_of_its_driver(monkeypatch, driver, own, expected):
    """submitit numbers them from 0, whatever the driver may see."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if driver is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", driver)
    with worker_environment():
        # as in the worker, which inherits this environment
        monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", own)
        choose_gpus()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


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


@pytest.mark.slow
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
def test_a_terminated_driver_stops_its_workers_and_the_next_one_continues(study_file, background):
    """Background processes of a shell ignore interrupts, and so do their children."""
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
    assert err.splitlines()[-1] == "interrupted; the same command goes on from here"
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


@pytest.mark.slow
def test_one_training_gives_the_records_of_all_its_cells(study_file):
    options = ('grid.grade=["SUAN-0"]', "train.share_prefix=true")
    plan, runs = plan_of(study_file, *options)
    run_local(plan, runs, plan.cells, n_jobs=2, watch=lambda: None)
    plan, _ = plan_of(study_file, *options)
    assert [cell.standing for cell in plan.cells] == ["done", "done"]
    spent = [cell.spent_seconds > 0 for cell in plan.cells]
    assert sorted(spent) == [False, True]  # the shared attempt counts once


def test_progress_shows_the_states_and_the_figures_of_the_running_cell(study_file):
    plan, runs = plan_of(study_file)
    first, second = (cell.config.signature for cell in plan.cells[:2])
    lease = claim(runs.folder(first), done=lambda: False)
    lease.update(step=5, n_steps=20, loss=0.6543, samples_per_second=3210.0)
    lease.beat()
    runs.fail(second, "the loss is nan at step 4")
    expected = "0/4 cells done, 1 failed | SUAN-0 D=160 s0 25% loss 0.6543 3.2k samples/s"
    assert progress_of(plan, runs).line() == expected
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


def test_the_shared_store_is_read_only(tiny_store):
    """No test can change the store that all tests share."""
    assert np.asarray(tiny_store.label).flags.writeable is False
