"""The race: models with known laws on one ladder."""

import numpy as np
import pandas as pd
import pytest

from analysis.budget import read_cost
from analysis.fit import fit_law
from analysis.gain import VariantLaw
from analysis.laws import build_law
from analysis.plots import draw_race
from analysis.study_results import run_race
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
    for contest in race.contests:
        for cell in contest.cells:
            n = float(tables["a"].query("grade == @cell.grade")["n_params"].iloc[0])
            one, base = (
                E + A * n**-alpha + B * cell.n_samples**-beta
                for E, A, alpha, B, beta in (LAWS[contest.variant], LAWS["a"])
            )
            assert cell.difference[1] < one - base < cell.difference[2]


def test_a_better_model_is_better_in_every_cell(race):
    b = next(one for one in race.contests if one.variant == "b")
    assert (b.n_better, b.n_worse) == (12, 0)
    assert b.mean[2] < 0
    assert b.p_value < 1e-6


def test_equal_models_are_rarely_told_apart():
    """The interval of a mean of two equal models leaves zero out in 5 % of worlds; a binomial bound of 1 in 10^4."""
    wrong = 0
    for world in range(200):
        tables = {"a": runs("a", seed=2 * world), "b": runs("a", seed=2 * world + 1)}
        contest = run_race(
            [VariantLaw(k, _NO_FIT, t) for k, t in tables.items()], tables, "a"
        ).contests[0]
        wrong += not contest.mean[1] < 0 < contest.mean[2]
    assert wrong <= 23


class _Law:
    rising = False


class _Fit:
    y, law, has_curve, status, message = "soft_logloss", _Law, False, "too_few_points", "no law"


_NO_FIT = _Fit()


def test_cells_are_told_apart_at_once_rarely():
    """With 12 equal cells the chance of any interval that leaves zero out is 5 % at most, by Bonferroni."""
    wrong = 0
    for world in range(200):
        tables = {"a": runs("a", seed=2 * world), "b": runs("a", seed=2 * world + 1)}
        contest = run_race(
            [VariantLaw(k, _NO_FIT, t) for k, t in tables.items()], tables, "a"
        ).contests[0]
        wrong += contest.n_better + contest.n_worse > 0
    assert wrong <= 23


def test_p_values_are_corrected_for_the_number_of_models(race, tables):
    alone = run_race(
        [law_of(k, tables[k]) for k in ("a", "c")], {k: tables[k] for k in ("a", "c")}, "a"
    )
    together = next(one for one in race.contests if one.variant == "c")
    assert alone.contests[0].p_value <= together.p_value <= 2 * alone.contests[0].p_value * 1.0001


def test_the_best_is_found_at_each_budget(race):
    inside = [g for g in race.gains.gains if g.budget == race.gains.range[1]]
    assert max(inside, key=lambda g: g.best).variant == "b"


def test_without_a_law_models_are_compared_run_by_run(tables):
    few = {k: t[t["n_samples"] > 20000] for k, t in tables.items()}
    race = run_race([VariantLaw(k, _NO_FIT, t) for k, t in few.items()], few, "a")
    assert race.gains is None
    assert set(race.left_out) == {"b", "c"}
    assert next(one for one in race.contests if one.variant == "b").n_better == 8


def test_one_seed_has_no_interval():
    tables = {k: runs(k, n_seeds=1) for k in ("a", "b")}
    contest = run_race([law_of(k, t) for k, t in tables.items()], tables, "a").contests[0]
    assert np.isnan(contest.mean[1])
    assert np.isnan(contest.p_value)


def test_runs_without_pairs_are_refused(tables):
    other = tables["b"].assign(seed=tables["b"]["seed"] + 7)
    with pytest.raises(UserError, match="no run has the grade, the data size and the seed"):
        run_race(
            [law_of("a", tables["a"]), law_of("b", other)], {"a": tables["a"], "b": other}, "a"
        )


def test_the_floor_is_that_of_the_truth(race):
    assert race.floor == pytest.approx(0.44)


def test_the_figure_names_every_model_and_the_best(race):
    from analysis.plots.contest import plot_race

    ax = plot_race(race)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c"]
    title = " ".join(ax.get_title(loc="left").split())
    assert "at equal grade and data, a is better than c; worse than b" in title
    assert "b is best with probability" in title
    assert draw_race(race).png.startswith(b"\x89PNG")
