"""Checks before anything is queued."""

import pytest

from scaling.errors import UserError
from scaling.records import RunStore
from sweeps.dispatch import submit_slurm
from sweeps.dispatch.preflight import check_logs


def test_a_plain_path_may_hold_logs(tmp_path):
    check_logs(tmp_path)


def test_a_percent_sign_behind_a_link_is_found(tmp_path):
    (tmp_path / "50%A").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "50%A")
    with pytest.raises(
        UserError, match=r"50%A/study: SLURM expands the % in it; choose another folder of runs"
    ):
        check_logs(tmp_path / "runs" / "study")


def test_a_percent_sign_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.queue.scheduler.has_slurm", lambda: True)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    runs = RunStore(tmp_path / "%A" / "study")
    with pytest.raises(UserError, match="SLURM expands the %"):
        submit_slurm(pytest.fail, runs, pytest.fail)
    assert not runs.root.exists()
