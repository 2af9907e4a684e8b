"""Fits that are linear regressions: their estimates and intervals are those of the textbook."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.fit import FitOptions, LawFit, fit_law
from analysis.laws import Additive, Saturating, build_law
from scaling.errors import UserError

SIZES = np.geomspace(1e5, 1e8, 8)


def least_squares(columns, y, level=0.95):
    """Coefficients and the half widths of their t intervals, from the normal equations."""
    inverse = np.linalg.inv(columns.T @ columns)
    found = inverse @ columns.T @ y
    dof = len(y) - len(found)
    variance = np.sum((y - columns @ found) ** 2) / dof
    return found, stats.t.ppf(0.5 + level / 2, dof) * np.sqrt(variance * np.diag(inverse))


# Exponents that are held: the offset and the amplitudes are linear.


@pytest.mark.parametrize("options", [{}, {"interval": "wald"}])
def test_an_offset_has_the_interval_of_a_line_if_the_exponent_is_held(options):
    y = 2 + 30 * SIZES**-0.25 + np.random.default_rng(0).normal(0, 0.01, 8)
    columns = np.column_stack([np.ones(8), SIZES**-0.25])
    (offset, amplitude), (half, _) = least_squares(columns, y)
    fit = fit_law(
        Saturating(),
        pd.DataFrame({"x": SIZES, "y": y}),
        x="x",
        y="y",
        options=FitOptions(fixed={"alpha": 0.25}, **options),
    )
    assert fit.status == "converged"
    assert fit.params["E"] == pytest.approx(offset, rel=1e-9)
    assert fit.params["A"] == pytest.approx(amplitude, rel=1e-9)
    # An end of a profile is searched to one thousandth of the half width.
    assert fit.intervals["E"].upper - offset == pytest.approx(half, rel=1e-3)
    assert offset - fit.intervals["E"].lower == pytest.approx(half, rel=1e-3)


def test_an_amplitude_has_the_interval_of_a_line_if_offset_and_exponent_are_held():
    y = 2 + 30 * SIZES**-0.25 + np.random.default_rng(0).normal(0, 0.01, 8)
    (amplitude,), (half,) = least_squares(SIZES[:, None] ** -0.25, y - 2)
    table = pd.DataFrame({"x": SIZES, "y": y})
    options = FitOptions(fixed={"E": 2.0, "alpha": 0.25})
    fit = fit_law(Saturating(), table, x="x", y="y", options=options)
    assert fit.params["A"] == pytest.approx(amplitude, rel=1e-9)
    assert fit.intervals["A"].upper - amplitude == pytest.approx(half, rel=1e-3)


@pytest.mark.parametrize("loss", ["gaussian", "huber"])
@pytest.mark.parametrize("residual", ["raw", "log"])
def test_both_exponents_of_a_joint_law_can_be_held(loss, residual):
    n, d = (a.ravel() for a in np.meshgrid(SIZES[:4], SIZES[:5]))
    params = {"E": 1.0, "A": 20.0, "B": 30.0, "alpha": 0.25, "beta": 0.3}
    table = pd.DataFrame({"n_params": n, "n_samples": d, "y": Additive()(params, n, d)})
    held = {"alpha": 0.25, "beta": 0.3}
    options = FitOptions(loss=loss, residual=residual, interval="none", fixed=held)
    fit = fit_law(Additive(), table, y="y", options=options)
    assert fit.params == pytest.approx(params, rel=1e-9)


def test_with_every_parameter_held_a_fit_measures_the_residuals():
    y = 2 + 30 * SIZES**-0.25 + np.random.default_rng(0).normal(0, 0.01, 8)
    held = {"E": 2.0, "A": 30.0, "alpha": 0.25}
    table = pd.DataFrame({"x": SIZES, "y": y})
    fit = fit_law(Saturating(), table, x="x", y="y", options=FitOptions(fixed=held))
    expected = np.sqrt(np.mean((y - 2 - 30 * SIZES**-0.25) ** 2))
    assert fit.noise.sd == pytest.approx(expected, rel=1e-9)


# Steep exponents.


@pytest.mark.parametrize("smallest", [1e5, 1e22])
def test_an_exponent_of_five_is_found(smallest):
    x = smallest * np.geomspace(1, 100, 9)
    y = 2 + 0.1 * (x / smallest) ** -4.98
    fit = fit_law(Saturating(), pd.DataFrame({"x": x, "y": y}), x="x", y="y")
    assert fit.params["alpha"] == pytest.approx(4.98, rel=1e-6)
    assert fit.at_bound == ()


# Straight lines in logs, for optima.


def best_rates():
    """A made-up best rate, which falls with the model size and rises with the data size."""
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e9, 4), np.geomspace(1e9, 1e11, 4)))
    noise = np.random.default_rng(1).normal(0, 0.1, len(n))
    return pd.DataFrame({"n": n, "d": d, "rate": 2 * n**-0.7 * d**0.3 * np.exp(noise)})


@pytest.mark.parametrize("exponent", [0.5, -0.3, 0.001])
def test_a_line_in_logs_has_the_exponent_and_interval_of_the_regression(exponent):
    cost = np.geomspace(1e16, 1e20, 9)
    best = 0.1 * cost**exponent * np.exp(np.random.default_rng(0).normal(0, 0.05, 9))
    line = stats.linregress(np.log(cost), np.log(best))
    half = line.stderr * stats.t.ppf(0.975, 7)
    table = pd.DataFrame({"cost": cost, "best": best})
    fit = fit_law(build_law("log-linear"), table, x="cost", y="best")
    assert fit.status == "converged"
    assert fit.params["a"] == pytest.approx(line.slope, abs=1e-9)
    assert fit.params["A"] == pytest.approx(np.exp(line.intercept), rel=1e-6)
    # An end of a profile is searched to one thousandth of the half width.
    assert fit.intervals["a"].upper == pytest.approx(line.slope + half, abs=1e-3 * half)
    assert fit.intervals["a"].lower == pytest.approx(line.slope - half, abs=1e-3 * half)


def test_a_plane_in_logs_has_exponents_of_both_signs():
    table = best_rates()
    columns = np.column_stack([np.ones(len(table)), np.log(table["n"]), np.log(table["d"])])
    found, half = least_squares(columns, np.log(table["rate"]))
    fit = fit_law(build_law("log-linear-joint"), table, x="n", data="d", y="rate")
    for name, value, width in zip("ab", found[1:], half[1:], strict=True):
        assert fit.params[name] == pytest.approx(value, abs=1e-9)
        assert fit.intervals[name].upper - value == pytest.approx(width, rel=1e-3)


def test_outliers_hardly_move_a_line_in_logs_with_the_huber_loss():
    table = best_rates()
    table.loc[5, "rate"] *= 100
    options = FitOptions(loss="huber", interval="none")
    fit = fit_law(build_law("log-linear-joint"), table, x="n", data="d", y="rate", options=options)
    # The scatter of 0.1 over these sizes leaves an error of about 0.02.
    assert fit.params["a"] == pytest.approx(-0.7, abs=0.06)
    assert fit.params["b"] == pytest.approx(0.3, abs=0.06)


def test_an_optimum_has_no_direction():
    table = best_rates()
    columns = {"x": "n", "data": "d", "y": "rate"}
    rising = fit_law(build_law("log-linear-joint", rising=True), table, **columns)
    assert rising.params == fit_law(build_law("log-linear-joint"), table, **columns).params


def test_an_optimum_has_no_limit():
    with pytest.raises(UserError, match="log-linear law: it has no limit, found 2; leave it out"):
        build_law("log-linear", limit=2.0)


def test_a_saved_line_comes_back():
    fit = fit_law(build_law("log-linear-joint"), best_rates(), x="n", data="d", y="rate")
    assert LawFit.from_document(fit.to_document()).summary() == fit.summary()


def test_a_power_law_that_rises_names_the_law_with_exponents_of_either_sign():
    cost = np.geomspace(1e16, 1e20, 9)
    table = pd.DataFrame({"cost": cost, "best": 0.1 * cost**0.5})
    options = FitOptions(residual="log")
    fit = fit_law(build_law("power"), table, x="cost", y="best", options=options)
    assert fit.message == "alpha is at its bound; the law log-linear has exponents of either sign"
