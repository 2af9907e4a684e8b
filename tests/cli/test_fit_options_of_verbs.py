"""The verbs that fit take the options of a fit: loss, residuals, held parameters, the metric's limit."""

import json

import numpy as np
import pandas as pd
import pytest
from slow_cases import fast_only

from analysis.laws import Additive

PARAMS = {"E": 1.7, "A": 200.0, "B": 400.0, "alpha": 0.34, "beta": 0.4}
OPTIONS = [
    (),
    ("--law", "bottleneck"),
    ("--hold", "E=1.7"),
    ("--residual", "log"),
    ("--limit", "1.69"),
    ("--where", "n_params=1e5", "--law", "saturating", "--x", "n_samples"),
    ("--x", "n_samples", "--data", "n_params"),
]
VERBS = {
    "allocate": ("--flops", "1e19"),
    "next": (),
    "gain": (),
    "holdout": ("--law", "additive"),
}


@pytest.fixture
def csv(tmp_path):
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e5, 1e8, 5), np.geomspace(1e6, 1e9, 5)))
    noise = np.random.default_rng(0).normal(0, 2e-3, 25)
    loss = Additive()(PARAMS, n, d) + noise
    path = tmp_path / "runs.csv"
    table = pd.DataFrame({"n_params": n, "n_samples": d, "loss": loss, "flops": 6 * n * d})
    table.assign(auc_pct=100 - 8 * loss).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "option", [("--hold", "E=1.7"), ("--loss", "huber"), ("--residual", "log")]
)
def test_a_verb_that_fits_takes_the_options_of_a_fit(run, csv, verb, option):
    plain = run(verb, csv, "--y", "loss", *VERBS[verb], "--json")[1]
    code, out, _ = run(verb, csv, "--y", "loss", *VERBS[verb], *option, "--json")
    assert code == 0
    assert json.loads(out) != json.loads(plain)


@pytest.mark.parametrize("verb", VERBS)
def test_a_metric_in_percent_needs_its_limit(run, csv, verb):
    arguments = (verb, csv, "--y", "auc_pct", *VERBS[verb])
    assert run(*arguments)[0] == 2
    assert run(*arguments, "--limit", "100")[0] == 0


def test_gains_of_a_budget_say_where_they_are_taken(run, csv):
    _, out, _ = run("allocate", csv, "--y", "loss", "--flops", "1e19")
    lines = out.splitlines()
    before = lines[next(i for i, line in enumerate(lines) if "improves" in line) - 1]
    assert before.startswith("from N ")
    assert before.endswith("the best split of the budget:")


def test_a_condition_on_a_number_compares_numbers(run, csv):
    code, out, _ = run("table", csv, "--where", "n_params=1e5", "--json")
    assert code == 0
    assert {row["n_params"] for row in json.loads(out)} == {1e5}


@pytest.fixture
def without_figures(monkeypatch):
    monkeypatch.setattr("analysis.report.study_report.draw_figures", lambda study: {})


@pytest.mark.parametrize("options", fast_only([()], OPTIONS), ids=" ".join)
@pytest.mark.usefixtures("without_figures")
def test_a_report_has_the_numbers_of_fit(run, csv, tmp_path, options):
    _, out, _ = run("fit", csv, "--y", "loss", *options, "--json")
    assert run("report", csv, "--y", "loss", *options, "-o", tmp_path / "o")[0] == 0
    saved = json.loads((tmp_path / "o" / "fits" / "loss-joint.json").read_text())
    assert saved == json.loads(out)


@pytest.mark.parametrize("options", fast_only([("--hold", "E=1.7")], OPTIONS), ids=" ".join)
def test_the_figures_have_the_numbers_of_fit(run, csv, tmp_path, options, monkeypatch):
    drawn = []
    monkeypatch.setattr("analysis.plots.draw_figures", lambda study, _: drawn.append(study) or {})
    _, out, _ = run("fit", csv, "--y", "loss", *options, "--json")
    run("plot", csv, "--y", "loss", *options, "-o", tmp_path / "o")
    assert drawn[0].metrics["loss"].joint.to_document() == json.loads(out)


@pytest.mark.parametrize(
    "options", [(), ("--hold", "E=1.7"), ("--residual", "log"), ("--loss", "huber")], ids=" ".join
)
def test_the_third_approach_has_the_numbers_of_fit(run, csv, options):
    """With a cost of 6 N D, the best size of the additive law grows as C^(beta / (alpha + beta))."""
    fitted = json.loads(run("fit", csv, "--y", "loss", *options, "--json")[1])["params"]
    _, out, _ = run("isoflop", csv, "--y", "loss", *options, "--json")
    found = json.loads(out)["approaches"][2]["size"]["exponent"]
    # a slope between two minima, each found to 1e-10
    expected = fitted["beta"] / (fitted["alpha"] + fitted["beta"])
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("verb", ["plot", "report"])
@pytest.mark.parametrize("option", [("--hold", "E=1"), ("--limit", "0.5")])
def test_what_holds_of_one_metric_is_refused_for_two(run, csv, verb, option):
    code, out, err = run(verb, csv, "--y", "loss", "--y", "auc_pct", *option)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{option[0]}: it is that of one metric, here are 2 (loss, auc_pct)" in err


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_a_report_says_how_it_was_fitted(run, csv, tmp_path):
    options = ("--loss", "huber", "--hold", "E=1.7", "--law", "bottleneck")
    assert run("report", csv, "--y", "loss", *options, "-o", tmp_path / "o")[0] == 0
    page = (tmp_path / "o" / "report.html").read_text()
    for text in ("with threshold 0.001, on every row", "bootstrap, 1000 resamples", "E 1.7", "g"):
        assert text in page
    assert "least squares" not in page


@pytest.mark.parametrize("verb", ["holdout", "report"])
def test_a_parameter_that_no_law_has_cannot_be_held(run, csv, verb):
    code, _, err = run(verb, csv, "--y", "loss", "--hold", "alpa=0.3")
    assert (code, err.count("\n")) == (2, 1)
    assert "alpa" in err
    assert "did you mean alpha?" in err
