import json
import shutil
import subprocess
from pathlib import Path

import pytest

import scaling.provenance
from scaling.provenance import code_version, read_code_version


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources, without git."""
    root = Path(scaling.provenance.__file__).parents[1]
    for name in ("models", "scaling"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def checkout(copy):
    def git(*arguments):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", copy, *identity, *arguments], check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    return copy


def test_a_copy_without_git_is_known_by_its_sources(copy):
    before = read_code_version(copy)
    assert (before["git_commit"], before["git_dirty"], before["git_diff"]) == (None, None, None)
    with (copy / "models" / "layers.py").open("a") as file:
        file.write("# changed\n")
    assert read_code_version(copy)["code"] != before["code"]


def test_what_cannot_change_a_run_is_not_in_the_hash(copy):
    before = read_code_version(copy)
    (copy / "scaling" / "cli" / "app.py").write_text("")
    (copy / "notes.txt").write_text("hello")
    assert read_code_version(copy) == before


def test_a_moved_copy_is_the_same_code(copy, tmp_path_factory):
    before = read_code_version(copy)
    other = tmp_path_factory.mktemp("other") / "copy"
    shutil.copytree(copy, other)
    assert read_code_version(other) == before


def test_uncommitted_changes_are_told_apart_by_their_content(checkout):
    clean = read_code_version(checkout)
    assert (clean["git_dirty"], clean["git_diff"]) == (False, None)
    assert len(clean["git_commit"]) == 40
    seen = set()
    for text in ("one", "two"):
        (checkout / "scaling" / "errors.py").write_text(text)
        changed = read_code_version(checkout)
        assert changed["git_commit"] == clean["git_commit"]
        assert changed["git_dirty"]
        seen.add(changed["git_diff"])
    assert len(seen) == 2


def test_an_installed_copy_inside_somebody_elses_repository_has_no_commit(checkout):
    inner = checkout / "site-packages"
    (inner / "scaling").mkdir(parents=True)
    assert read_code_version(inner)["git_commit"] is None


def test_a_snapshot_knows_the_commit_that_it_was_made_of(copy):
    told = {"code": "x", "git_commit": "c" * 40, "git_dirty": True, "git_diff": "d" * 16}
    (copy / "provenance.json").write_text(json.dumps(told))
    known = read_code_version(copy)
    assert known["code"] != "x"
    assert {**known, "code": "x"} == told


def test_a_process_runs_the_code_that_it_began_with():
    """What is edited meanwhile is loaded by the next process."""
    assert code_version() is code_version()
