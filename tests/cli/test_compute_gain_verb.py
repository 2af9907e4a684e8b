"""`scaling compute-gain`: variants in one table, in several tables, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.laws import Additive

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}
# Half the compute for equal loss: each size counts as much as root two times as many.
HALF = PARAMS | {"A": 2.0 * 2 ** (-0.25 / 2), "B": 3.0 * 2 ** (-0.3 / 2)}
MODELS = {"wide": PARAMS, "deep": HALF}


def runs(params, seed=0):
    axis = np.geomspace(1e4, 1e7, 5)
    n, d, run = (one.ravel() for one in np.meshgrid(axis, axis, range(2), indexing="ij"))
    noise = np.random.default_rng(seed).normal(0, 1e-3, len(n))
    table = pd.DataFrame({"n_params": n, "n_samples": d, "seed": run})
    return table.assign(logloss=Additive()(params, n, d) + noise)


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "runs.csv"
    parts = [runs(p, i).assign(model=name) for i, (name, p) in enumerate(MODELS.items())]
    pd.concat(parts).to_csv(path, index=False)
    return path


def test_the_share_of_the_compute_is_printed_for_each_budget(run, csv):
    code, out, err = run("compute-gain", csv, "--reference", "model=wide")
    assert (code, err) == (0, "")
    assert "model=deep" in out
    assert "(10 x beyond)" in out
    assert "model=deep does not cross model=wide within the runs, nor up to ten times beyond" in out


def test_json_has_the_true_share_in_its_interval(run, csv):
    code, out, _ = run(
        "compute-gain", csv, "--reference", "model=wide", "--flops", "1e12", "--json"
    )
    document = json.loads(out)
    (gain,) = (one for one in document["gains"] if one["variant"] == "model=deep")
    assert (code, document["budget"], gain["budget"]) == (0, "flops", 1e12)
    assert gain["share"][1] < 0.5 < gain["share"][2]
    assert gain["better"] > 0.99


def test_a_multiple_is_one_of_the_largest_common_budget(run, csv):
    code, out, _ = run(
        "compute-gain", csv, "--reference", "model=wide", "--at-multiple", "100", "--json"
    )
    document = json.loads(out)
    assert code == 0
    assert {one["budget"] for one in document["gains"]} == {100 * document["range"][1]}
    assert {one["beyond"] for one in document["gains"]} == {100.0}


def test_two_tables_are_told_apart_by_their_names(run, tmp_path):
    for name, params in MODELS.items():
        runs(params).to_csv(tmp_path / f"{name}.csv", index=False)
    code, out, _ = run(
        "compute-gain", tmp_path / "wide.csv", tmp_path / "deep.csv", "--reference", "table=wide", "--flops", "1e12",
        "--json",
    )  # fmt: skip
    document = json.loads(out)
    assert (code, document["reference"]) == (0, "table=wide")
    # the same errors in both tables
    assert document["correlations"]["table=deep"] == pytest.approx(1, abs=0.01)


def test_tables_of_equal_names_are_told_apart_by_their_folders(run, tmp_path):
    for name, params in MODELS.items():
        (tmp_path / name).mkdir()
        runs(params).to_csv(tmp_path / name / "runs.csv", index=False)
    paths = [tmp_path / name / "runs.csv" for name in MODELS]
    code, out, _ = run("compute-gain", *paths, "--reference", "table=deep", "--json")
    assert (code, json.loads(out)["reference"]) == (0, "table=deep")


def test_a_law_of_the_budget_takes_it_as_x(run, tmp_path):
    budgets = np.repeat(np.geomspace(1e10, 1e15, 12), 2)
    noise = np.random.default_rng(0).normal(0, 1e-4, (2, 24))
    parts = [
        pd.DataFrame(
            {"flops": budgets, "loss": 0.4 + a * budgets**-0.2 + e, "seed": [0, 1] * 12, "model": m}
        )
        for m, a, e in zip("ab", (60.0, 60.0 * 2**-0.2), noise, strict=True)
    ]
    pd.concat(parts).to_csv(tmp_path / "runs.csv", index=False)
    code, out, _ = run(
        "compute-gain", tmp_path / "runs.csv", "--y", "loss", "--law", "saturating", "--x", "flops", "--reference",
        "model=a", "--flops", "1e13", "--json",
    )  # fmt: skip
    document = json.loads(out)
    assert (code, document["budget"]) == (0, "flops")
    assert document["gains"][1]["share"][0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_the_figure_is_a_png(run, csv, tmp_path):
    code, _, _ = run(
        "compute-gain", csv, "--reference", "model=wide", "--figure", tmp_path / "a.png"
    )
    assert code == 0
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_one_variant_is_refused(run, csv):
    code, out, err = run("compute-gain", csv, "--reference", "model=wide", "--where", "model=wide")
    assert (code, out) == (2, "")
    assert err.startswith("error: --reference model=wide: all rows are this variant")


def test_a_law_without_a_budget_is_refused(run, csv):
    table = pd.read_csv(csv).assign(max_len=1.0)
    table.assign(max_len=np.tile([1.0, 10.0, 100.0, 1000.0], 25)).to_csv(csv, index=False)
    code, out, err = run("compute-gain", csv, "--reference", "model=wide", "--law", "length")
    assert (code, out) == (2, "")
    assert "expected a law of model size and data size" in err


def test_a_variant_with_too_few_runs_is_named(run, csv):
    table = pd.read_csv(csv)
    table[(table["model"] == "wide") | (table["n_params"] < 1e5)].to_csv(csv, index=False)
    code, out, err = run("compute-gain", csv, "--reference", "model=wide")
    assert (code, out) == (2, "")
    assert "error: variant model=deep: no law to compare: 2 sizes of N" in err


def test_a_run_without_the_metric_is_named(run, csv):
    table = pd.read_csv(csv)
    table.loc[7, "logloss"] = None
    table.to_csv(csv, index=False)
    code, _, err = run("compute-gain", csv, "--reference", "model=wide")
    assert (code, err) == (
        0,
        "model=wide: 1 of 50 rows have no logloss and are left out: line 9\n",
    )


def test_an_empty_seed_is_named_as_the_reason_for_no_pairs(run, csv):
    table = pd.read_csv(csv)
    table.loc[7, "seed"] = None
    table.to_csv(csv, index=False)
    _, out, _ = run("compute-gain", csv, "--reference", "model=wide")
    assert "model=deep: no pairs of runs, as the seed is empty in line 9" in out


def test_the_option_of_another_verb_is_named_as_it_is_here(run, csv):
    code, _, err = run("compute-gain", csv, "--baseline", "packing=none")
    assert (code, err) == (2, "error: No such option: --baseline, did you mean --reference?\n")
