"""Law forms: values, derivatives, the change of origin and the registry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.laws import LAWS, Additive, Broken, DataConstrained, Saturating, build_law
from analysis.laws.one_axis import Power, Shifted
from analysis.laws.three_axes import Repeated, SequenceLength
from analysis.laws.two_axes import Interaction, Kaplan
from scaling.errors import UserError

RNG_SIZES = np.random.default_rng(5)
SIZES = {"x": RNG_SIZES.uniform(1e4, 1e7, 12), "N": RNG_SIZES.uniform(1e4, 1e7, 12)}
SIZES["D"] = RNG_SIZES.uniform(1e4, 1e7, 12)
SIZES |= {"L": RNG_SIZES.uniform(10, 1e3, 12), "K": RNG_SIZES.uniform(1, 8, 12)}
SIZES["X"] = RNG_SIZES.uniform(1, 5, 12)
every_law = pytest.mark.parametrize("name", sorted(LAWS))


def theta_of(law, seed=0):
    rng = np.random.default_rng(seed)
    amplitudes = rng.normal(0, 0.5, len(law.amplitudes))
    shapes = [0.3 + 0.4 * rng.random() for _ in law.shapes]
    return np.array([0.4, *amplitudes, *shapes])


def logs_of(law):
    raw = [np.log(SIZES[variable]) for variable in law.variables]
    return [size - o for size, o in zip(raw, origin_of(law), strict=True)]


def origin_of(law):
    return [0.0 if v in law.ratios else np.log(SIZES[v]).mean() for v in law.variables]


@every_law
@pytest.mark.parametrize("rising", [False, True])
def test_jacobian_agrees_with_central_differences(name, rising):
    law = build_law(name, rising=rising)
    theta, logs = theta_of(law), logs_of(law)
    step = 1e-6
    for i in range(len(theta)):
        up, down = theta.copy(), theta.copy()
        up[i] += step
        down[i] -= step
        numeric = (law.evaluate(logs, up[None]) - law.evaluate(logs, down[None]))[0] / (2 * step)
        # Central differences: truncation step^2, rounding eps / step.
        np.testing.assert_allclose(law.jacobian(logs, theta)[:, i], numeric, atol=1e-8)


@every_law
def test_rebased_parameters_give_the_same_curve(name):
    law = build_law(name)
    theta, logs = theta_of(law), logs_of(law)
    raw = [np.log(SIZES[variable]) for variable in law.variables]
    origin = origin_of(law)
    np.testing.assert_allclose(
        law.evaluate(raw, law.rebased(theta[None], origin)),
        law.evaluate(logs, theta[None]),
        rtol=1e-12,
    )


@every_law
def test_parameters_survive_packing(name):
    law = build_law(name)
    theta = theta_of(law)
    np.testing.assert_allclose(law.to_theta(law.to_params(theta)), theta, rtol=1e-14)


@every_law
@given(seed=st.integers(0, 1000), factor=st.floats(1.01, 100))
@settings(max_examples=25, deadline=None)
def test_a_larger_size_is_never_worse(name, seed, factor):
    for rising in (False, True):
        law = build_law(name, rising=rising)
        params = law.to_params(theta_of(law, seed))
        # More uses of as many samples are fewer samples.
        for variable in set(law.variables) - set(law.ratios):
            sizes = [SIZES[v] for v in law.variables]
            larger = [SIZES[v] * (factor if v == variable else 1) for v in law.variables]
            gain = law.sign * (law(params, *sizes) - law(params, *larger))
            # Rounding where the term has all but died out.
            assert (gain >= -1e-13).all()


def test_additive_law_by_hand():
    params = {"E": 1.5, "A": 8.0, "B": 9.0, "alpha": 1 / 3, "beta": 0.5}
    assert Additive()(params, 64.0, 81.0) == pytest.approx(1.5 + 8 / 4 + 9 / 9)
    assert Additive(rising=True)(params, 64.0, 81.0) == pytest.approx(1.5 - 8 / 4 - 9 / 9)


def test_kaplan_law_by_hand():
    params = {"E": 0.5, "A": 3.0, "rho": 0.5, "beta": 2.0, "R": 10.0}
    assert Kaplan()(params, 100.0, 50.0) == pytest.approx(0.5 + 3 * (0.1 + 0.2) ** 2)


def test_shifted_law_by_hand():
    params = {"E": 0.5, "A": 3.0, "x0": 36.0, "alpha": 0.5}
    assert Shifted()(params, 64.0) == pytest.approx(0.5 + 3 / 10)


def test_broken_law_has_one_exponent_before_the_break_and_another_beyond():
    params = {"E": 0.0, "A": 1.0, "alpha": 0.1, "gamma": 0.4, "x1": 1e5, "w": 0.1}
    value = np.log(Broken()(params, [1e1, 1e2, 1e8, 1e9]))
    slopes = np.diff(value) / np.log(10)
    # A thousand times away from the break only 1e-3^(1 / w) of the bend is left.
    assert slopes[0] == pytest.approx(-0.1, abs=1e-9)
    assert slopes[2] == pytest.approx(-0.5, abs=1e-9)


def test_interaction_and_length_laws_by_hand():
    params = {"E": 0.1, "A": 2.0, "B": 3.0, "G": 5.0, "alpha": 0.5, "beta": 0.5}
    assert Interaction()(params, 4.0, 9.0) == pytest.approx(0.1 + 1 + 1 + 5 / 6)
    params = {"E": 0.1, "A": 2.0, "B": 3.0, "F": 4.0, "alpha": 0.5, "beta": 0.5, "gamma": 1.0}
    assert SequenceLength()(params, 4.0, 9.0, 8.0) == pytest.approx(0.1 + 1 + 1 + 0.5)


def test_repeated_data_are_worth_less_each_time():
    params = {"E": 0.0, "A": 1e-9, "B": 1.0, "alpha": 0.5, "beta": 1.0, "R_D": 2.0}
    law = Repeated()
    # Four uses of 100 samples: 1 + 2 (1 - exp(-3 / 2)) times their worth.
    worth = 100 * (1 + 2 * (1 - np.exp(-1.5)))
    assert law(params, 1e30, 400.0, 4.0) == pytest.approx(1 / worth)
    assert law(params, 1e30, 400.0, 1.0) == pytest.approx(1 / 400)
    both = DataConstrained()(params | {"R_N": 3.0}, 1e30, 400.0, 4.0, 1.0)
    assert both == pytest.approx(1 / worth)


def test_equations_read_as_the_direction_says():
    assert Additive().equation == "E + A N^-alpha + B D^-beta"
    assert Saturating(rising=True).equation == "E - A x^-alpha"
    assert Power().equation == "A x^-alpha"
    assert Power(rising=True).equation == "1 - A x^-alpha"


def test_an_unknown_law_names_the_nearest():
    with pytest.raises(UserError, match="did you mean additive"):
        build_law("aditive")
