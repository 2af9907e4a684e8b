"""The verbs on tables: output, exit codes, and one clear line for bad input."""

import io
import json
import shlex
from contextlib import redirect_stdout
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
from slow_cases import fast_only

from analysis.fit import FitOptions
from analysis.laws import LAWS, Additive
from analysis.plots import KINDS
from analysis.study_results import CUTS, joint_laws
from scaling.cli.app import main
from scaling.cli.fit_inputs import (
    CutName,
    FigureKind,
    IntervalName,
    JointLaw,
    LawName,
    LossName,
    ResidualName,
    WeightsName,
)

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}


def make_table():
    sizes = np.geomspace(1e4, 1e7, 4)
    n, d, s = (a.ravel() for a in np.meshgrid(sizes, sizes, range(3)))
    table = pd.DataFrame({"n_params": n, "n_samples": d, "seed": s})
    noise = np.random.default_rng(0).normal(0, 1e-3, len(table))
    return table.assign(logloss=Additive()(PARAMS, n, d) + noise)


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "runs.csv"
    make_table().to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A table whose report lies beside it, and what was printed."""
    path = tmp_path_factory.mktemp("reported") / "runs.csv"
    make_table().to_csv(path, index=False)
    with pytest.raises(SystemExit) as stop, redirect_stdout(io.StringIO()) as out:
        main(["report", str(path)])
    assert stop.value.code == 0
    return path, out.getvalue()


def test_fit_prints_the_law_with_intervals(run, csv):
    code, out, err = run("fit", csv)
    assert (code, err) == (0, "")
    assert out.startswith("logloss = E + A N^-alpha + B D^-beta")
    assert "status     converged" in out


def test_fit_json_is_one_document_with_stable_keys(run, csv):
    code, out, _ = run(
        "fit", csv, "--loss", "huber", "--delta", "1e-3", "--bootstrap", 50, "--json"
    )
    document = json.loads(out)
    assert code == 0
    assert set(document["params"]) == {"E", "A", "B", "alpha", "beta"}
    assert document["status"] == "converged"
    assert document["objective"] > 0
    assert (document["n_draws"], document["delta"]) == (50, 1e-3)


def test_fit_takes_any_column_names(run, csv, tmp_path):
    table = make_table().rename(columns={"n_params": "N", "n_samples": "D", "logloss": "loss"})
    table.to_csv(tmp_path / "other.csv", index=False)
    _, expected, _ = run("fit", csv, "--json")
    code, out, _ = run(
        "fit", tmp_path / "other.csv", "--x", "N", "--data", "D", "--y", "loss", "--json"
    )
    assert code == 0
    assert json.loads(out)["params"] == json.loads(expected)["params"]


def test_foreign_runs_of_several_recipes_are_fitted_together_with_a_warning(run, tmp_path, caplog):
    both = [make_table().assign(learning_rate=rate) for rate in (1e-3, 1e-4)]
    table = pd.concat(both)
    table["logloss"] += np.random.default_rng(1).normal(0, 1e-4, len(table))
    table.to_csv(tmp_path / "mixed.csv", index=False)
    code, _, err = run("fit", tmp_path / "mixed.csv")
    assert code == 0
    assert "differ in more than sizes: learning_rate (2: 0.0001, 0.001)" in err
    table.assign(signature="x").to_csv(tmp_path / "ours.csv", index=False)
    assert run("fit", tmp_path / "ours.csv")[0] == 2


def test_a_suggested_choice_is_one_a_shell_takes(run, tmp_path, caplog):
    path = tmp_path / "mixed.csv"
    values = ["a, b=c d", "p", "q"]
    table = make_table()
    parts = [table.assign(**{"model.x": v})[: 48 - i] for i, v in enumerate(values)]
    pd.concat(parts).assign(signature="s").to_csv(path, index=False)
    code, _, err = run("fit", path)
    assert (code, err.count("\n")) == (2, 1)
    choice = shlex.split(err.split("e.g. ")[1])
    assert choice == ["--where", "model.x=a, b=c d"]
    assert run("fit", path, *choice)[0] == 0
    _, _, err = run("fit", path, "--where", "model.x")
    assert "e.g. 'model.x=a, b=c d'" in err


def test_fit_reads_stdin_and_writes_a_file(run, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(make_table().to_csv(index=False)))
    code, out, _ = run("fit", "-", "--json", "-o", tmp_path / "fit.json")
    assert (code, out) == (0, "")
    assert json.loads((tmp_path / "fit.json").read_text())["y"] == "logloss"


def test_fit_exits_1_when_the_data_do_not_determine_the_law(run, csv):
    code, out, _ = run("fit", csv, "--where", "n_params=10000.0")
    assert code == 1
    assert "too_few_points: 1 size of N, the law needs 3" in out
    code, out, _ = run("fit", csv, "--where", "n_params=10000.0", "--json")
    assert code == 1
    assert json.loads(out)["params"]["alpha"] is None


def test_one_variable_laws_are_fitted_to_chosen_rows(run, csv):
    code, out, _ = run(
        "fit", csv, "--law", "saturating", "--x", "n_samples", "--where", "n_params=10000.0"
    )
    assert code == 0
    assert "(saturating: x = n_samples)" in out


def test_a_parameter_can_be_held(run, csv):
    _, out, _ = run("fit", csv, "--hold", "E=0.4")
    assert "E          0.4 (fixed)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--law", "aditive"], "--law aditive: no such choice, did you mean additive?"),
        (["--loss", "hubber"], "--loss hubber: no such choice, did you mean huber?"),
        (["--y", "loglos"], "no column loglos, did you mean logloss?"),
        (["--x", "n_param"], "no column n_param, did you mean n_params?"),
        (["--hold", "E=x"], "--hold E=x: expected NAME=NUMBER"),
        (["--hold", "gamma=1"], "gamma cannot be held"),
        (["--where", "n_param=1"], "no column n_param, did you mean n_params?"),
        (["--where", "n_params"], "--where n_params: expected COLUMN=VALUE, e.g. n_params=10000"),
        (["--where", "n_params=1"], "--where n_params=1: no such row"),
        (["--rising", "--limit", "0.5"], "a rising metric cannot lie above its limit 0.5"),
        (["--weights", "stderr"], "no column logloss_stderr"),
        (["--hold", "E=nan"], "E cannot be held at nan, expected a finite number"),
        (["--hold", "E=-5"], "E cannot be held at -5, only from 0 up"),
        (["--hold", "alpha=400"], "alpha cannot be held at 400, only up to 6"),
        (["--loss", "huber", "--delta", "nan"], "delta is nan, expected a positive number"),
        (["--loss", "huber", "--delta", "-1"], "delta is -1, expected a positive number"),
        (
            ["--loss", "huber", "--over", "inf"],
            "over is inf, but it needs the huber loss and a positive",
        ),
        (["--limit", "nan"], "limit is nan, expected a finite number"),
        (["--seed", "-1", "--bootstrap", "10"], "seed is -1, expected 0 or more"),
        (["--data", "n_params"], "column n_params is named for two things"),
        (["--y", "n_params"], "column n_params is named for two things"),
        (["--at", "inf,1e5"], "--at inf,1e5: expected 2 positive sizes"),
    ],
)
def test_bad_use_is_one_line_and_exit_2(run, csv, arguments, message):
    code, out, err = run("fit", csv, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ["fit", "report", "holdout"])
@pytest.mark.parametrize("factor", [1e-300, 1e20, 1e300])
def test_a_metric_of_absurd_size_is_one_line(run, tmp_path, verb, factor):
    table = make_table()
    path = tmp_path / "runs.csv"
    table.assign(logloss=table["logloss"] * factor).to_csv(path, index=False)
    code, out, err = run(verb, path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "change its unit" in err


def test_a_word_among_numbers_is_named_with_its_row(run, tmp_path):
    table = make_table().astype({"logloss": object})
    table.loc[2, "logloss"] = "abc"
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    code, _, err = run("fit", path)
    assert (code, err.count("\n")) == (2, 1)
    assert "runs.csv: column logloss holds 'abc' in line 4, expected numbers; write" in err


def test_weights_of_infinite_errors_are_refused(run, tmp_path):
    path = tmp_path / "runs.csv"
    make_table().assign(logloss_stderr=np.inf).to_csv(path, index=False)
    code, out, err = run("fit", path, "--weights", "stderr")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "logloss_stderr must be positive and finite" in err


@pytest.mark.parametrize("factor", [1e-9, 1e8, 1e14])
def test_the_metrics_unit_moves_offset_and_amplitudes_alone(run, csv, tmp_path, factor):
    table = make_table()
    path = tmp_path / "scaled.csv"
    table.assign(logloss=table["logloss"] * factor).to_csv(path, index=False)
    _, plain, _ = run("fit", csv, "--json")
    code, scaled, _ = run("fit", path, "--json")
    assert code == 0
    before, after = (json.loads(text)["params"] for text in (plain, scaled))
    # Both descents end within the rounding of a flat minimum.
    assert after["E"] == pytest.approx(before["E"] * factor, rel=1e-6)
    assert after["alpha"] == pytest.approx(before["alpha"], rel=1e-6)


def test_costs_that_are_no_numbers_are_one_line(run, tmp_path):
    path = tmp_path / "runs.csv"
    make_table().assign(flops="x").to_csv(path, index=False)
    code, out, err = run("holdout", path, "--cut", "flops")
    assert (code, out) == (2, "")
    assert "column flops holds 'x' in line 2" in err


def test_next_of_a_vanished_term_is_refused(run, tmp_path):
    table = make_table()
    path = tmp_path / "runs.csv"
    table.assign(logloss=2 - table["logloss"]).to_csv(path, index=False)
    code, out, err = run("next", path)
    assert (code, out) == (2, "")
    assert "quantity alpha: no interval to shrink: A is 0" in err


def test_a_metric_that_no_run_fills_is_passed_over(run, tmp_path):
    path = tmp_path / "runs.csv"
    make_table().assign(auc=np.nan).to_csv(path, index=False)
    code, _, _ = run("plot", path, "--kind", "data", "-o", tmp_path / "figures")
    assert code == 0


def test_an_infinite_value_is_null_in_json(run, tmp_path):
    table = make_table()
    table.loc[3, "logloss"] = np.inf
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    code, out, _ = run("table", path, "--json")
    assert code == 0
    assert json.loads(out)[3]["logloss"] is None


@pytest.mark.parametrize("verb", ["report", "plot"])
def test_a_metric_that_no_run_has_is_one_line(run, tmp_path, verb):
    path = tmp_path / "runs.csv"
    make_table().assign(logloss=np.nan).to_csv(path, index=False)
    code, out, err = run(verb, path)
    assert (code, out) == (2, "")
    assert err == "error: table: no row has a finite logloss\n"


def test_holdout_of_one_size_exits_1(run, tmp_path):
    table = make_table()
    path = tmp_path / "runs.csv"
    table[table["n_params"] == table["n_params"].min()].to_csv(path, index=False)
    code, _, _ = run("holdout", path)
    assert code == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--flops", "inf"], "the budget is inf"),
        (["--flops", "1e12", "--target", "nan"], "a target of nan"),
    ],
)
def test_a_budget_without_end_is_one_line(run, csv, options, message):
    code, out, err = run("allocate", csv, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_run_counted_twice_is_refused(run, tmp_path):
    table = make_table()
    pd.concat([table, table[:1]]).to_csv(tmp_path / "twice.csv", index=False)
    code, _, err = run("fit", tmp_path / "twice.csv")
    assert code == 2
    assert "stands twice" in err


def test_table_prints_runs_and_writes_csv(run, csv, tmp_path):
    code, out, _ = run("table", csv)
    assert code == 0
    assert out.splitlines()[0].split() == ["n_params", "n_samples", "seed", "logloss"]
    assert len(out.splitlines()) == 49
    _, out, _ = run("table", csv, "--json")
    assert json.loads(out)[0]["n_params"] == 10000.0
    _, out, _ = run("table", csv, "-o", tmp_path / "t.csv")
    assert out.strip() == str(tmp_path / "t.csv")
    assert len(pd.read_csv(tmp_path / "t.csv")) == 48


def test_holdout_ranks_the_laws(run, csv):
    code, out, _ = run("holdout", csv, "--cut", "data", "--law", "additive", "--law", "tied")
    assert code == 0
    scores, largest = out.split("\n\n")
    # Header, a row for each law, and three lines on the columns.
    assert len(scores.splitlines()) == 6
    # Text, header, and the interval of each law for the largest cell.
    assert len(largest.splitlines()) == 4
    assert all(row.endswith("yes") for row in largest.splitlines()[2:])
    _, out, _ = run("holdout", csv, "--cut", "data", "--json")
    document = json.loads(out)
    assert len(document["largest"]) == len(document["scores"])
    assert document["metric"] == "logloss"
    assert {score["law"] for score in document["scores"]} == {
        "additive", "bottleneck", "interaction", "kaplan", "multiplicative", "tied"
    }  # fmt: skip
    assert len(document["cells"]) == 6 * 4
    code, _, err = run("holdout", csv, "--cut", "date")
    assert code == 2
    assert "did you mean data?" in err


def test_plot_writes_the_figures_asked_for(run, csv, tmp_path):
    code, out, _ = run("plot", csv, "--kind", "data", "--kind", "residuals", "-o", tmp_path / "f")
    assert code == 0
    assert out.split() == [str(tmp_path / "f" / f"logloss-{k}.png") for k in ("data", "residuals")]
    assert (tmp_path / "f" / "logloss-data.png").read_bytes()[:4] == b"\x89PNG"


def test_report_of_a_csv_lies_beside_it(reported):
    csv, out = reported
    folder = csv.parent / "runs-analysis"
    assert out.splitlines()[-1] == f"report   {folder / 'report.html'}"
    assert (folder / "fits" / "logloss-joint.json").exists()


def test_a_study_without_runs_says_so(run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run("table", tmp_path / "empty")
    assert code == 2
    assert "no finished run yet" in err


def test_allocate_prints_the_split_with_intervals(run, csv):
    code, out, _ = run("allocate", csv, "--flops", "1e14", "--target", "0.45")
    assert code == 0
    assert "a run costs 6 N^1 D flops" in out
    assert "10 x budget      improves logloss by" in out
    assert "logloss 0.45 costs at least" in out
    _, out, _ = run("allocate", csv, "--flops", "1e14", "--target", "0.45", "--json")
    document = json.loads(out)
    assert set(document) >= {"best", "frontier", "gains", "iso_cost", "iso_loss", "target"}
    low, high = document["best"]["n_params"][1:]
    assert low < document["best"]["n_params"][0] < high


def test_allocate_wants_one_budget_that_the_table_can_price(run, csv):
    assert run("allocate", csv)[0] == 2
    code, _, err = run("allocate", csv, "--gpu-hours", "5")
    assert code == 2
    assert "no column train_seconds" in err


def test_next_and_allocate_name_the_columns_of_a_foreign_table(run, tmp_path):
    path = tmp_path / "runs.csv"
    table = make_table().rename(columns={"n_params": "compute", "n_samples": "tokens"})
    table.to_csv(path, index=False)
    columns = ("--x", "compute", "--data", "tokens")
    _, out, _ = run("next", path, *columns)
    assert out.splitlines()[1].split()[:2] == ["compute", "tokens"]
    _, out, _ = run("allocate", path, *columns, "--flops", "1e14")
    assert "N = compute, D = tokens" in out


def test_next_ranks_cells(run, csv):
    code, out, _ = run("next", csv, "--quantity", "loss", "--at", "1e8,1e8", "--most", "3")
    assert code == 0
    assert len(out.splitlines()) == 6
    _, out, _ = run("next", csv, "--json")
    assert json.loads(out)["cells"][0]["shrinks"] > 0
    code, _, err = run("next", csv, "--quantity", "loss", "--at", "1e8")
    assert code == 2
    assert "--at 1e8: expected 2 positive sizes, e.g. 1e8,1e9" in err


def test_fit_predicts_at_sizes_and_says_what_lies_beyond_the_runs(run, csv):
    code, out, _ = run("fit", csv, "--at", "1e5,1e5", "--at", "1e8,1e8")
    assert code == 0
    inside, beyond = out.splitlines()[-2:]
    assert inside.startswith("  at n_params 1e+05, n_samples 1e+05: 0.60")
    assert "beyond" not in inside
    assert beyond.endswith("beyond the runs (10 x the largest)")
    _, out, _ = run("fit", csv, "--at", "1e8,1e8", "--json")
    [values] = json.loads(out)["predictions"]
    assert values["outside"] is True
    assert values["prediction_lower"] < values["lower"] < values["mean"]


def test_a_seed_reaches_the_default_bootstrap_of_huber(run, csv):
    documents = [
        json.loads(run("fit", csv, "--loss", "huber", "--seed", seed, "--json")[1])
        for seed in (1, 2)
    ]
    assert [document["seed"] for document in documents] == [1, 2]
    assert documents[0]["intervals"] != documents[1]["intervals"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--interval", "wald", "--bootstrap", "50"],
            "interval wald contradicts a bootstrap of 50",
        ),
        (["--delta", "0.1"], "only the huber loss has a delta"),
        (["--interval", "wold"], "--interval wold: no such choice, did you mean wald?"),
        (["--residual", "row"], "--residual row: no such choice, did you mean raw?"),
        (["--at", "1e-300,1e-300"], "--at 1e-300,1e-300: too far from the runs for a number"),
    ],
)
def test_contradictions_and_wrong_choices_are_one_line(run, csv, arguments, message):
    code, out, err = run("fit", csv, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_choices_are_those_of_the_analysis():
    assert {law.value for law in LawName} == set(LAWS)
    assert [law.value for law in JointLaw] == [law.name for law in joint_laws()]
    assert [cut.value for cut in CutName] == list(CUTS)
    assert [kind.value for kind in FigureKind] == list(KINDS)
    hints = get_type_hints(FitOptions)
    for name, choice in (("loss", LossName), ("weights", WeightsName)):
        assert tuple(choice) == get_args(hints[name])
    for name, choice in (("residual", ResidualName), ("interval", IntervalName)):
        assert tuple(choice) == get_args(get_args(hints[name])[0])


@pytest.mark.slow
def test_results_name_the_columns_of_a_foreign_table(run, tmp_path):
    path = tmp_path / "runs.csv"
    table = make_table().rename(columns={"n_params": "compute", "n_samples": "tokens"})
    table.to_csv(path, index=False)
    code, out, _ = run("report", path, "--x", "compute", "--data", "tokens", "-o", tmp_path / "o")
    assert code == 0
    assert "N = compute, D = tokens" in out
    fits = tmp_path / "o" / "fits"
    saved = json.loads((fits / "logloss-joint.json").read_text())
    assert saved["columns"] == {"N": "compute", "D": "tokens"}
    assert (fits / "logloss-tokens-N10000.json").exists()
    page = (tmp_path / "o" / "report.html").read_text()
    for wrong in ("grade", "n_params", "n_samples", "each seen once", "training samples"):
        assert wrong not in page


def test_a_report_does_not_claim_what_the_columns_of_a_foreign_table_count(reported):
    page = (reported[0].parent / "runs-analysis" / "report.html").read_text()
    assert "column" in page
    for claim in ("each seen once", "without the embedding tables"):
        assert claim not in page


# each name once at least
@pytest.mark.parametrize(
    ("x", "data"), [("n_runs", "cost"), ("shrinks", "n_seeds"), ("y_mean_stderr", "fit")]
)
@pytest.mark.parametrize("verb", fast_only(["next"], ["next", "plot", "report"]))
def test_sizes_may_be_named_as_results_of_a_verb(run, tmp_path, verb, x, data):
    table = make_table().rename(columns={"n_params": x, "n_samples": data, "logloss": "y"})
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    out = [] if verb == "next" else ["-o", tmp_path / "out"]
    code, _, err = run(verb, path, "--x", x, "--data", data, "--y", "y", *out)
    assert (code, "Traceback" in err) == (0, False)


def test_a_metric_may_be_named_grade(run, tmp_path):
    table = make_table().rename(columns={"logloss": "grade"})
    path = tmp_path / "runs.csv"
    table.to_csv(path, index=False)
    code, out, _ = run("plot", path, "--y", "grade", "--kind", "data", "-o", tmp_path)
    assert (code, out.strip()) == (0, str(tmp_path / "grade-data.png"))


def test_a_budget_of_a_size_is_refused(run, tmp_path):
    path = tmp_path / "runs.csv"
    make_table().rename(columns={"n_params": "flops"}).to_csv(path, index=False)
    code, _, err = run("allocate", path, "--x", "flops", "--flops", "1e12")
    assert code == 2
    assert "column flops is the cost of a run and also one of its sizes" in err


def test_gains_are_named_after_the_sizes(run, tmp_path):
    path = tmp_path / "runs.csv"
    make_table().rename(columns={"n_params": "width"}).to_csv(path, index=False)
    _, out, _ = run("allocate", path, "--x", "width", "--flops", "1e12")
    assert "10 x width " in out
    assert "10 x samples " in out


def test_a_choice_with_a_quote_is_one_line(run, tmp_path):
    code, _, err = run("plot", tmp_path, "--kind", "it's")
    assert code == 2
    assert err.startswith("error: --kind it's: no such choice")


def test_gain_says_where_each_answer_is_taken(run, csv):
    code, out, err = run("gain", csv)
    assert (code, err) == (0, "")
    assert "from the largest run (n_params 1e+07, n_samples 1e+07" in out
    assert "from the best split of its cost (n_params" in out


def test_gain_json_agrees_with_the_law(run, csv):
    code, out, _ = run("gain", csv, "--factor", 3, "--json")
    found = json.loads(out)["from"][0]["gains"][1]
    p = json.loads(run("fit", csv, "--json")[1])["params"]
    expected = p["B"] * 1e7 ** -p["beta"] * (1 - 3 ** -p["beta"])
    assert (code, found["what"]) == (0, "3 x samples")
    assert found["improvement"][0] == pytest.approx(expected)


def test_a_law_that_is_not_determined_tells_no_gain_and_each_size_is_told_alone(run, tmp_path):
    """The metric falls with the data only: 30 D^-0.4, of which ten times the largest data leave 10^-0.4."""
    table = make_table()
    noise = np.random.default_rng(0).normal(0, 1e-4, len(table))
    table["logloss"] = 0.4 + 30 * table["n_samples"] ** -0.4 + noise
    table.to_csv(tmp_path / "runs.csv", index=False)
    code, out, err = run("gain", tmp_path / "runs.csv")
    assert (code, err) == (1, "")
    assert "The data do not determine this law, so each size is answered by runs" in out
    assert (
        "10 x parameters  cannot be told       -                   the law of samples = 10M alone: A is 0"
        in out
    )
    (told,) = (
        one
        for one in json.loads(run("gain", tmp_path / "runs.csv", "--json")[1])["alone"]
        if one["gain"]
    )
    middle, low, high = told["gain"]["improvement"]
    truth = 30 * table["n_samples"].max() ** -0.4 * (1 - 10**-0.4)
    # four standard errors, as this is one draw of the noise
    assert abs(middle - truth) < high - low
    assert told["size"] == "n_samples"
    assert told["told_by"] == "the law of all runs together, as parameters change nothing"


def test_gain_says_where_more_is_worse(run, tmp_path):
    table = make_table()
    table["logloss"] = 0.4 + 30 * table["n_samples"] ** -0.4 + 0.002 * np.log10(table["n_params"])
    table.to_csv(tmp_path / "runs.csv", index=False)
    spread = 0.002 * np.log10(table["n_params"].max() / table["n_params"].min())
    code, out, _ = run("gain", tmp_path / "runs.csv")
    assert code == 1
    assert (
        f"more is worse        -                   by {spread:.5f} from the smallest to the largest"
        in out
    )


def test_gain_refuses_a_factor_that_is_no_more(run, csv):
    code, _, err = run("gain", csv, "--factor", 1)
    assert (code, err) == (2, "error: the factor is 1, expected a finite number above 1\n")


def isoflop_csv(path):
    parts = []
    for budget in (1e12, 1e13, 1e14):
        n = np.geomspace(0.2, 5, 6) * 4.5e5 * (budget / 1e12) ** 0.545
        d = budget / 6 / n
        noise = np.random.default_rng(0).normal(0, 1e-5, 6)
        parts.append(
            pd.DataFrame(
                {
                    "n_params": n,
                    "n_samples": d,
                    "flops": budget,
                    "logloss": Additive()(PARAMS, n, d) + noise,
                }
            )
        )
    pd.concat(parts).to_csv(path, index=False)
    return path


def test_isoflop_puts_the_approaches_side_by_side(run, tmp_path):
    code, out, err = run("isoflop", isoflop_csv(tmp_path / "runs.csv"))
    assert (code, err) == (0, "")
    for text in ("N* by the joint law", "1 envelope   -", "2 profiles   0.5", "3 joint law  0.5"):
        assert text in out, text


def test_isoflop_json_has_the_profiles(run, tmp_path):
    code, out, _ = run("isoflop", isoflop_csv(tmp_path / "runs.csv"), "--json")
    document = json.loads(out)
    assert code == 0
    assert [one["budget"] for one in document["profiles"]] == pytest.approx([1e12, 1e13, 1e14])


def test_isoflop_takes_no_size_for_the_budget(run, csv):
    code, out, err = run("isoflop", csv, "--flops", "n_samples")
    assert (code, out) == (2, "")
    assert err.startswith("error: --flops n_samples: it is also a size")


def test_isoflop_of_best_runs_names_the_law_of_optima(run, tmp_path):
    n = np.geomspace(1e6, 1e8, 6)
    loss = Additive()(PARAMS, n, 20 * n) + np.random.default_rng(0).normal(0, 1e-4, 6)
    rows = pd.DataFrame({"n_params": n, "n_samples": 20 * n, "flops": 120 * n**2, "logloss": loss})
    rows.to_csv(tmp_path / "optima.csv", index=False)
    _, out, err = run("isoflop", tmp_path / "optima.csv")
    assert "scaling fit --x flops --y n_params --law log-linear" in out + err


def test_isoflop_names_a_column_of_flops_that_is_not_there(run, tmp_path):
    code, out, err = run("isoflop", isoflop_csv(tmp_path / "runs.csv"), "--flops", "budget")
    assert (code, out) == (2, "")
    assert "no column budget" in err


def test_isoflop_takes_another_column_of_flops_beside_flops(run, tmp_path):
    path = isoflop_csv(tmp_path / "runs.csv")
    table = pd.read_csv(path)
    table.assign(budget=table["flops"], flops=1.0).to_csv(path, index=False)
    code, out, _ = run("isoflop", path, "--flops", "budget")
    assert code == 0
    assert "3 joint law  0.5" in out


def test_plot_says_that_no_kind_could_be_drawn(run, csv, tmp_path):
    code, out, err = run("plot", csv, "--kind", "isoflop", "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "no figure of kind isoflop for these runs; `scaling isoflop` says why" in err


def test_plot_draws_the_profiles(run, tmp_path):
    code, _, _ = run(
        "plot", isoflop_csv(tmp_path / "runs.csv"), "--kind", "isoflop", "-o", tmp_path / "out"
    )
    assert code == 0
    assert (tmp_path / "out" / "logloss-isoflop.png").read_bytes()[:4] == b"\x89PNG"
