"""Jobs that train several cells at once, each in a process of its own: the records of one after the other."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import psutil
import pytest
import torch
from small_runs import numbers

from models.grades import GRADES
from scaling.records import claim
from scaling.records.attempts import last_attempt
from scaling.study import lease_key
from scaling.training import train_run
from sweeps.dispatch.job_processes import JobEndsError

pytestmark = pytest.mark.slow


@pytest.fixture
def long(config):
    """A cell of a second and more, in which something can happen to it."""
    return replace(config, n_samples=1200, grade=GRADES["SUAN-3"], batch_size=2)


@pytest.fixture
def make_job(make_job):
    return partial(make_job, n_at_once=2)


@pytest.fixture
def when_both_train(runs):
    """Do something with the attempts of two cells as soon as both have trained a step."""

    def begin(one, other, act):
        def attempts():
            return [last_attempt(runs.folder(c.signature))[1] for c in (one, other)]

        def wait():
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if all(attempt.get("n_steps") for attempt in attempts()):
                    act(attempts())
                    return
                time.sleep(0.01)

        threading.Thread(target=wait, daemon=True).start()

    return begin


def test_the_records_are_those_of_cells_trained_one_after_the_other(
    config, runs, make_job, undisturbed
):
    configs = [replace(config, seed=seed) for seed in (0, 1, 2)]
    assert make_job(*configs)() == []
    records = [runs.read(c.signature) for c in configs]
    assert [numbers(record) for record in records] == [undisturbed(c) for c in configs]
    attempts = [attempt for r in records for attempt in r.provenance["attempts"]]
    assert [attempt["cells_per_gpu"] for attempt in attempts] == [2, 2, 2]
    assert len({attempt["pid"] for attempt in attempts}) == 2
    assert os.getpid() not in {attempt["pid"] for attempt in attempts}


def test_the_cells_of_a_trajectory_stay_together(config, runs, make_job, undisturbed):
    sizes = [replace(config, n_samples=n, schedule="constant") for n in (160, 320)]
    other = replace(config, seed=1)
    assert make_job(*sizes, other, share_prefix=True)() == []
    assert [numbers(runs.read(c.signature)) for c in (*sizes, other)] == [
        undisturbed(c) for c in (*sizes, other)
    ]
    ids = [runs.read(c.signature).provenance["attempts"][-1]["id"] for c in sizes]
    assert ids[0] == ids[1]


def test_a_signal_stops_all_and_the_next_start_completes_them(
    long, config, runs, make_job, undisturbed, requeued, when_both_train
):
    configs = [long, replace(long, seed=1), config]
    when_both_train(*configs[:2], lambda _: os.kill(os.getpid(), signal.SIGUSR2))
    with pytest.raises(SystemExit):
        make_job(*configs)()
    assert requeued == [signal.SIGUSR2]
    states = [runs.state(c.signature) for c in configs]
    assert [state.state for state in states] == ["preempted", "preempted", "missing"]
    assert all("SIGUSR2, saved at step" in s.message for s in states[:2])
    assert make_job(*configs)() == []
    records = [runs.read(c.signature) for c in configs]
    assert [numbers(record) for record in records] == [undisturbed(c) for c in configs]
    starts = [[a["first_step"] > 0 for a in r.provenance["attempts"]] for r in records]
    assert starts == [[False, True], [False, True], [False]]


def test_a_job_that_is_not_queued_again_says_so_of_all_its_cells(
    long, runs, make_job, when_both_train
):
    def refuse(*_):
        raise RuntimeError("Job not requeued because: timed-out too many times.")

    configs = [replace(long, seed=seed) for seed in (0, 1)]
    before = signal.signal(signal.SIGUSR2, refuse)
    when_both_train(*configs, lambda _: os.kill(os.getpid(), signal.SIGUSR2))
    try:
        with pytest.raises(RuntimeError, match="too many times"):
            make_job(*configs)()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert [runs.state(c.signature).failure for c in configs] == ["timeout", "timeout"]


def test_the_crash_of_a_process_spares_the_other_cells(
    long, config, runs, make_job, undisturbed, when_both_train
):
    configs = [long, replace(long, seed=1), config]
    when_both_train(*configs[:2], lambda both: os.kill(both[0]["pid"], signal.SIGKILL))
    assert make_job(*configs)() == []
    states = [runs.state(c.signature) for c in configs]
    assert [state.state for state in states] == ["lost", "done", "done"]
    assert "its process died (signal 9)" in states[0].message
    assert make_job(*configs)() == []
    assert [numbers(runs.read(c.signature)) for c in configs] == [undisturbed(c) for c in configs]


def patched_child(text):
    """A child that runs the lines `text` after every step."""
    return (
        sys.executable,
        "-c",
        f"""\
