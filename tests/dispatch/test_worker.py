"""A job that is signalled, killed or started twice; processes and submitit are real."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from small_runs import move_to_another_host, numbers

import scaling.training.run_on_disk
from models.grades import GRADES
from scaling.errors import UserError
from scaling.records import claim
from scaling.records.attempts import last_attempt
from scaling.study import lease_key
from sweeps.dispatch.worker import run_cells

ROOT = Path(scaling.training.run_on_disk.__file__).parents[2]


@pytest.fixture
def signal_at(monkeypatch):
    """Send signals to this process in the middle of a step."""
    train_step = scaling.training.run_on_disk.Training._train_step

    def plan(step, *numbers_):
        def step_under_fire(training, *arguments):
            if training.step == step:
                for number in numbers_:
                    os.kill(os.getpid(), number)
            return train_step(training, *arguments)

        monkeypatch.setattr(scaling.training.run_on_disk.Training, "_train_step", step_under_fire)

    return plan


def test_usr2_saves_after_the_step_and_queues_the_job_again(
    config, runs, make_job, undisturbed, signal_at, requeued
):
    signal_at(7, signal.SIGUSR2)
    with pytest.raises(SystemExit):
        make_job(config)()
    assert requeued == [signal.SIGUSR2]
    state = runs.state(config.signature)
    assert (state.state, state.message) == ("preempted", "SIGUSR2, saved at step 8")
    signal_at(None)
    assert make_job(config)() == []
    record = runs.read(config.signature)
    assert [a["first_step"] for a in record.provenance["attempts"]] == [0, 8]
    assert numbers(record) == undisturbed(config)


def test_a_job_that_is_not_queued_again_has_run_out_of_time(config, runs, make_job, signal_at):
    def refuse(*_):
        raise RuntimeError("Job not requeued because: timed-out too many times.")

    before = signal.signal(signal.SIGUSR2, refuse)
    signal_at(7, signal.SIGUSR2)
    try:
        with pytest.raises(RuntimeError, match="too many times"):
            make_job(config)()
    finally:
        signal.signal(signal.SIGUSR2, before)
    state = runs.state(config.signature)
    assert (state.state, state.failure) == ("failed", "timeout")
    assert "timed-out too many times" in state.message


def test_term_saves_and_ends(config, runs, make_job, signal_at):
    signal_at(7, signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        make_job(config)()
    assert ended.value.code == 143
    assert runs.state(config.signature).message == "SIGTERM, saved at step 8"


def test_term_on_a_cluster_waits_to_be_killed_but_follows_usr2(
    config, make_job, signal_at, requeued, monkeypatch
):
    """SLURM would count a job that ends by itself in its grace time as complete."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            os.kill(os.getpid(), signal.SIGUSR2)

    monkeypatch.setattr("time.sleep", sleep)
    signal_at(7, signal.SIGTERM)
    with pytest.raises(SystemExit):
        make_job(config)()
    assert len(slept) == 3
    assert requeued == [signal.SIGUSR2]


def test_handlers_are_put_back(config, make_job, requeued):
    make_job(config)()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGUSR2)
    assert requeued


