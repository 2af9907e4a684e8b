"""Further cells: the predicted interval is the one that the cell then gives."""

import numpy as np
import pandas as pd
import pytest

from analysis.budget import Cost, SizeCost, next_cells, with_advice
from analysis.fit import fit_law
from analysis.laws import Additive, Saturating
from scaling.errors import UserError

COST = Cost("flops", 6.0, 1.0)
PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}


def table(decades=3.0, noise=1e-3):
    sizes = np.geomspace(1e4, 1e4 * 10**decades, 4)
    n, d, seed = (a.ravel() for a in np.meshgrid(sizes, sizes, range(3)))
    rows = pd.DataFrame({"n_params": n, "n_samples": d, "seed": seed})
    errors = np.random.default_rng(4).normal(0, noise, len(rows))
    return rows.assign(y=Additive()(PARAMS, n, d) + errors)


@pytest.mark.parametrize("quantity", ["alpha", "loss"])
def test_a_cell_narrows_the_interval_as_told(quantity):
    fit = fit_law(Additive(), table(), y="y")
    at = (1e8, 1e8)
    ranked = next_cells(fit, COST, quantity=quantity, at=at)
    best = ranked.iloc[int(ranked["shrinks"].argmax())]
    more = pd.DataFrame(
        {"n_params": best["n_params"], "n_samples": best["n_samples"], "seed": [10, 11, 12]}
    )
    more["y"] = fit.predict(more["n_params"], more["n_samples"])
    wider = fit_law(Additive(), pd.concat([table(), more], ignore_index=True), y="y")

    def width(result):
        if quantity == "alpha":
            return result.stderr["alpha"] / result.noise.sd
        band = result.band(*at)
        return float(band.upper - band.lower) / result.noise.sd

    # On the law itself the new runs leave the estimate; t loses a little by their two degrees more.
    assert width(wider) / width(fit) == pytest.approx(1 - best["shrinks"], rel=0.01)


def test_a_further_size_narrows_a_law_of_one_as_told():
    size = np.repeat(np.geomspace(1e4, 1e8, 6), 3)
    errors = np.random.default_rng(4).normal(0, 1e-3, len(size))
    y = Saturating()({"E": 0.4, "A": 3.0, "alpha": 0.3}, size) + errors
    rows = pd.DataFrame({"n_samples": size, "y": y})
    fit = fit_law(Saturating(), rows, x="n_samples", y="y")
    best = next_cells(fit, SizeCost("flops"), quantity="alpha").sort_values("shrinks").iloc[-1]
    more = pd.DataFrame({"n_samples": [best["size"]] * 3, "y": fit.predict([best["size"]] * 3)})
    after = fit_law(Saturating(), pd.concat([rows, more]), x="n_samples", y="y")
    ratio = after.stderr["alpha"] / after.noise.sd / (fit.stderr["alpha"] / fit.noise.sd)
    # the new runs are on the law and leave the estimate, so the update is exact up to rounding of the optimum
    assert ratio == pytest.approx(1 - best["shrinks"], rel=1e-4)


def test_cells_are_ranked_by_shrinkage_per_cost():
    ranked = next_cells(fit_law(Additive(), table(), y="y"), COST, quantity="beta", seeds=2)
    assert ranked["per_cost"].is_monotonic_decreasing
    np.testing.assert_allclose(ranked["cost"], 12 * ranked["n_params"] * ranked["n_samples"])
    assert set(ranked["n_runs"]) == {0, 3}
    assert ((ranked["shrinks"] >= 0) & (ranked["shrinks"] < 1)).all()


def test_a_wider_span_beats_more_seeds():
    fit = fit_law(Additive(), table(), y="y")
    ranked = next_cells(fit, COST, quantity="alpha").sort_values("shrinks")
    assert ranked["n_params"].iloc[-1] > 1e7


def test_an_undetermined_fit_names_the_cell_that_would_settle_it():
    fit = with_advice(fit_law(Additive(), table(decades=0.7, noise=1e-2), y="y"))
    assert fit.status == "not_identified"
    [note] = [note for note in fit.notes if "would narrow" in note]
    assert note.startswith("3 runs at n_params ")


def test_bad_questions_are_one_line():
    fit = fit_law(Additive(), table(), y="y")
    with pytest.raises(UserError, match="did you mean alpha"):
        next_cells(fit, COST, quantity="alfa")
    with pytest.raises(UserError, match="needs a target"):
        next_cells(fit, COST, quantity="loss")
    with pytest.raises(UserError, match="no interval to shrink"):
        next_cells(fit_law(Additive(), table()[:4], y="y"), COST)