import time, torch
from scaling.training.run_on_disk import Training
from sweeps.dispatch.worker import serve_cells
advance = Training.advance
def advance_and(training, epoch, after_step):
    def after():
        seed = epoch.config.seed
        {text}
        after_step()
    return advance(training, epoch, after)
Training.advance = advance_and
serve_cells()
""",
    )


def test_a_broken_gpu_ends_the_job_and_the_other_cells_can_go_on(
    config, runs, make_job, monkeypatch
):
    broken = 'raise torch.AcceleratorError("CUDA error: device-side assert triggered")'
    child = patched_child(
        f"if seed == 0 and training.step == 9: {broken}\n        if seed: time.sleep(0.1)"
    )
    monkeypatch.setattr("sweeps.dispatch.job_processes.cells_of_a_pack._CHILD", child)
    configs = [replace(config, seed=seed, n_samples=1200) for seed in (0, 1, 2)]
    with pytest.raises(JobEndsError, match="device-side assert"):
        make_job(*configs)()
    states = [runs.state(c.signature).state for c in configs]
    assert states[0] == "failed"
    assert states[1] in ("preempted", "missing")
    assert states[2] == "missing"
    assert psutil.Process().children() == []


def test_after_an_out_of_memory_error_the_process_trains_the_next_cell(
    config, runs, make_job, monkeypatch
):
    child = patched_child(
        'if seed == 0: raise torch.OutOfMemoryError("CUDA out of memory")\n        time.sleep(0.05)'
    )
    monkeypatch.setattr("sweeps.dispatch.job_processes.cells_of_a_pack._CHILD", child)
    configs = [replace(config, seed=seed) for seed in (0, 1, 2)]
    assert make_job(*configs)() == [configs[0].signature]
    assert runs.state(configs[0].signature).failure == "oom"
    pids = {runs.read(c.signature).provenance["attempts"][-1]["pid"] for c in configs[1:]}
    assert len(pids) == 2


def test_a_job_whose_cells_are_done_starts_no_process(
    config, tiny_store, runs, make_job, monkeypatch
):
    train_run(config, tiny_store, runs)
    monkeypatch.setattr("sweeps.dispatch.job_processes.cells_of_a_pack._CHILD", ("false",))
    assert make_job(config)() == []


def test_a_cell_that_another_job_trains_is_waited_for(config, runs, make_job):
    other = replace(config, seed=1)
    lease = claim(runs.folder(config.signature), done=lambda: False)
    threading.Timer(4.0, lambda: lease.end("preempted", "ended")).start()
    assert make_job(config, other, wait_seconds=60.0)() == []
    assert runs.has(config.signature)
    assert runs.has(other.signature)


def test_each_process_says_why_it_cannot_train_on_a_gpu(
    config, runs, make_job, monkeypatch, caplog
):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/run/mps")
    configs = [replace(config, seed=seed) for seed in (0, 1)]
    assert len(make_job(*configs, on_gpu=True)()) == 2
    states = [runs.state(c.signature, lease_key(c, share_prefix=False)) for c in configs]
    assert all("asked for a GPU, but torch finds none" in state.message for state in states)
    assert "GPU shared by the MPS of this environment" in caplog.text
