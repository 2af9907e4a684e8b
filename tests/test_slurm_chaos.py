"""Sixty cells on four nodes while a seeded script kills tasks, nodes and drivers (`make slurm-chaos`).

CHAOS_SECONDS says for how long (60 by default), CHAOS_SEED which blows fall. At the end every cell has one record, equal
to the undisturbed one to the last bit, and no step was trained again that a checkpoint had saved.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from itertools import pairwise

import pytest
from slurm_cluster import missing_daemons

from scaling.lease import last_attempt

SECONDS = float(os.environ.get("CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(SECONDS + 900),
    pytest.mark.skipif(
        bool(missing_daemons()), reason=f"not installed: {', '.join(missing_daemons())}"
    ),
]

BATCH = 8
CHECKPOINT_SECONDS = 1.0
# A heartbeat tells the step every two seconds: an attempt's last one may be so much older than its end.
HEARTBEAT_SECONDS = 2.0
# Two cells' worth of work per second of chaos, so that there is always something to hit.
GRID = f"""\
[grid]
grade = ["SUAN-0"]
n_samples = [{int(24 * SECONDS)}, {int(48 * SECONDS)}]
n_seeds = 30
[train]
batch_size = {BATCH}
"""
SUBMIT = [sys.executable, "-m", "scaling", "-q", "submit", "study.toml", "--cluster", "slurm"]


class Chaos:
    """One blow after the other; each returns whether it hit something."""

    def __init__(self, sweep, cluster):
        self.sweep, self.cluster = sweep, cluster
        self.random = random.Random(SEED)
        self.down = {}
        self.blows = Counter()
        self.signatures = sweep.signatures()

    def rage(self, seconds):
        end = time.monotonic() + seconds
        blows = [self.kill_task] * 4 + [self.kill_node, self.kill_driver, self.kill_driver]
        blows += [self.warn_task, self.requeue, self.submit, self.submit]
        while time.monotonic() < end:
            blow = self.random.choice(blows)
            self.blows[blow.__name__] += bool(blow())
            self.bring_back(time.monotonic())
            time.sleep(self.random.uniform(0.5, 2.0))
        self.bring_back(float("inf"))

    def running(self):
        """The attempts that are on their way."""
        attempts = (last_attempt(self.sweep.runs.folder(s))[1] for s in self.signatures)
        return [a for a in attempts if a.get("state") == "running"]

    def kill_task(self):
        living = self.running()
        if not living:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.random.choice(living)["pid"], signal.SIGKILL)
        return True

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


def test_chaos(fresh_sweep, make_cluster, long_store):
    sweep, cluster = fresh_sweep, make_cluster(n_nodes=4)
    sweep.on(cluster)
    sweep.write(long_store, GRID, "max_parallel = 4\ncells_per_job = 3")
    sweep.submit()
    chaos = Chaos(sweep, cluster)
    chaos.rage(SECONDS)
    deadline = time.monotonic() + 600
    while not all(map(sweep.runs.has, chaos.signatures)):
        assert time.monotonic() < deadline, sweep.status()["totals"]
        # as a user would: again, while something is neither done nor queued
        sweep.submit()
        time.sleep(2.0)
    sweep.wait_idle()
    records = sweep.runs.read_all()
    assert sorted(record.signature for record in records) == sorted(chaos.signatures)
    assert sweep.results() == sweep.undisturbed()
    assert not [p for s in chaos.signatures for p in sweep.runs.folder(s).glob("attempts/*")]
    told = _repetition(records)
    with sweep.capsys.disabled():
        sys.stdout.write(f"\nchaos: {json.dumps({'blows': dict(chaos.blows), **told})}\n")


def _repetition(records):
    """Check that each attempt began where a checkpoint of the last seconds stood; totals."""
    needed = trained = n_attempts = 0
    for record in records:
        n_steps = -(-record.config.n_samples // BATCH)
        needed += n_steps
        # those that came as far as training
        attempts = [a for a in record.provenance["attempts"] if a.get("first_step") is not None]
        n_attempts += len(record.provenance["attempts"])
        rate = record.samples_per_second / BATCH
        for one, following in pairwise(attempts):
            step = max(one.get("step") or 0, one["first_step"])
            again = max(0, step - following["first_step"])
            assert again <= 4 * rate * (CHECKPOINT_SECONDS + HEARTBEAT_SECONDS), attempts
            # the last heartbeat may be older than the checkpoint
            trained += max(step, following["first_step"]) - one["first_step"]
        trained += n_steps - attempts[-1]["first_step"]
    return {
        "cells": len(records),
        "attempts": n_attempts,
        "steps": needed,
        "trained_again": f"{trained / needed - 1:.1%}",
    }
