"""On a real SLURM that these tests start themselves (`make slurm-test`): nothing twice, nothing lost, every number the same."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from slurm_cluster import missing_daemons
from slurm_sweep import undisturbed_records

from sweeps.queue import read_submissions, sweep_name
from sweeps.queue.scheduler import queued_tasks

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        bool(missing_daemons()),
        reason=f"not installed: {', '.join(missing_daemons())} (python tests/support/slurm_cluster.py install)",
    ),
]

# One cell of 2,000 steps, in which something can happen to it.
LONG = """\
[grid]
grade = ["SUAN-0"]
n_samples = [16000]
[train]
batch_size = 8
"""
# Cells of less than a second.
SHORT = """\
[grid]
grade = ["SUAN-0", "SUAN-1"]
n_samples = [160, 320]
n_seeds = {n_seeds}
"""


@pytest.fixture(scope="session")
def shared_cluster(make_cluster):
    return make_cluster(n_nodes=4)


@pytest.fixture(scope="session")
def accounting_cluster(make_cluster):
    """All other clusters have none: there the logs tell how a job has ended."""
    if missing := missing_daemons(accounting=True):
        pytest.skip(f"not installed: {', '.join(missing)}")
    return make_cluster(n_nodes=1, accounting=True)


@pytest.fixture
def sweep(fresh_sweep, shared_cluster):
    fresh_sweep.on(shared_cluster)
    yield fresh_sweep
    shared_cluster.run(
        "scancel", "-u", os.environ.get("USER", "root"), f"--name={sweep_name(fresh_sweep.runs)}"
    )


@pytest.fixture(scope="session")
def long_result(long_store, tmp_path_factory):
    """What the long cell gives when nobody disturbs it."""
    records = undisturbed_records(tmp_path_factory.mktemp("reference"), long_store, LONG)
    return {r.signature: (r.metrics, r.train_loss) for r in records}


def retrained(attempts):
    """Steps that were trained more than once."""
    pairs = pairwise(attempts)
    return sum(one["step"] - following["first_step"] for one, following in pairs)


# What a sweep does when all goes well


def test_an_array_of_12_cells_keeps_to_its_throttle(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=3), "max_parallel = 4\ncells_per_job = 1")
    assert "12 cells in 12 jobs" in sweep.submit()
    most = 0

    def done():
        nonlocal most
        # SLURM's throttle does not count a task that is completing.
        most = max(most, sum(task.state == "RUNNING" for task in sweep.queue()))
        return not sweep.queue()

    sweep.wait(done, 150.0)
    assert len(sweep.results()) == 12
    assert 2 <= most <= 4


def test_packed_cells_share_a_job_and_one_that_fails_stops_no_other(sweep, tiny_store):
    grid = SHORT.format(n_seeds=1) + '"train.learning_rate" = [1e30, 0.01]\n'
    sweep.write(tiny_store, grid, "cells_per_job = 8")
    assert "8 cells in 1 job" in sweep.submit()
    sweep.wait(lambda: sweep.states() == {"done": 4, "failed": 4})
    sweep.wait_idle()
    assert "nothing to do" in sweep.submit()  # a diverged run waits for somebody to read it
    rows = sweep.status()["cells"]
    assert {row["failure"] for row in rows if row["state"] == "failed"} == {"diverged"}
    text = sweep("retry", sweep.study, "--cluster", "slurm", "--class", "diverged")
    assert "4 cells in 1 job" in text


def test_cheap_grades_come_first_each_class_in_an_array_of_its_own(sweep, tiny_store):
    # both are guessed at this machine's speed: a GPU's would not compare
    special = "[slurm.grades.SUAN-1]\nmemory_gib = 1.4\n"
    sweep.write(tiny_store, SHORT.format(n_seeds=1), f"cells_per_job = 1\n{special}")
    sweep.submit()
    small, large = read_submissions(sweep.runs)
    assert (small.resources["memory_mib"], large.resources["memory_mib"]) == (1229, 1434)
    sweep.wait_done()


def test_a_job_that_asked_for_a_gpu_does_not_train_on_cores(sweep, tiny_store):
    special = "[slurm.grades.SUAN-1]\ngpus = 1\n"
    sweep.write(tiny_store, SHORT.format(n_seeds=1), f"cells_per_job = 1\n{special}")
    sweep.submit()
    asked = Counter(one.resources["gpus"] for one in read_submissions(sweep.runs))
    assert asked == {0: 1, 1: 1}
    # its nodes have no GPU that torch could use
    sweep.wait(lambda: sweep.states() == {"done": 2, "failed": 2})
    assert "asked for a GPU" in str([row["message"] for row in sweep.status()["cells"]])


def test_jobs_say_what_they_asked_and_used(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=1), "cpus = 2\ncells_per_job = 2")
    sweep.submit()
    sweep.wait_done()
    sweep.wait_idle()
    document = json.loads(sweep("status", sweep.study, "--efficiency", "--json"))
    (row,) = document["classes"]
    assert (row["asked"]["cpus"], row["asked"]["memory_mib"], row["asked"]["minutes"]) == (
        2,
        1229,
        15,
    )
    assert (row["n_jobs"], row["n_cells"], row["billed_by"]) == (2, 4, "attempts")
    assert 0 < row["memory_median_gib"] <= row["memory_max_gib"] < 1.2
    assert 0 < row["longest_minutes"] < 15
    # a process with one thread; the file has whole seconds
    assert 0 < row["busy_share"] < 1
    assert row["next_memory_gib"] == {"low": 1229 / 1024, "high": 1229 / 1024}


def test_a_benchmark_measures_on_a_node(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=1), 'partition = "gpu"\ncpus = 2')
    text = sweep("benchmark", sweep.study, "--cluster", "slurm", "--steps", "3")
    assert "on partition gpu: measures SUAN-0, SUAN-1" in text
    kept = json.loads((sweep.folder / "runs" / "benchmark.json").read_text())
    assert len(kept) == 2
    assert {one["node"] for one in kept} <= {"n1", "n2", "n3", "n4"}
    assert {cell.source for cell in sweep.plan().cells} == {"benchmark"}


def test_a_benchmark_that_somebody_cancels_is_one_line(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=1), 'setup = ["sleep 300"]')
    name = f"{sweep_name(sweep.runs)}-benchmark"
    command = [sys.executable, "-m", "scaling", "benchmark", str(sweep.study), "--cluster", "slurm"]

    def heed_interrupts():  # which a test run in the background ignores, and its children, too
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as driver:
        sweep.wait(lambda: any(task.is_running for task in queued_tasks(name)), 30.0)
        sweep.cluster.run("scancel", f"--name={name}")
        _, errors = driver.communicate(timeout=100)
    assert driver.returncode == 2
    assert re.search(
        r"^error: benchmark: job \d+: .*CANCELLED.*; its log is /.*_log\.err$", errors, re.M
    )


def test_an_interrupted_benchmark_leaves_no_job(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=1), 'setup = ["sleep 300"]')
    name = f"{sweep_name(sweep.runs)}-benchmark"
    command = [sys.executable, "-m", "scaling", "benchmark", str(sweep.study), "--cluster", "slurm"]

    def heed_interrupts():  # which a test run in the background ignores, and its children, too
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as driver:
        sweep.wait(lambda: any(task.is_running for task in queued_tasks(name)), 30.0)
        driver.send_signal(signal.SIGINT)
        driver.communicate(timeout=60)
    assert driver.returncode == 130
    sweep.wait(lambda: not queued_tasks(name), 30.0)


def test_a_copy_of_the_code_runs_what_was_submitted(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=1))
    sweep.submit("--snapshot")
    sweep.wait_done()
    (submission,) = read_submissions(sweep.runs)
    for part in ("sweeps/dispatch/worker.py", "analysis/report/page/page.html.j2"):
        assert (Path(submission.code) / part).exists()
    assert {r.provenance["attempts"][0]["code"] for r in sweep.runs.read_all()} == {
        json.loads((Path(submission.code) / "provenance.json").read_text())["code"]
    }


OWN = """\
from dataclasses import dataclass
from models.encoder import Encoder

