"""Held-out scores: what is held out, and that the score separates a good law from a bad one."""

import numpy as np
import pandas as pd
import pytest

from analysis.fit import FitOptions
from analysis.laws import Additive, TiedAdditive
from analysis.laws.two_axes import Multiplicative
from analysis.study_results import fit_study, holdout, largest_cells, score_holdout
from scaling.errors import UserError

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}


def study(seeds=3, noise=1e-3, n=5):
    sizes = np.geomspace(1e4, 1e7, n)
    n_params, n_samples, seed = (a.ravel() for a in np.meshgrid(sizes, sizes, range(seeds)))
    table = pd.DataFrame({"n_params": n_params, "n_samples": n_samples, "seed": seed})
    rng = np.random.default_rng(6)
    table["logloss"] = Additive()(PARAMS, n_params, n_samples) + rng.normal(0, noise, len(table))
    return table


@pytest.mark.parametrize(("cut", "n_test"), [("data", 5), ("size", 5), ("corner", 9)])
def test_whole_rows_and_columns_are_held_out(cut, n_test):
    table = study()
    rows = holdout([Additive()], table, cuts=[cut])
    assert len(rows) == n_test
    assert rows["n_train"].iloc[0] == 3 * (25 - n_test)
    on_edge = (rows["n_params"] == 1e7) | (rows["n_samples"] == 1e7)
    assert on_edge.all()
    assert rows["reach"].iloc[0] == pytest.approx(10**0.75)


def test_a_flops_cut_holds_out_the_costliest_fifth():
    table = study().assign(flops=lambda t: 6 * t.n_params * t.n_samples)
    rows = holdout([Additive()], table, cuts=["flops"])
    # 25 cells of 9 distinct products: the two largest products are 3 cells.
    assert len(rows) == 3
    assert (rows["n_params"] * rows["n_samples"]).min() > 1e12


def test_every_level_rolls_the_cut_back_until_the_law_cannot_be_fitted():
    rows = holdout([Additive()], study(), cuts=["data"], every_level=True)
    scores = score_holdout(rows)
    assert scores["held_out"].tolist() == [1, 2, 3, 4]
    assert scores["status"].tolist()[2:] == ["too_few_points", "too_few_points"]
    assert scores["mean_absolute_error"].isna().tolist() == [False, False, True, True]


def test_the_true_law_extrapolates_within_its_interval():
    rows = holdout([Additive()], study(), cuts=["data", "size", "corner"])
    assert rows["relative_error"].abs().max() < 0.01
    assert rows["inside"].mean() >= 0.85


def test_a_wrong_form_scores_worse_than_the_true_one():
    laws = [Multiplicative(), TiedAdditive(), Additive()]
    scores = score_holdout(holdout(laws, study(noise=1e-4), cuts=["corner"]))
    assert scores["law"].iloc[0] == "additive"
    by_law = scores.set_index("law")["mean_absolute_error"]
    assert by_law["multiplicative"] > 10 * by_law["additive"]


def test_the_largest_held_out_cell_is_shown_as_each_law_predicts_it():
    rows = holdout([Multiplicative(), Additive()], study(), cuts=["corner", "size"])
    largest = largest_cells(rows)
    assert largest[["cut", "law"]].to_numpy().tolist() == [
        ["corner", "additive"], ["corner", "multiplicative"],
        ["size", "additive"], ["size", "multiplicative"],
    ]  # fmt: skip
    assert (largest[["n_params", "n_samples"]] == 1e7).all(axis=None)
    within = (largest["lower"] <= largest["measured"]) & (largest["measured"] <= largest["upper"])
    assert (largest["inside"] == within).all()
    assert largest["inside"].iloc[0] == 1


def test_of_equally_large_cells_the_one_with_most_data_is_shown():
    table = study()
    table = table[(table["n_params"] < 1e7) | (table["n_samples"] < 1e7)]
    largest = largest_cells(holdout([Additive()], table, cuts=["corner"]))
    assert largest[["n_params", "n_samples"]].to_numpy().tolist() == [[10**6.25, 1e7]]


def test_one_size_leaves_nothing_to_hold_out():
    table = study()
    table = table[table["n_params"] == table["n_params"].min()]
    assert holdout([Additive()], table, cuts=["size"]).empty
    assert score_holdout(holdout([Additive()], table, cuts=["size"])).empty
    assert largest_cells(holdout([Additive()], table, cuts=["size"])).empty


def test_signed_errors_follow_the_prediction():
    table = study(noise=0.0)
    table.loc[table["n_samples"] == 1e7, "logloss"] *= 1.1
    scores = score_holdout(holdout([Additive()], table, cuts=["data"]))
    assert scores["mean_error"].iloc[0] == pytest.approx(1 / 1.1 - 1, rel=1e-3)


def test_a_missing_column_is_named():
    with pytest.raises(UserError, match="no column auc"):
        holdout([Additive()], study(), y="auc")


def test_a_law_that_only_fits_is_called_so():
    # Below the cut a bend looks like a term; beyond it the multiplicative form runs away.
    rows = [
        {"law": law, "cut": "data", "held_out": 1, "n_train": 20, "fit_error": fit, "status": "converged",
         "reach": 4.0, "relative_error": error, "inside": 1.0}
        for law, fit, error in (("good", 0.010, 0.01), ("bends", 0.009, 0.03), ("poor", 0.050, 0.05))
    ]  # fmt: skip
    scores = score_holdout(pd.DataFrame(rows)).set_index("law")["verdict"]
    assert scores.to_dict() == {"good": "best", "bends": "only fits", "poor": ""}


@pytest.mark.parametrize(
    ("x", "data"), [("size", "mean"), ("status", "measured"), ("cut", "n_seeds")]
)
def test_sizes_may_be_named_as_the_results_are(x, data):
    table = study()
    plain = holdout([Additive()], table, cuts=["corner"])
    renamed = table.rename(columns={"n_params": x, "n_samples": data})
    rows = holdout([Additive()], renamed, x=x, data=data, cuts=["corner"])
    assert rows["predicted"].tolist() == plain["predicted"].tolist()
    for name, column in ((x, "n_params"), (data, "n_samples")):
        own = f"{name} (size)" if f"{name} (size)" in rows.columns else name
        assert rows[own].tolist() == plain[column].tolist()


def test_each_held_out_fit_uses_the_options():
    rows = holdout([Additive()], study(), cuts=["data"], options=FitOptions(fixed={"E": 0.6}))
    free = holdout([Additive()], study(), cuts=["data"])
    assert rows["fit_error"].iloc[0] > 2 * free["fit_error"].iloc[0]


@pytest.mark.slow
def test_a_study_without_extrapolation_has_the_same_joint_law_alone():
    short, full = (
        fit_study(study(n=4), ["logloss"], extrapolate=wanted).metrics["logloss"]
        for wanted in (False, True)
    )
    assert short.joint.to_document() == full.joint.to_document()
    assert (short.rivals, len(short.held_out)) == ({}, 0)
    assert full.rivals
