"""Fixtures that several files share: a small generated log, and a fresh copy of a study beside it."""

import gc
import logging
import os
import shutil
import tempfile
from pathlib import Path

# One thread per process, before torch or numpy start their pools.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("ci")


# All modules and tests stay to the end, so the garbage collector need not go through them over and over.
gc.disable()


def pytest_collection_finish():
    """Leave what was collected alone from now on."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _own_log_level():
    """A verb sets the level of its process, `--quiet` to errors, which must not outlive its test."""
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    """A generated store of 1,200 training and 400 test impressions."""
    from scaling.synthetic import SyntheticConfig, generate_logs

    config = SyntheticConfig(n_train=1200, n_test=400, n_items=200, warmup_events=10)
    return generate_logs(tmp_path_factory.mktemp("data") / "tiny", config)


@pytest.fixture
def study_file(tmp_path, monkeypatch, tiny_store):
    """A study of four cheap cells on the small log, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCALING_RUNS", raising=False)
    path = tmp_path / "study.toml"
    path.write_text(
        f"""\
[study]
name = "tiny"
[data]
path = "{tiny_store.path}"
[grid]
grade = ["SUAN-0", "SUAN-1"]
n_samples = [160, 320]
"""
    )
    return path


@pytest.fixture(scope="session")
def make_cluster():
    """Start clusters; sockets lie in their folders, so the paths are short."""
    from slurm_cluster import Cluster

    started = []

    def start(**how):
        folder = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
        cluster = Cluster(folder, **how)
        started.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in started:
        cluster.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def long_store(tmp_path_factory):
    from scaling.synthetic import SyntheticConfig, generate_logs

    config = SyntheticConfig(n_train=24_000, n_test=400, n_items=200, warmup_events=10)
    return generate_logs(tmp_path_factory.mktemp("data") / "long", config)


@pytest.fixture
def fresh_sweep(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCALING_RUNS", raising=False)
    from slurm_sweep import Sweep

    return Sweep(tmp_path, capsys, monkeypatch)