@dataclass(frozen=True)
class Options:
    pass

class Target(Encoder):
    options_type = Options

    def __init__(self, grade, options, schema):
        super().__init__(grade, options, schema)
        self.n_out = grade.d * len(schema.behaviour)

    def forward(self, inputs):
        return inputs.candidate_BMD * 1.0
"""


@pytest.mark.parametrize("options", [(), ("--snapshot",)], ids=["as it is", "copied"])
def test_a_model_of_ones_own_is_trained_by_jobs(sweep, tiny_store, options):
    """With a copy, the file may change while the cells wait."""
    name = f"own_target_{len(options)}"
    (sweep.folder / f"{name}.py").write_text(OWN)
    model = f'[model]\nkind = "{name}:Target"\n'
    sweep.write(tiny_store, SHORT.format(n_seeds=1) + model)
    sweep.submit(*options)
    if options:
        (sweep.folder / f"{name}.py").write_text(OWN.replace("* 1.0", "* 2.0"))
    sweep.wait(lambda: len(sweep.runs.read_all()) == 4)
    assert {r.config.model.kind for r in sweep.runs.read_all()} == {f"{name}:Target"}


# What happens to a cell


@pytest.mark.parametrize(
    "how",
    ["USR2", "requeue", "preemption"],
)
def test_a_requeued_cell_goes_on_to_the_same_numbers(sweep, long_store, long_result, how):
    sweep.write(long_store, LONG)
    sweep.submit()
    attempt = sweep.wait_trained()
    (task,) = sweep.queue()
    if how == "USR2":
        sweep.cluster.run("scancel", "--signal=USR2", task.job_id)
    elif how == "requeue":
        sweep.cluster.run("scontrol", "requeue", task.job_id)
    else:  # the node's cores are wanted by a job of a higher priority
        urgent = ["sbatch", "--partition=urgent", f"--nodelist={task.reason}", "--exclusive"]
        printed = sweep.cluster.run(*urgent, "--output=/dev/null", "--wrap=sleep 1")
        assert "Submitted" in printed
    sweep.wait_done()
    assert sweep.results() == long_result
    attempts = sweep.attempts()
    assert len(attempts) == 2
    assert attempts[0]["pid"] == attempt["pid"]
    assert attempts[1]["slurm_restart_count"] == 1
    if how == "USR2":
        assert retrained(attempts) == 0


def test_a_killed_task_is_lost_and_the_next_submit_goes_on(sweep, long_store, long_result):
    sweep.write(long_store, LONG)
    sweep.submit()
    attempt = sweep.wait_trained()
    os.kill(attempt["pid"], signal.SIGKILL)
    sweep.wait_idle()
    (row,) = sweep.status()["cells"]
    assert row["state"] == "lost"
    assert "Killed" in row["message"]
    sweep.submit()
    sweep.wait_done()
    assert sweep.results() == long_result
    assert len(sweep.attempts()) == 2


def test_a_cancelled_cell_is_kept_and_goes_on(sweep, long_store, long_result):
    sweep.write(long_store, LONG)
    sweep.submit()
    sweep.wait_trained()
    assert "cancelled 1 job" in sweep("cancel", sweep.study, "--yes")
    sweep.wait_idle()
    assert "no job is queued or running" in sweep("cancel", sweep.study, "--yes")
    assert sweep.states() in ({"lost": 1}, {"preempted": 1})
    sweep.submit()
    sweep.wait_done()
    assert sweep.results() == long_result


def test_out_of_memory_is_tried_once_more_with_twice_as_much(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=1).replace('"SUAN-0", ', "").replace("160, ", ""))
    sweep.submit("--set", "slurm.memory_gib=0.2")
    sweep.wait_idle()
    (row,) = sweep.status()["cells"]
    assert (row["state"], row["failure"]) == ("failed", "oom")
    assert "2x the memory" in row["why"]
    sweep.submit("--set", "slurm.memory_gib=0.2")
    assert read_submissions(sweep.runs)[-1].resources["memory_mib"] == 410
    sweep.wait_done()


def test_a_job_killed_at_its_limit_gets_twice_the_time(sweep, tiny_store):
    """A cell that can save itself never ends so; this job had not even begun with it."""
    sweep.write(tiny_store, SHORT.format(n_seeds=1).replace('"SUAN-0", ', "").replace("160, ", ""))
    sweep.submit("--set", 'slurm.setup=["sleep 300"]')
    sweep.wait(lambda: any(task.is_running for task in sweep.queue()))
    sweep.cluster.run("scontrol", "update", f"JobId={sweep.queue()[0].job_id}", "EndTime=now")
    sweep.wait_idle()
    (row,) = sweep.status()["cells"]
    assert (row["state"], row["failure"]) == ("failed", "timeout")
    sweep.submit()
    assert read_submissions(sweep.runs)[-1].resources["minutes"] == 30
    sweep.wait_done()


@pytest.mark.xdist_group("accounting")
def test_the_accounting_tells_what_a_lost_log_would_have(
    fresh_sweep, accounting_cluster, tiny_store
):
    sweep = fresh_sweep
    sweep.on(accounting_cluster)
    sweep.write(tiny_store, SHORT.format(n_seeds=1), 'cells_per_job = 1\nsetup = ["sleep 300"]')
    sweep.submit()
    sweep.wait(lambda: sum(task.is_running for task in sweep.queue()) == 4)
    (submission,) = read_submissions(sweep.runs)
    jobs = sorted(task.job_id for task in sweep.queue())
    sweep.cluster.run("scontrol", "update", f"JobId={jobs[0]}", "EndTime=now")
    sweep.cluster.run("scancel", jobs[1])
    sweep.wait(lambda: len(sweep.queue()) == 2, 60.0)
    for log in submission.folder.glob("*"):
        if log.suffix in (".out", ".err"):
            log.unlink()

    def endings():
        rows = sweep.status()["cells"]
        return Counter(row["failure"] for row in rows if row["failure"])

    # the database lags behind
    sweep.wait(lambda: endings() == {"timeout": 1, "cancelled": 1}, 60.0)
    sweep("cancel", sweep.study, "--yes")
    sweep.wait_idle()


@pytest.mark.xdist_group("accounting")
def test_a_requeued_job_is_billed_by_the_accounting_for_each_start(
    fresh_sweep, accounting_cluster, long_store
):
    sweep = fresh_sweep
    sweep.on(accounting_cluster)
    sweep.write(long_store, LONG)
    sweep.submit()
    attempt = sweep.wait_trained()
    sweep.cluster.run("scontrol", "requeue", attempt["slurm_job_id"])
    sweep.wait_done()
    sweep.wait_idle()

    def billed():
        document = json.loads(sweep("status", sweep.study, "--efficiency", "--json"))
        (row,) = document["classes"]
        # the database lags behind
        return row if (row["billed_by"], row["n_starts"]) == ("accounting", 2) else None

    row = sweep.wait(billed, 60.0)
    own = f"--name={sweep_name(sweep.runs)}"
    lines = sweep.cluster.run("sacct", "-n", "-P", "-X", "-D", "-o", "ElapsedRaw", own).split()
    assert row["core_hours"] == sum(map(int, lines)) / 3600
    assert row["n_jobs"] == 1


def test_a_lost_node_makes_two_copies_and_one_record(
    fresh_sweep, make_cluster, long_store, long_result
):
    """The node's process lives on while SLURM starts the cell elsewhere: the second copy waits and leaves."""
    cluster = make_cluster(n_nodes=2, options={"SlurmdTimeout": 5})
    sweep = fresh_sweep
    sweep.on(cluster)
    sweep.write(long_store, LONG)
    sweep.submit()
    attempt = sweep.wait_trained()
    (task,) = sweep.queue()
    cluster.kill_node(task.reason)
    os.kill(attempt["pid"], signal.SIGSTOP)  # until the second copy is there
    other = {"n1": "n2", "n2": "n1"}[task.reason]
    sweep.wait(lambda: any(t.reason == other for t in sweep.queue()), 100.0)
    os.kill(attempt["pid"], signal.SIGCONT)
    sweep.wait_done()
    sweep.wait_idle()
    assert sweep.results() == long_result
    assert len(sweep.attempts()) == 1


