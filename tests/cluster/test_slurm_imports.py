"""An import in shards on a real SLURM: a task is killed and a job is queued again, and the store is that of one process."""

import os
import subprocess
import sys
import time

import pytest
from raw_logs import assert_same_files
from slurm_cluster import missing_daemons

from scaling.importers import import_logs
from scaling.store import open_store

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        bool(missing_daemons()),
        reason=f"not installed: {', '.join(missing_daemons())} (python tests/support/slurm_cluster.py install)",
    ),
]

TOML = """
[impressions]
files = ["shown-*.csv"]
user = "user"
time = "time"
item = "item"
label = "click"
[features]
behaviour = ["item"]
candidate = ["item"]
"""
OPTIONS = (
    *("--shards", "4", "--jobs", "3", "--memory", "0.7", "--cluster", "slurm"),
    *("--slurm", "partition=gpu", "--slurm", "time_minutes=15"),
)


@pytest.fixture(scope="module")
def import_cluster(make_cluster):
    return make_cluster(n_nodes=3)


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for part in range(8):
        rows = (
            f"u{i * 7919 % 997},{1_700_000_000 + i * 31 % 90_000},i{i * 104_729 % 5003},{i % 7 == 0:d}\n"
            for i in range(part * 5000, part * 5000 + 5000)
        )
        (folder / f"shown-{part:02d}.csv").write_text("user,time,item,click\n" + "".join(rows))
    (folder / "log.toml").write_text(TOML)
    return folder


def begin(cluster, raw, out):
    command = [sys.executable, "-m", "scaling", "data", "import", "table", str(raw), str(out)]
    # sbatch puts the jobs into this test's cluster, whichever others there are
    return subprocess.Popen(
        [*command, *OPTIONS],
        env=cluster.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait(process, ready, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing has happened"
        time.sleep(0.05)
    return found


def running(cluster, out):
    lines = cluster.run("squeue", "-h", "-r", "-t", "R", f"--name=import-{out.name}", "-o", "%i")
    return lines.split()


def test_a_killed_task_and_a_requeued_job_change_no_byte(tmp_path, raw, import_cluster):
    out = tmp_path / "sharded"
    process = begin(import_cluster, raw, out)
    wait(process, lambda: list(tmp_path.glob(".sharded.import/*/read/*")))
    first, second, *_ = wait(
        process, lambda: len(found := running(import_cluster, out)) > 1 and found
    )
    import_cluster.run("scancel", "--signal=KILL", first)
    import_cluster.run("scontrol", "requeue", second)
    stdout, stderr = process.communicate(timeout=150)
    assert (process.returncode, stdout.strip()) == (0, str(out)), stderr
    one = import_logs("table", raw, tmp_path / "one")
    assert_same_files(one, open_store(out))
    assert running(import_cluster, out) == []


def test_an_error_of_a_job_is_the_one_line(tmp_path, raw, import_cluster):
    file = raw / "shown-03.csv"
    file.write_text(file.read_text().replace("\n", "\nu1,soon,i1,0\n", 1))
    process = begin(import_cluster, raw, tmp_path / "out")
    stdout, stderr = process.communicate(timeout=100)
    assert (process.returncode, stdout) == (2, "")
    assert (
        "shown-03.csv: line 2: time is 'soon', expected a whole number" in stderr.splitlines()[-1]
    )
    assert not (tmp_path / "out").exists()
    wait_gone = time.monotonic() + 30
    while import_cluster.run("squeue", "-h", "--name=import-out") and time.monotonic() < wait_gone:
        time.sleep(0.2)
    assert import_cluster.run("squeue", "-h", "--name=import-out", "-u", str(os.getuid())) == ""
