"""Laws of another metric (`exponential`, `sigmoid`) and of the table size (`embeddings`) on the command line."""

import json

import numpy as np
import pandas as pd
import pytest


def write_metrics(path):
    """Runs whose AUC is a sigmoid of their logloss, and whose error rises with it."""
    loss = np.geomspace(0.3, 0.9, 24)
    auc = 0.5 + 0.5 / (1 + np.exp((loss - 0.55) / 0.09))
    noise = np.random.default_rng(0).normal(0, 1e-3, (2, len(loss)))
    error = 0.8 - 2.0 * np.exp(-loss / 0.25)
    columns = {"logloss": loss, "auc": auc + noise[0], "top1": error + noise[1]}
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def write_sizes(path):
    """Dense and table sizes that vary independently, in the column `hash_size`."""
    n, d, v = (a.ravel() for a in np.meshgrid(*[np.geomspace(1e4, 1e7, 4)] * 3))
    loss = 0.4 + 2 * n**-0.3 + 3 * d**-0.35 + 4 * v**-0.4
    loss += np.random.default_rng(0).normal(0, 1e-4, len(n))
    sizes = {"n_params": n, "n_samples": d, "hash_size": v, "logloss": loss}
    pd.DataFrame(sizes).to_csv(path, index=False)
    return path


def test_auc_falls_with_logloss_whatever_its_name_says(run, tmp_path):
    runs = write_metrics(tmp_path / "runs.csv")
    arguments = ("--law", "sigmoid", "--x", "logloss", "--y", "auc")
    held = ("--hold", "E=0.5", "--hold", "A=0.5", "--at", "0.4", "--json")
    code, out, _ = run("fit", runs, *arguments, *held)
    document = json.loads(out)
    assert code == 0
    # Standard errors are below 0.001.
    assert document["params"]["x0"] == pytest.approx(0.55, abs=0.005)
    assert document["params"]["w"] == pytest.approx(0.09, abs=0.005)


def test_an_error_rises_with_logloss(run, tmp_path):
    runs = write_metrics(tmp_path / "runs.csv")
    code, out, _ = run("fit", runs, "--law", "exponential", "--x", "logloss", "--y", "top1")
    assert code == 0
    assert "top1 = E - A e^(-x / w)" in out


@pytest.mark.parametrize("verb", [("gain",), ("forecast", "--at", "0.4")])
def test_a_law_of_a_metric_cannot_choose_a_size(run, tmp_path, verb):
    runs = write_metrics(tmp_path / "runs.csv")
    arguments = ("--law", "sigmoid", "--x", "logloss", "--y", "auc")
    code, _, err = run(verb[0], runs, *verb[1:], *arguments)
    assert code == 2
    assert "its x is a metric, not a size" in err


def test_the_column_of_the_table_size_may_have_any_name(run, tmp_path):
    runs = write_sizes(tmp_path / "runs.csv")
    arguments = ("--law", "embeddings", "--embeddings", "hash_size", "--json")
    code, out, _ = run("fit", runs, *arguments)
    assert code == 0
    assert json.loads(out)["params"]["gamma"] == pytest.approx(0.4, abs=0.03)


def test_the_gain_from_tables_stands_beside_that_from_dense_parameters(run, tmp_path):
    runs = write_sizes(tmp_path / "runs.csv")
    arguments = ("--law", "embeddings", "--embeddings", "hash_size", "--json")
    code, out, _ = run("gain", runs, *arguments)
    assert code == 0
    (place,) = json.loads(out)["from"]
    found = {gain["what"]: gain["improvement"][0] for gain in place["gains"]}
    assert found["10 x hash_size"] == pytest.approx(4 * (1e7**-0.4 - 1e8**-0.4), rel=0.1)


def test_tables_whose_size_follows_the_model_are_not_told_apart(run, tmp_path):
    n, d = (a.ravel() for a in np.meshgrid(*[np.geomspace(1e4, 1e7, 6)] * 2))
    noise = np.random.default_rng(0).normal(0, 1e-4, len(n))
    sizes = {"n_params": n, "n_samples": d, "n_embedding_params": 16 * n}
    loss = 0.4 + 2 * n**-0.3 + 3 * d**-0.35 + noise
    pd.DataFrame(sizes | {"logloss": loss}).to_csv(tmp_path / "runs.csv", index=False)
    code, out, _ = run("fit", tmp_path / "runs.csv", "--law", "embeddings", "--json")
    assert code == 1
    assert json.loads(out)["status"] in ("not_identified", "at_bound")


@pytest.mark.parametrize("verb", ["allocate", "next"])
def test_a_budget_of_flops_is_not_split_among_tables(run, tmp_path, verb):
    runs = write_sizes(tmp_path / "runs.csv")
    code, _, err = run(
        verb, runs, "--law", "embeddings", *(("--flops", "1e12")[: 2 * (verb == "allocate")])
    )
    assert code == 2
    assert "--law embeddings: no such choice" in err
