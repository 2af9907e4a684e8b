"""The first screen and the headlines: each sentence says what the fits say, and no more."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.budget import Gain, frontier, read_cost
from analysis.plots.style import set_finding
from analysis.plots.training import (
    calibration_finding,
    curves_finding,
    plot_calibration,
    plot_training,
)
from analysis.report import analyse_table
from analysis.report.sections.answer import answer_section, lead_sentence
from analysis.report.sections.cell_list import cells_section
from analysis.report.sections.training_runs import race_section, training_section, variant_column
from analysis.study_results import (
    cost_finding,
    fit_study,
    gain_sentence,
    growth_finding,
    holdout_finding,
    race_of_studies,
    residual_finding,
)
from tests.support.figure_texts import colliding, cut_off, figure_of
from tests.support.reported_study import make_table

TEN = (1.0,), (10.0,)


@pytest.fixture(scope="module")
def study():
    return fit_study(make_table(), ["soft_logloss", "soft_auc"])


@pytest.fixture(scope="module")
def unknown():
    """Three cells determine no law."""
    return fit_study(make_table(seeds=1)[:3], ["soft_logloss"])


def fitted_variants():
    one = make_table(seeds=4)
    noise = np.random.default_rng(1).normal(0, 1e-3, len(one))
    other = one.assign(soft_logloss=one["soft_logloss"] + 0.02 + noise)
    tables = {"model.kind=suan": one, "model.kind=din": other}
    return [fit_study(table, ["soft_logloss"], label) for label, table in tables.items()]


@pytest.fixture(scope="module")
def variants():
    return fitted_variants()


def answers(section):
    return {one.asked: one for one in section.parts[0].answers}


@pytest.mark.parametrize(
    ("improvement", "sentence"),
    [
        ((0.0078, 0.0029, 0.0127), "10 x samples improve m by 0.0078 [0.0029, 0.0127]"),
        (
            (0.0001, -0.001, 0.0012),
            "10 x samples change m by nothing that can be told from zero: 0.0001 [-0.0010, 0.0012]",
        ),
        ((-0.002, -0.003, -0.001), "10 x samples make m worse: -0.0020 [-0.0030, -0.0010]"),
        ((0.002, np.nan, np.nan), "10 x samples improve m by 0.002, with unknown error"),
    ],
)
def test_a_gain_is_told_with_its_sign_and_its_doubt(improvement, sentence):
    assert gain_sentence(Gain("10 x samples", *TEN, improvement), "m") == sentence


def test_the_tiles_hold_the_gains_of_the_law(study):
    tiles = answers(answer_section([study], [], None))
    for gain in study.metrics["soft_logloss"].tenfold[0].gains[:2]:
        tile = tiles[gain.what.replace(" x ", " × ")]
        shown = float(tile.value.split()[0])
        assert shown == pytest.approx(gain.improvement[0], rel=0.06)
        assert tile.value.endswith("better")
        assert tile.detail[-1] == "10 × beyond the runs"


def test_a_gain_of_unknown_error_is_not_called_nothing(study):
    fits = study.metrics["soft_logloss"]
    place = fits.tenfold[0]
    gains = tuple(replace(g, improvement=(0.01, np.nan, np.nan)) for g in place.gains)
    own = replace(fits, tenfold=(replace(place, gains=gains),))
    tile = answers(answer_section([replace(study, metrics={"soft_logloss": own})], [], None))[
        "10 × samples"
    ]
    assert (tile.value, tile.mood) == ("0.01 better, error unknown", "open")


def test_the_best_use_of_the_budget_is_that_of_the_frontier(study):
    fits = study.metrics["soft_logloss"]
    cost = read_cost(study.table, "flops", x="n_params", data="n_samples")
    (point,) = frontier(fits.joint, cost, [float(cost(*fits.tenfold[0].sizes))])
    tile = next(t for asked, t in answers(answer_section([study], [], None)).items() if "largest run's" in asked)  # fmt: skip
    numbers = [float(n) * 10**3 for n in re.findall(r"([\d.]+)k", tile.value)]
    assert numbers == pytest.approx([point.n_params[0], point.n_samples[0]], rel=0.06)


def test_an_undetermined_law_promises_nothing(unknown):
    section = answer_section([unknown], [], None)
    tiles = [one for one in section.parts[0].answers if one.asked.startswith("10 ×")]
    assert [(one.value, one.mood) for one in tiles] == [("cannot be told yet", "none")] * 2
    assert "too few cells" in lead_sentence([unknown], None).lower()


def worse_when_larger():
    """More data help, larger models are worse."""
    table = make_table()
    noise = np.random.default_rng(2).normal(0, 3e-4, len(table))
    loss = 0.4 + 2 * table["n_samples"] ** -0.35 + 0.01 * np.log10(table["n_params"]) + noise
    return fit_study(table.assign(soft_logloss=loss), ["soft_logloss"])


@pytest.mark.slow
def test_data_are_answered_for_although_larger_models_are_worse():
    study = worse_when_larger()
    tiles = answers(answer_section([study], [], None))
    assert not study.metrics["soft_logloss"].joint.success
    assert tiles["10 × parameters"].value == "more is worse"
    told = float(tiles["10 × parameters"].detail[0].split("by ")[1].split()[0])
    assert told == pytest.approx(0.01 * np.log10(50), rel=0.1)
    assert tiles["10 × samples"].value.endswith("better")
    assert tiles["Do next"].value == "find out why larger models are worse"


def test_a_law_that_misses_held_out_cells_is_not_called_sure(study):
    fits = study.metrics["soft_logloss"]
    missed = fits.held_out.assign(inside=0.0)
    own = replace(study, metrics={"soft_logloss": replace(fits, held_out=missed)})
    tiles = answers(answer_section([own], [], None))
    assert tiles["Tested on held-out cells"].value == "few are predicted"
    assert {tiles[name].mood for name in ("10 × samples", "Exponents")} == {"open"}


def test_remarks_against_the_law_stand_on_the_first_screen(study):
    fits = study.metrics["soft_logloss"]
    note = "lack of fit: residuals exceed the seeds' noise (F = 9.0, p = 0.001)"
    doubtful = replace(fits, joint=replace(fits.joint, notes=(note,)))
    section = answer_section([replace(study, metrics={"soft_logloss": doubtful})], [], None)
    warned = [part.text for part in section.parts if getattr(part, "kind", "") == "warn"]
    assert warned[0] == f"L{note[1:]}."


@pytest.mark.parametrize("status", ["converged", "at_bound", "not_identified"])
def test_an_outlier_stands_on_the_first_screen_whatever_the_status(study, status):
    fits = study.metrics["soft_logloss"]
    note = "outlier: soft_logloss at n_params 2000, n_samples 4096 is off the law (p = 1.0e-09)"
    joint = replace(fits.joint, notes=(note,), status=status)
    one = replace(study, metrics={"soft_logloss": replace(fits, joint=joint)})
    several = [replace(one, label="a"), replace(one, label="b")]
    for studies in ([one], several):
        section = answer_section(studies, [], None)
        warned = [part.text for part in section.parts if getattr(part, "kind", "") == "warn"]
        told = [text for text in warned if "n_params 2000" in text]
        assert len(told) == len(studies)
        assert all("`--loss huber`" in text for text in told)


def test_a_robust_fit_is_not_advised_to_be_robust(study):
    fits = study.metrics["soft_logloss"]
    note = "outliers: 1 of 16 rows are more than 5 sd off the law, the worst at n_params 2000"
    robust = replace(fits, joint=replace(fits.joint, notes=(note,)))
    section = answer_section([replace(study, metrics={"soft_logloss": robust})], [], None)
    told = [part.text for part in section.parts if getattr(part, "kind", "") == "warn"]
    assert any(text.startswith("Outliers: 1 of 16 rows") for text in told)
    assert not any("--loss huber" in text for text in told)


@pytest.mark.parametrize(
    ("names", "heading", "entries"),
    [
        (["model.kind=din", "model.kind=dien"], "model.kind", ["din", "dien"]),
        (["a=1, b=x", "a=1, b=y"], "a=1, b", ["x", "y"]),
        (["distill=cold", "data_order=shared"], "variant", ["distill=cold", "data_order=shared"]),
        (["dark", "dart"], "variant", ["dark", "dart"]),
    ],
)
def test_what_all_names_share_is_said_in_the_heading_alone(names, heading, entries):
    assert variant_column(names) == (heading, dict(zip(names, entries, strict=True)))


def test_missing_runs_are_counted_beside_the_answers(study):
    planned = pd.DataFrame({"state": ["done"] * 30 + ["failed"] * 2})
    texts = [part.text for part in answer_section([study], [], planned).parts if hasattr(part, "text")]  # fmt: skip
    assert any("2 of 32 planned runs are missing" in text for text in texts)


@pytest.mark.slow
def test_the_first_sentence_of_a_race_says_who_is_better(variants):
    race = race_of_studies(variants, "soft_logloss")
    assert race.reference == "model.kind=suan"
    said = lead_sentence(variants, race)
    assert said.startswith(
        "At equal grade and data, model.kind=suan is better than model.kind=din. "
    )
    assert "10 × samples improve soft_logloss by" in said


@pytest.mark.slow
def test_a_race_shows_the_mean_difference_of_the_pairs(variants):
    section, pictures = race_section(race_of_studies(variants, "soft_logloss"))
    table = section.parts[1]
    assert set(pictures) == {"race"}
    assert table.header[0] == "model.kind"
    assert table.rows[0][0] == "din"
    assert float(table.rows[0][2].split()[0]) == pytest.approx(0.02, abs=1e-3)


@pytest.mark.slow
def test_a_variant_with_too_few_cells_for_a_law_still_races(variants):
    few = variants[0].table.query("n_params < 10_000 and n_samples < 20_000")
    bad = fit_study(
        few.assign(soft_logloss=few["soft_logloss"] + 0.1), ["soft_logloss"], "model.kind=bst"
    )
    race = race_of_studies([*variants, bad], "soft_logloss")
    assert {contest.variant for contest in race.contests} == {"model.kind=din", "model.kind=bst"}
    assert list(race.left_out) == ["model.kind=bst"]


def test_one_variant_is_no_race(study):
    assert race_of_studies([study], "soft_logloss") is None
    assert race_section(None)[0].is_empty


@pytest.mark.slow
def test_variants_have_a_row_each(variants):
    table = answer_section(variants, [], None).parts[1]
    assert (table.header[0], [row[0] for row in table.rows]) == ("model.kind", ["suan", "din"])
    assert len(table.header) == len(table.rows[0])


def test_the_headline_of_a_figure_is_the_gain_along_its_axis(study):
    fits = study.metrics["soft_logloss"]
    assert growth_finding(fits, "D") == gain_sentence(fits.tenfold[0].gains[1], "soft_logloss")


def test_the_headline_of_residuals_names_the_worst_cell(study):
    fits = study.metrics["soft_logloss"]
    cells = fits.joint.cells
    worst = cells.assign(residual=np.where(cells.index == 5, 0.5, cells["residual"]))
    said = residual_finding(replace(fits, joint=replace(fits.joint, cells=worst)))
    assert "N = 9k, D = 16.4k" in said


def test_the_headline_of_held_out_cells_counts_the_hits(study):
    fits = study.metrics["soft_logloss"]
    rows = fits.held_out[fits.held_out["law"] == "additive"]
    corner = rows[rows["cut"] == "corner"]
    hits = int((corner["inside"] == 1).sum())
    assert holdout_finding(fits).endswith(f"corner {hits} of {len(corner)}")


def test_the_headline_of_costs_compares_the_ends_of_the_ladder(study):
    table = study.table.assign(flops_per_sample=20.0 * study.table["n_params"])
    own = replace(study, table=table)
    means = table[table["n_samples"] == 262144].groupby("n_params")["soft_logloss"].mean()
    said = cost_finding(own, own.metrics["soft_logloss"], "flops_per_sample")
    change = float(re.search(r"improves soft_logloss by ([\d.]+) at D = 262k", said)[1])
    assert change == pytest.approx(means[2_000] - means[100_000], rel=0.01)


def test_every_cell_has_a_row_with_its_mean_and_the_law(study):
    table = cells_section([study]).parts[0]
    place = {name: i for i, name in enumerate(table.header)}
    fit, means = study.metrics["soft_logloss"].joint, study.cells.metrics["soft_logloss"]["mean"]
    assert len(table.rows) == len(study.cells) == 16
    for row, mean in zip(table.rows, means, strict=True):
        law = float(fit.predict(row[place["N"]], row[place["D"]]))
        assert row[place["mean"]].number == pytest.approx(mean)
        assert row[place["law"]].number == pytest.approx(law)
        assert row[place["seeds"]] == 2


def curves(n_runs=3, rising=()):
    rows = [
        {"grade": f"SUAN-{run}", "n_params": 1000 * 4**run, "n_samples": 1000 * 4**run, "seed": 0, "signature": str(run),
         "step": step, "n_steps": 40, "n_seen": 100 * step, "loss": 0.5 + (0.01 * step if run in rising else 0.2 / step)}
        for run in range(n_runs)
        for step in (1, 5, 10, 40)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_run_whose_loss_rises_is_counted():
    assert "all 3 runs is lower in the second half" in curves_finding(curves())
    assert "1 of 3 runs is HIGHER" in curves_finding(curves(rising=[1]))


def test_a_lucky_first_step_alarms_nobody():
    lucky = curves()
    lucky.loc[lucky["step"] == 1, "loss"] = 0.1
    lucky.loc[lucky["step"] == 5, "loss"] = 1.2
    assert "all 3 runs is lower" in curves_finding(lucky)


def test_the_range_of_calibration_is_that_of_the_most_data():
    table = make_table().assign(calibration=1.5)
    table.loc[table["n_samples"] == 262144, "calibration"] = np.linspace(0.9, 1.1, 8)
    said = calibration_finding(table)
    assert said == "Models of 262k samples predict 0.90 to 1.10 clicks per observed click"


def test_what_runs_do_not_have_is_not_drawn():
    section, pictures = training_section(make_table(), None)
    assert section.is_empty
    assert pictures == {}


@pytest.mark.parametrize("finding", ["Short", "A long sentence of what a figure shows " * 5])
def test_texts_of_training_figures_keep_apart(finding):
    table = make_table().assign(calibration=1.0)
    for drawn in (plot_training(curves()), plot_calibration(table)):
        figure = figure_of(drawn)
        set_finding(figure, finding)
        figure.draw_without_rendering()
        assert colliding(figure) == []
        assert cut_off(figure) == []


def test_the_document_has_the_numbers_of_the_page(tmp_path):
    result = analyse_table(
        make_table(), tmp_path, title="t", metrics=["soft_logloss"], commands=["scaling run x"]
    )
    document = json.loads(result.paths["document"].read_text())
    (variant,) = document["variants"]
    metric = variant["metrics"]["soft_logloss"]
    fit = result.fits["soft_logloss-joint"]
    assert metric["law"]["params"] == pytest.approx(fit.params)
    assert len(metric["cells"]) == 16
    assert [one["what"] for one in metric["gains"][0]["more_of"]][:2] == ["10 x parameters", "10 x samples"]  # fmt: skip
    assert document["commands"] == ["scaling run x"]


@pytest.mark.slow
def test_markdown_names_only_figures_that_are_there(tmp_path):
    result = analyse_table(make_table(), tmp_path, title="t", metrics=["soft_logloss"])
    named = re.findall(
        r"\]\((figures/[^)]+)\)", result.paths["markdown"].read_text(encoding="utf-8")
    )
    assert len(named) >= 5
    assert all((tmp_path / name).exists() for name in named)


@pytest.mark.slow
@pytest.mark.parametrize("known", [1, 2])
def test_a_race_counts_computed_flops_only_if_all_models_have_them(known):
    studies = fitted_variants()
    for i, study in enumerate(studies):
        flops = 6.0 * study.table["n_params"] * study.table["n_samples"]
        study.table["flops"] = flops
        study.table["computed_flops"] = 2 * flops if i < known else np.nan
    race = race_of_studies(studies, "soft_logloss")
    assert [law.cost.factor for law in race.laws] == pytest.approx([6.0 * known] * 2)
