"""A local run measures the grades it knows nothing about, and goes on without if it cannot."""

import logging
import subprocess
from dataclasses import replace
from itertools import pairwise

import pytest
from small_studies import plan_of

from scaling.cli.app import main
from scaling.cli.sweep import first_measurement
from scaling.cli.sweep.first_measurement import measure_unknown_grades
from sweeps.planning.cost_estimate import read_benchmarks


def long_cells(study_file, *overrides, source="guess", seconds=200.0):
    """Cells of which two make a grade that is worth a measurement."""
    plan, _ = plan_of(study_file, *overrides)
    return [replace(cell, source=source, seconds=seconds) for cell in plan.cells]


def ending(monkeypatch, outcome):
    """Replace the process of the measurement; return the commands that would have run."""
    commands = []

    def run(command, **how):
        commands.append(command)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def ended(code=0, stderr=""):
    return subprocess.CompletedProcess([], code, "", stderr)


def test_every_long_grade_without_a_measurement_is_measured(study_file, monkeypatch):
    commands = ending(monkeypatch, ended())
    cells = long_cells(study_file)
    assert measure_unknown_grades(study_file, ["train.packing=request"], None, cells)
    (words,) = commands
    assert [b for a, b in pairwise(words) if a == "--grade"] == [
        "SUAN-0",
        "SUAN-1",
    ]
    assert words[-2:] == ["--set", "train.packing=request"]


@pytest.mark.parametrize("how", [{"source": "run"}, {"source": "benchmark"}, {"seconds": 10.0}])
def test_short_and_known_grades_are_not_measured(study_file, monkeypatch, how):
    commands = ending(monkeypatch, ended())
    assert not measure_unknown_grades(study_file, None, None, long_cells(study_file, **how))
    assert commands == []


def test_a_teacher_is_measured_too(study_file, monkeypatch):
    commands = ending(monkeypatch, ended())
    cells = long_cells(study_file, 'grid.grade=["SUAN-0"]', 'distill.teacher="SUAN-1"')
    measure_unknown_grades(study_file, None, None, cells)
    assert {"SUAN-0", "SUAN-1"} <= set(commands[0])


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (ended(2, "...\nerror: no space\n"), "so times are guessed: no space"),
        (ended(-9), "exit code -9"),
        (OSError("no such file"), "no such file"),
        (subprocess.TimeoutExpired("x", 60), "was stopped"),
    ],
)
def test_a_failed_measurement_is_a_warning_of_one_line(
    study_file, monkeypatch, caplog, outcome, words
):
    ending(monkeypatch, outcome)
    with caplog.at_level(logging.WARNING):
        measure_unknown_grades(study_file, None, None, long_cells(study_file))
    (record,) = caplog.records
    assert record.getMessage().startswith("warning: ")
    assert words in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_read_only_folder_is_left_alone(study_file, monkeypatch):
    commands = ending(monkeypatch, ended())
    monkeypatch.setattr("os.access", lambda *_: False)
    assert not measure_unknown_grades(study_file, None, None, long_cells(study_file))
    assert commands == []


@pytest.mark.slow
def test_a_local_run_measures_first_and_then_trains(study_file, monkeypatch, capsys):
    monkeypatch.setattr(first_measurement, "_SECONDS_WORTH_A_MEASUREMENT", 0.0)
    with pytest.raises(SystemExit) as exited:
        main(["submit", str(study_file), "--cluster", "local"])
    err = capsys.readouterr().err
    assert exited.value.code == 0, err
    assert "measuring a few steps of SUAN-0, SUAN-1" in err
    assert "4/4 cells done" in err
    assert len(read_benchmarks(study_file.parent / "runs")) == 2