def test_a_restarted_controller_changes_nothing(sweep, long_store, long_result):
    sweep.write(long_store, LONG)
    sweep.submit()
    attempt = sweep.wait_trained()
    os.kill(attempt["pid"], signal.SIGSTOP)  # it must not end while we look
    sweep.cluster.stop_controller()
    document = sweep.status()  # from files alone
    os.kill(attempt["pid"], signal.SIGCONT)
    assert document["cells"][0]["state"] == "running"
    assert document["totals"]["queue"] != "known"
    sweep.cluster.start_controller()
    sweep.wait(lambda: "idle" in sweep.cluster.run("sinfo"))
    sweep.wait_done()
    assert sweep.results() == long_result
    assert len(sweep.attempts()) == 1


# Who else submits


def test_a_driver_killed_after_sbatch_leaves_no_cell_twice(
    sweep, tiny_store, tmp_path, monkeypatch
):
    """This sbatch answers nobody: its driver dies as soon as the array is queued."""
    sweep.write(tiny_store, SHORT.format(n_seeds=1), "cells_per_job = 1")
    deadly = tmp_path / "bin" / "sbatch"
    deadly.parent.mkdir()
    deadly.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} --hold "$@"\nkill -9 $PPID\n')
    deadly.chmod(0o755)
    command = [sys.executable, "-m", "scaling", "submit", "study.toml", "--cluster", "slurm"]
    path = f"{deadly.parent}:{os.environ['PATH']}"
    driver = subprocess.run(command, env={**os.environ, "PATH": path}, check=False)
    assert driver.returncode == -signal.SIGKILL
    assert len(sweep.queue()) == 4
    assert sweep.states() == {"queued": 4}
    assert "cancelled job" in sweep.submit()
    sweep.wait_done()
    sweep.wait_idle()
    assert [len(r.provenance["attempts"]) for r in sweep.runs.read_all()] == [1] * 4


