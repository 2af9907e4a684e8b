"""The kept inputs of the fuzz end as they should; a sample of new ones does as well. The whole: make attack-fuzz."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_inputs import case_text, contents, judge, read_case
from fuzz_surfaces import SURFACES

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).with_name("corpus")
OF_LOGS = [name for name in SURFACES if name.startswith("raw-")]
OTHERS = [name for name in SURFACES if name not in OF_LOGS]


def cases(of_logs):
    return [
        pytest.param(path, id=f"{path.parent.name}/{path.stem}")
        for path in sorted(CORPUS.glob("*/*.json"))
        if (path.parent.name in OF_LOGS) == of_logs
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with the valid files of each surface; those of several are made once."""
    made = {}

    def folder(surface):
        if surface.build not in made:
            path = tmp_path_factory.mktemp(surface.name) / "work"
            path.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(path)
                surface.build()
                made[surface.build] = path, contents()
        return made[surface.build]

    return folder


def outcome(folders, path, monkeypatch):
    name, change, right = read_case(path)
    folder, seed = folders(SURFACES[name])
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", "")  # no SLURM
    monkeypatch.setenv("TMPDIR", str(folder.parent))
    verdict = judge(SURFACES[name], seed, change)
    return verdict.kind, right, verdict.fault


@pytest.mark.parametrize("path", cases(of_logs=False))
def test_a_kept_input_ends_as_it_should(folders, path, monkeypatch):
    kind, right, fault = outcome(folders, path, monkeypatch)
    assert kind == right, fault


@pytest.mark.slow
@pytest.mark.parametrize("path", cases(of_logs=True))
def test_a_kept_log_ends_as_it_should(folders, path, monkeypatch):
    kind, right, fault = outcome(folders, path, monkeypatch)
    assert kind == right, fault


@pytest.mark.slow
@pytest.mark.parametrize(("surfaces", "n"), [(OTHERS, 8), (OF_LOGS, 3)], ids=["others", "logs"])
def test_a_sample_of_new_inputs_ends_as_it_should(tmp_path, surfaces, n):
    words = ["--surfaces", *surfaces, "--inputs", str(n), "--result", tmp_path / "result.json"]
    command = [sys.executable, "-m", "tests.attack.fuzz", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = json.loads((tmp_path / "result.json").read_text())
    assert all(one["inputs"] == n for one in counts.values())


def test_a_traceback_a_changed_file_and_a_second_line_are_faults(tmp_path, monkeypatch):
    from fuzz_inputs import VIEWS, Change, Surface

    def crash():
        raise ValueError

    def write():
        return str(Path("x").write_text("b"))

    monkeypatch.chdir(tmp_path)
    Path("x").write_text("a")
    for view, word in (
        (crash, "ValueError"),
        (write, "changed x"),
        (lambda: "\x1b[2J", "terminal"),
    ):
        monkeypatch.setitem(VIEWS, "@x", view)
        surface = Surface("x", lambda: None, lambda *_: Change(), lambda _: [("@x",)])
        verdict = judge(surface, {"x": b"a"}, Change())
        assert (verdict.kind, word in verdict.fault) == ("fault", True)
        assert Path("x").read_text() == "a"


def test_a_case_of_the_corpus_comes_back_as_written(tmp_path):
    from fuzz_inputs import Change

    change = Change({"a": b"text\r\n", "b": b"\xff\x00" * 5000, "c": None}, ("--set", "a.b=1"))
    (tmp_path / "x.json").write_text(case_text("study", change, "refused"))
    assert read_case(tmp_path / "x.json") == ("study", change, "refused")
