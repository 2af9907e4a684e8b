"""A submission is read whole or skipped, and the lock reports only its own errors."""

import errno
import json

import pytest

from scaling.errors import StorageError
from scaling.records import RunStore
from sweeps.queue import (
    Submission,
    latest_jobs,
    new_folder,
    read_submissions,
    submission_lock,
    write_submission,
)


@pytest.fixture
def runs(tmp_path):
    return RunStore(tmp_path / "study")


@pytest.fixture
def submission(runs):
    one = Submission(
        new_folder(runs), "slurm", (("a", "b"), ("c",)), ("7_0", "7_1"), (1.0, 2.5), {"cpus": 1}
    )
    write_submission(one)
    return one


def test_a_submission_survives_the_disk(runs, submission):
    assert read_submissions(runs) == [submission]


@pytest.mark.parametrize(
    "damage",
    [
        {"cells": [[["a"]]]},
        {"cells": [[1]]},
        {"cells": "ab"},
        {"job_ids": [["7_0"]]},
        {"seconds": [None]},
        {"cluster": []},
        {"resources": 3},
    ],
)
def test_a_submission_with_a_wrong_element_is_skipped(runs, submission, damage):
    path = submission.folder / "submission.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    assert latest_jobs(read_submissions(runs)) == {}


@pytest.mark.parametrize("damage", ["", "[]", "null", "{}"])
def test_a_submission_of_the_wrong_shape_is_skipped(runs, submission, damage):
    (submission.folder / "submission.json").write_text(damage)
    assert read_submissions(runs) == []


def test_an_error_under_the_lock_is_not_an_error_of_the_lock(runs):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left") as caught, submission_lock(runs):
        raise full
    assert caught.value is full


def test_the_lock_is_given_back_after_an_error(runs):
    with pytest.raises(ZeroDivisionError), submission_lock(runs):
        raise ZeroDivisionError
    with submission_lock(runs):
        pass


def test_a_lock_that_cannot_be_opened_is_an_error(runs):
    (runs.root / "submissions" / "lock").mkdir(parents=True)
    with (
        pytest.raises(StorageError, match=r"lock: cannot be locked: Is a directory"),
        submission_lock(runs),
    ):
        pass


def test_a_file_system_that_cannot_lock_is_an_error(runs, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(StorageError, match=r"lock: cannot be locked: No locks available"),
        submission_lock(runs),
    ):
        pass
