"""The race: models with known laws on one ladder."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.budget import read_cost
from analysis.fit import fit_law
from analysis.gain import VariantLaw
from analysis.laws import build_law
from analysis.plots import draw_race
from analysis.study_results import run_race
from analysis.study_results.pairing import pair_runs
from analysis.study_results.race import holm
from scaling.errors import UserError

# E, amplitude and exponent of size and of data: b is better everywhere, c only with much compute
LAWS = {
    "a": (0.45, 8.0, 0.35, 6.0, 0.30),
    "b": (0.45, 7.0, 0.35, 5.5, 0.30),
    "c": (0.44, 12.0, 0.37, 6.0, 0.30),
}
NOISE = 3e-4


def runs(kind, *, n_seeds=2, noise=NOISE, seed=0):
    rng = np.random.default_rng(seed)
    E, A, alpha, B, beta = LAWS[kind]
    rows = [
        {
            "grade": f"SUAN-{g}",
            "n_params": n,
            "n_samples": d,
            "seed": s,
            "flops": 6.0 * n * d,
            "soft_logloss": E + A * n**-alpha + B * d**-beta + noise * rng.normal(),
            "bayes_logloss": 0.44,
        }
        for g, n in enumerate((2000, 6000, 18000, 54000))
        for d in (16384, 65536, 262144)
        for s in range(n_seeds)
    ]
    return pd.DataFrame(rows)


def law_of(name, table):
    fit = fit_law(build_law("additive"), table, x="n_params", data="n_samples", y="soft_logloss")
    return VariantLaw(name, fit, table, read_cost(table, "flops", x="n_params", data="n_samples"))


@pytest.fixture(scope="module")
def tables():
    return {kind: runs(kind, seed=i) for i, kind in enumerate(LAWS)}


@pytest.fixture(scope="module")
def race(tables):
    return run_race([law_of(k, t) for k, t in tables.items()], tables, "a")


def test_the_differences_are_those_of_the_laws(race, tables):
    """Two runs of two models: four standard deviations of a cell's mean."""
    for contest in race.contests:
        for cell in contest.cells:
            n = float(tables["a"].query("grade == @cell.grade")["n_params"].iloc[0])
            one, base = (
                E + A * n**-alpha + B * cell.n_samples**-beta
                for E, A, alpha, B, beta in (LAWS[contest.variant], LAWS["a"])
            )
            assert abs(cell.difference - (one - base)) < 4 * NOISE


def test_a_better_model_is_better_in_every_cell(race):
    b = next(one for one in race.contests if one.variant == "b")
    assert (b.n_better, b.n_worse) == (12, 0)
    assert b.mean[2] < 0


def test_the_interval_of_a_difference_is_that_of_two_way_residuals(race, tables):
    """Three models and two seeds: 2 degrees of freedom; a difference of means over two seeds has the variance 2 V / 2."""
    y = np.array([table.groupby("seed")["soft_logloss"].mean() for table in tables.values()])
    rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    half = stats.t.ppf(0.975, 2) * np.sqrt((rest**2).sum() / 2)
    for contest in race.contests:
        mean, low, high = contest.mean
        assert (mean - low, high - mean) == pytest.approx((half, half), rel=1e-9)


def test_p_values_are_two_sided_and_corrected(race):
    quantile = stats.t.ppf(0.975, 2)
    ratios = [2 * c.mean[0] / (c.mean[2] - c.mean[1]) * quantile for c in race.contests]
    plain = [stats.t.cdf(-abs(t), 2) + stats.t.sf(abs(t), 2) for t in ratios]
    assert [c.p_value for c in race.contests] == pytest.approx(holm(plain), rel=1e-9)


def test_each_cell_counts_once_however_many_of_its_runs_are_paired(tables):
    lacking = tables["b"].drop(index=[0, 3])
    ours = tables | {"b": lacking}
    race = run_race([law_of(kind, table) for kind, table in ours.items()], ours, "a")
    contest = next(one for one in race.contests if one.variant == "b")
    assert sorted(cell.n_pairs for cell in contest.cells) == [1, 1, *[2] * 10]
    assert contest.mean[0] == pytest.approx(np.mean([c.difference for c in contest.cells]))


class _Law:
    rising = False


class _Fit:
    y, law, has_curve, status, message = "soft_logloss", _Law, False, "too_few_points", "no law"


_NO_FIT = _Fit()


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("shared", [0.0, NOISE])
def test_equal_models_are_rarely_told_apart(shared):
    """95 % intervals, also where all cells of a seed share an error; a binomial bound of 1 in 10^4 for 200 x 3 variants.

    Variants share the reference's runs, so the 600 intervals count as 200 worlds with up to 3 misses.
    """
    rng, wrong = np.random.default_rng(5), 0
    for world in range(200):
        tables = {kind: runs("a", seed=4 * world + i, n_seeds=3) for i, kind in enumerate("abcd")}
        for table in tables.values():
            table["soft_logloss"] += table["seed"].map(dict(enumerate(shared * rng.normal(size=3))))
        found = run_race([VariantLaw(k, _NO_FIT, t) for k, t in tables.items()], tables, "a")
        wrong += sum(not one.mean[1] < 0 < one.mean[2] for one in found.contests)
    assert wrong <= 66


