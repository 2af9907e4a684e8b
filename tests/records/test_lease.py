"""Only one of several processes owns a run, and the others write nothing."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from small_runs import move_to_another_host

from scaling.atomic_files import write_new
from scaling.errors import StorageError
from scaling.records import LeaseLostError, RunBusyError, claim, read_attempts, remove_work_files
from scaling.records.attempts import is_gone, last_attempt, this_process


def never():
    return False


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "study" / "cell"


@pytest.fixture
def take(folder):
    """Claim the run; the heartbeats are stopped after the test."""
    leases = []

    def taken(**options):
        leases.append(claim(folder, **{"done": never, **options}))
        return leases[-1]

    yield taken
    for lease in filter(None, leases):
        lease.close()


def test_a_living_owner_is_respected(take):
    take()
    with pytest.raises(RunBusyError, match=r"process \d+ on .* is training this run"):
        take()


def test_a_run_that_is_done_is_not_taken(take, folder):
    assert take(done=lambda: True) is None
    assert not folder.exists()


def test_an_attempt_says_who_it_is(take, folder, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "51")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "48")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    monkeypatch.setenv("SUBMITIT_FOLDER", "/runs/study/submissions/20260301-120000-7-0")
    take()
    number, attempt = last_attempt(folder)
    assert number == 1
    assert (attempt["slurm_job_id"], attempt["slurm_restart_count"]) == ("48_3", 2)
    assert attempt["submission"] == "20260301-120000-7-0"
    assert {"host", "pid", "git_commit", "git_diff", "code", "versions", "started"} <= set(attempt)


def test_an_ended_attempt_is_followed_by_the_next(take, folder):
    take().end("preempted", "signal 12")
    assert take().number == 2
    assert [a["state"] for a in read_attempts(folder)] == ["ended", "running"]


@pytest.mark.parametrize(("age", "taken"), [(4.0, False), (6.0, True)])
def test_another_hosts_owner_is_gone_when_it_is_silent(take, folder, age, taken):
    first = take()
    first.close()
    move_to_another_host(folder, age=age)
    if taken:
        assert take(stale_seconds=5.0).number == 2
        with pytest.raises(LeaseLostError, match="has taken this run over"):
            first.verify()
    else:
        with pytest.raises(RunBusyError, match="on elsewhere"):
            take(stale_seconds=5.0)


@pytest.mark.parametrize("ahead", [-1e7, 1e7])
def test_what_the_clock_of_another_host_says_does_not_matter(take, folder, ahead):
    take().close()
    path = folder / "attempts" / "1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"time": time.time() + ahead}))
    move_to_another_host(folder, age=4.0)
    with pytest.raises(RunBusyError):
        take(stale_seconds=5.0)
    move_to_another_host(folder, age=6.0)
    assert take(stale_seconds=5.0).number == 2


def test_an_attempt_of_another_host_that_changes_in_a_day_is_gone(take, folder):
    """As the clock of the disk was wrong, or a program set the file's time; it would stay alive for a day."""
    take().close()
    move_to_another_host(folder, age=-86_400.0)
    assert take(stale_seconds=5.0).number == 2


