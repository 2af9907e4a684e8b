"""The verb `forecast`: writes the ledger, scores it, and refuses what is no forecast in one line."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from analysis.laws import Additive
from scaling.cli.laws.forecast_target import refuse_if_training
from scaling.errors import UserError

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}
SIZES = {"SUAN-1": 1e4, "SUAN-3": 1e5, "SUAN-4": 1e6, "SUAN-5": 1e7}


@pytest.fixture
def tables(tmp_path):
    rows = [
        {"grade": grade, "n_params": n, "n_samples": d, "seed": s}
        for grade, n in SIZES.items()
        for d in np.geomspace(1e4, 1e7, 4)
        for s in (0, 1)
    ]
    table = pd.DataFrame(rows)
    noise = np.random.default_rng(0).normal(0, 1e-3, len(table))
    table["logloss"] = Additive()(PARAMS, table["n_params"], table["n_samples"]) + noise
    table["flops"] = 6 * table["n_params"] * table["n_samples"]
    late, early = tmp_path / "late.csv", tmp_path / "early.csv"
    table.to_csv(late, index=False)
    table[(table["n_params"] < 9e6) & (table["n_samples"] < 9e6)].to_csv(early, index=False)
    return early, late


def test_a_forecast_is_written_once_and_scored_later(run, tables):
    early, late = tables
    code, out, _ = run("forecast", early, "--at", "1e7,1e7", "--assume", "E=0.4")
    assert code == 0
    assert re.search(r"95 % of single runs in \[0\.\d+, 0\.\d+\]; additive \(E = 0\.4 assumed\) law", out)  # fmt: skip
    assert "written:" in out
    assert "already there since" in run("forecast", early, "--at", "1e7,1e7", "--assume", "E=.4")[1]
    assert len(list((early.parent / "forecasts").iterdir())) == 1
    assert "1 open" in run("forecast", early, "--score")[1]
    code, out, _ = run("forecast", late, "--score")
    assert code == 0
    assert out.splitlines()[-2] == "1 of 1 forecasts hit"
    _, out, _ = run("forecast", late, "--score", "--json")
    (score,) = json.loads(out)
    assert score["outcome"] == "hit"
    assert score["target"] == {"n_params": 1e7, "n_samples": 1e7}
    assert score["target_flops"] == pytest.approx(6e14)


def test_a_grade_of_the_table_names_its_size(run, tables, tmp_path):
    early, _ = tables
    ledger = tmp_path / "kept"
    targets = ("--at", "SUAN-4,1e8", "--at", "SUAN-3,1e8")
    code, out, _ = run("forecast", early, *targets, "--ledger", ledger, "--json")
    assert code == 0
    made = json.loads(out)
    assert [one["grade"] for one in made] == ["SUAN-4", "SUAN-3"]
    assert [one["target"]["n_params"] for one in made] == [1e6, 1e5]
    assert len(list(ledger.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give sizes to forecast"),
        (("--score", "--at", "1e8,1e8"), "give sizes to forecast"),
        (("--score",), "no forecast yet"),
        (("--at", "1e6"), "expected 2 positive sizes"),
        (("--at", "1e6,-3"), "expected 2 positive sizes"),
        (("--at", "SUAN-44,1e8"), "did you mean SUAN-4?"),
        (("--at", "SUAN-4,lots"), "expected 1 positive sizes"),
        (("--at", "1e6,1e6"), "2 finished runs there, so this is no forecast"),
        (("--at", "1e8,1e8", "--at", "1e6,1e6"), "2 finished runs there, so this is no forecast"),
        (("--at", "1e8,1e8", "--assume", "E"), "--assume E: expected NAME=NUMBER"),
        (("--at", "1e8,1e8", "--assume", "F=1"), "F cannot be held"),
    ],
)
def test_what_is_no_forecast_is_refused_and_nothing_written(run, tables, arguments, message):
    early, _ = tables
    code, out, err = run("forecast", early, *arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert not (early.parent / "forecasts").exists()


def test_a_target_in_training_is_refused():
    planned = pd.DataFrame({"n_params": [1000, 1000], "n_samples": [160, 320], "state": ["missing", "running"]})  # fmt: skip
    refuse_if_training("1000,160", {"n_params": 1000.0, "n_samples": 160.0}, planned)
    with pytest.raises(UserError, match="--at 1000,320: a run at this size is in training"):
        refuse_if_training("1000,320", {"n_params": 1000.0, "n_samples": 320.0}, planned)


def test_a_ledger_that_is_a_file_is_refused(run, tables, tmp_path):
    early, _ = tables
    (tmp_path / "file").touch()
    for arguments in (["--at", "1e7,1e7"], ["--score"]):
        code, _, err = run("forecast", early, *arguments, "--ledger", tmp_path / "file")
        assert (code, len(err.splitlines())) == (2, 1)


def test_a_target_of_any_size_has_a_short_file_name(run, tables):
    early, _ = tables
    assert run("forecast", early, "--at", "1e30,1e30", "--assume", "E=0.4")[0] == 0
    (path,) = (early.parent / "forecasts").iterdir()
    assert path.name.startswith("N1e+30-D1e+30-")


def test_a_changed_forecast_is_damaged_and_the_exit_code_says_so(run, tables):
    early, late = tables
    run("forecast", early, "--at", "1e7,1e7")
    (path,) = (early.parent / "forecasts").iterdir()
    path.write_text(path.read_text().replace('"SUAN-5"', '"SUAN-6"').replace('"early"', '"late"'))
    code, out, _ = run("forecast", late, "--score")
    assert code == 1
    assert "damaged, its content was changed after it was written" in out


@pytest.mark.slow
def test_the_report_of_a_csv_shows_the_ledger_beside_it(run, tables):
    early, late = tables
    run("forecast", early, "--at", "1e7,1e7")
    assert run("report", late)[0] == 0
    html = (late.parent / "late-analysis" / "report.html").read_text()
    assert "1 of 1 forecasts hit" in html
