"""Cells on four nodes while a seeded script kills tasks, nodes and drivers (`make slurm-chaos`): 36 in three minutes.

CHAOS_SECONDS says for how long (60 by default, with twelve cells), CHAOS_SEED which blows fall; at least one
hits a training that has saved, for which a busy machine needs longer. Two processes train each cell of the larger grade.
At the end every cell has one record, equal to the undisturbed one to the last bit (within rounding for two processes),
and no step was trained again that a checkpoint had saved: a second pair of eyes keeps a list of all checkpoints that
ever lay in the folders.
"""

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime

import psutil
import pytest
from slurm_cluster import missing_daemons
from slurm_sweep import processes_of_rank

from scaling.records.attempts import last_attempt

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(SECONDS + 1200),
    pytest.mark.skipif(
        bool(missing_daemons()), reason=f"not installed: {', '.join(missing_daemons())}"
    ),
]

BATCH = 8
# Cells of some seconds; one for five seconds of chaos, so that there is always something to hit.
GRID = f"""\
[grid]
grade = ["SUAN-0", "SUAN-1"]
n_samples = [4320, 8640]
n_seeds = {math.ceil(SECONDS / 20)}
[train]
batch_size = {BATCH}
"""
TWO_RANKS = "[slurm.grades.SUAN-1]\ntasks_per_node = 2\nmemory_gib = 2.4\n"
SUBMIT = [sys.executable, "-m", "scaling", "-q", "submit", "study.toml", "--cluster", "slurm"]


class Chaos:
    """One blow after the other; each returns whether it hit something."""

    def __init__(self, sweep, cluster, watch):
        self.sweep, self.cluster, self.watch = sweep, cluster, watch
        self.random = random.Random(SEED)
        self.down = {}
        self.blows = Counter()
        self.signatures = sweep.signatures()

    def rage(self, seconds):
        end = time.monotonic() + seconds
        blows = [self.kill_task] * 3 + [self.kill_saved, self.kill_node] + [self.kill_driver] * 2
        blows += [self.warn_task, self.requeue, self.kill_rank, self.submit, self.submit]
        while time.monotonic() < end:
            blow = self.random.choice(blows)
            self.blows[blow.__name__] += bool(blow())
            self.bring_back(time.monotonic())
            time.sleep(self.random.uniform(0.5, 2.0))
        self.bring_back(float("inf"))
        if not self.blows["kill_saved"]:
            self.blows["kill_saved"] += self.sweep.wait(self.kill_saved, 300.0)

    def running(self):
        """The attempts that are on their way, by the cells' signatures."""
        attempts = {s: last_attempt(self.sweep.runs.folder(s))[1] for s in self.signatures}
        return {s: a for s, a in attempts.items() if a.get("state") == "running"}

    def kill_task(self):
        return self._kill(list(self.running().values()))

    def kill_saved(self):
        """A task whose checkpoint is older than any new attempt's time, which is rounded to a second."""
        moment = time.time() - 1.0
        return self._kill(
            [a for s, a in self.running().items() if self.watch.saved_before(s, moment)]
        )

    def _kill(self, attempts):
        if not attempts:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.random.choice(attempts)["pid"], signal.SIGKILL)
        return True

    def kill_rank(self):
        """One that does not lead."""
        living = processes_of_rank(1, self.cluster)
        if living:
            with suppress(psutil.NoSuchProcess):
                self.random.choice(living).kill()
        return bool(living)

    def kill_node(self):
        """Its processes live on, while SLURM soon starts their jobs elsewhere."""
        if self.down:
            return False
        node = self.random.choice(self.cluster.nodes())
        self.cluster.kill_node(node)
        self.down[node] = time.monotonic() + self.random.uniform(5.0, 25.0)
        return True

    def bring_back(self, now):
        for node in [node for node, due in self.down.items() if due <= now]:
            del self.down[node]
            self.cluster.start_node(node)

    def warn_task(self):
        return self._at_a_job("scancel", "--signal=USR2")

    def requeue(self):
        return self._at_a_job("scontrol", "requeue")

    def _at_a_job(self, *command):
        jobs = [task.job_id for task in self.sweep.queue() if task.is_running]
        if jobs:
            with suppress(subprocess.TimeoutExpired):  # a job of a node that does not answer
                self.cluster.run(*command, self.random.choice(jobs), timeout=5.0)
        return bool(jobs)

    def kill_driver(self):
        driver = subprocess.Popen(SUBMIT, stderr=subprocess.DEVNULL)
        time.sleep(self.random.uniform(0.2, 1.2))
        driver.kill()
        return driver.wait() == -signal.SIGKILL

    def submit(self):
        done = subprocess.run(SUBMIT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return True


class Watch(threading.Thread):
    """Sees each cell's checkpoints while they are there."""

    def __init__(self, sweep):
        super().__init__(daemon=True)
        self.folders = {s: sweep.runs.folder(s) / "checkpoints" for s in sweep.signatures()}
        self.first_seen = {s: {} for s in self.folders}
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.1):
            for signature, folder in self.folders.items():
                for path in folder.glob("*.safetensors"):
                    step = int(path.stem.split("-")[-2])
                    self.first_seen[signature].setdefault(step, time.time())

    def saved_before(self, signature, moment):
        """The latest step that had been saved at that moment."""
        seen = self.first_seen[signature].items()
        return max((step for step, when in seen if when < moment), default=0)


