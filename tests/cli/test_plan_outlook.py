"""`scaling plan` says beforehand what the analysis could not tell."""

import json
import re

import pytest
from blocked_imports import run_without

LARGE = ["--set", 'grid.grade=["SUAN-0", "SUAN-1", "SUAN-2", "SUAN-3"]', "--set", "grid.n_seeds=3"]
SIZES = ["--set", "grid.n_samples=[10, 40, 160, 640]"]


def test_a_grid_that_is_too_small_is_told_why(run, study_file):
    code, out, _ = run("plan", study_file)
    assert code == 0
    assert "warning: 2 model sizes, a law of N needs 3" in out
    assert "warning: 2 data sizes, a law of D needs 3" in out
    assert "warning: one seed in every cell" in out
    assert "expected 95 % intervals" not in out


def test_a_good_grid_has_expected_intervals_and_their_basis(run, study_file):
    _, out, _ = run("plan", study_file, *LARGE, *SIZES)
    line = re.search("(?m)^expected 95 % intervals, at least: (.*)$", out)[1]
    assert re.match(r"E 0.39 ± [\d.]+, alpha 0.76 ± [\d.]+, beta 0.28 ± [\d.]+; linearised", line)
    assert "generated log of docs/studies/three-orders.md" in line
    assert "model size" not in out


def test_programs_get_the_same(run, study_file):
    _, out, _ = run("plan", study_file, "--json")
    outlook = json.loads(out)["outlook"]
    assert outlook["half_widths"] == {"E": None, "alpha": None, "beta": None}
    assert len(outlook["limits"]) == 4
    assert outlook["run_sd"] == 0.0038


def test_the_fit_of_the_study_itself_is_taken_if_there_is_one(run, study_file):
    fits = study_file.parent / "runs" / "tiny" / "fits"
    fits.mkdir(parents=True)
    fit = {
        "law": {"name": "additive"},
        "params": {"E": 0.3, "A": 2.0, "B": 3.0, "alpha": 0.5, "beta": 0.4},
        "noise": {"sd": 0.003, "run_sd": 0.004},
        "status": "converged",
        "n_points": 36,
    }
    (fits / "logloss-joint.json").write_text(json.dumps(fit))
    _, out, _ = run("plan", study_file, *LARGE, *SIZES)
    assert "alpha 0.5 ±" in out
    assert "a noise of 0.005 of a run hold (as fitted to 36 runs of this study, logloss)" in out
    (fits / "logloss-joint.json").write_text(json.dumps({**fit, "status": "not_identified"}))
    assert "alpha 0.76 ±" in run("plan", study_file, *LARGE, *SIZES)[1]


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"noise": null}'])
def test_a_fit_that_cannot_be_read_is_passed_over(run, study_file, content):
    fits = study_file.parent / "runs" / "tiny" / "fits"
    fits.mkdir(parents=True)
    (fits / "soft_logloss-joint.json").write_text(content)
    code, out, _ = run("plan", study_file, *LARGE, *SIZES)
    assert code == 0
    assert "alpha 0.76 ±" in out


def test_each_variant_is_judged_by_itself(run, study_file):
    """Two kinds with two grades each are four models, but no law of N."""
    axis = 'grid.grade=["SUAN-0", "SUAN-1", "LightSUAN-0", "LightSUAN-1"]'
    _, out, _ = run("plan", study_file, "--set", axis, *SIZES)
    assert "2 model sizes, a law of N needs 3 (of each of 2 variants)" in out


def test_a_plan_loads_no_heavy_package(study_file):
    program = "from scaling.cli import main; main()"
    blocked = ["torch", "pandas", "matplotlib", "scipy", "submitit"]
    done = run_without(blocked, program, "plan", str(study_file), cwd=study_file.parent)
    assert done.returncode == 0, done.stderr
