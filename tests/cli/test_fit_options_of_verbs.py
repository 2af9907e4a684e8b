"""The verbs that fit take the options of a fit: loss, residuals, held parameters, the metric's limit."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.laws import Additive

PARAMS = {"E": 1.7, "A": 200.0, "B": 400.0, "alpha": 0.34, "beta": 0.4}
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
