"""Cells that the tasks of a job train together, on a real SLURM: the record of one process, whatever happens to a rank."""

import os
import signal

import pytest
from slurm_cluster import missing_daemons
from slurm_sweep import processes_of_rank, undisturbed_records

from sweeps.queue import read_submissions, sweep_name

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        bool(missing_daemons()), reason=f"not installed: {', '.join(missing_daemons())}"
    ),
]

CELL = """\
[grid]
grade = ["SUAN-0"]
n_samples = [16000]
[train]
batch_size = 32
"""
# memory is that of a node
TWO_RANKS = "[slurm.grades.SUAN-0]\nmemory_gib = 2.4\ntasks_per_node = 2\n"
FOUR_RANKS = f"nodes = 2\n{TWO_RANKS}"


@pytest.fixture(scope="module")
def two_nodes(make_cluster):
    return make_cluster(n_nodes=2)


@pytest.fixture
def sweep(fresh_sweep, two_nodes):
    fresh_sweep.on(two_nodes)
    yield fresh_sweep
    two_nodes.run(
        "scancel", "-u", os.environ.get("USER", "root"), f"--name={sweep_name(fresh_sweep.runs)}"
    )


@pytest.fixture(scope="module")
def alone(long_store, tmp_path_factory):
    """The record of one process that nobody disturbs."""
    (record,) = undisturbed_records(tmp_path_factory.mktemp("reference"), long_store, CELL)
    return record


def assert_as(record, alone):
    """Sums of float32 in another order, over 500 steps."""
    assert record.train_loss == pytest.approx(alone.train_loss, abs=1e-5)
    assert record.metrics == pytest.approx(alone.metrics, abs=1e-4)


def test_four_tasks_on_two_nodes_train_one_cell(sweep, long_store, alone):
    sweep.write(long_store, CELL, FOUR_RANKS)
    assert "4 ranks" in sweep.submit()
    sweep.wait_done()
    sweep.wait_idle()
    (record,) = sweep.runs.read_all()
    (attempt,) = record.provenance["attempts"]
    assert attempt["ranks"] == 4
    assert_as(record, alone)
    (submission,) = read_submissions(sweep.runs)
    assert submission.resources["nodes"] == submission.resources["tasks_per_node"] == 2


def test_if_a_rank_is_killed_the_job_ends_and_one_process_goes_on(sweep, long_store, alone):
    sweep.write(long_store, CELL, FOUR_RANKS)
    sweep.submit()
    sweep.wait_trained(50)
    for process in processes_of_rank(3, sweep.cluster):
        process.send_signal(signal.SIGKILL)
    sweep.wait_idle()
    (row,) = sweep.status()["cells"]
    assert row["state"] == "lost"
    sweep.write(long_store, CELL)
    sweep.submit()
    sweep.wait_done()
    (record,) = sweep.runs.read_all()
    attempts = record.provenance["attempts"]
    assert [attempt["ranks"] for attempt in attempts] == [4, 1]
    assert attempts[1]["first_step"] > 0
    assert_as(record, alone)


@pytest.mark.parametrize("how", ["USR2", "requeue"])
def test_a_requeued_cell_of_two_ranks_goes_on(sweep, long_store, alone, how):
    sweep.write(long_store, CELL, TWO_RANKS)
    sweep.submit()
    sweep.wait_trained(50)
    (task,) = sweep.queue()
    if how == "USR2":
        sweep.cluster.run("scancel", "--signal=USR2", task.job_id)
    else:
        sweep.cluster.run("scontrol", "requeue", task.job_id)
    sweep.wait_done()
    (record,) = sweep.runs.read_all()
    attempts = record.provenance["attempts"]
    assert [attempt["ranks"] for attempt in attempts] == [2, 2]
    assert attempts[1]["first_step"] > 0
    if how == "USR2":  # all ranks stop at one step, which is saved
        assert attempts[0]["step"] == attempts[1]["first_step"]
    assert_as(record, alone)
