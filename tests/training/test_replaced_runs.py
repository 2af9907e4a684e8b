"""A process that another one has replaced looks for it before each write, without waiting for a heartbeat."""

import time

import pytest
import torch
from small_runs import small_config

import scaling.training.run_on_disk
from scaling.atomic_files import write_new
from scaling.records import LeaseLostError, RunStore, claim
from scaling.records.attempts import utc_now
from scaling.study import RunOptions
from scaling.training import train_run


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def config(tiny_store):
    return small_config(tiny_store)


@pytest.fixture
def replaced(config, tiny_store, tmp_path):
    """Train until the process is replaced at step `at` (0: before the first); return the run's folder then and later."""

    def train(at, **how):
        runs = RunStore(tmp_path)
        folder = runs.folder(config.signature)
        lease = claim(folder, done=lambda: False)
        lease.close()  # no heartbeat finds the successor
        steps, before = iter(range(1, 1000)), {}

        def replace():
            before.update(contents(folder))
            succeed(folder)

        def stop():
            if next(steps) == at:
                replace()

        if at == 0:
            replace()
        with pytest.raises(LeaseLostError, match="another process has taken this run over"):
            train_run(config, tiny_store, runs, lease=lease, stop=stop, **how)
        return before, contents(folder)

    return train


def succeed(folder):
    attempt = {"number": 2, "state": "running", "time": time.time(), "started": utc_now()}
    assert write_new(folder / "attempts" / "2.json", attempt)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "attempts"
    }


def test_it_does_not_begin_the_files_of_the_run_anew(replaced):
    before, after = replaced(0)
    assert after == before == {}


def test_it_appends_no_line(replaced):
    before, after = replaced(3)
    assert before["metrics.jsonl"].count(b"\n") == 3
    assert after == before


def test_it_saves_no_checkpoint(replaced, monkeypatch):
    monkeypatch.setattr(scaling.training.run_on_disk, "_CHECKPOINT_SHARE", 1e9)
    before, after = replaced(3, options=RunOptions(checkpoint_seconds=1e-9))
    assert sum(name.startswith("checkpoints/") for name in before) == 2
    assert after == before


def test_it_writes_no_model(replaced):
    """After the 20 steps, the evaluation asks whether to stop."""
    before, after = replaced(21)
    assert "model.safetensors" not in after
    assert after == before


def test_it_writes_no_record(replaced, config, tmp_path, monkeypatch):
    save_model = scaling.training.run_on_disk.save_model

    def save_and_be_replaced(folder, *arguments, **named):
        save_model(folder, *arguments, **named)
        succeed(folder)

    monkeypatch.setattr(scaling.training.run_on_disk, "save_model", save_and_be_replaced)
    _, after = replaced(-1)
    assert "model.safetensors" in after
    assert "record.json" not in after
