"""`scaling doctor`: a line for each part of the machine, and what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fake_slurm
import pytest
from blocked_imports import run_without

from scaling.cli.doctor.installed_code import hiding_files
from scaling.cli.doctor.machine_parts import check_disk

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCALING_RUNS", raising=False)
    return tmp_path


def lines_of(out, name):
    return [line for line in out.splitlines() if f"  {name} " in line]


def test_a_machine_that_works_has_no_failure(run, here):
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert {line.split()[0] for line in out.splitlines()} <= {"ok", "warn"}
    for name in ("python", "packages", "for training", "cores", "slurm", "runs", "space"):
        assert lines_of(out, name), name
    assert list(here.iterdir()) == []


def test_programs_get_the_same(run, here):
    _, out, _ = run("doctor", "--json")
    findings = json.loads(out)
    assert all(set(one) == {"state", "name", "found", "advice"} for one in findings)
    assert any("MiB/s" in one["found"] for one in findings if one["name"] == "runs")
    assert all(one["advice"] for one in findings if one["state"] != "ok")


def test_without_torch_training_is_said_to_be_missing(here):
    program = "from scaling.cli import main; main()"
    done = run_without(["torch", "submitit"], program, "doctor", cwd=here)
    assert done.returncode == 0, done.stderr
    assert not lines_of(done.stdout, "GPU")


@pytest.mark.slow
def test_a_torch_that_cannot_be_imported_is_no_ok(here):
    (here / "torch.py").write_text("raise RuntimeError('built for another numpy\\nread more')\n")
    done = subprocess.run(
        [sys.executable, "-m", "scaling", "doctor"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(here), "SCALING_RUNS": str(here / "runs")},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = lines_of(done.stdout, "for training")
    assert (done.returncode, line.split()[0]) == (1, "fail"), done.stderr
    assert "cannot be imported: built for another numpy; plans, fits and reports work" in line
    assert line.endswith(": pip install --force-reinstall torch")


def test_slurm_commands_without_a_cluster_are_no_warning(run, here, monkeypatch):
    (here / "bin").mkdir()
    for name in ("sbatch", "squeue", "sinfo"):
        says = "sinfo: fatal: Could not establish a configuration source"
        (here / "bin" / name).write_text(f"#!/bin/sh\necho '{says}' >&2\nexit 1\n")
        (here / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(here / "bin"), prepend=os.pathsep)
    _, out, _ = run("doctor")
    (line,) = lines_of(out, "slurm")
    assert line.startswith("ok")
    assert "which the nodes cannot see" not in out


def test_the_partitions_of_a_cluster_are_told(run, here, monkeypatch):
    fake_slurm.install(here / "bin", sys.executable)
    monkeypatch.setenv("FAKE_SLURM", str(here / "queue.json"))
    monkeypatch.setenv("PATH", str(here / "bin"), prepend=os.pathsep)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    code, out, _ = run("doctor")
    assert code == 0
    gpu, cpu = lines_of(out, "slurm")
    assert "gpu (default): 2 GPUs, 4 cores, 8 GiB a node, no time limit" in gpu
    assert "cpu: 0 GPUs, 8 cores, 4 GiB a node, 1 h" in cpu


def test_a_silent_cluster_is_a_warning_with_its_own_words(run, here, monkeypatch):
    (here / "bin").mkdir()
    for name in ("sbatch", "squeue", "sinfo"):
        (here / "bin" / name).write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 1\n")
        (here / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(here / "bin"), prepend=os.pathsep)
    code, out, _ = run("doctor")
    (line,) = lines_of(out, "slurm")
    assert code == 0
    assert line.startswith("warn")
    assert "no route to host" in line


def test_a_folder_of_runs_that_is_a_file_fails(run, here):
    (here / "runs").write_text("")
    code, out, _ = run("doctor")
    (line,) = lines_of(out, "runs")
    assert code == 1
    assert line.startswith("fail")
    assert "--runs" in line


def test_a_folder_that_cannot_be_written_fails():
    (found,) = [one for one in check_disk(Path("/proc/runs")) if one.state == "fail"]
    assert "/proc: cannot be written" in found.found


def test_a_full_disk_fails(here, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096, 4096, *[0] * 8)))
    (space,) = [one for one in check_disk(here / "runs") if one.name == "space"]
    assert (space.state, space.found) == ("fail", "0.0 GiB free")


@pytest.mark.parametrize("as_module", [True, False])
def test_a_foreign_package_on_the_path_is_named(here, as_module):
    foreign = here / "other" / ("models.py" if as_module else "models/__init__.py")
    foreign.parent.mkdir(parents=True)
    foreign.write_text("")
    place = foreign if as_module else foreign.parent
    assert hiding_files([str(here / "other"), str(ROOT)], here) == [("models", place, True)]
    assert hiding_files([str(ROOT), str(here / "other")], here) == []


def test_a_foreign_file_in_the_working_directory_is_a_warning(run, here):
    (here / "analysis.py").write_text("")
    code, out, _ = run("doctor")
    (line,) = lines_of(out, "analysis")
    assert code == 0
    assert line.startswith("warn")
    assert f"{here / 'analysis.py'} would be imported in place of ours" in line


def test_a_folder_of_notes_hides_nothing(here):
    (here / "analysis").mkdir()
    assert hiding_files([str(ROOT)], here) == []


def test_colours_are_for_terminals(run, here, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "\x1b[32mok  \x1b[0m" in run("doctor")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("doctor")[1]


@pytest.mark.slow
def test_it_starts_without_a_working_scaling_on_the_path(here):
    """As `python -m scaling` from a folder with a foreign models.py."""
    (here / "models.py").write_text("raise RuntimeError('foreign')")
    done = subprocess.run(
        [sys.executable, "-m", "scaling", "doctor"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "models.py would be imported in place of ours" in done.stdout
