"""`scaling fit` on what is best at each size."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

PUBLISHED = Path(__file__).parents[3] / "shared" / "cases" / "fits"
# flops and tokens of the best run of three budgets (github.com/marin-community/marin issue 8003)
MARIN = "flops,tokens\n1e18,2.84e9\n3e18,5.08e9\n1e19,9.9e9\n"


def test_the_best_size_needs_no_direction(run, tmp_path):
    flops = np.geomspace(1e16, 1e20, 9)
    best = 0.1 * flops**0.497 * np.exp(np.random.default_rng(0).normal(0, 0.01, 9))
    pd.DataFrame({"flops": flops, "best": best}).to_csv(tmp_path / "optima.csv", index=False)
    arguments = ("--x", "flops", "--y", "best", "--law", "log-linear", "--json")
    code, out, _ = run("fit", tmp_path / "optima.csv", *arguments)
    assert code == 0
    # The standard error of the exponent is 0.001.
    assert abs(json.loads(out)["params"]["a"] - 0.497) < 0.004


def test_the_published_exponent_of_three_budgets(run, tmp_path):
    (tmp_path / "t.csv").write_text(MARIN)
    _, out, _ = run(
        "fit", tmp_path / "t.csv", "--x", "flops", "--y", "tokens", "--law", "log-linear", "--json"
    )
    assert json.loads(out)["params"]["a"] == pytest.approx(0.542, abs=1e-3)


def test_a_column_that_rises_with_its_size_is_sent_to_the_law_of_optima(run, tmp_path):
    (tmp_path / "t.csv").write_text(MARIN)
    code, out, err = run(
        "fit", tmp_path / "t.csv", "--x", "flops", "--y", "tokens", "--law", "power"
    )
    assert (code, out) == (2, "")
    assert err.endswith("(a model size, a batch, a rate): scaling fit --law log-linear\n")


def test_exponents_of_either_sign_of_two_sizes(run, tmp_path):
    n, d = (a.ravel() for a in np.meshgrid([1e8, 3e8, 1e9], [1e10, 3e10, 1e11]))
    rate = 1.79 * n**-0.713 * d**0.307 * np.exp(np.random.default_rng(0).normal(0, 0.02, 9))
    pd.DataFrame({"N": n, "D": d, "rate": rate}).to_csv(tmp_path / "t.csv", index=False)
    arguments = ("--x", "N", "--data", "D", "--y", "rate", "--law", "log-linear-joint", "--json")
    code, out, _ = run("fit", tmp_path / "t.csv", *arguments)
    params = json.loads(out)["params"]
    assert code == 0
    # standard errors are 0.007 for both, three sizes over one decade with noise of 2 %
    assert params["a"] == pytest.approx(-0.713, abs=0.03)
    assert params["b"] == pytest.approx(0.307, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "published"),
    [
        (("--x", "N", "--data", "D", "--y", "lr", "--law", "log-linear-joint"), {"a": -0.713, "b": 0.307}),
        (("--x", "D", "--y", "bs", "--law", "log-linear"), {"a": 0.571}),
    ],
)  # fmt: skip
def test_intervals_of_17_optima_hold_the_exponents_of_the_step_law(run, arguments, published):
    points = PUBLISHED / "steplaw_optima.csv"
    if not points.exists():
        pytest.skip("the published points are not here")
    _, out, _ = run("fit", points, *arguments, "--json")
    intervals = json.loads(out)["intervals"]
    for name, value in published.items():
        low, high = (intervals[name][end] for end in ("lower", "upper"))
        assert low < value < high


@pytest.mark.parametrize("law", ["log-linear", "log-linear-joint"])
def test_gain_refuses_a_law_of_optima(run, tmp_path, law):
    (tmp_path / "t.csv").write_text("N,D,rate\n1,2,3\n")
    code, out, err = run("gain", tmp_path / "t.csv", "--y", "rate", "--law", law)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"--law {law}: it is no law of a metric but of what is best at each size" in err


def test_rounding_is_no_outlier(run, tmp_path):
    rows = "".join(f"{x:.0f},{2 + 1000 * x**-0.15!r}\n" for x in (1e19, 1e20, 1e21, 1e22, 1e23))
    (tmp_path / "t.csv").write_text("flops,loss\n" + rows)
    _, out, _ = run("fit", tmp_path / "t.csv", "--x", "flops", "--y", "loss", "--law", "saturating")
    assert "converged" in out
    assert "outlier" not in out
