"""Laws: values, derivatives, change of origin, declaration by terms, and the registry."""

import re

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from analysis.laws import LAWS, Additive, Broken, DataConstrained, build_law
from analysis.laws.base import Shape
from analysis.laws.one_axis import Exponential, Shifted, Sigmoid
from analysis.laws.power_terms import SumOfPowers, Term
from analysis.laws.three_axes import EmbeddingSize, Repeated, SequenceLength
from analysis.laws.two_axes import Bottleneck, Interaction, Kaplan, Multiplicative
from scaling.errors import UserError

RNG_SIZES = np.random.default_rng(5)
SIZES = {"x": RNG_SIZES.uniform(1e4, 1e7, 12), "N": RNG_SIZES.uniform(1e4, 1e7, 12)}
SIZES["D"] = RNG_SIZES.uniform(1e4, 1e7, 12)
SIZES |= {"L": RNG_SIZES.uniform(10, 1e3, 12), "K": RNG_SIZES.uniform(1, 8, 12)}
SIZES["X"] = RNG_SIZES.uniform(1, 5, 12)
SIZES["V"] = RNG_SIZES.uniform(1e4, 1e7, 12)
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


@st.composite
def cases(draw, law):
    """Parameters theta (1, p) and four log sizes for each variable, all measured from one origin."""
    logs = []
    for variable in law.variables:
        # The ratios are at least 1.
        ends = (0, 2) if variable in law.ratios else (-4, 4)
        logs.append(np.array(draw(st.lists(st.floats(*ends), min_size=4, max_size=4))))
    amplitudes = [draw(st.floats(-2, 2)) for _ in law.amplitudes]
    shapes = [draw(st.floats(-1.5, 1.5) if s.log else st.floats(0.05, 1.5)) for s in law.shapes]
    return np.array([[0.4, *amplitudes, *shapes]]), logs


def check_rebased(law, case, shift):
    """Compare each term at two origins that are `shift` apart."""
    theta, logs = case
    n_linear = 1 + len(law.amplitudes)
    origin = [0.0 if variable in law.ratios else shift[variable] for variable in law.variables]
    moved = law.rebased(theta, origin)[0]
    from_other = [log + o for log, o in zip(logs, origin, strict=True)]
    np.testing.assert_allclose(
        law.jacobian(from_other, moved)[:, :n_linear],
        law.jacobian(logs, theta[0])[:, :n_linear],
        # Rounding of exponents times log sizes, of up to 1e2.
        rtol=1e-12,
    )


def check_slopes(law, case):
    """Compare the derivatives of `basis` with central differences."""
    theta, logs = case
    shape = theta[:, 1 + len(law.amplitudes) :]
    phi, slopes = law.basis(logs, shape)
    step = 1e-5
    for k in range(len(law.shapes)):
        move = step * np.eye(len(law.shapes))[k]
        up, down = law.basis(logs, shape + move)[0], law.basis(logs, shape - move)[0]
        for j, value in enumerate(phi):
            slope = slopes.get((j, k), np.zeros_like(value))
            # Truncation: step^2 times the third derivative, of up to 1e3.
            atol = 1e-7 * np.abs(value).max()
            np.testing.assert_allclose(slope, (up[j] - down[j]) / (2 * step), atol=atol, rtol=0)


shifts = st.fixed_dictionaries({v: st.floats(-10, 10) for v in ("x", "N", "D", "L", "V")})


@every_law
@given(data=st.data(), shift=shifts)
@settings(max_examples=25)
def test_a_term_has_the_same_value_from_every_origin(name, data, shift):
    law = build_law(name)
    check_rebased(law, data.draw(cases(law)), shift)


@every_law
@given(data=st.data())
@settings(max_examples=25)
def test_derivatives_of_the_terms_agree_with_central_differences(name, data):
    law = build_law(name)
    check_slopes(law, data.draw(cases(law)))


@every_law
def test_a_change_of_origin_is_at_most_bilinear(name):
    """Only then are the long differences in `parameter_summaries` exact."""
    law = build_law(name)
    theta, origin, unit = theta_of(law), origin_of(law), np.eye(len(law.names))
    long, short = (
        (law.rebased(theta + s * unit, origin) - law.rebased(theta - s * unit, origin)) / (2 * s)
        for s in (1.0, 1e-2)
    )
    # Rounding of theta, of up to 1e2, divided by the short step.
    np.testing.assert_allclose(long, short, atol=1e-11)


class SwappedExponents(Additive):
    def rebased(self, theta, origin):
        return super().rebased(theta, origin[::-1])


class LostExponent(Multiplicative):
    def rebased(self, theta, origin):
        return super().rebased(theta, [origin[0], 0.0])


class LostUnit(Shifted):
    shapes = (Shape("alpha"), Shape("x0", log=True))


