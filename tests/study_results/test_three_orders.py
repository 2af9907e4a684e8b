"""The committed study of three orders of magnitude: its fits and scores follow from its table."""

import json
from pathlib import Path

import pytest

from analysis.fit import fit_law
from analysis.forecasts import read_ledger, score_forecasts
from analysis.laws import build_law
from analysis.table import read_table

FOLDER = Path(__file__).parents[2] / "docs" / "studies" / "three-orders"


@pytest.fixture(scope="module")
def table():
    return read_table(FOLDER / "runs.csv")


def test_the_committed_fit_is_that_of_the_committed_table(table):
    saved = json.loads((FOLDER / "runs-analysis/fits/soft_logloss-joint.json").read_text())
    fit = fit_law(build_law("additive"), table, x="n_params", data="n_samples", y="soft_logloss")
    assert fit.status == saved["status"] == "converged"
    # optimisers of other versions of scipy end within this distance
    assert dict(fit.params) == pytest.approx(saved["params"], rel=1e-3)


def test_the_interval_of_the_limit_holds_the_truth(table):
    fit = fit_law(build_law("additive"), table, x="n_params", data="n_samples", y="soft_logloss")
    truth = table["bayes_logloss"].unique()
    assert len(truth) == 1
    assert fit.intervals["E"].lower < truth[0] < fit.intervals["E"].upper


def test_every_committed_forecast_is_whole_and_has_runs(table):
    scores = score_forecasts(read_ledger(FOLDER / "forecasts"), table)
    assert len(scores) == 18
    assert {score.outcome for score in scores} <= {"hit", "miss"}
