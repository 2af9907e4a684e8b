"""Spending a budget: closed forms, intervals against draws, curves that hold what they promise."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.budget import Cost, allocate, cheapest, iso_cost, iso_loss, read_cost
from analysis.fit import FitOptions, fit_law
from analysis.laws import Additive
from analysis.laws.two_axes import Multiplicative
from scaling.errors import UserError

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}
COST = Cost("flops", 18.0, 0.9)


def table(noise=1e-3, rising=False):
    sizes = np.geomspace(1e4, 1e7, 5)
    n, d, seed = (a.ravel() for a in np.meshgrid(sizes, sizes, range(3)))
    rows = pd.DataFrame({"n_params": n, "n_samples": d, "seed": seed})
    errors = np.random.default_rng(0).normal(0, noise, len(rows))
    params = PARAMS | ({"E": 0.8, "A": 0.5, "B": 0.5} if rising else {})
    return rows.assign(y=Additive(rising=rising)(params, n, d) + errors)


@pytest.fixture(scope="module")
def fit():
    return fit_law(Additive(), table(), y="y")


def closed_form(params, cost, budget):
    """Hoffmann et al. 2022, eq. 4, with a cost of factor x N^power x D."""
    a, b, alpha, beta = (params[name] for name in ("A", "B", "alpha", "beta"))
    ratio = alpha * a / (cost.power * beta * b)
    return (ratio * (budget / cost.factor) ** beta) ** (1 / (alpha + cost.power * beta))


def test_the_split_is_the_closed_form(fit):
    for budget in (1e10, 1e14, 1e20):
        best = allocate(fit, COST, budget).best
        expected = closed_form(fit.params, COST, budget)
        # The minimum of a smooth curve is known to the root of rounding.
        assert best.n_params[0] == pytest.approx(expected, rel=1e-5)
        assert COST(best.n_params[0], best.n_samples[0]) == pytest.approx(budget, rel=1e-9)
        assert best.metric[0] == pytest.approx(
            float(fit.predict(*(best.n_params[0], best.n_samples[0])))
        )


def test_a_rising_metric_is_split_alike():
    fit = fit_law(Additive(rising=True), table(rising=True), y="y")
    best = allocate(fit, COST, 1e14).best
    assert best.n_params[0] == pytest.approx(closed_form(fit.params, COST, 1e14), rel=1e-5)


def test_more_of_everything_improves_a_rising_metric_too():
    fit = fit_law(Additive(rising=True), table(rising=True), y="y")
    for gain in allocate(fit, COST, 1e14).gains:
        before, after = (float(fit.predict(*sizes)) for sizes in (gain.before, gain.after))
        assert gain.improvement[0] == pytest.approx(after - before, rel=1e-6)
        assert 0 < gain.improvement[1] < gain.improvement[0] < gain.improvement[2]


def test_intervals_agree_with_draws_of_the_parameters(fit):
    best = allocate(fit, COST, 1e15).best
    covariance = sum(part.covariance for part in fit.parts)
    draws = np.random.default_rng(1).multivariate_normal(fit.theta, covariance, 4000)
    own = fit.law.rebased(draws, fit.origin)
    sizes = [closed_form(fit.law.to_params(theta), COST, 1e15) for theta in own]
    half = np.log(best.n_params[2] / best.n_params[0])
    # 4,000 draws know a standard deviation to 1.1 %; t with 50 degrees of freedom.
    assert half == pytest.approx(2.009 * np.std(np.log(sizes)), rel=0.06)
    assert best.n_samples[1] < best.n_samples[0] < best.n_samples[2]


def test_ten_times_the_parameters_buy_what_the_term_says(fit):
    result = allocate(fit, COST, 1e14)
    p, n = fit.params, result.best.n_params[0]
    by_size = next(gain for gain in result.gains if gain.what == "10 x parameters")
    expected = p["A"] * n ** -p["alpha"] * (1 - 10 ** -p["alpha"])
    assert by_size.improvement[0] == pytest.approx(expected, rel=1e-9)
    assert by_size.improvement[1] < expected < by_size.improvement[2]
    budget = next(gain for gain in result.gains if gain.what == "10 x budget")
    assert budget.improvement[0] > by_size.improvement[0] / 10


def test_the_frontier_improves_and_tells_how_far_it_reaches(fit):
    frontier = allocate(fit, COST, 1e18).frontier
    values = [point.metric[0] for point in frontier]
    assert values == sorted(values, reverse=True)
    assert frontier[-1].reach > 100
    assert allocate(fit, COST, 1e12).best.reach == 1.0


def test_grades_are_ranked_by_what_they_reach(fit):
    grades = pd.Series({"s": 1e4, "m": 1e6, "l": 1e8})
    ranked = allocate(fit, COST, 1e13, grades=grades).grades
    assert list(ranked["metric"]) == sorted(ranked["metric"])
    assert ranked["grade"][0] == "m"
    np.testing.assert_allclose(COST(ranked["n_params"], ranked["n_samples"]), 1e13)


def test_a_target_is_reached_at_the_least_cost(fit):
    point = cheapest(fit, COST, 0.43)
    assert point.metric[0] == pytest.approx(0.43, abs=1e-7)
    curve = iso_loss(fit, COST, 0.43)
    np.testing.assert_allclose(fit.predict(curve["n_params"], curve["n_samples"]), 0.43, atol=1e-9)
    assert point.budget <= curve["cost"].min()
    along = iso_cost(fit, COST, point.budget)
    assert along["metric"].min() >= 0.43 - 1e-9


def test_what_cannot_be_answered_is_an_error(fit):
    with pytest.raises(UserError, match="lies beyond the law's limit E"):
        cheapest(fit, COST, 0.2)
    product = fit_law(Multiplicative(), table(), y="y", options=FitOptions(interval="none"))
    with pytest.raises(UserError, match="no best split"):
        allocate(product, COST, 1e14)
    with pytest.raises(UserError, match="expected a finite positive number"):
        allocate(fit, COST, 0)
    too_few = fit_law(Additive(), table()[:3], y="y")
    with pytest.raises(UserError, match="no law to spend a budget by"):
        allocate(too_few, COST, 1e14)


def test_a_law_whose_terms_vanished_has_no_split():
    """A metric that rises, fitted as one that falls: both terms are 0, and every split is as good."""
    fit = fit_law(Additive(), table(rising=True), y="y")
    assert set(fit.at_bound) == {"A", "B"}
    for spend in (lambda: allocate(fit, COST, 1e14), lambda: cheapest(fit, COST, 0.7)):
        with pytest.raises(
            UserError, match=r"no best split .*: A is 0, as y does not fall with n_p"
        ):
            spend()


def test_a_law_that_one_size_does_not_enter_has_no_split():
    rows = table()
    rows["y"] = (
        0.4 + 3 * rows["n_samples"] ** -0.3 + np.random.default_rng(0).normal(0, 1e-3, len(rows))
    )
    rows["y"] += 1e-3 * np.log(rows["n_params"])
    with pytest.raises(UserError, match="no best split of a budget: A is 0"):
        allocate(fit_law(Additive(), rows, y="y"), COST, 1e14)


def test_a_split_below_the_runs_says_how_far(fit):
    small = allocate(fit, COST, 1e5).best
    assert (small.reach, small.below > 1) == (1.0, True)
    assert small.below == pytest.approx(max(1e4 / small.n_params[0], 1e4 / small.n_samples[0]))
    assert allocate(fit, COST, 1e12).best.below == 1.0


def test_cost_is_read_off_the_runs():
    rows = table()
    rows["flops"] = 18 * rows["n_params"] ** 0.9 * rows["n_samples"]
    rows["train_seconds"] = 40 + rows["flops"] / 1e6
    cost = read_cost(rows, "flops", x="n_params", data="n_samples")
    assert (cost.factor, cost.power) == pytest.approx((18, 0.9), rel=1e-9)
    hours = read_cost(rows, "gpu-hours", x="n_params", data="n_samples")
    # The start-up hardly shows in the largest runs.
    assert float(hours(1e7, 1e7)) == pytest.approx(18 * 1e7**1.9 / 1e6 / 3600, rel=0.05)
    assert read_cost(table(), "flops", x="n_params", data="n_samples") == Cost("flops", 6.0, 1.0)
    with pytest.raises(UserError, match="no column train_seconds"):
        read_cost(table(), "gpu-hours", x="n_params", data="n_samples")


def test_an_allocation_is_plain_json(fit):
    document = allocate(fit, COST, 1e14, grades=pd.Series({"s": 1e4})).to_document()
    assert json.loads(json.dumps(document, allow_nan=False))["best"]["budget"] == 1e14
