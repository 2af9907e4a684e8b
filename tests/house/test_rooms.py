"""The house: faces, names and sizes of its rooms. The layers between them are import-linter's (pyproject.toml)."""

import ast
import json
import tomllib
from collections import Counter
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("models", "scaling", "sweeps", "analysis")
ROOMS = sorted(
    path.parent for package in PACKAGES for path in ROOT.glob(f"{package}/**/__init__.py")
)
MODULES = sorted(
    path
    for package in PACKAGES
    for path in ROOT.glob(f"{package}/**/*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
# A face that handed these on would import torch, so they are imported by name.
NEEDS_TORCH = (
    "models.kinds.building",
    "scaling.serving.latency_bench",
    "sweeps.planning.benchmark",
)
GOLDEN = ROOT / "tests" / "golden" / "faces.json"


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module
        and node.module.split(".")[0] in PACKAGES
    ]


def face(room):
    tree = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return sorted(ast.literal_eval(node.value))
    return []


def test_the_faces_are_as_agreed():
    """Renew after a change that is meant: python tests/house/test_rooms.py."""
    assert {dotted(room): face(room) for room in ROOMS} == json.loads(GOLDEN.read_text())


def modules_of(room):
    return [path.stem for path in MODULES if path.parent == room]


def are_alike(one, other):
    """Whether one begins with the other, or they differ by a letter."""
    if one.startswith(other) or other.startswith(one):
        return True
    blocks = SequenceMatcher(None, one, other).get_matching_blocks()
    return max(len(one), len(other)) - sum(block.size for block in blocks) <= 1


def test_a_face_says_what_is_in_its_room_and_what_is_not():
    texts = {
        dotted(room): ast.get_docstring(ast.parse((room / "__init__.py").read_text("utf-8"))) or ""
        for room in ROOMS
    }
    assert [room for room, text in texts.items() if "Not here:" not in text] == []


def test_a_face_has_no_code_of_its_own():
    """The hash that guards a resume leaves faces out; those of the command line register verbs."""
    kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)
    own = [
        dotted(room)
        for room in ROOMS
        for node in ast.parse((room / "__init__.py").read_text("utf-8")).body
        if not isinstance(node, kinds) and not dotted(room).startswith("scaling.cli")
    ]
    assert own == []


def test_a_room_can_be_taken_in_at_a_glance():
    assert [dotted(room) for room in ROOMS if len(modules_of(room)) > 12] == []


def test_names_in_a_room_cannot_be_confused():
    pairs = [(room, pair) for room in ROOMS for pair in combinations(modules_of(room), 2)]
    assert [(dotted(room), pair) for room, pair in pairs if are_alike(*pair)] == []


@pytest.mark.parametrize(
    ("one", "other"), [("law", "laws"), ("run", "run_store"), ("grid", "grad")]
)
def test_such_names_would_be_confused(one, other):
    assert are_alike(one, other)


def test_a_module_name_stands_once():
    counts = Counter(path.stem for path in MODULES)
    assert [name for name, count in counts.items() if count > 1] == []


def test_a_face_shadows_no_module_of_its_room():
    assert [dotted(room) for room in ROOMS if set(face(room)) & set(modules_of(room))] == []


def test_other_rooms_are_entered_by_their_face():
    """A room in a room may use the modules around it, whose face would import it in turn."""
    known = {dotted(module) for module in MODULES}
    deep = [
        (dotted(path), module)
        for path in MODULES
        for module in imports(path)
        if module in known
        and (room := module.rpartition(".")[0]) not in PACKAGES
        and module not in NEEDS_TORCH
        and not f"{dotted(path)}.".startswith(f"{room}.")
    ]
    assert deep == []


def test_every_room_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    files = {"scaling.shipped_studies"}  # no room: the study files, for `scaling studies`
    assert set(project["tool"]["setuptools"]["packages"]) - files == set(map(dotted, ROOMS))


def test_tests_of_a_room_lie_in_a_folder_of_tests():
    """A folder named like a package would hide it, and a test beside conftest.py belongs to no room."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert not folders & set(PACKAGES)
    assert list((ROOT / "tests").glob("test_*.py")) == []


if __name__ == "__main__":
    faces = {dotted(room): face(room) for room in ROOMS}
    GOLDEN.write_text(json.dumps(faces, indent=1) + "\n")
