"""Verbs that hand runs to other tools: `scaling export` and `scaling mirror`."""

import pytest
from blocked_imports import run_without
from recorded_runs import write_study

from analysis.table import read_table


@pytest.fixture
def folder(tmp_path):
    write_study(tmp_path / "runs" / "four")
    return tmp_path / "runs" / "four"


@pytest.mark.parametrize("name", ["runs.parquet", "runs.csv"])
def test_export_writes_the_file_and_prints_its_name(run, folder, tmp_path, name):
    assert run("export", folder, "-o", tmp_path / name) == (0, f"{tmp_path / name}\n", "")
    assert (tmp_path / name).stat().st_size


def test_exported_curves_are_those_of_the_chosen_runs(run, folder, tmp_path):
    code, _, _ = run(
        "export", folder, "--curves", "--where", "grade=SUAN-1", "-o", tmp_path / "curves.csv"
    )
    assert code == 0
    assert set(read_table(tmp_path / "curves.csv")["grade"]) == {"SUAN-1"}


def test_another_ending_is_refused(run, folder, tmp_path):
    code, _, err = run("export", folder, "-o", tmp_path / "runs.xlsx")
    assert code == 2
    assert err.endswith("runs.xlsx: expected a name that ends in .parquet or .csv\n")


def test_a_csv_has_no_curves(run, tmp_path):
    (tmp_path / "t.csv").write_text("n_params,n_samples,logloss\n1,2,0.5\n")
    code, _, err = run("export", tmp_path / "t.csv", "--curves", "-o", tmp_path / "c.csv")
    assert code == 2
    assert "--curves reads the files of a study's runs" in err
    assert not (tmp_path / "c.csv").exists()


@pytest.mark.parametrize(
    ("tracker", "package"),
    [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")],
)
def test_a_tracker_that_is_not_installed_is_one_line_with_the_extra(folder, tracker, package):
    program = "from scaling.cli import main; main()"
    done = run_without([package], program, "mirror", str(folder), "--to", tracker)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {package} is not installed; install the tracker with: "
        f'pip install "ctr-scaling[{tracker}]"\n'
    )
    assert not (folder / "mirrors" / "tensorboard").exists()


def test_a_file_of_another_kind_is_no_study(run, tmp_path):
    (tmp_path / "runs.csv").touch()
    code, _, err = run("mirror", tmp_path / "runs.csv", "--to", "wandb")
    assert (code, "expected a study file (.toml) or a folder of runs" in err) == (2, True)
