"""The verb `scaling race` on the runs that are kept beside the documentation."""

import json
from pathlib import Path

import pandas as pd
import pytest
from slow_cases import fast_only

STUDIES = Path(__file__).parents[2] / "docs" / "studies"
RUNS, PAPER = STUDIES / "race" / "runs.csv", STUDIES / "paper"


@pytest.mark.slow
def test_models_that_differ_in_their_kind_alone_are_named_by_it(run):
    code, out, err = run("race", RUNS, "--flops", "1e9")
    assert (code, err) == (0, "")
    assert "soft_logloss minus that of suan" in out
    assert "best at 1e+09 flops: din" in out


@pytest.mark.parametrize("option", fast_only(["--flops"], ["--flops", "--at-multiple"]))
def test_a_budget_of_zero_is_one_line_and_exit_2(run, option):
    code, out, err = run("race", RUNS, option, "0")
    assert (code, out) == (2, "")
    assert err == "error: the budget is 0, expected a finite positive number\n"


@pytest.mark.slow
def test_numbers_that_the_data_do_not_determine_are_null_in_json(run):
    code, out, err = run("race", RUNS, "--flops", "1e9", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["laws"]["dcnv2"]["params"]["alpha"] is None
    assert {gain["budget"] for gain in document["gains"]} == {1e9}


@pytest.fixture
def changed(tmp_path):
    """Write the runs with one value changed."""

    def write(row, column, value):
        table = pd.read_csv(RUNS)
        table.loc[row, column] = value
        path = tmp_path / "changed.csv"
        table.to_csv(path, index=False)
        return path

    return write


@pytest.mark.slow
def test_another_metric_than_the_best_one_is_taken_with_a_warning(run, changed):
    code, out, err = run("race", changed(3, "soft_logloss", None), "--flops", "1e9")
    assert code == 0
    assert out.startswith("laws of logloss")
    assert err == (
        "soft_logloss is empty in 1 of 168 rows (line 5), so logloss is taken; --y soft_logloss leaves these rows out\n"
    )


@pytest.mark.slow
def test_a_run_without_the_metric_is_named_where_it_is_left_out(run, changed):
    path = changed(3, "soft_logloss", None)
    code, out, err = run("race", path, "--flops", "1e9", "--y", "soft_logloss")
    assert code == 0
    assert "sim: 1 pair left out: SUAN-0 D=65536 s1 (no soft_logloss of sim)" in out
    assert err == "sim: 1 of 24 rows have no soft_logloss and are left out: line 5\n"


@pytest.mark.slow
def test_a_run_without_a_grade_is_named_where_it_is_left_out(run, changed):
    code, out, _ = run("race", changed(5, "grade", None), "--flops", "1e9")
    assert code == 0
    assert (
        "sim: 2 pairs left out: ? D=262144 s1 (grade of a run of sim is empty); SUAN-0 D=262144 s1 (no such run of sim)"
        in out
    )


@pytest.mark.slow
def test_pairs_that_are_left_out_are_in_json(run, changed):
    path = changed(3, "soft_logloss", None)
    _, out, _ = run("race", path, "--flops", "1e9", "--y", "soft_logloss", "--json")
    lost = {one["variant"]: one["lost"] for one in json.loads(out)["contests"]}
    assert lost.pop("sim") == [{"run": "SUAN-0 D=65536 s1", "why": "no soft_logloss of sim"}]
    assert not any(lost.values())


def test_a_reference_that_lacks_the_others_options_is_named_by_its_condition(run):
    code, out, _ = run("race", PAPER / "light.csv")
    assert code == 0
    assert "minus that of model.kind=suan, in pairs" in out
    assert "nan" not in out


def test_without_a_suan_a_reference_is_suggested(run):
    code, out, err = run("race", PAPER / "norms.csv")
    assert (code, out) == (2, "")
    assert err == (
        "error: no run is of model.kind=suan; the runs differ in model.norm (2: layer, rms), model.placement (3: post, pre, "
        "released): name the model to compare with, e.g. --reference model.norm=layer --reference model.placement=post\n"
    )


def test_runs_of_one_model_are_no_race(run):
    code, _, err = run("race", PAPER / "length.csv")
    assert (code, err) == (
        2,
        "error: a race needs runs of two models, but these differ in sizes and seed only\n",
    )


def test_without_flops_the_count_is_told(run, tmp_path):
    path = tmp_path / "runs.csv"
    pd.read_csv(RUNS).drop(columns=["flops", "computed_flops"]).to_csv(path, index=False)
    code, out, _ = run("race", path, "--flops", "1e9")
    assert code == 0
    assert "flops: counted as 6 n_params n_samples for every model, as the table has neither" in out


def test_a_column_that_names_the_kind_otherwise_is_suggested(run, tmp_path):
    path = tmp_path / "runs.csv"
    pd.read_csv(RUNS).rename(columns={"model.kind": "kind"}).to_csv(path, index=False)
    code, out, err = run("race", path)
    assert (code, out) == (2, "")
    assert err == (
        f"error: {path}: no column model.kind; name the model to compare with, e.g. --reference kind=suan\n"
    )


@pytest.mark.slow
def test_a_remark_on_the_rows_of_all_models_is_made_once(run, tmp_path):
    path = tmp_path / "runs.csv"
    table = pd.read_csv(RUNS)
    table.assign(note=["x", "y"] * (len(table) // 2)).to_csv(path, index=False)
    _, _, err = run("race", path, "--flops", "1e9")
    assert err.count("differ in note, too") == 1


def test_an_impossible_count_of_flops_is_refused_by_line(run, changed):
    path = changed(5, "computed_flops", 0)
    code, out, err = run("race", path)
    assert (code, out) == (2, "")
    assert err == (
        f"error: {path}: line 7, column computed_flops: 0, expected a positive number of FLOPs\n"
    )
