"""IsoFLOP profiles and the three approaches: recovery of a known law, and what is left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.budget import Cost, envelope, exponents_of_law, isoflop, three_approaches
from analysis.budget.budget_profile import profile_of
from analysis.fit import fit_law
from analysis.laws import Additive, build_law
from scaling.errors import UserError

PUBLISHED = Path(__file__).parents[3] / "shared" / "cases" / "fits"
PARAMS = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.34, "beta": 0.37}
TRUE = PARAMS["beta"] / (PARAMS["alpha"] + PARAMS["beta"])
BUDGETS = np.geomspace(1e18, 1e21, 6)


def best_size(budget):
    """Hoffmann et al. 2022, eq. 4."""
    a, b, alpha, beta = (PARAMS[name] for name in ("A", "B", "alpha", "beta"))
    return (alpha * a / (beta * b) * (budget / 6) ** beta) ** (1 / (alpha + beta))


def runs(seed=0, sd=0.004, span=3.0, budgets=BUDGETS, shift=0.0, n_sizes=7):
    random = np.random.default_rng(seed)
    parts = []
    for budget in budgets:
        n = np.geomspace(best_size(budget) / span, best_size(budget) * span, n_sizes)
        moved = n * np.exp(random.normal(0, shift))
        loss = Additive()(PARAMS, moved, budget / 6 / moved) + random.normal(0, sd, n_sizes)
        parts.append(
            pd.DataFrame(
                {"n_params": n, "n_samples": budget / 6 / n, "flops": budget, "loss": loss}
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_exact_profiles_give_the_exponents_of_the_law():
    """Around the minimum all profiles of an additive law have one shape, so its skew cancels."""
    found = isoflop(runs(sd=0), "loss")
    assert found.size.exponent == pytest.approx(TRUE, abs=1e-9)
    assert found.samples.exponent == pytest.approx(1 - TRUE, abs=1e-9)


def test_budgets_may_be_whole_numbers_whose_product_is_no_int64():
    fit = fit_law(build_law("additive"), runs(), y="loss")
    low, high, cost = 10**18, 10**21, Cost("flops", 6.0, 1.0)
    whole, real = (exponents_of_law(fit, cost, kind(low), kind(high)) for kind in (int, float))
    assert whole == real


def test_noisy_profiles_hold_the_exponents_in_their_intervals():
    found = isoflop(runs(), "loss")
    assert TRUE in found.size.interval
    assert 1 - TRUE in found.samples.interval


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_intervals_hold_the_exponent_in_95_of_100_studies(shift):
    found = [isoflop(runs(k, shift=shift), "loss", n_draws=300) for k in range(100)]
    # 95 % of 100 with three standard errors of a binomial
    assert abs(sum(TRUE in one.size.interval for one in found) - 95) < 6.6


def test_minima_that_scatter_more_than_the_runs_explain_widen_the_interval():
    own, scattered = isoflop(runs(), "loss"), isoflop(runs(shift=0.2), "loss")
    widths = [one.size.interval.upper - one.size.interval.lower for one in (own, scattered)]
    assert own.scatter_p > 0.05 > scattered.scatter_p
    assert widths[1] > 4 * widths[0]


@pytest.mark.parametrize("seed", range(4))
def test_three_budgets_of_five_sizes_have_at_most_six_degrees_of_freedom(seed):
    """The half widths at two levels are in the ratio of Student's quantiles."""
    table = runs(seed, budgets=BUDGETS[:3], n_sizes=5)
    wide, narrow = (isoflop(table, "loss", level=level).size for level in (0.99, 0.5))
    half = [
        min(p.exponent - p.interval.lower, p.interval.upper - p.exponent) for p in (wide, narrow)
    ]
    assert half[0] / half[1] > 0.999 * stats.t.ppf(0.995, 6) / stats.t.ppf(0.75, 6)


def test_runs_of_one_budget_may_differ_by_the_tolerance():
    rows = runs()
    rows["flops"] *= np.random.default_rng(1).uniform(1, 1.08, len(rows))
    assert len(isoflop(rows, "loss", tolerance=0.1).profiles) == len(BUDGETS)


def test_a_budget_whose_minimum_lies_outside_its_runs_is_named_and_left_out():
    rows = runs()
    rows = rows[(rows["flops"] < 9e20) | (rows["n_params"] > 1.1 * best_size(1e21))]
    rows = pd.concat(
        [rows, runs(n_sizes=13, budgets=[1e21]).query("n_params > 1.1 * @best_size(1e21)")]
    )
    found = isoflop(rows, "loss")
    assert "the minimum lies below the sizes" in found.profiles[-1].left_out
    assert len(found.used) == 5


def test_a_budget_of_three_sizes_is_left_out():
    rows = pd.concat([runs(), runs(budgets=[1e22], n_sizes=3)])
    assert isoflop(rows, "loss").profiles[-1].left_out == "fewer than 4 sizes (3)"


