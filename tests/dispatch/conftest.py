"""What the tests of jobs share."""

import json
import signal
from dataclasses import asdict

import pytest
import torch
from small_runs import numbers, small_config

from scaling.records import RunStore
from scaling.training import train_run
from sweeps.dispatch.worker import CellJob


@pytest.fixture
def config(tiny_store):
    torch.set_num_threads(1)
    return small_config(tiny_store)


@pytest.fixture
def runs(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def make_job(tiny_store, runs):
    def make(*configs, **how):
        documents = [json.loads(json.dumps(asdict(config))) for config in configs]
        return CellJob(str(tiny_store.path), str(runs.root), documents, **how)

    return make


@pytest.fixture
def undisturbed(tiny_store, tmp_path):
    return lambda c: numbers(train_run(c, tiny_store, RunStore(tmp_path / "undisturbed")))


@pytest.fixture
def requeued():
    """A substitute for submitit's handler of USR2, which queues the job again and exits."""
    calls = []

    def handler(number, _):
        calls.append(number)
        raise SystemExit(255)

    before = signal.signal(signal.SIGUSR2, handler)
    yield calls
    signal.signal(signal.SIGUSR2, before)
