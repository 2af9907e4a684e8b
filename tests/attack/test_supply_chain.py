"""No code comes out of a file: sources, pins and licences, and pages that promise only what there is."""

import ast
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_runs import config_of, write_run

from analysis.table import runs_table
from models.model_options import EncoderOptions
from scaling.errors import UserError
from scaling.records import RunStore, verify_runs

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for name in ("models", "scaling", "sweeps", "analysis")
    for path in (ROOT / name).rglob("*.py")
)
# modules that build objects from bytes by running what these name
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
EVALUATORS = {"eval", "exec", "compile"}
LOADERS = {
    ("torch", "load"), ("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("os", "system"),
    ("os", "popen"), ("pd", "read_pickle"), ("pd", "eval"), ("jsonpickle", "decode"),
}  # fmt: skip


def dangers(source):
    """What in a source could run what a file holds, by line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            # a loader that is imported by its own name would not be seen as a call of its module
            own = {(node.module, alias.name) for alias in node.names}
            found += [f"{node.lineno}: {a}.{b}" for a, b in own & LOADERS]
        found += [f"{node.lineno}: {n}" for n in names if n.split(".")[0] in UNPICKLERS]
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in EVALUATORS:
            found.append(f"{node.lineno}: {called.id}")
        if (
            isinstance(called, ast.Attribute)
            and isinstance(called.value, ast.Name)
            and (called.value.id, called.attr) in LOADERS
        ):
            found.append(f"{node.lineno}: {called.value.id}.{called.attr}")
        for option in node.keywords:
            is_off = isinstance(option.value, ast.Constant) and not option.value.value
            if option.arg in ("shell", "allow_pickle", "trust_remote_code") and not is_off:
                found.append(f"{node.lineno}: {option.arg}")
    return found


@pytest.mark.parametrize("line", [
    "import pickle", "from cloudpickle import loads", "eval(text)", "exec(text)", "torch.load(path)", "yaml.load(text)",
    "from torch import load", "subprocess.run(text, shell=True)", "np.load(path, allow_pickle=True)", "os.system(text)",
])  # fmt: skip
def test_the_search_finds_each_danger(line):
    assert dangers(line)


@pytest.mark.parametrize(
    "line",
    ["model.eval()", "re.compile(text)", "np.load(path, allow_pickle=False)", "json.loads(text)"],
)
def test_the_search_lets_others_pass(line):
    assert not dangers(line)


@pytest.mark.slow
def test_no_source_can_run_what_a_file_holds():
    found = {str(p.relative_to(ROOT)): dangers(p.read_text(encoding="utf-8")) for p in SOURCES}
    assert len(found) > 300
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_fits_and_checks_of_others_runs_import_nothing_that_these_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_others.py").write_text("raise SystemExit('imported')\n")
    for i in range(4):
        config = replace(
            config_of(n_samples=2**i * 64), model=EncoderOptions("of_others:Model", {}, "0" * 16)
        )
        write_run(RunStore(tmp_path / "runs"), config)
    assert len(runs_table(tmp_path / "runs")) == 4
    assert len(verify_runs(tmp_path / "runs").places) == 4
    assert "of_others" not in sys.modules


@pytest.fixture(scope="module")
def pins():
    return runpy.run_path(str(ROOT / "docs" / "make_pins.py"))


def test_hashes_and_licences_are_of_the_pinned_versions(pins):
    pins["check"]()


@pytest.mark.parametrize(
    ("found", "instead", "says"),
    [
        ("numpy==", "numpy==0.", "numpy is 0."),
        ("numpy==", "numpi==", "numpi is"),
        (" --hash=sha256:", " --hash=sha256:x", "expected NAME==VERSION"),
        ("absl-py==", "absl-py @ https://host/", "expected NAME==VERSION"),
    ],
)
def test_other_pins_are_refused_in_one_line(pins, tmp_path, monkeypatch, found, instead, says):
    text = pins["PINS"].read_text(encoding="utf-8")
    wrong = tmp_path / "requirements-tested.txt"
    wrong.write_text(text.replace(found, instead, 1), encoding="utf-8")
    monkeypatch.setitem(pins["check"].__globals__, "PINS", wrong)
    with pytest.raises(UserError, match=re.escape(says)):
        pins["check"]()


def test_each_promise_names_a_command_of_tests_and_results_that_are_there():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] not in ("promise", "---")]
    assert len(rows) > 20
    for promise, shown in rows:
        commands = re.findall(r"`(make|pytest|python) ([^`]+)`", shown)
        assert commands, promise
        for tool, rest in commands:
            if tool == "make":
                assert re.search(rf"^{re.escape(rest)}:", makefile, re.MULTILINE), rest
                continue
            named = [w for w in rest.split() if "/" in w and not w.startswith("runs/")]
            assert named, promise
            assert all((ROOT / path).exists() for path in named), rest
