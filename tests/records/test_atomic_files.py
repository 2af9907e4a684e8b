import os
import subprocess
import sys

import numpy as np
import pytest

from scaling.atomic_files import atomic_folder, json_values
from scaling.errors import UserError

KILLED = """
import os, signal, sys
from pathlib import Path
from scaling.atomic_files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert not out.exists()
    with atomic_folder(out) as folder:
        (folder / "whole").write_text("whole")
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "whole"]


def test_the_folder_of_a_living_writer_is_not_removed(tmp_path):
    out = tmp_path / "out"
    with atomic_folder(out) as first:
        (first / "mine").write_text("first")
        # The same path, as two processes that make the same data set at once.
        with atomic_folder(out) as second:
            (second / "mine").write_text("second")
        assert (first / "mine").read_text() == "first"
        out.rename(tmp_path / "elsewhere")
    assert (out / "mine").read_text() == "first"


def test_a_folder_that_exists_is_refused(tmp_path):
    with pytest.raises(UserError, match="already exists"), atomic_folder(tmp_path):
        pass


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_folder_has_the_permissions_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_folder(tmp_path / "out"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~umask


def test_json_has_no_nan_no_infinity_and_no_numpy():
    document = {1: (np.float64("nan"), float("-inf"), 0.5), "counts": np.arange(2), "text": "nan"}
    assert json_values(document) == {"1": [None, None, 0.5], "counts": [0, 1], "text": "nan"}
    assert type(json_values([np.int64(3)])[0]) is int