def test_chaos(fresh_sweep, make_cluster, long_store):
    sweep, cluster = fresh_sweep, make_cluster(n_nodes=4)
    sweep.on(cluster)
    sweep.write(long_store, GRID, f"max_parallel = 4\ncells_per_job = 3\n{TWO_RANKS}")
    sweep.submit()
    watch = Watch(sweep)
    watch.start()
    chaos = Chaos(sweep, cluster, watch)
    chaos.rage(SECONDS)
    deadline = time.monotonic() + 600
    while not all(map(sweep.runs.has, chaos.signatures)):
        assert time.monotonic() < deadline, sweep.status()["totals"]
        # as a user would: again, while something is neither done nor queued
        sweep.submit()
        time.sleep(2.0)
    sweep.wait_idle()
    watch.ended.set()
    records = sweep.runs.read_all()
    assert sorted(record.signature for record in records) == sorted(chaos.signatures)
    results, undisturbed = sweep.results(), sweep.undisturbed(one_process=True)
    assert results.keys() == undisturbed.keys()
    for record in records:
        ours, alone = (found[record.signature] for found in (results, undisturbed))
        if record.config.grade_name == "SUAN-0":
            assert ours == alone
        else:  # sums of float32 in another order, over a thousand steps
            assert ours[1] == pytest.approx(alone[1], abs=1e-4)
            assert ours[0] == pytest.approx(alone[0], abs=1e-3)
    assert not [p for s in chaos.signatures for p in sweep.runs.folder(s).glob("attempts/*")]
    progress = _going_on(records, watch)
    with sweep.capsys.disabled():
        sys.stdout.write(f"\nchaos: {json.dumps({'blows': dict(chaos.blows), **progress})}\n")


def _going_on(records, watch):
    """Check that each attempt began where the last checkpoint stood; totals."""
    totals = Counter(cells=len(records))
    for record in records:
        attempts = record.provenance["attempts"]
        totals["attempts"] += len(attempts)
        totals["steps"] += -(-record.config.n_samples // BATCH)
        for attempt in attempts[1:]:
            if (first_step := attempt.get("first_step")) is not None:  # it came as far as training
                began = datetime.fromisoformat(attempt["started"]).timestamp()
                saved = watch.saved_before(record.signature, began)
                assert first_step >= saved, attempts
                totals["went_on"] += saved > 0
                totals["steps_not_trained_again"] += first_step
    # else the check above has checked nothing
    assert totals["went_on"] > 0
    return dict(totals)
