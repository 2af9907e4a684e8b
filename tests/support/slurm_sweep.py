"""A study on a cluster and the commands that a user would run, for all tests that need a cluster."""

import json
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import fake_slurm
import psutil
import pytest

from scaling.cli.app import main
from scaling.records import RunStore
from scaling.records.attempts import last_attempt
from scaling.study import SlurmConfig, data_facts, load_study
from sweeps.dispatch import n_slots, run_debug, run_local
from sweeps.planning import make_plan
from sweeps.queue import sweep_name
from sweeps.queue.scheduler import queued_tasks


class Sweep:
    """A study on a cluster and the commands that a user would run."""

    def __init__(self, folder, capsys, monkeypatch):
        self.folder, self.capsys, self._monkeypatch = folder, capsys, monkeypatch
        self.study = folder / "study.toml"
        self.runs = RunStore(folder / "runs" / "real")
        self.cluster = None

    def on(self, cluster):
        self.cluster = cluster
        self._monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
        self._monkeypatch.setenv("PATH", cluster.environment["PATH"])

    def write(self, store, grid, slurm=""):
        self.study.write_text(
            f'[study]\nname = "real"\n[data]\npath = "{store.path}"\n{grid}\n'
            f"[run]\nkeep_model = false\ncheckpoint_seconds = 1\nstale_seconds = 20\n"
            f"[slurm]\nmemory_gib = 1.2\ntime_minutes = 15\n{slurm}\n"
        )

    def __call__(self, *arguments, code=0):
        with pytest.raises(SystemExit) as exited:
            main([str(argument) for argument in arguments])
        out, err = self.capsys.readouterr()
        assert exited.value.code == code, err
        return out + err

    def submit(self, *options, code=0):
        return self("submit", self.study, "--cluster", "slurm", *options, code=code)

    def status(self):
        return json.JSONDecoder().raw_decode(self("status", self.study, "--json"))[0]

    def states(self):
        return Counter(cell["state"] for cell in self.status()["cells"])

    def plan(self):
        study = load_study(self.study)
        return make_plan(study, data_facts(study.data), self.runs)

    def queue(self):
        return queued_tasks(sweep_name(self.runs))

    def signatures(self):
        return [cell.config.signature for cell in self.plan().cells]

    def wait(self, ready, seconds=100.0):
        deadline = time.monotonic() + seconds
        while not (found := ready()):
            assert time.monotonic() < deadline, (self.status(), self.cluster.run("squeue"))
            time.sleep(0.3)
        return found

    def wait_done(self, seconds=120.0):
        """Wait for all records; fail if the queue is empty without them."""
        signatures = self.signatures()

        def done():
            queue = self.queue()
            if all(map(self.runs.has, signatures)):
                return True
            assert queue, self.status()
            return False

        self.wait(done, seconds)

    def wait_idle(self):
        self.wait(lambda: not self.queue(), 60.0)

    def wait_trained(self, n_steps=1):
        """Wait until the only cell has trained `n_steps` steps and saved a checkpoint; return its attempt."""
        folder = self.runs.folder(self.signatures()[0])

        def ready():
            _, attempt = last_attempt(folder)
            saved = list((folder / "checkpoints").glob("*")) if folder.exists() else []
            return attempt if attempt.get("step", 0) >= n_steps and saved else None

        return self.wait(ready, 60.0)

    def attempts(self):
        return self.runs.read(self.signatures()[0]).provenance["attempts"]

    def results(self):
        return {r.signature: (r.metrics, r.train_loss) for r in self.runs.read_all()}

    def undisturbed(self, *, one_process=False):
        plan, runs = self.plan(), RunStore(self.folder / "undisturbed")
        if one_process:
            plan = replace(plan, study=replace(plan.study, slurm=SlurmConfig()))
        # with this estimate a process trains a dozen of them
        cells = [replace(cell, seconds=0.5) for cell in plan.cells]
        run_local(plan, runs, cells, n_jobs=n_slots(plan, cells), watch=lambda: None)
        return {r.signature: (r.metrics, r.train_loss) for r in runs.read_all()}


def undisturbed_records(folder, store, grid):
    """The records of a grid that one process trains in `folder`, with nobody to disturb it."""
    study = folder / "study.toml"
    study.write_text(f'[study]\nname = "r"\n[data]\npath = "{store.path}"\n{grid}')
    config = load_study(study)
    runs = RunStore(folder / "runs")
    plan = make_plan(config, data_facts(config.data), runs)
    run_debug(plan, runs, plan.cells, lambda: None)
    return runs.read_all()


def processes_of_rank(rank, cluster):
    """The processes of this number among those of their jobs, of all jobs of the cluster."""
    wanted = {"SLURM_PROCID": str(rank), "SLURM_CONF": str(cluster.conf)}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "submitit" in " ".join(process.cmdline()):
                environment = process.environ()
                if all(environment.get(name) == value for name, value in wanted.items()):
                    found.append(process)
    return found


def fake_sweep(folder, capsys, monkeypatch):
    """Return a `Sweep` in `folder` on a fake SLURM whose queue is a file and which never runs anything."""
    fake_slurm.install(folder / "bin", sys.executable)
    monkeypatch.setenv("FAKE_SLURM", str(folder / "queue.json"))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    for name in ("SCALING_RUNS", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return Sweep(folder, capsys, monkeypatch)
