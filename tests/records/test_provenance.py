import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import scaling.records.provenance
from scaling.records import read_code_version
from scaling.records.provenance import code_version


@pytest.fixture
def copy(tmp_path):
    """A copy of the sources, without git."""
    root = Path(scaling.records.provenance.__file__).parents[2]
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
    with (copy / "models" / "attention" / "dense.py").open("a") as file:
        file.write("CHANGED = 1\n")
    assert read_code_version(copy)["code"] != before["code"]


def test_comments_and_docstrings_do_not_change_the_hash(copy):
    before = read_code_version(copy)
    path = copy / "models" / "layers.py"
    text = path.read_text()
    path.write_text("# a comment\n" + text.replace('"""', '"""Changed. ', 1) + '"""More text."""\n')
    assert read_code_version(copy) == before


@pytest.mark.slow
def test_the_hash_covers_all_that_a_training_run_imports(tiny_store, tmp_path):
    program = f"""
import sys
from dataclasses import replace
from pathlib import Path
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.records import RunStore
from scaling.records.provenance import trained_sources
from scaling.store import open_store
from scaling.study import Distillation, RunConfig
from scaling.training import train_run

store = open_store(Path({str(tiny_store.path)!r}))
config = RunConfig(
    "SUAN-0", GRADES["SUAN-0"], SuanOptions(), 40, 0, 40, 1e-3, "decay", "independent",
    store.fingerprint, 1,
)
teacher = Distillation("SUAN-1", GRADES["SUAN-1"], SuanOptions(), 1e-3, 1.0, 1.0)
for kind in (
    config,
    replace(config, model=SuanOptions(kind="lightsuan", window=2, dilation=2)),
    replace(config, packing="request"),
    replace(config, distill=teacher),
):
    train_run(kind, store, RunStore(Path({str(tmp_path)!r})))
root = Path(sys.modules["scaling"].__file__).parents[1]
files = [Path(m.__file__) for n, m in sys.modules.items() if n.startswith(("models.", "scaling."))]
assert len(files) > 40
loaded = {{f for f in files if f.name != "__init__.py"}}
print(sorted(str(f) for f in loaded - set(trained_sources(root))))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_cannot_change_a_run_is_not_in_the_hash(copy):
    before = read_code_version(copy)
    for name in ("scaling/cli/app.py", "scaling/aligned_text.py", "models/scoring/scorer.py"):
        (copy / name).write_text("")
    (copy / "notes.txt").write_text("hello")
    assert read_code_version(copy) == before


def test_a_moved_copy_is_the_same_code(copy, tmp_path_factory):
    before = read_code_version(copy)
    other = tmp_path_factory.mktemp("other") / "copy"
    shutil.copytree(copy, other)
    assert read_code_version(other) == before


@pytest.mark.slow
def test_different_uncommitted_changes_have_different_hashes(checkout):
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


def test_an_installed_copy_inside_another_repository_has_no_commit(checkout):
    inner = checkout / "site-packages"
    (inner / "scaling").mkdir(parents=True)
    assert read_code_version(inner)["git_commit"] is None


def test_a_snapshot_knows_the_commit_that_it_was_made_of(copy):
    stored = {"code": "x", "git_commit": "c" * 40, "git_dirty": True, "git_diff": "d" * 16}
    (copy / "provenance.json").write_text(json.dumps(stored))
    known = read_code_version(copy)
    assert known["code"] != "x"
    assert {**known, "code": "x"} == stored


def test_a_process_runs_the_code_that_it_began_with():
    """Later edits are loaded only by the next process."""
    assert code_version() is code_version()