def test_a_rising_metric_has_maxima():
    rows = runs(sd=0).assign(accuracy=lambda t: 5 - t["loss"])
    found = isoflop(rows, "accuracy", rising=True)
    assert found.size.exponent == pytest.approx(TRUE, abs=1e-9)


def test_profiles_that_are_no_parabolas_say_so():
    """Far from the minimum, the loss of small models rises as a power of their size."""
    wide = runs(span=30.0, n_sizes=12)
    lopsided = wide[wide["n_params"] < 4 * wide["flops"].map(best_size)]
    assert isoflop(lopsided, "loss", within=1e3).skew_p < 0.01 < isoflop(runs(), "loss").skew_p


def fixed_sizes(sd=0.0):
    """The same 25 sizes at every budget, as far as 1 : 300 from the best one."""
    n, c = (a.ravel() for a in np.meshgrid(np.geomspace(3e7, 3e10, 25), BUDGETS))
    loss = Additive()(PARAMS, n, c / 6 / n) + np.random.default_rng(0).normal(0, sd, len(n))
    return pd.DataFrame({"n_params": n, "n_samples": c / 6 / n, "flops": c, "loss": loss})


def test_sizes_far_from_the_best_do_not_move_it():
    found = isoflop(fixed_sizes(0.004), "loss")
    assert TRUE in found.size.interval
    # a parabola through all sizes is pulled to their middle, which is the same at every budget
    assert isoflop(fixed_sizes(), "loss", within=1e3).size.exponent < TRUE - 0.03


def test_each_parabola_has_five_sizes_at_least():
    found = isoflop(fixed_sizes(), "loss", within=1.01)
    assert {int(profile.near.sum()) for profile in found.used} == {5}


def test_runs_of_unequal_flops_are_brought_to_their_budget():
    """FLOPs that rise with size would move every minimum to larger sizes."""
    rows = runs(sd=0)
    ratio = 1 + 0.09 * (rows["n_params"] / rows["flops"].map(best_size)).rank() / len(rows)
    rows["flops"] *= ratio
    rows["n_samples"] *= ratio
    rows["loss"] = Additive()(PARAMS, rows["n_params"], rows["n_samples"])
    for profile in isoflop(rows, "loss").used:
        assert profile.best_size == pytest.approx(best_size(profile.budget), rel=0.02)
        assert profile.best_samples * profile.best_size * 6 == pytest.approx(profile.budget)


def test_flops_that_are_not_positive_are_refused():
    rows = runs()
    rows.loc[5, "flops"] = 0.0
    with pytest.raises(UserError, match="flops is 0 in row 5, expected a positive number"):
        isoflop(rows, "loss")


def test_rows_without_flops_are_counted():
    rows = runs()
    rows.loc[5, "flops"] = np.nan
    assert isoflop(rows, "loss").n_without == 1


def test_minima_on_a_line_do_not_scatter():
    rows = runs(sd=0).assign(loss=lambda t: np.log(t["n_params"] / t["flops"].map(best_size)) ** 2)
    assert np.isnan(isoflop(rows, "loss").scatter_p)


def test_a_refusal_counts_the_reasons():
    rows = runs(span=9, n_sizes=12).query("n_params > 1.2 * flops.map(@best_size)")
    with pytest.raises(UserError, match=r"\(6: the minimum lies below the sizes\)"):
        isoflop(rows, "loss")
    with pytest.raises(UserError, match=r"\(6: the maximum lies below the sizes\)"):
        isoflop(rows.assign(loss=-rows["loss"]), "loss", rising=True)


def test_without_flops_a_run_costs_6_n_d():
    assert isoflop(runs().drop(columns="flops"), "loss").size == isoflop(runs(), "loss").size


def test_a_grid_without_common_budgets_is_refused():
    with pytest.raises(UserError, match=r"2 of 2 budgets have .* expected at least 3"):
        isoflop(runs(budgets=[1e18, 1e20]), "loss")


def curves(sd=0.0):
    """A model of each size, measured along training."""
    n, c = (
        a.ravel() for a in np.meshgrid(np.geomspace(3e7, 3e10, 25), np.geomspace(1e17, 1e22, 60))
    )
    noise = np.random.default_rng(0).normal(0, sd, len(n))
    return pd.DataFrame(
        {
            "n_params": n,
            "n_samples": c / 6 / n,
            "flops": c,
            "loss": Additive()(PARAMS, n, c / 6 / n) + noise,
        }
    )


def test_the_envelope_of_curves_recovers_the_exponent():
    size, samples = envelope(curves(), "loss")
    # N* moves in steps of a factor of 1.33 over three decades
    assert size.exponent == pytest.approx(TRUE, abs=0.02)
    assert size.exponent + samples.exponent == pytest.approx(1, abs=0.02)


def test_the_joint_law_recovers_the_exponent():
    rows = runs()
    approaches, _ = three_approaches(
        rows, fit_law(Additive(), rows, y="loss"), Cost("flops", 6.0, 1.0)
    )
    by_law = approaches[2].size
    assert TRUE in by_law.interval
    assert by_law.exponent == pytest.approx(TRUE, abs=0.05)