def test_a_complete_array_of_a_dead_driver_is_adopted(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=1), "cells_per_job = 1")
    sweep.submit()
    (submission,) = read_submissions(sweep.runs)
    file = submission.folder / "submission.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "job_ids": []}))
    assert "adopted job" in sweep.submit()
    assert read_submissions(sweep.runs) == [submission]
    sweep.wait_done()


def test_two_submits_at_once_queue_each_cell_once(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=2), "cells_per_job = 1\nmax_parallel = 1")
    command = [sys.executable, "-m", "scaling", "submit", "study.toml", "--cluster", "slurm"]
    drivers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for driver in drivers:
        driver.communicate(timeout=60)
        assert driver.returncode == 0
    queued = [
        s for submission in read_submissions(sweep.runs) for job in submission.cells for s in job
    ]
    assert sorted(queued) == sorted(sweep.signatures())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SBATCH_JOB_NAME", "other"),  # the name by which jobs are found in the queue
        ("SQUEUE_STATES", "RUNNING"),
        ("SQUEUE_PARTITION", "none"),
        ("LOGNAME", "nobody"),  # as su without - leaves it, the other way round
    ],
)
def test_no_variable_of_the_shell_has_cells_queued_twice(
    sweep, tiny_store, monkeypatch, variable, value
):
    sweep.write(tiny_store, SHORT.format(n_seeds=1), '[slurm.options]\nbegin = "now+1hour"')
    monkeypatch.setenv(variable, value)
    assert "submitted 4 cells" in sweep.submit()
    assert "nothing to do, 0 of 4 cells done, 4 queued" in sweep.submit()