@pytest.mark.parametrize("wrong", [SwappedExponents, LostExponent, LostUnit])
def test_a_wrong_change_of_origin_is_found(wrong):
    law = wrong()

    @given(case=cases(law), shift=shifts)
    @settings(phases=[Phase.generate])
    def check(case, shift):
        check_rebased(law, case, shift)

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check()


class LostDecay(Repeated):
    def effective_sizes(self, logs, shape):
        return super().effective_sizes(logs, shape)[0], {}


def test_a_wrong_derivative_is_found():
    law = LostDecay()

    @given(case=cases(law))
    @settings(phases=[Phase.generate])
    def check(case):
        check_slopes(law, case)

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check()


@every_law
def test_values_are_those_of_the_formula(name):
    """The formula as Python: a product has a sign, and e is Euler's number."""
    law = build_law(name)
    text = law.equation.translate(str.maketrans({"^": "**", "[": "(", "]": ")"}))
    text = re.sub(r"(?<=[\w)]) (?=[A-Za-z(])", "*", text)
    params = law.to_params(theta_of(law)) | law.fixed
    sizes = {v: SIZES[v] / (1e6 if v not in law.ratios else 1) for v in law.variables}
    expected = eval(text, {"e": np.e} | params | sizes)
    np.testing.assert_allclose(law(params, *sizes.values()), expected, rtol=1e-12)


class ThreeSizes(SumOfPowers):
    """Two powers with one exponent, and a product of the two other terms."""

    name = "three-sizes"
    terms = (
        Term("A", {"N": "alpha", "D": "alpha"}),
        Term("B", {"L": "beta"}),
        Term("F", {"N": "alpha", "D": "alpha", "L": "beta"}),
    )


def test_everything_follows_from_the_terms():
    law = ThreeSizes()
    assert law.equation == "E + A N^-alpha D^-alpha + B L^-beta + F N^-alpha D^-alpha L^-beta"
    assert law.variables == ("N", "D", "L")
    assert law.names == ("E", "A", "B", "F", "alpha", "beta")
    params = {"E": 0.1, "A": 2.0, "B": 3.0, "F": 5.0, "alpha": 0.5, "beta": 1.0}
    assert law(params, 4.0, 9.0, 10.0) == pytest.approx(0.1 + 2 / 6 + 3 / 10 + 5 / 60)


@given(case=cases(ThreeSizes()), shift=shifts)
def test_terms_that_share_an_exponent_have_right_derivatives_and_origins(case, shift):
    check_slopes(ThreeSizes(), case)
    check_rebased(ThreeSizes(), case, shift)


class HalfShared(SumOfPowers):
    """The second term contains the first one and a power that is not a term."""

    name = "half-shared"
    terms = (Term("A", {"N": "alpha"}), Term("B", {"N": "alpha", "D": "beta"}))


def test_a_term_may_share_a_power_with_another():
    params = {"E": 0.1, "A": 2.0, "B": 3.0, "alpha": 0.5, "beta": 0.5}
    assert HalfShared()(params, 4.0, 9.0) == pytest.approx(0.1 + 2 / 2 + 3 / 6)


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
        if law.in_logs:
            return  # no metric: neither direction is better
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


def test_bottleneck_law_by_hand():
    params = {"E": 0.5, "A": 3.0, "alpha": 0.5, "beta": 0.25, "g": 0.5, "R": 2.0}
    # the terms are 1 / 10 and 2 / 5
    expected = 0.5 + 3 * np.sqrt(0.1**2 + 0.4**2)
    assert Bottleneck()(params, 100.0, 625.0) == pytest.approx(expected)


def test_the_bottleneck_law_with_g_1_is_additive():
    params = {"E": 0.5, "A": 3.0, "alpha": 0.5, "beta": 0.25, "g": 1.0, "R": 2.0}
    additive = {"E": 0.5, "A": 3.0, "B": 6.0, "alpha": 0.5, "beta": 0.25}
    sizes = np.geomspace(10, 1e6, 7), np.geomspace(1e7, 100, 7)
    np.testing.assert_allclose(Bottleneck()(params, *sizes), Additive()(additive, *sizes))


def test_the_bottleneck_law_with_g_equal_to_beta_is_kaplans():
    params = {"E": 0.5, "A": 3.0, "alpha": 0.3, "beta": 0.4, "g": 0.4, "R": 2.0}
    kaplan = {"E": 0.5, "A": 3.0, "rho": 0.3 / 0.4, "beta": 0.4, "R": 2.0 ** (1 / 0.4)}
    sizes = np.geomspace(10, 1e6, 7), np.geomspace(1e7, 100, 7)
    np.testing.assert_allclose(Bottleneck()(params, *sizes), Kaplan()(kaplan, *sizes))


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


def test_embeddings_law_by_hand():
    params = {"E": 0.1, "A": 2.0, "B": 3.0, "F": 4.0, "alpha": 0.5, "beta": 0.5, "gamma": 1.0}
    assert EmbeddingSize()(params, 4.0, 9.0, 8.0) == pytest.approx(0.1 + 1 + 1 + 0.5)