def test_an_approach_that_the_table_does_not_allow_says_why():
    rows = runs()
    approaches, _ = three_approaches(
        rows, fit_law(Additive(), rows, y="loss"), Cost("flops", 6.0, 1.0)
    )
    assert approaches[0].size is None
    assert "0 sizes have 5 or more points along flops" in approaches[0].remark


def test_the_published_optima_of_porian_et_al_have_a_known_exponent():
    points = PUBLISHED / "porian_rw_tuned.csv"
    if not points.exists():
        pytest.skip("the published points are not here")
    fit = fit_law(build_law("log-linear"), pd.read_csv(points), x="flops", y="n")
    assert fit.params["a"] == pytest.approx(0.4970, abs=1e-4)


def test_real_isoflop_runs_use_every_budget():
    points = PUBLISHED / "isoflop_dclm.csv"
    if not points.exists():
        pytest.skip("the published points are not here")
    found = isoflop(pd.read_csv(points), "loss")
    assert (len(found.profiles), len(found.used)) == (6, 6)
    assert isoflop(pd.read_csv(points), "loss", within=1e3).skew_p < 1e-6


def checkpoints(seed):
    """Nine models with 30 checkpoints each, whose FLOPs are met by another model's by chance only."""
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e5, 1e8, 9), np.geomspace(1e6, 1e10, 30)))
    loss = Additive()(PARAMS, n, d) + np.random.default_rng(seed).normal(0, 0.003, len(n))
    return pd.DataFrame({"n_params": n, "n_samples": d, "flops": 6 * n * d, "loss": loss})


@pytest.mark.parametrize("tolerance", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_checkpoints_that_share_no_budgets_are_refused(seed, tolerance):
    """Their few budgets would give an exponent of .46 where .52 is true, with an interval of .05."""
    with pytest.raises(UserError, match=r"the flops form no budgets: \d+ of \d+ groups follow"):
        isoflop(checkpoints(seed), "loss", tolerance=tolerance)


def test_checkpoints_at_common_budgets_have_an_exponent_without_interval():
    n = np.geomspace(1e5, 1e8, 19)
    rows = pd.concat(
        pd.DataFrame({"n_params": n, "n_samples": c / 6 / n, "flops": c})
        for c in np.geomspace(1e13, 1e16, 6)
    )
    rows["loss"] = Additive()(PARAMS, rows["n_params"], rows["n_samples"])
    rows["trajectory"] = rows["n_params"].map("{:.0f}".format)
    found = isoflop(rows, "loss")
    assert found.size.exponent == pytest.approx(TRUE, abs=0.02)
    assert (found.size.interval, found.samples.interval, found.n_runs) == (None, None, 19)


def far_apart(seed):
    """Four sizes in steps of a factor of 2.4, the same at every budget, while the best size grows by a factor of 6."""
    budgets = np.geomspace(1e18, 3e19, 20)
    sizes = best_size(2.8e18) * 2.4 ** (np.arange(4) - 1.0)
    n, c = (a.ravel() for a in np.meshgrid(sizes, budgets))
    loss = Additive()(PARAMS, n, c / 6 / n) + np.random.default_rng(seed).normal(0, 0.001, len(n))
    return pd.DataFrame({"n_params": n, "n_samples": c / 6 / n, "flops": c, "loss": loss})


@pytest.mark.parametrize("seed", range(8))
def test_intervals_hold_what_profiles_with_power_law_sides_say(seed):
    """A parabola through sizes that the minimum wanders across is off by .02, and its residuals tell of .01 only."""
    found = isoflop(far_apart(seed), "loss", tolerance=0.05)
    size = found.size
    assert TRUE in size.interval
    assert 1 - TRUE in found.samples.interval
    assert found.by_sides in size.interval
    assert abs(found.by_sides - TRUE) < 0.5 * abs(size.exponent - TRUE)


def test_a_difference_between_shapes_of_profiles_is_told():
    rows = far_apart(0)
    fit = fit_law(Additive(), rows, y="loss")
    approaches, _ = three_approaches(rows, fit, Cost("flops", 6.0, 1.0), tolerance=0.05)
    assert (
        "with sides that rise as powers, as those of the additive law, a is 0.52"
        in approaches[1].remark
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_best_size_is_where_the_parabola_turns(sign):
    """Off the middle of the sizes, at six FLOPs per parameter and sample."""
    sizes, best, flops = np.geomspace(1e5, 1e7, 9), 4e5, 1e15
    metric = 0.5 + sign * 0.01 * np.log(sizes / best) ** 2
    rows = np.column_stack([np.full(9, flops), sizes, flops / 6 / sizes, metric])
    profile = profile_of(rows, sign, 100.0)
    assert profile.best_size == pytest.approx(best, rel=1e-6)
    assert profile.best_samples == pytest.approx(flops / 6 / best, rel=1e-6)