def leave_work_files(folder):
    """What a process leaves that is killed between the record and the removal of its files."""
    for name in ("attempts/1.json", "checkpoints/all-5-0.safetensors", ".record.json.7.tmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    (folder / "record.json").write_text("{}")


def test_what_a_killed_process_left_beside_its_record_is_removed(take, folder):
    leave_work_files(folder)
    move_to_another_host(folder, age=9.0)
    assert take(done=lambda: True, stale_seconds=5.0) is None
    assert [path.name for path in folder.iterdir()] == ["record.json"]


def test_what_a_living_process_will_remove_itself_is_left_to_it(take, folder):
    leave_work_files(folder)
    move_to_another_host(folder, age=1.0)
    assert take(done=lambda: True, stale_seconds=5.0) is None
    assert (folder / "checkpoints").exists()


def test_a_recycled_process_number_is_not_the_owner(take, folder):
    take().close()
    path = folder / "attempts" / "1.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "pid_started": document["pid_started"] - 1}))
    assert take().number == 2


def test_a_lease_that_was_taken_over_is_noticed_and_writes_nothing_more(take, folder):
    first = take(stale_seconds=0.1)
    first.update(step=3)
    move_to_another_host(folder, age=9.0)
    second = take(stale_seconds=5.0)
    with pytest.raises(LeaseLostError):
        first.verify()
    with pytest.raises(LeaseLostError):
        first.check()
    first.end("exception", "too late")
    assert second.number == 2
    assert last_attempt(folder)[1]["state"] == "running"


def test_a_heartbeat_notices_a_takeover_by_itself(take, folder):
    first = take(stale_seconds=0.1)
    write_new(folder / "attempts" / "2.json", {"state": "running", "time": time.time()})

    def check_for_ten_seconds():
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            time.sleep(0.02)  # between two heartbeats
            first.check()

    with pytest.raises(LeaseLostError):
        check_for_ten_seconds()


def test_the_removal_of_the_folder_loses_the_lease(take, folder):
    lease = take()
    remove_work_files(folder)
    with pytest.raises(LeaseLostError):
        lease.verify()


def test_a_heartbeat_carries_the_progress(take, folder):
    lease = take(stale_seconds=0.1)
    before = last_attempt(folder)[1]["time"]
    lease.update(step=7)
    deadline = time.monotonic() + 5
    while last_attempt(folder)[1].get("step") != 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert last_attempt(folder)[1]["time"] > before


def test_a_heartbeat_carries_what_the_process_has_used(take, folder):
    lease = take()
    lease.watch(lambda: {"gpu_busy": 0.25})
    lease.beat()
    attempt = last_attempt(folder)[1]
    own = resource.getrusage(resource.RUSAGE_SELF)
    # the file has hundredths of a second
    assert 0 < attempt["cpu_seconds"] <= own.ru_utime + own.ru_stime + 0.005
    assert 0.01 < attempt["peak_memory_gib"] <= own.ru_maxrss / 2**20 + 0.0001
    assert attempt["gpu_busy"] == 0.25


def test_an_attempt_says_when_its_process_began(take, folder):
    take()
    begun = datetime.fromisoformat(last_attempt(folder)[1]["process_started"]).timestamp()
    assert 0 <= psutil.Process().create_time() - begun < 1


def test_the_attempts_of_a_record_say_what_was_used(take):
    (attempt,) = take().attempts()
    assert attempt["cpu_seconds"] > 0
    assert attempt["peak_memory_gib"] > 0


def test_a_waiting_twin_ends_when_the_record_appears(take):
    take()
    record = threading.Event()
    threading.Timer(0.3, record.set).start()
    assert take(done=record.is_set, wait_seconds=30.0, stale_seconds=0.5) is None


def test_a_waiting_twin_takes_over_when_the_owner_goes_silent(take, folder):
    take().close()
    move_to_another_host(folder)
    begin = time.monotonic()
    assert take(wait_seconds=30.0, stale_seconds=0.5).number == 2
    assert 0.3 < time.monotonic() - begin < 10


def test_waiting_has_an_end(take):
    take()
    with pytest.raises(RunBusyError):
        take(wait_seconds=0.2, stale_seconds=0.5)


def test_a_run_that_finishes_during_a_claim_is_not_claimed(take, folder):
    looks = iter([False, True, True])
    assert take(done=lambda: next(looks)) is None
    assert not (folder / "attempts").exists()


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        claim(tmp_path / "file" / "cell", done=never)


WRONG = {
    "number": "1",
    "id": [1],
    "state": "gone",
    "time": 1e300,
    "started": 5,
    "ended": "soon",
    "failure": [1],
    "message": None,
    "step": "3",
    "loss": float("inf"),
    "pid": -7,
}


@pytest.mark.parametrize("name", WRONG)
def test_an_attempt_with_a_wrong_field_is_left_out(take, folder, name):
    take().end("oom", "killed")
    take().end("lost")
    path = folder / "attempts" / "1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: WRONG[name]}))
    assert [attempt["number"] for attempt in read_attempts(folder)] == [2]


@pytest.mark.parametrize("damage", ["[]", "null", "3", '"x"'])
def test_a_record_is_written_beside_a_damaged_attempt(take, folder, damage):
    take().end("oom", "killed")
    (folder / "attempts" / "1.json").write_text(damage)
    second = take(stale_seconds=-1.0)
    assert [attempt["number"] for attempt in second.attempts()] == [2]


CLAIMERS = """\
import sys, threading
from pathlib import Path
from scaling.records import RunBusyError, claim
input()  # begin together
taken = []
def take():
    try:
        taken.append(claim(Path(sys.argv[1]), done=lambda: False).number)
    except RunBusyError:
        pass
threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*taken, flush=True)
input()  # alive until all have tried
"""


@pytest.mark.slow
@pytest.mark.parametrize("stale", [False, True])
def test_of_many_simultaneous_claims_one_succeeds(folder, stale):
    if stale:  # a dead owner tempts all of them to take over
        folder.joinpath("attempts").mkdir(parents=True)
        dead = folder / "attempts" / "1.json"
        dead.write_text(json.dumps({"state": "running", "host": "elsewhere"}))
        os.utime(dead, (time.time() - 1e6,) * 2)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", CLAIMERS, str(folder)]
    claimers = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for claimer in claimers:
        claimer.stdin.write("\n")
        claimer.stdin.flush()
    taken = [claimer.stdout.readline().split() for claimer in claimers]
    for claimer in claimers:
        claimer.communicate("\n")
    assert [number for own in taken for number in own] == ["2" if stale else "1"]


def test_a_file_system_without_links_still_has_one_winner(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    assert [write_new(tmp_path / "a.json", {"n": n}) for n in (1, 2)] == [True, False]
    assert json.loads((tmp_path / "a.json").read_text()) == {"n": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_the_start_of_a_process_is_what_earlier_versions_wrote():
    """They read ticks since boot from /proc; another unit would declare their running processes gone."""
    stat = Path("/proc/self/stat").read_text()
    assert this_process()["pid_started"] == int(stat.rpartition(")")[2].split()[19])


@pytest.mark.parametrize(("started", "gone"), [(-1, False), (None, True)])
def test_a_start_that_was_not_known_is_no_sign_of_an_end(started, gone):
    """Earlier versions wrote -1 where there is no /proc."""
    assert is_gone({**this_process(), "pid_started": started}, 120.0) is gone


def test_a_process_that_has_ended_is_gone_even_if_nobody_has_waited_for_it():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        attempt = {**this_process(), "pid": child.pid, "pid_started": -1, "time": time.time()}
        deadline = time.monotonic() + 20
        while not is_gone(attempt, 1e9) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert is_gone(attempt, 1e9)
        assert child.returncode is None  # still a zombie


@pytest.mark.parametrize("n_before", [0, 1, 2])
def test_a_clock_that_is_set_does_not_change_the_start_of_a_process(monkeypatch, n_before):
    """Also if it is set while the start is being read."""
    before, boot = this_process(), psutil.boot_time()
    looks = iter([boot] * n_before)
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: next(looks, boot + 3600))
    assert not is_gone(before, 120.0)
    assert psutil.Process().create_time() > time.time()
