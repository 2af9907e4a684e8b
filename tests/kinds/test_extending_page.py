"""docs/extending.md: the class on the page is trained as the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDY = """
[study]
name = "own"
[data]
path = "data"
[data.generate]
n_train = 600
n_test = 200
[grid]
grade = ["SUAN-0"]
n_samples = [512]
[train]
packing = "stretch"
"""


def blocks(language):
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    section = page.partition("## A model\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def scaling(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "scaling", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "recent_mean.py").write_text(blocks("python")[0])
    (folder / "study.toml").write_text(STUDY + blocks("toml")[0])
    return folder


def test_the_class_takes_at_most_forty_lines():
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 40


@pytest.mark.slow
def test_the_class_is_trained_and_known_by_its_source(folder):
    done = scaling(folder, "run", "study.toml", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "1 done" in scaling(folder, "plan", "study.toml").stdout
    path = folder / "recent_mean.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    assert "1 done" in scaling(folder, "plan", "study.toml").stdout
    path.write_text(path.read_text().replace("1e-6", "1e-3"))
    assert "1 changed" in scaling(folder, "plan", "study.toml").stdout
