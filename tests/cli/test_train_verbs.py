"""Which cells are queued, on a fake SLURM that never runs anything; `tests/cluster/test_slurm.py` uses a real one."""

import json
import os
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from slurm_sweep import fake_sweep

from scaling.errors import UserError
from scaling.records import claim
from sweeps.dispatch.environment import worker_environment
from sweeps.queue import SilentSchedulerError, read_submissions, scheduler

GRID = """\
[grid]
grade = ["SUAN-0", "SUAN-1"]
n_samples = [160, 320]
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys, tiny_store):
    sweep = fake_sweep(tmp_path, capsys, monkeypatch)
    sweep.write(tiny_store, GRID, "cells_per_job = 1")
    return sweep


def test_what_is_queued_is_not_submitted_again(sweep):
    assert "submitted 4 cells in 4 jobs" in sweep.submit()
    assert sweep.states() == {"queued": 4}
    assert "nothing to do, 0 of 4 cells done, 4 queued" in sweep.submit()
    assert len(sweep.queue()) == 4


def test_only_what_left_the_queue_is_submitted_again(sweep):
    sweep.submit()
    gone = sweep.queue()[2]
    scheduler.cancel_tasks([gone.job_id])
    assert "submitted 1 cell in 1 job" in sweep.submit()
    assert sweep.states() == {"queued": 4}


def test_the_cheapest_cells_come_first(sweep):
    sweep.submit()
    (submission,) = read_submissions(sweep.runs)
    order = {cell.config.signature: cell.seconds for cell in sweep.plan().cells}
    costs = [order[signature] for job in submission.cells for signature in job]
    assert costs == sorted(costs)


def test_arrays_are_split_at_the_clusters_size(sweep):
    sweep.submit("--set", "grid.n_seeds=3")
    assert [len(s.cells) for s in read_submissions(sweep.runs)] == [5, 5, 2]


@pytest.mark.slow
def test_a_submission_without_an_answer_is_cancelled_and_made_again(sweep):
    """The driver died between sbatch and the renaming of the files."""
    sweep.submit()
    (submission,) = read_submissions(sweep.runs)
    _forget(submission)
    (submission.folder / "1_2_submitted.pkl").unlink()
    assert sweep.states() == {"queued": 4}
    assert "cancelled job 1, whose driver died" in sweep.submit()
    assert {task.array_id for task in sweep.queue()} == {
        "1"
    }  # the number is used again, because the queue was empty
    assert len(read_submissions(sweep.runs)) == 2


def test_a_complete_submission_without_an_answer_is_adopted(sweep):
    sweep.submit()
    (submission,) = read_submissions(sweep.runs)
    _forget(submission)
    assert "adopted job 1" in sweep.submit()
    assert read_submissions(sweep.runs) == [submission]


def _forget(submission):
    file = submission.folder / "submission.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "job_ids": []}))


def test_a_damaged_submission_is_skipped(sweep):
    sweep.submit()
    (submission,) = read_submissions(sweep.runs)
    (submission.folder / "submission.json").write_text("{")
    assert "skipped" in sweep("status", sweep.study)
    assert sweep.states() == {"missing": 4}


@pytest.mark.slow
def test_removed_cells_are_left_or_cancelled(sweep):
    sweep.submit()
    sweep.study.write_text(sweep.study.read_text().replace("[160, 320]", "[320, 480]"))
    assert "submitted 2 cells" in sweep.submit()
    assert len(sweep.queue()) == 6
    assert "Cannot ask without a terminal; add --yes" in sweep.submit("--cancel-removed", code=2)
    assert "cancelled 2 jobs" in sweep.submit("--cancel-removed", "--yes")
    assert len(sweep.queue()) == 4


def test_cancel_takes_the_chosen_cells_jobs(sweep):
    sweep.submit()
    text = sweep("cancel", sweep.study, "--only", "grade=SUAN-0", "--yes")
    assert "cancelled 2 jobs" in text
    assert sweep.states() == {"queued": 2, "missing": 2}


def test_throttle_is_shared_by_the_arrays(sweep):
    sweep.submit("--set", "grid.n_seeds=3")
    lines = [line.split() for line in sweep("throttle", sweep.study, "6").splitlines()]
    assert sum(int(words[2]) for words in lines if words[0] == "array") == 6


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ('slurm.partition="gqu"', "there is no partition gqu, did you mean gpu?"),
        ("slurm.gpus=3", "3 GPUs requested, but no node of partition gpu has more than 2"),
        ("slurm.grades={SUAN-1={cpus=5}}", "5 cores requested"),
        ("slurm.memory_gib=9", "9 GiB requested, but no node of partition gpu has more than 7.8"),
    ],
)
def test_what_no_node_has_is_refused(sweep, option, message):
    assert message in sweep.submit("--set", option, code=2)
    assert not read_submissions(sweep.runs)


def test_a_partitions_limit_shortens_jobs(sweep):
    sweep.submit("--set", 'slurm.partition="cpu"', "--set", "slurm.time_minutes=600")
    assert read_submissions(sweep.runs)[0].resources["minutes"] == 60


@pytest.mark.parametrize(
    ("which", "advice"),
    [
        (lambda sweep: sweep.runs.root, "choose a folder of runs on a shared"),
        (lambda sweep: sweep.plan().data.path, "name it there: data.path"),
    ],
)
def test_a_folder_that_other_hosts_cannot_see_is_refused(sweep, monkeypatch, which, advice):
    hidden = which(sweep)
    monkeypatch.setenv("FAKE_HOST", "far-away")
    monkeypatch.setattr(
        "sweeps.dispatch.preflight.why_not_shared",
        lambda folder: "is hidden" if folder.resolve() == hidden else None,
    )
    expected = f"{hidden.name}: is hidden, which far-away and the other nodes cannot see; "
    message = sweep.submit(code=2)
    assert expected in message
    assert advice in message
    assert not read_submissions(sweep.runs)


def test_inside_a_job_only_with_a_clean_environment(sweep, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert "this shell is inside job 7" in sweep.submit(code=2)
    sweep.submit("--clean-env")


def test_a_budget_counts_what_is_queued(sweep):
    sweep.submit("--only", "grade=SUAN-0")
    hours = sum(map(sweep.plan().gpu_seconds, sweep.plan().cells)) / 3600
    assert "estimated make" in sweep.submit("--budget-gpu-hours", f"{0.9 * hours}", code=2)
    sweep.submit("--budget-gpu-hours", f"{1.1 * hours}")


@pytest.mark.parametrize(
    ("failures", "taken"), [(["oom"], True), (["oom", "oom"], False), (["exception"], False)]
)
def test_which_failures_are_resubmitted_without_retry(sweep, failures, taken):
    signature = sweep.signatures()[0]
    for failure in failures:
        claim(sweep.runs.folder(signature), done=lambda: False).end(failure, "why")
    count = 4 if taken else 3
    assert f"submitted {count} cells" in _summed(sweep.submit())
    if taken:
        memory = {s.resources["memory_mib"] for s in read_submissions(sweep.runs)}
        assert memory == {1229, 2458}  # 1.2 GiB, and twice that


def _summed(text):
    """The cells of all arrays in one number."""
    counts = [int(line.split()[1]) for line in text.splitlines() if line.startswith("submitted")]
    return f"submitted {sum(counts)} cells"


def test_a_cell_that_is_being_trained_is_left_alone(sweep):
    lease = claim(sweep.runs.folder(sweep.signatures()[0]), done=lambda: False)
    assert "submitted 3 cells" in sweep.submit()
    lease.end("lost")
    assert "submitted 1 cell" in sweep.submit()


def test_a_job_that_ended_without_its_cell_says_why(sweep):
    sweep.submit()
    (submission,) = read_submissions(sweep.runs)
    submission.log("1_0", "err").write_text("ModuleNotFoundError: No module named 'sweeps'\n")
    scheduler.cancel_tasks(["1"])
    rows = {row["signature"]: row for row in sweep.status()["cells"]}
    (first,) = submission.cells[0]
    assert rows[first]["state"] == "missing"
    assert "No module named 'sweeps'" in rows[first]["why"]
    assert Counter(row["why"] for row in rows.values())["will run"] == 3


def test_a_silent_scheduler_leaves_the_files(sweep, monkeypatch):
    sweep.submit()
    monkeypatch.setattr(scheduler, "_call", _silent)
    document = sweep.status()
    assert document["totals"]["queue"] == "squeue gave no answer"
    assert "squeue gave no answer" in sweep.submit(code=2)


def _silent(*_, **__):
    raise scheduler.SilentSchedulerError("squeue gave no answer")


def test_a_snapshot_is_what_the_jobs_run(sweep):
    sweep.submit("--snapshot")
    (submission,) = read_submissions(sweep.runs)
    script = next(submission.folder.glob("*submission.sh")).read_text()
    assert "submitit.core._submit" in script
    for package in ("models", "scaling", "sweeps", "analysis"):
        assert (Path(submission.code) / package / "__init__.py").is_file()


def test_variables_of_the_shell_do_not_override_the_study(sweep, monkeypatch):
    """Otherwise sbatch would take the job name from them, and the next submit would not find the jobs."""
    monkeypatch.setenv("SBATCH_JOB_NAME", "other")
    monkeypatch.setenv("SBATCH_ACCOUNT", "ours")
    with worker_environment():
        assert "SBATCH_JOB_NAME" not in os.environ
        assert os.environ["SBATCH_ACCOUNT"] == "ours"
    assert "SBATCH_JOB_NAME of this shell: ignored" in sweep.submit()


def test_values_of_one_key_are_alternatives(sweep):
    arguments = ("--only", "grade=SUAN-0", "--only", "grade=SUAN-1", "--only", "seed=0")
    assert "submitted 4 cells" in sweep.submit(*arguments)


def test_conditions_that_no_cell_meets_together_are_refused(sweep):
    largest = max(cell.config.n_samples for cell in sweep.plan().cells)
    grid = GRID + "n_seeds = [2, 1]\n"
    sweep.study.write_text(sweep.study.read_text().replace(GRID, grid))
    arguments = ("--only", "seed=1", "--only", f"n_samples={largest}")
    assert "no cell meets a condition on each key" in sweep.submit(*arguments, code=2)


def test_logs_are_followed_until_no_job_holds_the_cell(sweep):
    sweep.submit()
    sweep("cancel", sweep.study, "--yes")
    text = sweep("logs", sweep.study, sweep.signatures()[0], "--follow")
    assert "no job holds cell" in text


def test_logs_of_a_lost_cell_that_a_job_holds_again_are_followed_on(sweep, monkeypatch):
    sweep.submit()
    claim(sweep.runs.folder(sweep.signatures()[0]), done=lambda: False).end("lost")

    def look(seconds):
        raise UserError("followed on")

    # only in this module, because other threads of the process sleep too
    clock = SimpleNamespace(sleep=look, monotonic=time.monotonic)
    monkeypatch.setattr("scaling.cli.sweep.status_verbs.time", clock)
    assert "followed on" in sweep("logs", sweep.study, sweep.signatures()[0], "--follow", code=2)


def test_a_silent_controller_is_queried_as_rarely_as_one_that_answers(sweep, monkeypatch):
    sweep.submit("--only", "grade=SUAN-0")
    lease = claim(sweep.runs.folder(sweep.signatures()[-1]), done=lambda: False)
    asked, looks = [], []

    def silent(name):
        asked.append(name)
        raise SilentSchedulerError("squeue gave no answer")

    def look(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("sweeps.queue.submissions.queued_tasks", silent)
    clock = SimpleNamespace(sleep=look, monotonic=time.monotonic)
    monkeypatch.setattr("scaling.cli.sweep.status_views.watch_loop.time", clock)
    sweep("status", sweep.study, "--watch", code=130)
    lease.end("lost")
    assert len(asked) == 1


def test_a_budget_without_an_end_is_refused(sweep):
    assert "less than or equal to" in sweep(
        "plan", sweep.study, "--budget-gpu-hours", "inf", code=2
    )