def test_an_edited_grid_adds_cells_and_cancels_removed_ones_when_asked(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=1), "cells_per_job = 1")
    sweep.cluster.run("scontrol", "update", "PartitionName=gpu", "State=DOWN")
    try:
        sweep.submit()
        sweep.study.write_text(sweep.study.read_text().replace("[160, 320]", "[320, 480]"))
        assert "submitted 2 cells" in sweep.submit("--cancel-removed", "--yes")
        assert sweep.states() == {"queued": 4}
        assert len(sweep.queue()) == 4
    finally:
        sweep.cluster.run("scontrol", "update", "PartitionName=gpu", "State=UP")


def test_a_large_array_is_split_and_its_throttle_shared(fresh_sweep, make_cluster, tiny_store):
    sweep = fresh_sweep
    sweep.on(make_cluster(n_nodes=1, options={"MaxArraySize": 5, "JobRequeue": 0}))
    sweep.write(tiny_store, SHORT.format(n_seeds=3), "cells_per_job = 1\nmax_parallel = 3")
    sweep.submit()
    submissions = read_submissions(sweep.runs)
    assert [len(s.cells) for s in submissions] == [5, 5, 2]
    assert sum(s.resources["max_parallel"] for s in submissions) == 3
    assert len(sweep.queue()) == 12
    text = sweep("throttle", sweep.study, "6")
    assert sum(int(line.split()[2]) for line in text.splitlines() if line.startswith("array")) == 6
    sweep("cancel", sweep.study, "--yes")
    sweep.wait_idle()


