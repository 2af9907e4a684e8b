"""The verb `scaling race` on the runs that are kept beside the documentation."""

import json
from pathlib import Path

import pytest

RUNS = Path(__file__).parents[2] / "docs" / "studies" / "race" / "runs.csv"


def test_models_that_differ_in_their_kind_alone_are_named_by_it(run):
    code, out, err = run("race", RUNS, "--flops", "1e9")
    assert (code, err) == (0, "")
    assert "soft_logloss minus that of suan" in out
    assert "best at 1e+09 flops: din" in out


@pytest.mark.parametrize("option", ["--flops", "--at-multiple"])
def test_a_budget_of_zero_is_one_line_and_exit_2(run, option):
    code, out, err = run("race", RUNS, option, "0")
    assert (code, out) == (2, "")
    assert err == "error: the budget is 0, expected a finite positive number\n"


def test_numbers_that_the_data_do_not_determine_are_null_in_json(run):
    code, out, err = run("race", RUNS, "--flops", "1e9", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["laws"]["dcnv2"]["params"]["alpha"] is None
    assert {gain["budget"] for gain in document["gains"]} == {1e9}
