"""The verbs on studies, run as a user types them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.grades import GRADES
from scaling.cli.app import main
from scaling.cli.sweep.plan_verbs import check_budget
from scaling.errors import UserError
from scaling.synthetic import SyntheticConfig, generate_logs
from sweeps.planning import read_benchmarks


def run(capsys, *arguments, code=0):
    with pytest.raises(SystemExit) as exited:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert exited.value.code == code, err
    return out, err


def test_grades_prints_the_ladder_as_json(capsys):
    out, _ = run(capsys, "grades", "--json")
    ladder = json.loads(out)
    assert [row["grade"] for row in ladder] == list(GRADES)
    assert ladder[0]["training_flops_per_sample"] == 3 * ladder[0]["flops_per_sample"]


def test_grades_counts_with_the_features_of_a_store(capsys, tiny_store, study_file):
    study_file.write_text(
        study_file.read_text() + "[grades.own]\nn_layers=1\nn_heads=1\nd=2\nmax_len=3\n"
    )
    out, _ = run(capsys, "grades", "--data", tiny_store.path, "--study", study_file)
    assert out.splitlines()[-1].startswith("own ")


def test_plan_shows_every_cell_and_the_total(capsys, study_file):
    out, _ = run(capsys, "plan", study_file)
    assert out.count("missing") == 5
    assert "to do: 1.10e+08 training FLOPs" in out


def test_plan_says_that_a_study_goes_on_with_recipe_1(capsys, study_file):
    assert "recipe:" not in run(capsys, "plan", study_file)[0]
    assert "recipe: version 1" in run(capsys, "plan", study_file, "--set", "train.recipe=1")[0]


@pytest.mark.parametrize(
    ("own", "text"),
    [
        ("nodes=2, gpus=4", "8 ranks train each cell together, 2 nodes with 4 GPUs"),
        ("tasks_per_node=2", "2 ranks train each cell together, 1 node with 2 tasks"),
    ],
)
def test_plan_says_how_many_ranks_train_a_cell(run, study_file, own, text):
    code, out, _ = run("plan", study_file, "--set", f"slurm.grades={{SUAN-1={{{own}}}}}")
    assert code == 0
    assert f"SUAN-1: {text}" in out
    assert "SUAN-0: " not in out


def test_plan_says_that_ranks_divide_a_table_and_refuses_one_that_is_too_large(
    run, study_file, tmp_path
):
    many_items = SyntheticConfig(n_train=320, n_test=16, n_items=20_000, warmup_events=1)
    path = generate_logs(tmp_path / "many-items", many_items).path
    ranks = ("--set", f"data.path={path}", "--set", "slurm.tasks_per_node=2", "--set")
    code, out, _ = run("plan", study_file, *ranks, "run.device_memory_gib=1e-3")
    assert code == 0
    assert re.search(r"SUAN-1: 2 ranks .*; they divide the feature tables, up to \S+ GiB", out)
    code, _, error = run("plan", study_file, *ranks, "run.device_memory_gib=1e-5")
    assert code == 2
    assert "GiB on each of its 2 devices" in error


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("run.answer_seconds=1e15", "answer_seconds is 1e+15, expected 1 to 86400"),
        ("run.answer_seconds=0.001", "answer_seconds is 0.001, expected 1"),
        ("slurm.grades={SUAN-1={gpus=2, tasks_per_node=1}}", "each GPU has a task of its own"),
    ],
)
def test_settings_of_ranks_that_cannot_work_are_refused(run, study_file, setting, expected):
    code, _, error = run("plan", study_file, "--set", setting)
    assert code == 2
    assert expected in error


def test_plan_json_has_a_signature_per_cell(capsys, study_file):
    out, _ = run(capsys, "plan", study_file, "--json")
    cells = json.loads(out)["cells"]
    assert len({cell["signature"] for cell in cells}) == 4


def test_train_prints_the_path_of_the_record(capsys, study_file):
    out, _ = run(capsys, "plan", study_file, "--json")
    signature = json.loads(out)["cells"][0]["signature"]
    out, _ = run(capsys, "train", study_file, "--cell", signature[:8])
    record = json.loads(Path(out.strip()).read_text())
    assert record["config"]["n_samples"] == 160


def test_train_of_an_unknown_cell_says_how_to_find_it(capsys, study_file):
    _, err = run(capsys, "train", study_file, "--cell", "zz", code=2)
    assert "lists the signatures" in err


def test_submit_twice_trains_once(capsys, study_file):
    _, err = run(capsys, "submit", study_file, "--cluster", "debug")
    assert "4 of 4 cells to train" in err
    _, err = run(capsys, "submit", study_file, "--cluster", "debug")
    assert "nothing to do, 4 of 4 cells done" in err


def test_only_and_limit_choose_cells(capsys, study_file):
    chosen = ("--only", "grade=SUAN-1", "--limit", "1")
    _, err = run(capsys, "submit", study_file, "--cluster", "debug", *chosen)
    assert "1 of 4 cells to train" in err
    out, _ = run(capsys, "status", study_file, "--json")
    done = [cell for cell in json.loads(out)["cells"] if cell["state"] == "done"]
    assert [(cell["grade"], cell["n_samples"]) for cell in done] == [("SUAN-1", 160)]


def test_status_check_fails_until_all_is_done(capsys, study_file):
    run(capsys, "status", study_file, "--check", code=1)
    run(capsys, "submit", study_file, "--cluster", "debug")
    run(capsys, "status", study_file, "--check")


def test_failed_cells_exit_1_say_why_and_wait_for_retry(capsys, study_file):
    wild = ("--set", "train.learning_rate=1e30")
    _, err = run(capsys, "submit", study_file, "--cluster", "debug", *wild, code=1)
    assert "failed: SUAN-0 D=160 s0: the loss is" in err
    _, err = run(capsys, "submit", study_file, "--cluster", "debug", *wild, code=1)
    assert "nothing to do" in err
    _, err = run(
        capsys, "submit", study_file, "--cluster", "debug", "--retry-failed", *wild, code=1
    )
    assert "4 of 4 cells to train" in err


def test_slurm_without_sbatch_says_so(capsys, study_file, monkeypatch):
    monkeypatch.setenv("PATH", "")
    _, err = run(capsys, "submit", study_file, "--cluster", "slurm", code=2)
    assert "there is no sbatch" in err


def test_a_table_of_an_unfinished_study_names_what_is_missing(capsys, study_file):
    run(capsys, "submit", study_file, "--cluster", "debug", "--limit", "3")
    out, err = run(capsys, "table", study_file)
    assert len(out.splitlines()) == 1 + 3
    assert "1 of 4 planned runs are not done (1 missing): SUAN-1 D=320 s0" in err


def test_a_budget_refuses_what_would_exceed_it(capsys, study_file):
    out, _ = run(capsys, "plan", study_file, "--budget-gpu-hours", "0.001", code=1)
    assert "budget: 0.001 GPU-hours exceeded" in out
    budget = ("--budget-gpu-hours", "0.001")
    _, err = run(capsys, "submit", study_file, "--cluster", "debug", *budget, code=2)
    assert "0.00 spent and 0.00" in err
    assert "and 0.00 estimated" not in err  # enough digits to be useful
    run(capsys, "status", study_file, "--check", code=1)
    run(capsys, "submit", study_file, "--cluster", "debug", "--budget-gpu-hours", "1")


def test_plan_and_status_do_not_write(capsys, study_file):
    run(capsys, "submit", study_file, "--cluster", "debug", "--limit", "1")
    before = {path: path.stat().st_mtime_ns for path in study_file.parent.rglob("*")}
    run(capsys, "plan", study_file)
    run(capsys, "status", study_file)
    assert {path: path.stat().st_mtime_ns for path in study_file.parent.rglob("*")} == before


def test_a_cell_of_an_edited_study_says_what_changed(capsys, study_file):
    run(capsys, "submit", study_file, "--cluster", "debug", "--limit", "1")
    out, _ = run(capsys, "plan", study_file, "--set", "train.learning_rate=0.5", "--json")
    first = json.loads(out)["cells"][0]
    assert first["state"] == "changed"
    assert "learning_rate 0.0" in first["why"]
    assert first["why"].endswith("-> 0.5")


def test_retry_trains_only_failed_cells_of_the_class(capsys, study_file):
    wild = ("--set", "train.learning_rate=1e30", "--cluster", "debug")
    run(capsys, "submit", study_file, "--limit", "2", *wild, code=1)
    _, err = run(capsys, "retry", study_file, "--class", "oom", *wild, code=1)
    assert "nothing to do" in err
    _, err = run(capsys, "retry", study_file, "--class", "diverged", *wild, code=1)
    assert "2 of 4 cells to train" in err
    _, err = run(capsys, "retry", study_file, "--class", "ooom", code=2)
    assert "no such choice, did you mean oom?" in err


def test_a_waiting_submit_whose_cells_stay_missing_exits_1(capsys, study_file, monkeypatch):
    """For example, because every worker was killed."""
    monkeypatch.setattr("sweeps.dispatch.run_debug", lambda *_, **__: None)
    _, err = run(capsys, "submit", study_file, "--cluster", "debug", code=1)
    assert "missing: SUAN-0 D=160 s0: not done" in err


@pytest.mark.slow
def test_logs_print_the_output_of_the_cells_job(capsys, study_file):
    run(capsys, "submit", study_file, "--limit", "1", "--jobs", "1")
    out, _ = run(capsys, "status", study_file, "--json")
    signature = next(c["signature"] for c in json.loads(out)["cells"] if c["state"] == "done")
    out, err = run(capsys, "logs", study_file, signature[:6])
    assert "Job completed successfully" in out
    assert "_0_log.out" in err


@pytest.mark.slow
def test_a_benchmark_replaces_the_guess(capsys, study_file):
    out, _ = run(capsys, "benchmark", study_file, "--grade", "SUAN-1", "--steps", "3")
    assert out.splitlines()[1].startswith("SUAN-1")
    assert out.splitlines()[1].endswith("product")  # a CPU has no data sheet
    (kept,) = read_benchmarks(study_file.parent / "runs")
    assert 0 < kept.mfu < 1
    out, _ = run(capsys, "plan", study_file, "--json")
    sources = [(cell["grade"], cell["estimate"]) for cell in json.loads(out)["cells"]]
    assert sources == [("SUAN-0", "guess")] * 2 + [("SUAN-1", "benchmark")] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "slrum"], "no such choice, did you mean slurm?"),
        (["--only", "grade=SUAN-9"], "no cell has that grade, did you mean SUAN-"),
        (["--only", "grad=SUAN-0"], "expected KEY=VALUE, did you mean grade?"),
    ],
)
def test_a_wrong_option_says_what_is_right(capsys, study_file, arguments, message):
    _, err = run(capsys, "submit", study_file, *arguments, code=2)
    assert message in err


@pytest.mark.slow
def test_run_does_the_whole_study(capsys, study_file):
    out, err = run(capsys, "run", study_file, "--jobs", "2")
    folder = study_file.parent / "runs" / "tiny"
    assert "4/4 cells done" in err
    assert (folder / "report.html").stat().st_size > 10_000
    assert (folder / "table.csv").exists()
    assert list((folder / "figures").glob("*.png"))
    assert "report.html" in out


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_exit_code_2(study_file):
    """A limit on the file size simulates a full disk: the same system call fails."""
    script = (
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (300, 300))\n"
        f"from scaling.cli import main; main(['-q', 'submit', {str(study_file)!r}, '--cluster', 'debug'])"
    )
    # a coverage measurement of the subprocess would hit the limit itself
    environment = {name: value for name, value in os.environ.items() if "COV" not in name}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert not list(study_file.parent.rglob("record.json"))
    assert not list(study_file.parent.rglob("*.tmp"))


def test_a_budget_counts_what_was_spent():
    plan = SimpleNamespace(spent_seconds=1800.0)
    check_budget(plan, 1799.0, 1.0)
    with pytest.raises(UserError, match=r"0\.50 spent and 0\.51 estimated make 1\.01 GPU-hours"):
        check_budget(plan, 1836.0, 1.0)
