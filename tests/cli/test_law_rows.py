"""The rows that verbs on laws take: of a study, of hyperparameters, of metrics whose direction must be known."""

import json

import numpy as np
import pandas as pd
import pytest
from slow_cases import fast_only
from small_studies import plan_of

from analysis.fit import fit_law
from analysis.laws import Additive
from scaling.cli.fit_inputs import load_table
from scaling.cli.laws.forecast_target import parse_target
from scaling.records import RunRecord

PARAMS = {"E": 0.8, "A": 0.5, "B": 0.5, "alpha": 0.25, "beta": 0.3}


def make_table(rates=(), seeds=2):
    """A rising metric `y`; with rates, one row for each, of which the second is the best."""
    sizes = np.geomspace(1e4, 1e7, 4)
    n, d, s = (a.ravel() for a in np.meshgrid(sizes, sizes, range(len(rates) or seeds)))
    table = pd.DataFrame({"n_params": n, "n_samples": d})
    noise = np.random.default_rng(0).normal(0, 1e-4, len(table))
    table["y"] = Additive(rising=True)(PARAMS, n, d) + noise
    if rates:
        table["lr"] = np.array(rates)[s.astype(int)]
        table["y"] -= 0.02 * np.abs(s - 1)
    return table


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "runs.csv"
    make_table().to_csv(path, index=False)
    return path


