"""Units in several processes side by side; the processes are real, their work is not."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from sweeps.dispatch.job_processes import shared_gpus
from sweeps.dispatch.job_processes.side_by_side import run_side_by_side
from sweeps.dispatch.job_processes.stop_signals import StopSignals
from sweeps.dispatch.job_processes.unit_server import JobEndsError

# What a unit asks for is in its first word.
CHILD = """\
import os, signal, sys, time
from pathlib import Path
from sweeps.dispatch.job_processes import JobEndsError, quit_own_daemon, serve_units, unit_server

unit_server._SECONDS_OF_AN_ORPHAN = 1.0

def open_work(first, stop):
    def do(unit):
        what, *rest = unit.split()
        Path(first, f"{os.getpid()}").touch()
        if what == "die":
            os.kill(os.getpid(), int(rest[0]))
        if what == "fail":
            raise ValueError("out of luck")
        if what == "end":
            raise JobEndsError("the GPU is broken")
        begin = time.monotonic()
        while what == "wait" and not stop() and time.monotonic() < begin + float(rest[0]):
            time.sleep(0.01)
        if what == "hang":
            time.sleep(60)
        if stop():
            Path(first, f"stopped by {stop()}").touch()
        return stop() or os.getpid()
    return do

serve_units(int(sys.argv[-1]), open_work, quit_own_daemon)
"""
COMMAND = (sys.executable, "-c", CHILD)


@pytest.fixture
def side_by_side(tmp_path):
    def run(*units, command=COMMAND, n_at_once=2):
        with StopSignals() as stop:
            named = {f"{i} {unit}": unit for i, unit in enumerate(units)}
            return run_side_by_side(command, str(tmp_path), named, n_at_once, stop)

    return run


@pytest.fixture
def pids(tmp_path):
    """The processes that have begun a unit."""
    return lambda: [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]


def until(ready, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def then(ready, act):
    """Do something beside the test once `ready` is true."""

    def run():
        until(ready)
        act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_each_unit_is_done_once_by_two_processes(side_by_side):
    outcome = side_by_side(*["wait 0.3"] * 5)
    assert len(outcome.answers) == 5
    assert len(set(outcome.answers.values())) == 2
    assert outcome.died == {}


def test_fewer_units_start_fewer_processes(side_by_side, pids):
    side_by_side("wait 0", n_at_once=8)
    assert len(pids()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "code"), [("die 9", -9), ("fail", 1)])
def test_a_process_that_dies_loses_its_unit_only(side_by_side, unit, code):
    outcome = side_by_side(unit, "wait 0", unit, "wait 0", "wait 0")
    assert outcome.died == {f"0 {unit}": code, f"2 {unit}": code}
    assert list(outcome.answers) == ["1 wait 0", "3 wait 0", "4 wait 0"]


def test_a_process_that_can_do_nothing_more_ends_the_job(side_by_side, pids):
    with pytest.raises(JobEndsError, match="the GPU is broken"):
        side_by_side("wait 30", "wait 30", "end", "wait 0", n_at_once=3)
    assert not any(map(psutil.pid_exists, pids()))


def test_a_process_that_hangs_is_killed_when_the_job_ends(side_by_side, pids, monkeypatch):
    monkeypatch.setattr("sweeps.dispatch.job_processes.side_by_side._SECONDS_TO_STOP", 0.2)
    with pytest.raises(JobEndsError):
        side_by_side("hang", "end")
    assert not any(map(psutil.pid_exists, pids()))


def test_processes_that_do_not_start_end_the_job(side_by_side):
    with pytest.raises(JobEndsError, match="ended at its start with exit code 3"):
        side_by_side("wait 0", command=(sys.executable, "-c", "raise SystemExit(3)"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_signal_stops_all_and_begins_no_other_unit(side_by_side, pids, number):
    then(lambda: len(pids()) == 2, lambda: os.kill(os.getpid(), number))
    outcome = side_by_side("wait 30", "wait 30", "wait 30")
    name = signal.Signals(number).name
    assert outcome.answers == {"0 wait 30": name, "1 wait 30": name}
    assert outcome.died == {}


def test_a_signal_to_all_processes_of_the_job_kills_none_that_is_starting(side_by_side):
    """SLURM signals every process of a job step."""
    here, children = psutil.Process(), []
    others = set(here.children())  # of other tests, e.g. a forkserver

    def started():
        return set(here.children()) - others

    def fire():
        children.extend(started())
        for process in children:
            process.send_signal(signal.SIGUSR2)
        time.sleep(0.5)  # in no certain order
        here.send_signal(signal.SIGUSR2)

    # the job may have ended before its own signal comes, which would end the test's process
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        firing = then(lambda: len(started()) == 2, fire)
        outcome = side_by_side("wait 30", "wait 30")
        firing.join()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert len(children) == 2
    assert set(outcome.answers.values()) <= {"SIGUSR2"}
    assert outcome.died == {}


PARENT = """\
import sys
from sweeps.dispatch.job_processes import shared_gpus
from sweeps.dispatch.job_processes.side_by_side import run_side_by_side
from sweeps.dispatch.job_processes import StopSignals, shared_gpus
child, folder, unit = sys.argv[1:]
with StopSignals() as stop, shared_gpus():
    units = {"a": unit, "b": unit, "c": unit}
    run_side_by_side((sys.executable, "-c", child), folder, units, 2, stop)
