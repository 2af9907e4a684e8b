"""The list of faults is one that can be tried: each fits its module, and the tests that are to notice it exist."""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from mutant_run import RESULT, ROOT, importing_files, read_mutants

MUTANTS = read_mutants()


@cache
def functions(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def exists(test):
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() and (not name or name.partition("[")[0] in functions(file))


def test_every_fault_fits_its_module_once():
    texts = {m.file: (ROOT / m.file).read_text(encoding="utf-8") for m in MUTANTS}
    assert [m.name for m in MUTANTS if m.applied(texts[m.file]) in (None, texts[m.file])] == []


def test_every_broken_module_can_be_compiled():
    for mutant in MUTANTS:
        ast.parse(mutant.applied((ROOT / mutant.file).read_text(encoding="utf-8")), mutant.name)


def test_every_named_test_exists():
    missing = [(m.name, test) for m in MUTANTS for test in m.tests if not exists(test)]
    assert missing == []
    assert all(m.tests for m in MUTANTS)


def test_names_are_unique_and_promises_told():
    assert len({m.name for m in MUTANTS}) == len(MUTANTS) >= 60
    assert all(m.promise for m in MUTANTS)


def test_the_wider_suite_is_that_of_the_folders_that_import_the_module():
    folders = {Path(file).parent.name for file in importing_files("scaling/store/rows.py")}
    assert "store" in folders
    assert not folders & {"house", "attack", "cluster"}


def test_the_kept_result_has_no_survivor():
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["mutants"]
    names = {m.name for m in MUTANTS}
    assert [n for n, one in kept.items() if n in names and one["outcome"] != "killed"] == []
    assert names - kept.keys() == set(), "run `make attack-mutants`"


SAMPLE = """
import sys
from dataclasses import replace
from pathlib import Path
from mutant_run import Copy, read_mutants, try_mutant

copy = Copy(Path(sys.argv[1]))
fault = next(one for one in read_mutants() if one.name == "gauc-falls")
harmless = replace(fault, new=fault.old.replace(" ", "  ", 1))
for one in (fault, harmless, fault):
    print(try_mutant(copy, one, wider=False)["outcome"])
"""


@pytest.mark.slow
def test_a_fault_is_noticed_and_taken_out_again(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SAMPLE, str(tmp_path)],
        cwd=Path(__file__).parent, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["killed", "survived", "killed"]
