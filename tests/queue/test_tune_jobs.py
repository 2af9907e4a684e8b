"""`scaling tune` on a fake SLURM that never runs anything: its runs are submitted once."""

import pytest
from slurm_sweep import fake_sweep

from scaling.records import RunStore
from sweeps.queue import read_submissions

OPTIONS = ("--cluster", "slurm", "--sizes", "160", "--rates", "0.5,1,2")


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys, tiny_store):
    sweep = fake_sweep(tmp_path, capsys, monkeypatch)
    sweep.write(tiny_store, '[grid]\ngrade = ["SUAN-0", "SUAN-1"]\nn_samples = [160, 320]\n')
    return sweep


def test_the_runs_of_a_scan_are_submitted_once(sweep):
    runs = RunStore(sweep.folder / "runs" / "real-tune")
    before = sweep.study.read_text()
    assert "submitted 6 runs; call `scaling tune` again" in sweep("tune", sweep.study, *OPTIONS)
    assert "submitted 0 runs" in sweep("tune", sweep.study, *OPTIONS)
    (submission,) = read_submissions(runs)
    assert sum(map(len, submission.cells)) == 6
    assert sweep.study.read_text() == before