"""


def kill_parent_at_work(folder, pids, unit="wait 60"):
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(folder), unit]) as parent:
        until(lambda: len(pids()) == 2)
        assert all(map(psutil.pid_exists, pids()))
        parent.kill()


@pytest.mark.slow
def test_after_the_death_of_the_job_its_processes_stop(tmp_path, pids):
    kill_parent_at_work(tmp_path, pids)
    until(lambda: not any(map(psutil.pid_exists, pids())), 10.0)
    assert (tmp_path / "stopped by SIGTERM").exists()


@pytest.mark.slow
def test_after_the_death_of_the_job_a_process_that_hangs_is_ended(tmp_path, pids):
    kill_parent_at_work(tmp_path, pids, "hang")
    until(lambda: not any(map(psutil.pid_exists, pids())), 10.0)


# NVIDIA's program needs a GPU. This stand-in only writes down how it is called.


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A stand-in for `nvidia-cuda-mps-control` on the path; returns its calls so far."""
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    script = folder / "nvidia-cuda-mps-control"
    script.write_text(
        textwrap.dedent(f"""\
        #!/bin/sh
        words="$*"; [ -n "$words" ] || read words
        echo "$words visible=$CUDA_VISIBLE_DEVICES pipes=$CUDA_MPS_PIPE_DIRECTORY" >> {log}
        if [ "$MPS_REFUSES" ]; then echo "an instance is running" >&2; exit 1; fi
        """)
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    return lambda: log.read_text().splitlines() if log.exists() else []


def calls_of(lines):
    return [line.split()[0] for line in lines]


def test_mps_is_started_in_a_folder_of_its_own_and_ended(stand_in):
    with shared_gpus() as sharing:
        pipes = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
        assert Path(pipes).is_dir()
        assert stand_in() == [f"-d visible= pipes={pipes}"]
    assert sharing.by_mps
    assert stand_in()[1:] == [f"quit visible= pipes={pipes}"]
    assert not Path(pipes).exists()
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_mps_is_ended_if_the_job_fails(stand_in):
    with pytest.raises(ValueError, match="out of luck"), shared_gpus():
        raise ValueError("out of luck")
    assert calls_of(stand_in()) == ["-d", "quit"]


@pytest.mark.parametrize(("job", "child"), [("3", "0"), ("2,5", "0,1"), ("GPU-ab12", "GPU-ab12")])
def test_behind_mps_the_gpus_of_the_job_are_numbered_from_zero(stand_in, monkeypatch, job, child):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", job)
    with shared_gpus():
        assert f"visible={job} " in stand_in()[0]
        assert os.environ["CUDA_VISIBLE_DEVICES"] == child
    assert os.environ["CUDA_VISIBLE_DEVICES"] == job


def test_if_mps_does_not_start_the_gpu_is_shared_in_slices_of_time(stand_in, monkeypatch):
    monkeypatch.setenv("MPS_REFUSES", "1")
    with shared_gpus() as sharing:
        assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert (sharing.by_mps, "an instance is running" in sharing.text) == (False, True)
    assert calls_of(stand_in()) == ["-d"]


def test_without_mps_on_the_path_the_gpu_is_shared_in_slices_of_time(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    with shared_gpus() as sharing:
        assert "slices of time" in sharing.text


def test_the_mps_of_a_site_is_used_and_left_alone(stand_in, monkeypatch):
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/run/mps")
    with shared_gpus() as sharing:
        assert sharing.by_mps
    assert stand_in() == []


@pytest.mark.slow
def test_after_the_death_of_the_job_its_processes_end_mps(stand_in, tmp_path, pids):
    kill_parent_at_work(tmp_path, pids)
    until(lambda: not any(map(psutil.pid_exists, pids())), 10.0)
    assert set(calls_of(stand_in())) == {"-d", "quit"}
