"""Cells side by side in a job of a real SLURM: a signal to the job reaches all of them, and they go on to the same numbers.

The GPU of the job is none that torch could use, so the job is told that it has not asked for one.
"""

import os

import psutil
import pytest
from slurm_cluster import missing_daemons
from slurm_sweep import undisturbed_records

import sweeps.dispatch.slurm_arrays
from scaling.records.attempts import last_attempt
from sweeps.dispatch.job_contents import cell_job
from sweeps.queue import read_submissions, sweep_name

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        bool(missing_daemons()), reason=f"not installed: {', '.join(missing_daemons())}"
    ),
]

CELLS = """\
[grid]
grade = ["SUAN-0"]
n_samples = [160, 16000]
n_seeds = 2
[train]
batch_size = 32
"""


@pytest.fixture
def sweep(fresh_sweep, make_cluster, monkeypatch):
    monkeypatch.setattr(
        sweeps.dispatch.slurm_arrays,
        "cell_job",
        lambda *cells, **how: cell_job(*cells, **{**how, "on_gpu": False}),
    )
    cluster = make_cluster(n_nodes=1)
    fresh_sweep.on(cluster)
    yield fresh_sweep
    cluster.run(
        "scancel", "-u", os.environ.get("USER", "root"), f"--name={sweep_name(fresh_sweep.runs)}"
    )


def test_cells_side_by_side_are_stopped_together_and_go_on(sweep, long_store, tmp_path_factory):
    own = (
        "[slurm.grades.SUAN-0]\ngpus = 1\ncells_per_gpu = 2\ncells_per_job = 4\nmemory_gib = 2.4\n"
    )
    sweep.write(long_store, CELLS, own)
    assert "4 cells in 1 job as 1: 1 GPU, 2 cells side by side" in sweep.submit()
    (submission,) = read_submissions(sweep.runs)
    assert (submission.resources["cpus"], submission.resources["gpus"]) == (2, 1)
    long = [c.config.signature for c in sweep.plan().cells if c.config.n_samples == 16000]

    def both_train():
        attempts = [last_attempt(sweep.runs.folder(name))[1] for name in long]
        return attempts if all(one.get("step") for one in attempts) else None

    attempts = sweep.wait(both_train, 60.0)
    sweep.cluster.run("scancel", "--signal=USR2", sweep.queue()[0].job_id)
    sweep.wait_done()
    sweep.wait_idle()
    for name in long:
        first, second = sweep.runs.read(name).provenance["attempts"]
        assert first["message"] == f"SIGUSR2, saved at step {first['step']}"
        assert second["first_step"] == first["step"]
        assert second["slurm_restart_count"] == 1
        assert (first["cells_per_gpu"], second["cells_per_gpu"]) == (2, 2)
    assert not any(psutil.pid_exists(one["pid"]) for one in attempts)
    alone = undisturbed_records(tmp_path_factory.mktemp("alone"), long_store, CELLS)
    assert sweep.results() == {r.signature: (r.metrics, r.train_loss) for r in alone}
