"""A file of the user's that hides one of our packages is named in one line, whatever the verb."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]


def scaling(folder, *words):
    """As the console script does, whose folder is not the working directory, with the user's PYTHONPATH."""
    return subprocess.run(
        [sys.executable, "-c", "from scaling.cli import main; main()", *words],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(folder), str(HOME)]), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("own", ["models.py", "analysis/__init__.py", "sweeps/__init__.py"])
def test_it_is_named_in_one_line(tmp_path, own):
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).write_text("raise ImportError('the stray file was imported')")
    done = scaling(tmp_path, "fit", "runs.csv")
    name = own.partition("/")[0].removesuffix(".py")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: {tmp_path / own} is found in place of {HOME / name}; rename it"
    )
    assert done.stderr.count("\n") == 1


def test_other_files_of_the_user_do_not_matter(tmp_path):
    (tmp_path / "my_models.py").write_text("")
    done = scaling(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
