"""A damaged file in a study's run folders is an error of one line, or it is ignored."""

import json
import re

import pytest
from recorded_runs import edit_record

from scaling.records import RunStore
from scaling.study import data_facts, load_study
from sweeps.dispatch import run_debug
from sweeps.planning import make_plan
from sweeps.status import status_rows

ATTEMPT = {
    "number": 1,
    "id": "a",
    "state": "ended",
    "time": 1.8e9,
    "started": "2027-01-15T08:00:00+00:00",
    "ended": "2027-01-15T08:00:07+00:00",
    "failure": "oom",
    "message": "",
}


@pytest.fixture
def look(study_file):
    """Plan the study with its folders as they are now."""
    study = load_study(study_file)
    return lambda: make_plan(study, data_facts(study.data), RunStore(study_file.parent / "runs"))


@pytest.fixture
def cell(look, tmp_path):
    """The folder of the first cell, which has not been started."""
    folder = tmp_path / "runs" / look().cells[0].config.signature
    folder.mkdir(parents=True)
    return folder


def advice_to_remove(cell):
    return rf"^{re.escape(str(cell))}/record\.json: .*; remove {re.escape(str(cell))} to train the run again$"


@pytest.mark.parametrize("damage", ["", "[]", "null", '"x"', "{}", '{"config":{}}', '{"config":3}'])
def test_the_error_for_a_record_of_the_wrong_shape_says_what_to_do(look, cell, damage):
    (cell / "record.json").write_text(damage)
    (text,) = look().damaged
    assert re.match(advice_to_remove(cell), text)


@pytest.mark.parametrize("part", ["config", "metrics", "provenance", "samples_per_second"])
def test_a_record_without_one_of_its_parts_is_an_error(look, cell, tmp_path, part):
    plan = look()
    run_debug(plan, RunStore(tmp_path / "runs"), plan.cells[:1], lambda: None)
    edit_record(cell / "record.json", lambda document: document.update({part: None}))
    (text,) = look().damaged
    assert re.match(advice_to_remove(cell), text)


def test_the_error_for_a_folder_in_the_place_of_a_record_says_what_to_do(look, cell):
    (cell / "record.json").mkdir()
    (text,) = look().damaged
    assert re.match(advice_to_remove(cell), text)


def test_a_record_of_another_cell_is_damage_of_both_that_were_swapped(look, tmp_path):
    plan, runs = look(), RunStore(tmp_path / "runs")
    run_debug(plan, runs, plan.cells[:2], lambda: None)
    one, two = (runs.folder(cell.config.signature) for cell in plan.cells[:2])
    one.rename(tmp_path / "aside")
    two.rename(one)
    (tmp_path / "aside").rename(two)
    assert [cell.standing for cell in look().cells[:2]] == ["damaged", "damaged"]
    assert sorted(look().damaged) == sorted(
        f"{own / 'record.json'}: holds run {other.name}; put it back into the folder of that name, or remove {own} to train "
        "the run again"
        for own, other in ((one, two), (two, one))
    )


@pytest.mark.parametrize(
    ("name", "value"), [("n_params", -1), ("flops", True), ("train_seconds", -1.0)]
)
def test_an_impossible_value_of_a_record_is_told_by_a_plan(look, cell, tmp_path, name, value):
    plan = look()
    run_debug(plan, RunStore(tmp_path / "runs"), plan.cells[:1], lambda: None)
    edit_record(cell / "record.json", lambda document: document.update({name: value}))
    (text,) = look().damaged
    assert text.startswith(f"{cell / 'record.json'}: {name}")


@pytest.mark.parametrize("attempts", [None, 3, [[]], [None], [{**ATTEMPT, "started": 5}]])
def test_damaged_attempts_of_a_record_are_ignored(look, cell, tmp_path, attempts):
    plan = look()
    run_debug(plan, RunStore(tmp_path / "runs"), plan.cells[:1], lambda: None)
    edit_record(
        cell / "record.json", lambda document: document["provenance"].update(attempts=attempts)
    )
    first = look().cells[0]
    assert (first.state.state, first.spent_seconds) == ("done", 0.0)


@pytest.mark.parametrize(
    "damage",
    ["[]", "null", *(json.dumps({**ATTEMPT, k: v}) for k, v in [("started", 5), ("failure", [1])])],
)
def test_a_damaged_attempt_is_ignored(look, cell, damage):
    (cell / "attempts").mkdir()
    (cell / "attempts" / "1.json").write_text(damage)
    (cell / "attempts" / "2.json").write_text(json.dumps({**ATTEMPT, "number": 2, "id": "b"}))
    first = look().cells[0]
    assert (first.failures, first.spent_seconds) == ({"oom": 1}, 7.0)


def test_an_attempt_without_a_finite_time_leaves_the_status_json(look, cell):
    (cell / "attempts").mkdir()
    damaged = json.dumps({**ATTEMPT, "time": float("inf")}).replace("Infinity", "1e999")
    (cell / "attempts" / "1.json").write_text(damaged)
    json.dumps(status_rows(look()), allow_nan=False)
