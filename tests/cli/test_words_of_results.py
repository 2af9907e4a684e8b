"""What the verbs on laws say: no advice that cannot help, no claim that is not known."""

import numpy as np
import pandas as pd
import pytest

from analysis.laws import Additive

PARAMS = {"E": 1.7, "A": 200.0, "B": 400.0, "alpha": 0.34, "beta": 0.4}


@pytest.fixture
def grid(tmp_path):
    """Runs on a grid, whose FLOPs form budgets of one to five sizes, with losses and pure noise."""
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e5, 1e8, 5), np.geomspace(1e6, 1e9, 5)))
    noise = np.random.default_rng(0).normal(0, 2e-3, 25)
    loss = Additive()(PARAMS, n, d) + noise
    table = pd.DataFrame({"n_params": n, "n_samples": d, "flops": 6 * n * d, "loss": loss})
    table = table.assign(flat_loss=2 + noise, flat=2 + noise, auc_pct=100 - 8 * loss)
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(("metric", "told"), [("flat_loss", False), ("flat", True)])
def test_the_direction_is_doubted_only_if_the_name_does_not_say_it(run, grid, metric, told):
    code, out, _ = run("gain", grid, "--y", metric, "--falling")
    assert (code, "at_bound" in out) == (1, True)
    assert (f"check the direction of {metric} (--rising, --falling)" in out) == told


def test_a_metric_beyond_its_limit_names_the_file_and_the_remedy(run, grid):
    code, out, err = run("fit", grid, "--y", "auc_pct")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "runs.csv: auc_pct is 8" in err
    assert "cannot lie above its limit 1; give its own limit (--limit 100 for percent)" in err


@pytest.mark.parametrize("law", ["power", "log-linear"])
def test_a_law_without_an_offset_shows_none(run, grid, law):
    _, out, _ = run("fit", grid, "--y", "loss", "--x", "n_samples", "--law", law)
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ["A", "alpha" if law == "power" else "a"]  # fmt: skip
    assert "(fixed)" not in out


def test_a_law_without_an_offset_is_not_advised_to_hold_it(run, tmp_path):
    path = tmp_path / "few.csv"
    pd.DataFrame({"n_params": [100, 110, 121], "loss": [1.0, 0.999, 1.0]}).to_csv(path, index=False)
    _, out, _ = run("fit", path, "--y", "loss", "--law", "log-linear")
    assert "status     " in out
    assert "hold E" not in out


def test_budgets_of_few_sizes_are_one_line(run, grid):
    _, out, _ = run("isoflop", grid, "--y", "loss")
    assert out.count("fewer than 4 sizes") == 1
    assert "6 more budgets have fewer than 4 sizes: left out" in out


def test_the_approaches_stand_at_one_budget(run, grid):
    _, out, _ = run("isoflop", grid, "--y", "loss")
    lines = out.splitlines()
    (profile,) = (line.split() for line in lines if line.startswith("6e+14"))
    assert "N* at 6e+14 FLOPs" in out
    (by_law,) = (line.split() for line in lines if line.startswith("3 joint law  0"))
    assert by_law[-2] == profile[4]  # of both, the law's N* at this budget


def test_the_columns_of_holdout_are_explained(run, grid):
    _, out, _ = run("holdout", grid, "--y", "loss", "--law", "additive", "--cut", "data")
    columns = out.splitlines()[0].split()
    for name in set(columns) - {"cut", "law", "status"}:
        assert f"{name}:" in out or f"{name}," in out
