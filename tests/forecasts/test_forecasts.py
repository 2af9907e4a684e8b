"""Forecasts: made before the target is known, kept unchanged, scored as stated."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fit import FitOptions, LawFit, fit_law
from analysis.forecasts import (
    NOT_DATED,
    add_forecast,
    cell_rows,
    make_forecast,
    read_ledger,
    score_forecasts,
    score_table,
    score_text,
    settings_of,
)
from analysis.laws import Additive, Saturating
from analysis.report.page import Page, render_html
from analysis.report.sections.forecast_ledger import forecast_section
from scaling.errors import UserError

PARAMS = {"E": 0.4, "A": 2.0, "B": 3.0, "alpha": 0.25, "beta": 0.3}
TARGET = {"n_params": 1e7, "n_samples": 1e7}


def study(seeds=2, noise=1e-3):
    sizes = np.geomspace(1e4, 1e7, 4)
    n, d, seed = (a.ravel() for a in np.meshgrid(sizes, sizes, range(seeds), indexing="ij"))
    table = pd.DataFrame({"n_params": n, "n_samples": d, "seed": seed, "packing": "request"})
    rng = np.random.default_rng(0)
    table["logloss"] = Additive()(PARAMS, n, d) + rng.normal(0, noise, len(table))
    return table.assign(flops=6 * n * d, train_seconds=36.0)


WHOLE = study()
AT_TARGET = (WHOLE["n_params"] > 9e6) & (WHOLE["n_samples"] > 9e6)
EARLY = WHOLE[(WHOLE["n_params"] < 9e6) & (WHOLE["n_samples"] < 9e6)].reset_index(drop=True)
FIT = fit_law(Additive(), EARLY, options=FitOptions(fixed={"E": 0.4}))


def forecast(fit=FIT, rows=EARLY, table=EARLY, target=TARGET, **more):
    more = {"study": "early", "settings": settings_of(rows, table, list(target)), **more}
    return make_forecast(fit, rows, table, target, **more)


@pytest.fixture
def ledger(tmp_path):
    folder = tmp_path / "forecasts"
    add_forecast(folder, forecast())
    return folder


def outcome(folder, table=WHOLE):
    (score,) = score_forecasts(read_ledger(folder), table)
    return score


def at_target(value):
    """The whole study, with this metric in each run at the target."""
    return WHOLE.assign(logloss=WHOLE["logloss"].where(~AT_TARGET, value))


def test_a_forecast_is_the_laws_prediction_interval_of_one_run():
    made = forecast()
    band = FIT.band(1e7, 1e7)
    assert made.value == float(band.mean)
    assert made.interval(1) == (float(band.prediction_lower), float(band.prediction_upper))
    assert made.reach == pytest.approx({"n_params": 10.0, "n_samples": 10.0})
    assert made.assumed == {"E": 0.4}


def test_a_forecast_says_what_its_runs_cost():
    spent = forecast(target_flops=6e14).spent
    assert spent.runs_flops == pytest.approx(float(EARLY["flops"].sum()))
    assert spent.runs_hours == pytest.approx(len(EARLY) / 100)
    assert spent.target_flops == 6e14
    bare = EARLY.drop(columns=["flops", "train_seconds"])
    unknown = forecast(rows=bare, table=bare).spent
    assert (unknown.runs_flops, unknown.runs_hours, unknown.target_flops) == (None, None, None)


def test_a_target_that_has_a_run_is_no_forecast():
    with pytest.raises(UserError, match="2 finished runs there, so this is no forecast"):
        forecast(table=WHOLE)


def test_rows_that_the_fit_left_out_still_forbid_a_forecast():
    one = WHOLE[AT_TARGET].head(1)
    with pytest.raises(UserError, match="1 finished run there"):
        forecast(table=pd.concat([EARLY, one], ignore_index=True))


def test_a_run_of_another_variant_at_the_target_does_not_forbid_it():
    table = pd.concat([EARLY, WHOLE[AT_TARGET].assign(packing="none")], ignore_index=True)
    assert forecast(table=table).settings == {"packing": "request"}


def test_too_few_cells_for_an_interval_are_refused():
    rows = EARLY[EARLY["seed"] == 0].head(4).assign(n_params=[1e4, 1e5, 1e6, 1e4])
    rows = rows.assign(n_samples=[1e4, 1e5, 1e6, 1e6])
    fit = fit_law(Additive(), rows, options=FitOptions(fixed={"E": 0.4}))
    with pytest.raises(UserError, match="no interval to forecast with"):
        forecast(fit=fit)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, "hit"), (0.99, "hit"), (1.01, "miss"), (-1.01, "miss")])  # fmt: skip
def test_a_hit_lies_within_one_half_width_of_the_interval_of_the_mean(ledger, shift, expected):
    made = forecast()
    lower, upper = made.interval(2)
    side = upper - made.value if shift > 0 else made.value - lower
    score = outcome(ledger, at_target(made.value + shift * side))
    assert (score.outcome, score.n_runs) == (expected, 2)
    assert score.error == pytest.approx(shift, abs=1e-9)


def test_the_interval_of_a_mean_is_narrower_than_that_of_one_run():
    made = forecast()
    one, many = made.interval(1), made.interval(4)
    assert one[0] < many[0] < made.value < many[1] < one[1]


def test_the_standard_error_is_that_of_the_runs_at_the_target(ledger):
    score = outcome(ledger)
    values = WHOLE.loc[AT_TARGET, "logloss"]
    assert score.measured == pytest.approx(values.mean())
    assert score.stderr == pytest.approx(values.std(ddof=1) / np.sqrt(2))


def test_a_forecast_is_open_until_the_target_is_trained(ledger):
    score = outcome(ledger, EARLY)
    assert (score.outcome, score.note) == ("open", "")


def test_runs_of_other_settings_do_not_score_a_forecast(ledger):
    score = outcome(ledger, WHOLE.assign(packing="none"))
    assert score.outcome == "open"
    assert score.note == "the runs at the target have packing=none instead of request"


def test_runs_of_several_variants_at_the_target_do_not_count(ledger):
    table = WHOLE.assign(schedule=np.where(WHOLE["seed"] == 0, "wsd", "cosine"))
    score = outcome(ledger, table)
    assert score.outcome == "does not count"
    assert "several variants" in score.note


def test_a_forecast_from_a_table_with_its_target_does_not_count(tmp_path):
    fit = fit_law(Additive(), WHOLE)
    made = forecast(fit=fit, rows=WHOLE)  # refused by the verb, which passes the whole table
    add_forecast(tmp_path, made)
    score = outcome(tmp_path)
    assert (score.outcome, score.note) == ("does not count", "its table contained the target")


def test_a_run_that_had_begun_before_the_forecast_does_not_score_it(ledger):
    table = WHOLE.assign(started="2999-01-01T00:00:00+00:00")
    assert outcome(ledger, table).outcome == "hit"
    table.loc[AT_TARGET.idxmax(), "started"] = "2001-01-01T00:00:00+00:00"
    score = outcome(ledger, table)
    assert (score.outcome, score.note) == ("does not count", "a run at the target had begun before")


def test_a_table_without_times_scores_and_says_so(ledger):
    score = outcome(ledger)
    assert (score.outcome, score.note) == ("hit", NOT_DATED)
    assert any(NOT_DATED in line for line in score_text([score]))


def test_a_time_that_cannot_be_read_does_not_count(tmp_path):
    add_forecast(tmp_path, replace(forecast(), made="yesterday"))
    score = outcome(tmp_path)
    assert score.outcome == "does not count"
    assert "yesterday" in score.note


def test_a_law_of_the_data_size_is_scored_by_its_own_grade():
    table = WHOLE.assign(grade=WHOLE["n_params"].map("{:.0f}".format))
    own = table[table["n_params"] == 1e7]
    same = settings_of(own, table, ["n_samples"])
    found = cell_rows(table, {"n_samples": 1e7}, same, "logloss")
    assert set(found["n_params"]) == {1e7}


def test_the_same_question_is_answered_once(ledger):
    path = next(ledger.iterdir())
    before = path.read_bytes()
    kept, found, is_new = add_forecast(ledger, forecast())
    assert (found, is_new, path.read_bytes()) == (path, False, before)
    assert kept.made == json.loads(before)["made"]
    for other in (forecast(fit=fit_law(Additive(), EARLY)), forecast(target={**TARGET, "n_params": 2e7})):  # fmt: skip
        assert add_forecast(ledger, other)[2]


def test_another_order_of_the_rows_is_the_same_question():
    other = EARLY.sample(frac=1, random_state=1).reset_index(drop=True)
    assert forecast(rows=other, table=other).key == forecast().key
    changed = EARLY.assign(logloss=EARLY["logloss"] + 1e-12)
    assert forecast(rows=changed, table=changed).key != forecast().key


def test_of_several_writers_one_creates_the_file(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: add_forecast(tmp_path, MADE), range(8)))
    assert sum(is_new for _, _, is_new in found) == 1
    assert len(list(tmp_path.iterdir())) == 1


def leaves(value, path=()):
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, item in items for leaf in leaves(item, (*path, key))]
    return [path]


MADE = forecast()
DOCUMENT = json.loads(json.dumps(MADE.fit))


@given(path=st.sampled_from(leaves(DOCUMENT)), value=st.floats(1, 2) | st.text("ab", min_size=1))
@settings(max_examples=40, deadline=None)
def test_any_changed_value_is_told_as_damaged(tmp_path_factory, path, value):
    folder = tmp_path_factory.mktemp("ledger")
    _, file, _ = add_forecast(folder, MADE)
    document = json.loads(file.read_text())
    inside = document["fit"]
    for key in path[:-1]:
        inside = inside[key]
    if inside[path[-1]] == value:
        return
    inside[path[-1]] = value
    file.write_text(json.dumps(document))
    score = outcome(folder)
    assert (score.outcome, score.forecast) == ("damaged", None)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a JSON file"),
        (b"[1]", "not a forecast"),
        (b"\xff\xfe", "not a JSON file"),
        (b"[" * 100_000, "not a JSON file"),
        (b'{"sha256": "a", "value": NaN}', "not a JSON file"),
        (b'{"sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}', "not a forecast of this version"),
    ],
)  # fmt: skip
def test_files_that_are_no_forecasts_are_told_as_damaged(tmp_path, content, problem):
    (tmp_path / "x.json").write_bytes(content)
    score = outcome(tmp_path)
    assert score.outcome == "damaged"
    assert problem in score.note


def test_a_copy_under_another_name_is_told_as_damaged(ledger):
    path = next(ledger.iterdir())
    shutil.copy(path, ledger / "better.json")
    scores = score_forecasts(read_ledger(ledger), WHOLE)
    assert [score.outcome for score in scores] == ["hit", "damaged"]
    assert "renamed or copied" in scores[1].note


def test_a_forecast_that_was_moved_to_the_measured_value_is_told_as_damaged(ledger):
    path = next(ledger.iterdir())
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "value": float(WHOLE["logloss"][AT_TARGET].mean())}))
    (entry,) = read_ledger(ledger)
    assert (entry.forecast, entry.problem) == (None, "its content was changed after it was written")


def test_a_damaged_file_is_never_replaced(ledger):
    path = next(ledger.iterdir())
    path.write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        add_forecast(ledger, forecast())
    assert path.read_text() == "{}"


def test_a_law_of_one_size_is_forecast_at_one_size(tmp_path):
    rows = EARLY[EARLY["n_params"] == 1e4]
    fit = fit_law(Saturating(), rows, x="n_samples", options=FitOptions(fixed={"E": 0.6}))
    made = forecast(fit=fit, rows=rows, table=rows, target={"n_samples": 1e7})
    add_forecast(tmp_path, made)
    score = outcome(tmp_path, WHOLE[WHOLE["n_params"] == 1e4])
    assert score.n_runs == 2
    assert np.isfinite(score.error)


def test_sizes_that_a_csv_has_rounded_are_the_target():
    rows = cell_rows(WHOLE.assign(n_params=WHOLE["n_params"] * (1 + 1e-9)), TARGET, {}, "logloss")
    assert len(rows) == 2


def test_the_fit_behind_a_forecast_comes_back():
    made = forecast()
    assert LawFit.from_document(made.fit).params == pytest.approx(FIT.params)


def test_the_report_shows_the_whole_ledger(ledger):
    add_forecast(ledger, forecast(target={**TARGET, "n_params": 3e7}))
    (ledger / "x.json").write_text("{}")
    made = forecast()
    scores = score_forecasts(read_ledger(ledger), at_target(made.value + 0.1))
    header, rows = score_table(scores)
    assert all(len(row) == len(header) for row in rows)
    assert score_text(scores)[0] == "0 of 1 forecasts hit; 1 open; 1 damaged"
    html = render_html(Page("t", "l", [forecast_section(scores)]))
    assert all(text in html for text in ("miss", "open", "damaged", "not a forecast"))
    assert forecast_section([]).is_empty