def test_a_late_twin_ends_without_loading_torch(config, runs, make_job):
    make_job(config)()
    program = (
        "import json, sys, time; begin = time.perf_counter(); from sweeps.dispatch.worker import CellJob\n"
        "print(CellJob(*json.loads(sys.argv[1]))(), 'torch' in sys.modules, time.perf_counter() - begin)"
    )
    job = make_job(config)
    arguments = json.dumps([job.data_path, job.runs_root, job.configs])
    command = [sys.executable, "-c", program, arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    failed, loaded, seconds = done.stdout.split()
    assert (failed, loaded) == ("[]", "False")
    assert float(seconds) < 1.0


def test_a_busy_cell_is_skipped_and_the_others_are_trained(config, runs, make_job):
    other = replace(config, seed=1)
    lease = claim(runs.folder(config.signature), done=lambda: False)
    assert make_job(config, other)() == []
    assert not runs.has(config.signature)
    assert runs.has(other.signature)
    lease.close()


def test_a_job_waits_for_the_owner_to_go_silent_and_takes_over(config, runs, make_job):
    """After a node failure two copies of a job may run; the queued one waits until the other has ended."""
    claim(runs.folder(config.signature), done=lambda: False).close()
    move_to_another_host(runs.folder(config.signature))
    assert make_job(config, options={"stale_seconds": 0.5}, wait_seconds=30.0)() == []
    attempts = runs.read(config.signature).provenance["attempts"]
    assert [(a["number"], a["failure"]) for a in attempts] == [(1, "lost"), (2, None)]


def test_a_job_that_waits_follows_a_signal(config, runs, make_job, requeued, monkeypatch):
    lease = claim(runs.folder(config.signature), done=lambda: False)
    monkeypatch.setattr("time.sleep", lambda _: os.kill(os.getpid(), signal.SIGUSR2))
    with pytest.raises(SystemExit):
        make_job(config, wait_seconds=30.0)()
    assert requeued
    assert runs.state(config.signature).state == "running"
    lease.close()


def test_other_code_than_was_submitted_is_refused(config, make_job, tmp_path):
    with pytest.raises(UserError, match="but the job was submitted from"):
        make_job(config, code_root=str(tmp_path))()
    assert make_job(config, code_root=str(ROOT))() == []


def test_a_trajectory_that_fails_keeps_what_it_has(config, runs, make_job, monkeypatch):
    configs = [replace(config, n_samples=n, schedule="constant") for n in (160, 320)]
    train_step = scaling.training.run_on_disk.Training._train_step

    def fail(training, *arguments):
        if training.step == 15:
            raise ValueError("out of luck")
        return train_step(training, *arguments)

    monkeypatch.setattr(scaling.training.run_on_disk.Training, "_train_step", fail)
    assert make_job(*configs, share_prefix=True)() == [configs[1].signature]
    assert runs.has(configs[0].signature)
    state = runs.state(configs[1].signature, lease_key(configs[1], share_prefix=True))
    assert (state.state, state.message) == ("failed", "ValueError: out of luck")


def test_a_missing_store_fails_the_cell_and_says_so(config, runs):
    failed = run_cells("nowhere", str(runs.root), [asdict(config)])
    assert failed == [config.signature]
    assert "nowhere" in runs.state(config.signature).message


def test_labels_that_were_changed_after_the_plan_are_not_trained_on(
    config, runs, tiny_store, tmp_path
):
    data = shutil.copytree(tiny_store.path, tmp_path / "changed")
    label = data / "impressions" / "label.npy"
    content = bytearray(label.read_bytes())
    content[-1] ^= 1
    label.write_bytes(content)
    assert run_cells(str(data), str(runs.root), [asdict(config)]) == [config.signature]
    assert "changed since the data set was made" in runs.state(config.signature).message


def test_after_an_error_that_breaks_the_gpu_the_other_cells_stay_missing(
    config, runs, make_job, monkeypatch
):
    def broken(*_):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(scaling.training.run_on_disk.Training, "_train_step", broken)
    configs = [replace(config, seed=seed) for seed in (0, 1, 2)]
    with pytest.raises(torch.AcceleratorError):
        make_job(*configs)()
    assert [runs.state(one.signature).state for one in configs] == ["failed", "missing", "missing"]


def test_a_job_that_asked_for_a_gpu_does_not_train_on_cores(config, runs, make_job):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert make_job(config, on_gpu=True)() == [config.signature]
    assert "asked for a GPU, but torch finds none" in runs.state(config.signature).message


BODY = """\
import json, sys
import scaling.training.run_on_disk
from sweeps.dispatch.worker import CellJob
scaling.training.run_on_disk._CHECKPOINT_SHARE = 1e9
data, runs, configs = json.loads(sys.argv[1])
CellJob(data, runs, configs, share_prefix=True, options={"checkpoint_seconds": 0.05, "stale_seconds": 1.0})()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_killed_several_times_ends_with_the_same_records(
    config, tiny_store, runs, make_job, undisturbed, number
):
    configs = [
        replace(config, n_samples=n, grade=GRADES["SUAN-3"], batch_size=8) for n in (400, 1200)
    ]
    job = make_job(*configs)
    command = [sys.executable, "-c", BODY, json.dumps([job.data_path, job.runs_root, job.configs])]
    chance, n_kills = random.Random(number), 0
    folder = runs.folder(lease_key(configs[0], share_prefix=True))
    for _ in range(9):
        if all(runs.has(c.signature) for c in configs):
            break
        before, goal = last_attempt(folder)[0], chance.randint(5, 25)
        with subprocess.Popen(command) as process:
            while process.poll() is None and n_kills < 3:
                attempt_number, attempt = last_attempt(folder)
                steps = attempt.get("step", 0) - (attempt.get("first_step") or 0)
                if attempt_number > before and steps >= goal:
                    process.send_signal(number)
                    n_kills += 1
                    break
                time.sleep(0.01)
    records = [runs.read(c.signature) for c in configs]
    assert [numbers(record) for record in records] == [undisturbed(c) for c in configs]
    attempts = records[-1].provenance["attempts"]
    assert n_kills == 3
    assert any(attempt["first_step"] for attempt in attempts)


@pytest.mark.slow
def test_submitit_queues_a_signalled_job_again(config, runs, make_job, undisturbed, tmp_path):
    """Like SLURM, the controller of the local executor starts the job again."""
    import submitit

    longer = replace(config, n_samples=1200, grade=GRADES["SUAN-3"], batch_size=4)
    executor = submitit.LocalExecutor(folder=tmp_path / "submitit")
    executor.update_parameters(timeout_min=60)
    job = executor.submit(make_job(longer, options={"checkpoint_seconds": 0.05}))
    folder, signalled = runs.folder(longer.signature), False
    deadline = time.monotonic() + 100
    while not runs.has(longer.signature) and time.monotonic() < deadline:
        number, attempt = last_attempt(folder)
        # heartbeats are seconds apart, and so may be the run's end
        if number == 1 and any(folder.rglob("*.safetensors")) and not signalled:
            os.kill(attempt["pid"], signal.SIGUSR2)
            signalled = True
        time.sleep(0.05)
    record = runs.read(longer.signature)
    assert numbers(record) == undisturbed(longer)
    assert [a["failure"] for a in record.provenance["attempts"]] == ["preempted", None]
    assert job.result() == []
    while not job.done():  # its controller ends a little later, and may not be left behind
        time.sleep(0.05)