VERBS = {
    "fit": [],
    "holdout": [],
    "allocate": ["--flops", "1e12"],
    "next": [],
    "forecast": ["--at", "1e8,1e8"],
    "plot": ["--kind", "data"],
    "report": [],
}
# what draws takes seconds
QUICK_VERBS = fast_only(set(VERBS) - {"plot", "report"}, VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_metric_of_unknown_direction_that_does_not_fall_is_refused(run, csv, verb):
    before = sorted(csv.parent.iterdir())
    code, out, err = run(verb, csv, "--y", "y", *VERBS[verb])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "runs.csv: column y does not fall with n_params and n_samples" in err
    assert "add --rising, or --falling" in err
    assert sorted(csv.parent.iterdir()) == before


@pytest.mark.parametrize("verb", QUICK_VERBS)
def test_every_verb_that_fits_takes_a_direction(run, csv, verb):
    assert run(verb, csv, "--y", "y", "--rising", *VERBS[verb])[0] == 0


def test_an_unknown_metric_that_falls_is_fitted(run, csv):
    table = make_table()
    table.assign(y=1 - table["y"]).to_csv(csv, index=False)
    assert run("fit", csv, "--y", "y")[1].startswith("y = E + A N^-alpha")


@pytest.mark.slow
def test_a_direction_holds_for_the_metrics_whose_names_do_not_tell_it(
    run, csv, tmp_path, monkeypatch
):
    # which are drawn in the report of the test above
    monkeypatch.setattr("analysis.report.study_report.draw_figures", lambda study: {})
    table = make_table()
    table.assign(logloss=1 - table["y"]).to_csv(csv, index=False)
    code, out, _ = run(
        "report", csv, "--y", "y", "--y", "logloss", "--rising", "-o", tmp_path / "o"
    )
    assert code == 0
    assert "y = E - A N^-alpha" in out
    assert "logloss = E + A N^-alpha" in out


def test_allocate_names_the_reason_if_both_terms_vanished(run, csv):
    code, out, err = run("allocate", csv, "--y", "y", "--falling", "--flops", "1e12")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no best split of a budget: A is 0, as y does not fall with n_params" in err


@pytest.fixture
def swept(tmp_path):
    path = tmp_path / "swept.csv"
    make_table(rates=(1e-3, 2e-3, 4e-3)).to_csv(path, index=False)
    return path


def test_a_fit_says_which_settings_differ_within_cells(run, swept):
    _, out, _ = run("fit", swept, "--y", "y", "--rising")
    assert "note: rows of equal n_params, n_samples differ in lr, too" in out
    assert "--best-of lr" in out


@pytest.mark.parametrize("verb", ["fit", "gain"])
def test_the_results_say_that_settings_count_as_noise(run, swept, verb):
    _, out, _ = run(verb, swept, "--y", "y", "--rising")
    assert "differ in lr, too; the fit takes the effect for noise" in out
    _, out, _ = run(verb, swept, "--y", "y", "--rising", "--json")
    assert any("differ in lr" in note for note in json.loads(out)["notes"])


def test_the_noise_of_settings_is_not_said_to_come_from_seeds(run, swept):
    _, out, _ = run("fit", swept, "--y", "y", "--rising", "--json")
    assert json.loads(out)["noise"]["source"] == "settings"
    _, out, _ = run("fit", swept, "--y", "y", "--rising")
    assert "(from rows that differ in more than the seed, " in out
    assert "from seeds" not in out


def test_a_seed_that_stands_twice_names_the_settings(run, swept):
    pd.read_csv(swept).assign(seed=0).to_csv(swept, index=False)
    code, _, err = run("fit", swept, "--y", "y", "--rising")
    assert (code, err.count("\n")) == (2, 1)
    assert "seed 0 stands twice, again in line 3; rows differ in lr, too: choose some with" in err


def test_the_best_of_each_cell_tells_its_bias(run, swept):
    code, out, _ = run("fit", swept, "--y", "y", "--rising", "--best-of", "lr", "--json")
    document = json.loads(out)
    assert (code, document["n_points"], document["n_cells"]) == (0, 16, 16)
    # The best rate is the one without an offset, so the law of its runs is the one that was planted.
    assert document["params"]["E"] == pytest.approx(PARAMS["E"], abs=3e-3)
    (note,) = [note for note in document["notes"] if "best of 3 settings of lr by y" in note]
    assert "the largest of noisy values is too high, by up to about " in note
    # Of three standard normal values the largest is 0.846 on average; Blom's formula is known to be good to 3 %.
    assert float(note.split("about ")[1].split()[0]) == pytest.approx(0.846, rel=0.03)


@pytest.mark.parametrize("verb", QUICK_VERBS)
def test_every_verb_that_fits_takes_the_best_of_each_cell(run, swept, verb):
    code, _, err = run(verb, swept, "--y", "y", "--rising", "--best-of", "lr", *VERBS[verb])
    assert code == 0
    assert "differ in lr" not in err


def test_an_unknown_setting_is_one_line(run, swept):
    code, out, err = run("fit", swept, "--y", "y", "--rising", "--best-of", "lrr")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no column lrr, did you mean lr?" in err


@pytest.fixture
def study(study_file):
    """The study of four cells, all of them done, and one done cell of three times the data that is not of its grid."""
    for size in ("160, 320", "480"):
        plan, _ = plan_of(study_file, f"grid.n_samples=[{size}]", root="runs/tiny")
        for cell in plan.cells[: 4 if size != "480" else 1]:
            write_record(plan, cell, study_file.parent / "runs" / "tiny")
    return study_file


def write_record(plan, cell, root):
    from scaling.records import RunStore

    config = cell.config
    n_params = 1000 * (int(config.grade_name[-1]) + 1)
    loss = 0.4 + n_params**-0.3 + config.n_samples**-0.3
    record = RunRecord(
        config=config, n_params=n_params, n_embedding_params=10, flops_per_sample=6000,
        flops=18_000 * config.n_samples, metrics={"logloss": loss}, train_loss=loss,
        train_seconds=1.0, samples_per_second=1.0, peak_memory_gib=0.1, provenance={},
    )  # fmt: skip
    RunStore(root).write(record)


def test_a_study_is_the_runs_of_its_grid(run, study):
    code, out, err = run("table", study, "--json")
    assert code == 0
    assert {row["n_samples"] for row in json.loads(out)} == {160, 320}
    assert "1 finished runs in the folder are not of this plan: left out (--all takes" in err


def test_all_takes_the_whole_folder(run, study):
    _, out, _ = run("table", study, "--all", "--json")
    assert {row["n_samples"] for row in json.loads(out)} == {160, 320, 480}


def test_without_the_data_all_runs_count_and_are_said_to(run, study):
    document = study.read_text().split("[grid]")
    study.write_text(
        '[study]\nname = "tiny"\n[data]\npath = "gone"\n'
        "[data.generate]\nn_train = 1024\nn_test = 64\n[grid]" + document[1]
    )
    _, out, err = run("table", study, "--json")
    assert {row["n_samples"] for row in json.loads(out)} == {160, 320, 480}
    assert "no data here, so the plan's runs are unknown and all runs of the folder count" in err


def test_a_run_outside_the_grid_is_no_target_of_a_forecast(run, study):
    code, out, err = run("forecast", study, "--law", "power", "--x", "n_samples", "--where", "grade=SUAN-0", "--at", "480")  # fmt: skip
    assert (code, out) == (2, "")
    assert "1 finished run there, so this is no forecast" in err


def test_a_forecast_knows_every_grade_of_the_ladder(run, study):
    loaded = load_table(study, study.parent / "runs", None)
    fit = fit_law(Additive(), loaded.table)
    sizes = {one["grade"]: one for one in json.loads(run("grades", "--study", study, "--json")[1])}
    expected = {"n_params": sizes["SUAN-5"]["n_params"], "n_samples": 1000}
    assert parse_target("SUAN-5,1e3", fit, loaded) == ("SUAN-5", expected)


def test_a_grade_that_is_nowhere_is_one_line(run, study):
    arguments = ("--law", "power", "--x", "n_params", "--where", "n_samples=160")
    code, out, err = run("forecast", study, *arguments, "--at", "SUAN-99")
    assert (code, out) == (2, "")
    assert "--at SUAN-99: no size n_params of SUAN-99 is known, did you mean SUAN-9?" in err


def test_a_grade_has_no_data_size(run, study):
    arguments = ("--law", "power", "--x", "n_samples", "--where", "grade=SUAN-0")
    code, out, err = run("forecast", study, *arguments, "--at", "SUAN-5")
    assert (code, out) == (2, "")
    assert "--at SUAN-5: a grade has no n_samples" in err


def test_a_forecast_reads_the_folder_once(run, study, monkeypatch):
    from analysis import table

    read, reads = table.runs_table, []
    monkeypatch.setattr("analysis.table.runs_table", lambda *a: reads.append(a) or read(*a))
    run("forecast", study, "--at", "9000,9000")
    assert len(reads) == 1


def test_set_changes_the_grid(run, study):
    _, out, _ = run("table", study, "--set", "grid.n_samples=[320, 480]", "--json")
    assert {row["n_samples"] for row in json.loads(out)} == {320, 480}


@pytest.mark.parametrize("verb", QUICK_VERBS)
def test_every_verb_that_fits_reads_the_grid_alone(run, study, verb, monkeypatch):
    _, _, err = run(verb, study, *VERBS[verb])
    assert "1 finished runs in the folder are not of this plan" in err
    _, _, err = run(verb, study, "--all", *VERBS[verb])
    assert "not of this plan" not in err


def test_set_needs_a_study(run, csv):
    code, _, err = run("fit", csv, "--y", "y", "--set", "grid.n_seeds=1")
    assert (code, err.count("\n")) == (2, 1)
    assert "--set grid.n_seeds=1: only a study file has keys" in err


def test_a_missing_value_is_named_by_the_line_of_the_file(run, csv):
    table = make_table().rename(columns={"y": "auc"})
    table.loc[3, "auc"] = np.nan
    table.to_csv(csv, index=False)
    assert "note: line 5: auc is nan" in run("fit", csv, "--y", "auc")[1]