# Sites


def test_a_site_that_forbids_requeueing_does_not_hold_a_cell_up(
    fresh_sweep, make_cluster, long_store, long_result
):
    sweep = fresh_sweep
    sweep.on(make_cluster(n_nodes=1, options={"JobRequeue": 0}))
    sweep.write(long_store, LONG)
    sweep.submit()
    sweep.wait_trained()
    sweep.cluster.run("scancel", "--signal=USR2", sweep.queue()[0].job_id)
    sweep.wait_done()
    assert sweep.results() == long_result
    assert len(sweep.attempts()) == 2


def test_a_new_cluster_with_the_same_job_ids_finds_no_old_results(
    fresh_sweep, make_cluster, tiny_store
):
    sweep = fresh_sweep
    sweep.write(tiny_store, SHORT.format(n_seeds=1), "cells_per_job = 1")
    for seeds in (1, 2):
        cluster = make_cluster(n_nodes=1)
        sweep.on(cluster)
        sweep.submit("--set", f"grid.n_seeds={seeds}")
        sweep.wait(lambda n=4 * seeds: len(sweep.results()) == n)
        cluster.stop()
    first, second = read_submissions(sweep.runs)
    assert first.job_ids == second.job_ids
    assert set(map(tuple, first.cells)).isdisjoint(second.cells)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ('slurm.partition="gqu"', "there is no partition gqu, did you mean gpu?"),
        ("slurm.gpus=3", "3 GPUs requested, but no node of partition gpu has more than 2"),
        ("slurm.memory_gib=99", "99 GiB requested, but no node of partition gpu has more than 7.8"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_before_anything_is_queued(
    sweep, tiny_store, option, message
):
    sweep.write(tiny_store, SHORT.format(n_seeds=1))
    assert message in sweep.submit("--set", option, code=2)
    assert not read_submissions(sweep.runs)
    assert not sweep.queue()


def test_a_budget_that_would_be_exceeded_is_refused(sweep, tiny_store):
    sweep.write(tiny_store, SHORT.format(n_seeds=1))
    text = sweep.submit("--budget-gpu-hours", "0.001", code=2)
    assert "0.00 spent" in text
    assert not sweep.queue()


def test_a_submit_from_inside_a_job_needs_a_clean_environment(sweep, tiny_store, monkeypatch):
    """As in a job with a shape of its own, which its children would otherwise take for theirs."""
    sweep.write(tiny_store, SHORT.format(n_seeds=1))
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "3", "SLURM_STEP_GPUS": "0"}.items():
        monkeypatch.setenv(name, value)
    assert "inside job 7" in sweep.submit(code=2)
    sweep.submit("--clean-env")
    sweep.wait_done()