def test_a_seed_without_the_largest_grade_does_not_widen_the_intervals():
    """What b lacks there is a difference between cells, not between seeds."""
    tables = {kind: runs(kind, seed=i) for i, kind in enumerate("ab")}
    cut = {
        kind: table[(table["grade"] != "SUAN-3") | (table["seed"] == 0)]
        for kind, table in tables.items()
    }
    cut["b"].loc[cut["b"]["grade"] == "SUAN-3", "soft_logloss"] += 0.05
    found = run_race([VariantLaw(k, _NO_FIT, t) for k, t in cut.items()], cut, "a").contests[0]
    assert found.mean[2] - found.mean[1] < 20 * NOISE


def test_a_model_of_one_seed_has_the_error_that_the_others_tell():
    tables = {kind: runs("a", seed=i) for i, kind in enumerate("abcd")}
    tables["d"] = tables["d"][tables["d"]["seed"] == 0]
    found = run_race([VariantLaw(k, _NO_FIT, t) for k, t in tables.items()], tables, "a")
    widths = {one.variant: one.mean[2] - one.mean[1] for one in found.contests}
    # one seed instead of the mean of two
    assert widths["d"] == pytest.approx(2**0.5 * widths["b"])


def test_p_values_are_corrected_step_by_step():
    """Holm: 3 x .01, 2 x .03, and never below the one before; a missing one does not count."""
    assert holm([0.01, 0.04, float("nan"), 0.03])[:2] == pytest.approx([0.03, 0.06])
    assert holm([0.01, 0.04, float("nan"), 0.03])[3] == pytest.approx(0.06)


def test_the_best_is_found_at_each_budget(race):
    inside = [g for g in race.gains.gains if g.budget == race.gains.range[1]]
    assert max(inside, key=lambda g: g.best).variant == "b"


def test_without_a_law_models_are_compared_run_by_run(tables):
    few = {k: t[t["n_samples"] > 20000] for k, t in tables.items()}
    race = run_race([VariantLaw(k, _NO_FIT, t) for k, t in few.items()], few, "a")
    assert race.gains is None
    assert set(race.left_out) == {"b", "c"}
    assert next(one for one in race.contests if one.variant == "b").n_better == 8


def test_all_that_have_no_law_are_named_and_no_other(tables):
    """The reference's law is missing, or that of another one."""
    for bad in ("a", "b"):
        laws = [law_of(k, t) for k, t in tables.items()]
        failed = [replace(law, fit=replace(law.fit, status="not_converged")) for law in laws]
        pairs = zip(laws, failed, strict=True)
        race = run_race([f if f.name == bad else law for law, f in pairs], tables, "a")
        assert race.without_law == (bad,)
        assert draw_race(race).caption.endswith(f"Without a law that can be compared: {bad}.")


def test_one_seed_has_no_interval():
    tables = {k: runs(k, n_seeds=1) for k in ("a", "b")}
    contest = run_race([law_of(k, t) for k, t in tables.items()], tables, "a").contests[0]
    assert np.isnan(contest.mean[1])
    assert np.isnan(contest.p_value)


def test_runs_without_pairs_are_refused(tables):
    other = tables["b"].assign(seed=tables["b"]["seed"] + 7)
    with pytest.raises(UserError, match="no run of b has the grade, the data size and the seed"):
        run_race(
            [law_of("a", tables["a"]), law_of("b", other)], {"a": tables["a"], "b": other}, "a"
        )


def test_the_floor_is_that_of_the_truth(race):
    assert race.floor == pytest.approx(0.44)


@pytest.mark.slow
def test_the_figure_names_every_model_and_the_best(race):
    from analysis.plots.contest import plot_race

    ax = plot_race(race)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]
    title = " ".join(ax.get_title(loc="left").split())
    assert "At equal grade and data, a is better than c; worse than b" in title
    assert "b is best with probability" in title
    assert draw_race(race).png.startswith(b"\x89PNG")


def test_runs_on_other_data_are_no_pair_of_a_race():
    ours, theirs = (runs(kind).assign(data_fingerprint=kind) for kind in "ba")
    with pytest.raises(UserError, match="no run of b has the grade, the data size and the seed"):
        pair_runs(ours, theirs, "soft_logloss", "b", "a")
    same = pair_runs(ours, theirs.assign(data_fingerprint="b"), "soft_logloss", "b", "a")
    assert len(same.runs) == len(ours)
