"""What more of each size buys: against the law's own terms, at the place that is named."""

import numpy as np
import pandas as pd
import pytest

from analysis.budget import Cost, allocate
from analysis.fit import fit_law
from analysis.gain import gains
from analysis.laws import Additive, build_law
from scaling.errors import UserError

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}
COST = Cost("flops", 18.0, 0.9)


def table(**more):
    sizes = np.geomspace(1e4, 1e7, 5)
    axes = np.meshgrid(sizes, sizes, *more.values(), range(2))
    names = ["n_params", "n_samples", *more, "seed"]
    rows = pd.DataFrame({name: axis.ravel() for name, axis in zip(names, axes, strict=True)})
    errors = np.random.default_rng(0).normal(0, 1e-3, len(rows))
    return rows.assign(y=Additive()(PARAMS, rows["n_params"], rows["n_samples"]) + errors)


@pytest.fixture(scope="module")
def fit():
    return fit_law(Additive(), table(), y="y")


def test_more_of_one_size_buys_what_its_term_says(fit):
    by_size = gains(fit, COST, 4.0)[0].gains[0]
    p = fit.params
    assert by_size.what == "4 x parameters"
    expected = p["A"] * 1e7 ** -p["alpha"] * (1 - 4 ** -p["alpha"])
    assert by_size.improvement[0] == pytest.approx(expected, rel=1e-9)


def test_the_largest_run_is_the_most_expensive_cell():
    """An IsoFLOP table has no run at the largest model and the largest data."""
    rows = table().query("n_params * n_samples <= 1e12")
    fit = fit_law(Additive(), rows, y="y")
    found = gains(fit, Cost("flops", 6.0, 1.1))[0]
    assert found.sizes == pytest.approx((1e7, 10**4.75))


def test_the_second_place_is_the_best_split_of_the_largest_runs_cost(fit):
    largest, split = gains(fit, COST)
    best = allocate(fit, COST, float(COST(*largest.sizes))).best
    assert split.sizes == pytest.approx((best.n_params[0], best.n_samples[0]))
    assert split.metric < largest.metric


def test_more_cost_ends_at_the_best_split_of_it(fit):
    for found in gains(fit, COST):
        last = found.gains[-1]
        assert last.what == "10 x flops, split best"
        assert float(COST(*last.after)) == pytest.approx(10 * float(COST(1e7, 1e7)))
        change = found.metric - float(fit.predict(*last.after))
        assert last.improvement[0] == pytest.approx(change, rel=1e-9)


def test_a_third_axis_is_answered_too():
    rows = table(max_len=[10.0, 100.0, 1000.0])
    rows["y"] += 0.5 * rows["max_len"] ** -0.4
    fit = fit_law(build_law("length"), rows, y="y")
    (found,) = gains(fit)
    assert [gain.what for gain in found.gains][2] == "10 x max_len"
    true = 0.5 * 1000**-0.4 * (1 - 10**-0.4)
    _, low, high = found.gains[2].improvement
    assert low < true < high


def test_more_epochs_are_more_samples_of_the_same_data():
    rows = table(epochs=[1.0, 4.0, 16.0])
    law = build_law("repeated")
    params = PARAMS | {"R_D": 10.0}
    errors = np.random.default_rng(1).normal(0, 1e-3, len(rows))
    rows["y"] = law(params, rows["n_params"], rows["n_samples"], rows["epochs"]) + errors
    (found,) = gains(fit_law(law, rows, y="y"))
    by_data, by_epochs = found.gains[1:]
    assert by_epochs.after == pytest.approx(
        (found.sizes[0], 10 * found.sizes[1], 10 * found.sizes[2])
    )
    assert by_data.after[2] == found.sizes[2]
    assert by_data.improvement[0] > by_epochs.improvement[0]


def test_a_law_whose_terms_vanished_tells_no_gain():
    rows = table()
    fit = fit_law(Additive(), rows.assign(y=1 - rows["y"]), y="y")
    with pytest.raises(UserError, match="no gain from a size: A is 0"):
        gains(fit, COST)


def test_a_fit_without_a_curve_tells_no_gain():
    with pytest.raises(UserError, match="no law to tell a gain by"):
        gains(fit_law(Additive(), table()[:3], y="y"), COST)
