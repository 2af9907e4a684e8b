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
NEEDS_TORCH = ("scaling.serving.latency_bench", "sweeps.planning.benchmark")
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


@pytest.mark.parametrize("room", ROOMS, ids=dotted)
def test_a_face_says_what_is_in_its_room_and_what_is_not(room):
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert text
    assert "Not here:" in text


@pytest.mark.parametrize("room", ROOMS, ids=dotted)
def test_a_room_can_be_taken_in_at_a_glance(room):
    modules = [path for path in MODULES if path.parent == room]
    assert len(modules) <= 12


@pytest.mark.parametrize("room", ROOMS, ids=dotted)
def test_names_in_a_room_cannot_be_confused(room):
    names = [path.stem for path in MODULES if path.parent == room]
    for one, other in combinations(names, 2):
        assert not one.startswith(other), (one, other)
        assert not other.startswith(one), (one, other)
        # one letter more, less or other
        matcher = SequenceMatcher(None, one, other)
        alike = sum(block.size for block in matcher.get_matching_blocks())
        assert max(len(one), len(other)) - alike > 1, (one, other)


def test_a_module_name_stands_once():
    counts = Counter(path.stem for path in MODULES)
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("room", ROOMS, ids=dotted)
def test_a_face_shadows_no_module_of_its_room(room):
    assert not set(face(room)) & {path.stem for path in MODULES if path.parent == room}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_other_rooms_are_entered_by_their_face(path):
    own, known = dotted(path).rpartition(".")[0], {dotted(module) for module in MODULES}
    for module in imports(path):
        room = module.rpartition(".")[0]
        if module in known and room not in PACKAGES and module not in NEEDS_TORCH:
            # a room in a room may use the modules around it, whose face would import it in turn
            assert own == room or own.startswith(f"{room}."), f"import {module} from {room}"


def test_every_room_is_packaged():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(map(dotted, ROOMS))


def test_tests_of_a_room_lie_in_a_folder_of_tests():
    """A folder named like a package would hide it, and a test beside conftest.py belongs to no room."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert not folders & set(PACKAGES)
    assert list((ROOT / "tests").glob("test_*.py")) == []


if __name__ == "__main__":
    faces = {dotted(room): face(room) for room in ROOMS}
    GOLDEN.write_text(json.dumps(faces, indent=1) + "\n")
