"""Without torch or submitit, verbs that train print one line that names the package; the other verbs work."""

import pytest
from blocked_imports import run_without
from slow_cases import fast_only
from small_studies import plan_of

from scaling.cli.app import main

PROGRAM = "from scaling.cli import main; main()"
INSTALL = 'is not installed; install it with: pip install "ctr-scaling[train]"\n'


@pytest.mark.parametrize("package", ["torch", "submitit"])
@pytest.mark.parametrize(
    "verb", fast_only([["run"]], [["run"], ["submit"], ["submit", "--cluster", "debug"]])
)
def test_verbs_that_train_name_the_missing_package_and_the_extra(study_file, verb, package):
    done = run_without([package], PROGRAM, verb[0], study_file, *verb[1:])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: training needs {package}, which {INSTALL}"
    assert not (study_file.parent / "runs").exists()


@pytest.mark.slow
def test_train_and_benchmark_name_it(study_file):
    plan, _ = plan_of(study_file)
    cell = plan.cells[0].config.signature
    for arguments in (["train", study_file, "--cell", cell], ["benchmark", study_file]):
        done = run_without(["torch"], PROGRAM, *arguments)
        assert (done.returncode, done.stderr) == (
            2,
            f"error: training needs torch, which {INSTALL}",
        )


@pytest.mark.slow
def test_retry_of_a_failed_cell_names_it(study_file):
    plan, runs = plan_of(study_file, root="runs/tiny")
    for cell in plan.cells:
        runs.fail(cell.config.signature, "out of luck")
    done = run_without(["torch"], PROGRAM, "retry", study_file)
    assert (done.returncode, done.stderr) == (2, f"error: training needs torch, which {INSTALL}")


@pytest.mark.parametrize("verb", ["plan", "status"])
def test_plan_and_status_need_neither(study_file, verb):
    done = run_without(["torch", "submitit"], PROGRAM, verb, study_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 missing" in done.stdout


@pytest.mark.slow
def test_a_finished_study_is_analysed_without_torch(study_file, capsys):
    with pytest.raises(SystemExit):
        main(["submit", str(study_file), "--cluster", "debug"])
    done = run_without(["torch", "submitit"], PROGRAM, "run", study_file)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_the_report_names_a_package_that_was_removed(tmp_path, package):
    table = tmp_path / "runs.csv"
    rows = [f"{n},{d},{0.4 + n**-0.5 + d**-0.5}" for n in (10, 100, 1000) for d in (10, 100, 1000)]
    table.write_text("\n".join(["n_params,n_samples,logloss", *rows]))
    done = run_without([package], PROGRAM, "report", table, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.endswith(
        f'error: {package} is not installed; install it with: pip install "ctr-scaling"\n'
    )
