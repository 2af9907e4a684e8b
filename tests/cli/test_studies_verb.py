"""`scaling studies`: the study files that come with the package."""

import json
from pathlib import Path

import pytest

from scaling.cli import main

STUDIES = Path(__file__).parents[2] / "studies"


def scaling(*arguments):
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return exit_.value.code


def test_the_list_has_every_study_with_its_data(capsys):
    assert scaling("studies", "--json") == 0
    listed = {study["study"]: study["data"] for study in json.loads(capsys.readouterr().out)}
    assert len(listed) == len(list(STUDIES.rglob("*.toml")))
    assert listed["quickstart"] == "data/quickstart-2"


def test_a_copy_is_the_file(tmp_path):
    assert scaling("studies", "quickstart", "-o", str(tmp_path / "mine.toml")) == 0
    assert (tmp_path / "mine.toml").read_text() == (STUDIES / "quickstart.toml").read_text()


def test_a_copy_overwrites_nothing(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text("mine")
    assert scaling("studies", "quickstart", "-o", str(tmp_path / "mine.toml")) == 2
    assert (tmp_path / "mine.toml").read_text() == "mine"
    assert "exists" in capsys.readouterr().err


def test_an_unknown_name_has_a_suggestion(capsys):
    assert scaling("studies", "quickstrat") == 2
    assert capsys.readouterr().err == (
        "error: quickstrat: no such study, did you mean quickstart?\n"
    )