def test_exponential_law_by_hand():
    params = {"E": 0.85, "A": 2.0, "w": 1.5}
    assert Exponential(rising=True)(params, 3.0) == pytest.approx(0.85 - 2 * np.exp(-2))


def test_sigmoid_law_by_hand():
    params = {"E": 0.5, "A": 0.4, "x0": 0.6, "w": 0.1}
    assert Sigmoid()(params, [0.6, 0.5]) == pytest.approx([0.7, 0.5 + 0.4 / (1 + np.exp(-1))])


def test_far_above_its_middle_the_sigmoid_is_exponential():
    sigmoid = {"E": 0.8, "A": 0.5, "x0": 1.0, "w": 0.05}
    tail = {"E": 0.8, "A": 0.5 * np.exp(1 / 0.05), "w": 0.05}
    # what is left of the 1 beside the power of e: e^-20
    assert Sigmoid()(sigmoid, 2.0) - 0.8 == pytest.approx(
        Exponential()(tail, 2.0) - 0.8, rel=3e-9, abs=0
    )


@pytest.mark.parametrize("law", [Sigmoid(), Exponential()])
def test_a_narrow_step_has_finite_values_and_slopes(law):
    x = [np.log([0.3, 0.5, 0.7])]
    shape = np.array([[np.log(0.5), -300.0][-len(law.shapes) :]])
    phi, slopes = law.basis(x, shape)
    assert np.isfinite([phi[0], *slopes.values()]).all()


def test_repeated_data_are_worth_less_each_time():
    params = {"E": 0.0, "A": 1e-9, "B": 1.0, "alpha": 0.5, "beta": 1.0, "R_D": 2.0}
    law = Repeated()
    # Four uses of 100 samples: 1 + 2 (1 - exp(-3 / 2)) times their worth.
    worth = 100 * (1 + 2 * (1 - np.exp(-1.5)))
    assert law(params, 1e30, 400.0, 4.0) == pytest.approx(1 / worth)
    assert law(params, 1e30, 400.0, 1.0) == pytest.approx(1 / 400)
    both = DataConstrained()(params | {"R_N": 3.0}, 1e30, 400.0, 4.0, 1.0)
    assert both == pytest.approx(1 / worth)


@pytest.mark.parametrize(
    ("name", "equation"),
    [
        ("saturating", "E - A x^-alpha"),
        ("power", "1 - A x^-alpha"),
        ("additive", "E - A N^-alpha - B D^-beta"),
        ("tied", "E - A N^-alpha - B D^-alpha"),
        ("multiplicative", "E - A N^-alpha D^-beta"),
        ("interaction", "E - A N^-alpha - B D^-beta - G N^-alpha D^-beta"),
        ("length", "E - A N^-alpha - B D^-beta - F L^-gamma"),
        ("embeddings", "E - A N^-alpha - B D^-beta - F V^-gamma"),
        ("sigmoid", "E - A / (1 + e^((x - x0) / w))"),
    ],
)
def test_an_equation_has_the_signs_of_its_metric(name, equation):
    assert build_law(name, rising=True).equation == equation
    falling = equation.replace(" - ", " + ").removeprefix("1 + ").replace("x + x0", "x - x0")
    assert build_law(name).equation == falling


def test_an_unknown_law_names_the_nearest():
    with pytest.raises(UserError, match="did you mean additive"):
        build_law("aditive")


def test_the_order_of_terms_is_not_that_of_variables():
    """Values by hand; a law by position would swap N and D."""

    class Swapped(SumOfPowers):
        name = "swapped"
        variables = ("N", "D")
        terms = (Term("B", {"D": "beta"}), Term("A", {"N": "alpha"}))

    theta = np.array([[0.0, np.log(2.0), np.log(3.0), 0.5, 0.25]])  # E, B, A, beta, alpha
    value = Swapped().evaluate([np.log([16.0]), np.log([100.0])], theta)
    assert value[0, 0] == pytest.approx(2 * 100**-0.5 + 3 * 16**-0.25)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"terms": (Term("A", {}),)}, "a term has no powers"),
        (
            {"terms": (Term("A", {"N": "a"}), Term("A", {"D": "b"}))},
            "an amplitude is used twice: A, A",
        ),
        ({"amplitudes": ("B",)}, "amplitudes are B, expected those of the terms"),
        ({"shapes": (Shape("beta"),)}, "exponent alpha is not one of the shapes beta"),
        ({"shapes": (Shape("alpha"), Shape("gamma"))}, "shape gamma is in no term"),
        ({"variables": ("D",)}, "size N is not one of the variables D"),
    ],
)
def test_a_law_whose_attributes_disagree_with_its_terms_is_refused(attributes, message):
    with pytest.raises(TypeError, match=f"Wrong: {message}"):
        type("Wrong", (SumOfPowers,), {"terms": (Term("A", {"N": "alpha"}),), **attributes})
