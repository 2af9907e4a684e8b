"""Tables of others (`../shared/cases/fits`, absent elsewhere), each by its right answer."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CASES = Path(__file__).parents[3] / "shared" / "cases" / "fits"

pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the tables are not here")


def fitted(run, name, *options):
    code, out, _ = run("fit", CASES / name, *options, "--json")
    document = json.loads(out)
    assert (code == 0) == (document["status"] == "converged")
    return document


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--loss", "huber"), ("--residual", "log")], ids=" ".join)
def test_checkpoints_without_a_run_column_hold_the_truth(run, options):
    """Of 6 models, each with a luck of its own, which no column tells; too few to be sure that the law is determined."""
    fit = fitted(run, "checkpoints.csv", "--y", "loss", *options)
    for name, truth in (("alpha", 0.34), ("beta", 0.28), ("E", 1.69)):
        assert fit["intervals"][name]["lower"] <= truth <= fit["intervals"][name]["upper"]
    assert any("deviate together" in note for note in fit["notes"])


def test_whole_numbers_of_any_size(run):
    fit = fitted(run, "int_flops.csv", "--y", "loss", "--x", "flops", "--law", "saturating")
    expected = {"E": 2.0, "A": 1000.0, "alpha": 0.15}
    assert fit["params"] == pytest.approx(expected, rel=1e-9)  # generated without noise


@pytest.mark.parametrize(
    "metric", ["gauc", "uauc", "hr@10", "hit@10", "pass@100", "acc", "f1", "val/auc", "auc_test"]
)
def test_metrics_of_papers_rise(run, metric):
    assert fitted(run, "gauc.csv", "--y", metric)["law"]["rising"]


def test_a_law_whose_exponent_and_offset_are_held_is_a_line(run):
    held = {"E": 1.6, "alpha": 0.0897}
    options = [text for name, value in held.items() for text in ("--hold", f"{name}={value}")]
    fit = fitted(
        run, "marin8003.csv", "--law", "saturating", "--x", "flops", "--y", "loss", *options
    )
    table = pd.read_csv(CASES / "marin8003.csv")
    power = table["flops"] ** -held["alpha"]
    slope = np.sum(power * (table["loss"] - held["E"])) / np.sum(power**2)
    assert fit["params"]["A"] == pytest.approx(slope, rel=1e-9)  # a closed form


def test_a_split_below_all_runs_is_not_inside(run):
    _, out, _ = run("allocate", CASES / "marin8003_cells.csv", "--y", "loss", "--flops", "1e16")
    rows = [line for line in out.splitlines() if line.startswith("1e+1")]
    assert [row.rsplit("  ", 1)[1].endswith("x below") for row in rows] == [True] * 4


def test_rates_that_differ_within_cells_are_told_and_the_best_is_taken(run):
    name = "hyperparameters_as_seeds.csv"
    every = fitted(run, name, "--y", "loss")
    assert every["noise"]["source"] == "settings"
    assert any("differ in lr, too" in note for note in every["notes"])
    best = fitted(run, name, "--y", "loss", "--best-of", "lr")
    assert best["noise"]["sd"] < every["noise"]["sd"] / 5
    table = pd.read_csv(CASES / name)
    least = table.groupby(["n_params", "n_samples"])["loss"].min().sum()
    assert sum(best["cells"]["measured"]) == pytest.approx(least, rel=1e-12)


def test_curvature_without_seeds_is_told(run):
    fit = fitted(run, "isoflop_dclm.csv", "--y", "loss")
    assert any("lack of fit: the residuals are curved" in note for note in fit["notes"])
