"""Tables with one size: every verb that can takes them, and one that cannot says why."""

import json

import numpy as np
import pandas as pd
import pytest
from slow_cases import fast_only

from analysis.laws import Saturating

PARAMS = {"E": 1.7, "A": 200.0, "alpha": 0.34}


def write(path, column, **more):
    x, seed = (a.ravel() for a in np.meshgrid(np.geomspace(1e5, 1e9, 9), range(2)))
    noise = np.random.default_rng(0).normal(0, 2e-3, len(x))
    loss = Saturating()(PARAMS, x) + noise
    pd.DataFrame({column: x, "seed": seed, "loss": loss, **more}).to_csv(path, index=False)
    return path


@pytest.fixture(params=fast_only(["tokens"], ["n_params", "n_samples", "tokens"]))
def table(request, tmp_path):
    """The CSV, and the options that name its size."""
    path = write(tmp_path / "runs.csv", request.param)
    return path, ("--x", "tokens") if request.param == "tokens" else ()


def test_fit_finds_the_planted_law(run, table):
    path, options = table
    code, out, _ = run("fit", path, "--y", "loss", *options, "--json")
    fit = json.loads(out)
    assert (code, fit["law"]["name"]) == (0, "saturating")
    assert (
        fit["intervals"]["alpha"]["lower"] <= PARAMS["alpha"] <= fit["intervals"]["alpha"]["upper"]
    )


def test_a_data_column_of_another_name_is_the_size(run, tmp_path):
    path = write(tmp_path / "runs.csv", "tokens")
    _, out, _ = run("fit", path, "--y", "loss", "--data", "tokens", "--json")
    assert json.loads(out)["columns"] == {"x": "tokens"}


def test_holdout_scores_the_laws_of_one_size(run, table):
    path, options = table
    code, out, _ = run("holdout", path, "--y", "loss", *options, "--json")
    scores = {one["law"]: one for one in json.loads(out)["scores"]}
    assert (code, set(scores)) == (0, {"power", "saturating", "shifted", "broken"})
    assert scores["saturating"]["cut"] == "size"
    # noise of a mean is 0.1 % of the loss there, and the extrapolation is by a third of a decade
    assert scores["saturating"]["mean_absolute_error"] < 0.005
    assert scores["power"]["mean_absolute_error"] > 0.1


@pytest.mark.slow
def test_report_shows_the_law_of_one_size(run, table, tmp_path):
    path, options = table
    code, out, _ = run("report", path, "--y", "loss", *options, "-o", tmp_path / "o")
    assert code == 0
    assert "loss: 18 runs of 9 sizes" in out
    page = (tmp_path / "o" / "report.html").read_text()
    assert "loss = E + A x^-alpha, x = " in page
    assert "9 sizes of " in page
    for other in ("joint law", "D =", "data size"):
        assert other not in page


def test_plot_draws_the_law_of_one_size(run, table, tmp_path):
    path, options = table
    code, out, _ = run("plot", path, "--y", "loss", *options, "-o", tmp_path / "o")
    names = {line.rpartition("/")[2] for line in out.splitlines()}
    assert (code, names) == (
        0,
        {f"loss-{k}.png" for k in ("size", "excess", "residuals", "holdout")},
    )


@pytest.mark.parametrize(("verb", "more"), [("gain", ()), ("forecast", ("--at", "1e10"))])
def test_other_verbs_fit_it_as_well(run, table, verb, more):
    path, options = table
    code, out, _ = run(verb, path, "--y", "loss", *options, *more, "--json")
    assert code == 0
    assert "saturating" in out or "alpha" in out or json.loads(out)["from"]


def test_next_ranks_further_sizes(run, table):
    path, options = table
    code, out, _ = run("next", path, "--y", "loss", *options, "--json")
    document = json.loads(out)
    sizes = [cell["size"] for cell in document["cells"]]
    # the nine sizes of the table, and one step beyond
    assert (code, len(sizes), document["unit"]) == (0, 10, "relative cost")
    assert max(sizes) == pytest.approx(1e9 * 10**0.5)


def test_next_prices_one_size_by_the_flops(run, tmp_path):
    x = np.tile(np.geomspace(1e5, 1e9, 9), (2, 1)).T.ravel()
    path = write(tmp_path / "runs.csv", "n_params")
    pd.read_csv(path).sort_values("n_params").assign(flops=5 * x**1.5).to_csv(path, index=False)
    _, out, _ = run("next", path, "--y", "loss", "--law", "saturating", "--seeds", 2, "--json")
    cells = json.loads(out)["cells"]
    assert [cell["cost"] for cell in cells] == pytest.approx([10 * cell["size"] ** 1.5 for cell in cells])  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "why"),
    [
        (("allocate", "--flops", "1e18"), "a budget is split between a model size and a data size"),
        (("isoflop",), "a budget is split between a model size and a data size"),
    ],
)
def test_a_verb_that_needs_two_sizes_says_why(run, tmp_path, verb, why):
    path = write(tmp_path / "runs.csv", "n_params")
    code, out, err = run(verb[0], path, "--y", "loss", *verb[1:])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"runs.csv: line 1: no column n_samples; {why}: name it with --data" in err


def test_a_second_column_that_may_be_a_size_is_not_passed_over(run, tmp_path):
    path = write(tmp_path / "runs.csv", "n_params", tokens=np.tile(np.geomspace(1e6, 1e8, 9), 2))
    code, out, err = run("plot", path, "--y", "loss")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert (
        "no column n_samples, expected one of: tokens; name it with --data, or fit a law of n_params alone"
        in err
    )
    assert run("fit", path, "--y", "loss", "--law", "saturating")[0] == 0


@pytest.mark.parametrize("verb", ["fit", "plot", "holdout", "next", "gain"])
def test_a_named_column_that_is_not_there_is_no_table_of_one_size(run, tmp_path, verb):
    path = write(tmp_path / "runs.csv", "n_samples")
    code, out, err = run(verb, path, "--y", "loss", "--x", "n_param")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no column n_param" in err


@pytest.mark.parametrize("cut", ["data", "corner", "flops"])
def test_a_law_of_one_size_has_one_cut(run, tmp_path, cut):
    path = write(tmp_path / "runs.csv", "n_params")
    code, _, err = run("holdout", path, "--y", "loss", "--cut", cut)
    assert (code, err.count("\n")) == (2, 1)
    assert f"cut {cut}: " in err
    assert "the only cut is size" in err


def test_laws_of_one_size_and_of_two_are_not_scored_together(run, tmp_path):
    path = write(tmp_path / "runs.csv", "n_params", n_samples=np.tile(np.geomspace(1e6, 1e8, 9), 2))
    code, _, err = run("holdout", path, "--y", "loss", "--law", "additive", "--law", "power")
    assert (code, err.count("\n")) == (2, 1)
    assert "laws additive and power are of different sizes" in err
