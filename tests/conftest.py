"""Fixtures that several files share: a small generated log, and a fresh copy of a study beside it."""

import os

# One thread per process, before torch or numpy start their pools.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("ci")


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
