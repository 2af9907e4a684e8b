"""Whenever the power fails: a file is the old one, the new one or not there, never a part."""

import json
import os

import pytest
from power_failures import folders_after_power_failures

from scaling.atomic_files import write_json, write_new

REPLACING = """
from scaling.atomic_files import write_json

def prepare(folder):
    (folder / "file.json").write_text('"old"')

def write(folder):
    write_json(folder / "file.json", "new")
"""

CREATING = """
from scaling.atomic_files import write_new

def prepare(folder):
    pass

def write(folder):
    assert write_new(folder / "file.json", "new")
"""

WHOLE_FOLDERS = """
import os
from scaling.atomic_files import atomic_folder, write_text

def prepare(folder):
    pass

def write(folder):
    with atomic_folder(folder / "data") as temporary:
        write_text(temporary / "first", "new")
        write_text(temporary / "second", "new")
"""


def test_a_replaced_file_is_the_old_one_or_the_new_one(tmp_path):
    folders = folders_after_power_failures(REPLACING, tmp_path)
    found = [json.loads((folder / "file.json").read_text()) for folder in folders]
    before = found.count("old")
    assert found == ["old"] * before + ["new"] * (len(found) - before)
    assert 0 < before < len(found)


def test_a_new_file_is_not_there_or_whole(tmp_path):
    folders = folders_after_power_failures(CREATING, tmp_path)
    found = [file.read_text() for folder in folders if (file := folder / "file.json").exists()]
    assert set(found) == {'"new"\n'}
    assert 0 < len(found) < len(folders)


def test_a_folder_is_not_there_or_whole(tmp_path):
    folders = [f / "data" for f in folders_after_power_failures(WHOLE_FOLDERS, tmp_path)]
    found = [{file.name: file.read_text() for file in f.iterdir()} for f in folders if f.exists()]
    assert 0 < len(found) < len(folders)
    assert all(files == {"first": "new", "second": "new"} for files in found)


@pytest.mark.parametrize("write", [write_json, write_new], ids=lambda write: write.__name__)
def test_a_file_is_synced_then_named_then_its_folder_is_synced(tmp_path, monkeypatch, write):
    calls = []

    def recorded(name, call):
        def record(*arguments, **named):
            calls.append(os.fstat(arguments[0]).st_ino if name == "fsync" else "named")
            return call(*arguments, **named)

        return record

    for name in ("fsync", "replace", "link"):
        monkeypatch.setattr(os, name, recorded(name, getattr(os, name)))
    write(tmp_path / "file.json", "new")
    file, folder = (tmp_path / "file.json").stat().st_ino, tmp_path.stat().st_ino
    assert calls == [file, "named", folder]
