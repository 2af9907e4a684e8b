"""The output of SLURM's commands, in the formats of different versions and sites."""

import os
import subprocess
from pathlib import Path

import pytest

from sweeps.dispatch.preflight import why_not_shared
from sweeps.queue import Partition, QueuedTask, SilentSchedulerError, Submission, scheduler
from sweeps.queue.cell_endings import ending_in_log
from sweeps.queue.submissions import cells_in_queue

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
tmpfs /dev/shm tmpfs rw 0 0
home:/export /home nfs4 rw 0 0
scratch@o2ib:/s /tmp/big lustre rw 0 0
"""


@pytest.fixture
def prints(monkeypatch):
    """Make every command print this."""

    def say(text, returncode=0, stderr=""):
        done = subprocess.CompletedProcess([], returncode, text, stderr)
        monkeypatch.setattr(scheduler.subprocess, "run", lambda *_, **__: done)

    return say


def test_queued_tasks_are_known_by_their_folder(prints):
    prints(
        "12_3|RUNNING|None|n1|/r/submissions/a/.submission_file_1.sh\n"
        "12_4|PENDING|JobArrayTaskLimit||/r/submissions/a/.submission_file_1.sh\n"
        "11|TIMEOUT|TimeLimit|n2|/r/submissions/b/.submission_file_2.sh\n"
    )
    assert scheduler.queued_tasks("x") == [
        QueuedTask("12_3", "RUNNING", "n1", "a"),
        QueuedTask("12_4", "PENDING", "JobArrayTaskLimit", "a"),
    ]


def test_filters_of_the_users_own_do_not_hide_jobs(monkeypatch, tmp_path):
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\nenv | grep -q ^SQUEUE_ || echo '1|PENDING|Priority||/r/a/x.sh'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    assert scheduler.queued_tasks("x") == [QueuedTask("1", "PENDING", "Priority", "a")]


def test_a_job_id_of_another_cluster_is_not_ours():
    """Both submissions had job 1; only the folder says which of them the queued job belongs to."""
    old = Submission(Path("/r/submissions/old"), "slurm", (("x",),), ("1",))
    new = Submission(Path("/r/submissions/new"), "slurm", (("y",),), ("1",))
    task = QueuedTask("1", "PENDING", "Priority", "new")
    assert cells_in_queue([old, new], [task]) == {"y": task}


def test_a_running_job_counts_before_a_waiting_one_of_the_same_cell():
    one = Submission(Path("/a"), "slurm", (("x",),))
    two = Submission(Path("/b"), "slurm", (("x",),))
    running, waiting = QueuedTask("1", "RUNNING", "n1", "a"), QueuedTask("2", "PENDING", "", "b")
    assert cells_in_queue([one, two], [running, waiting]) == {"x": running}


def test_every_start_of_a_job_has_its_time(prints, monkeypatch):
    """A job that never started, and one that is still waiting, have none."""
    monkeypatch.setattr(scheduler.shutil, "which", lambda name: name)
    prints("12_0|40\n12_0|300\n12_1|25\n12_2|0\n12_[3-9]|\n")
    assert scheduler.elapsed_seconds("x", ["12"]) == {"12_0": [40.0, 300.0], "12_1": [25.0]}


def test_without_accounting_no_time_is_known(prints, monkeypatch):
    monkeypatch.setattr(scheduler.shutil, "which", lambda name: name)
    prints("", 1, "sacct: error: Slurm accounting storage is disabled")
    assert scheduler.elapsed_seconds("x", ["12"]) == {}


def test_partitions_add_up_over_their_nodes(prints):
    prints(
        "gpu*|gpu:a100:4(S:0-1),shard:8|512000+|64|2-00:00:00\n"
        "gpu*|gpu:h100:8|1024000|96|2-00:00:00\n"
        "cpu|(null)|64000|32|infinite\n"
        "short|gpu:2|64000|32|30:00\n"
    )
    found = scheduler.partitions()
    assert found["gpu"] == Partition("gpu", True, 8, 1024000, 96, 2880)
    assert (found["cpu"].gpus, found["short"].minutes) == (0, 30)


def test_a_steps_out_of_memory_counts_for_its_job(prints, monkeypatch):
    monkeypatch.setattr(scheduler.shutil, "which", lambda _: "/usr/bin/sacct")
    prints("7_1|FAILED\n7_1.batch|FAILED\n7_1.0|OUT_OF_MEMORY\n7_2|CANCELLED by 0\n")
    assert scheduler.end_states(["7"]) == {"7_1": "OUT_OF_MEMORY", "7_2": "CANCELLED"}


def test_without_accounting_there_are_no_end_states(prints, monkeypatch):
    monkeypatch.setattr(scheduler.shutil, "which", lambda _: "/usr/bin/sacct")
    prints("", 1, "Slurm accounting storage is disabled\n")
    assert scheduler.end_states(["7"]) == {}


def test_the_error_of_a_refusal_has_slurms_words(prints):
    prints("", 1, "error\nslurm_load_jobs error: Unable to contact slurm controller\n")
    with pytest.raises(SilentSchedulerError, match="Unable to contact"):
        scheduler.queued_tasks("x")
    prints("", 1, "squeue: error: Invalid user\n")  # SLURM names the command itself
    with pytest.raises(SilentSchedulerError, match=r"^squeue: error: Invalid user$"):
        scheduler.queued_tasks("x")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=4.0.\n", "oom"),
        ("slurmstepd: error: *** STEP 4.0 ON n1 CANCELLED AT X DUE TO TIME LIMIT ***\n", "timeout"),
        ("slurmstepd: error: *** JOB 4 ON n1 CANCELLED AT 2026-11-24T09:00:00 ***\n", "cancelled"),
        ("slurmstepd: error: *** JOB 4 ON n1 CANCELLED AT X DUE TO JOB REQUEUE ***\n", "lost"),
        ("srun: error: n2: task 0: Killed\n", "lost"),
        ("ModuleNotFoundError: No module named 'sweeps'\n", "lost"),
    ],
)
def test_a_log_shows_how_its_job_ended(tmp_path, text, kind):
    path = tmp_path / "4_0_log.err"
    path.write_text("some warning\n" + text)
    assert ending_in_log(path).kind == kind


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (("srun: error: n2: task 0: Killed", "error: Detected 1 oom-kill event(s)"), "oom"),
        (
            (
                "error: *** STEP 4.0 ON n1 CANCELLED AT X DUE TO TIME LIMIT ***",
                "error: *** JOB 4 ON n1 CANCELLED AT X ***",
            ),
            "timeout",
        ),
        (
            ("srun: error: n2: task 0: Terminated", "error: *** JOB 4 ON n1 CANCELLED AT X ***"),
            "cancelled",
        ),
    ],
)
def test_of_several_endings_the_cause_counts(tmp_path, lines, kind):
    for number, order in enumerate((lines, lines[::-1])):
        path = tmp_path / f"{number}_0_log.err"
        path.write_text("\n".join(order) + "\n")
        assert ending_in_log(path).kind == kind


def test_only_the_last_start_of_a_job_counts(tmp_path):
    path = tmp_path / "4_0_log.err"
    path.write_text(
        "slurmstepd: error: Detected 1 oom-kill event(s)\n"
        "slurmstepd: error: *** JOB 4 ON n1 CANCELLED AT X DUE TO JOB REQUEUE ***\n"
        "srun: error: n2: task 0: Killed\n"
    )
    assert ending_in_log(path).kind == "lost"


def test_a_log_without_an_ending(tmp_path):
    (tmp_path / "a").write_text("step 3\n")
    assert ending_in_log(tmp_path / "a") is None
    assert ending_in_log(tmp_path / "missing") is None


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("/dev/shm/runs", "tmpfs"),
        ("/tmp/runs", "/tmp of this machine"),
        ("/tmp/big/runs", None),
        ("/home/me/runs", None),
        ("/data/runs", None),
    ],
)
def test_a_folder_of_this_machine_alone_is_known(folder, reason):
    found = why_not_shared(Path(folder), MOUNTS)
    assert found is None if reason is None else reason in found
