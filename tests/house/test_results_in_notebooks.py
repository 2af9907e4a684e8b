"""Results as HTML for notebooks: whole, and with every text escaped."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from analysis.fit import fit_law
from analysis.forecasts import make_forecast
from analysis.gain import gains
from analysis.laws import build_law
from analysis.report.study_report import AnalysisResult
from scaling.notebook_html import notebook_table


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    n, d = map(np.ravel, np.meshgrid(np.geomspace(1e3, 1e6, 4), np.geomspace(1e4, 1e7, 4)))
    loss = 0.4 + n**-0.35 + 2 * d**-0.3 + rng.normal(0, 3e-4, (2, len(n)))
    columns = {"n_params": n, "n_samples": d}
    return pd.concat([pd.DataFrame({**columns, "seed": s, "logloss": loss[s]}) for s in range(2)])


@pytest.fixture(scope="module")
def fit(table):
    return fit_law(build_law("additive"), table, y="logloss")


class Texts(HTMLParser):
    """The texts of a document, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_a_fit_shows_its_status_and_each_parameter_with_its_interval(fit):
    shown = Texts(fit._repr_html_()).texts
    assert any(text.endswith(": converged") for text in shown)
    for name in fit.shown:
        assert shown[shown.index(name) + 1] == fit.estimate(name)


def test_a_fit_that_cannot_be_trusted_says_why(table):
    doubtful = fit_law(build_law("additive"), table[table["n_samples"] < 1e5], y="logloss")
    assert not doubtful.success
    assert doubtful.message in Texts(doubtful._repr_html_()).texts


def test_gains_show_each_size_with_its_interval(fit):
    shown = Texts(gains(fit)[0]._repr_html_()).texts
    assert "10 x parameters" in shown
    value, low, high = gains(fit)[0].gains[0].improvement
    assert f"{value:+.4f} [{low:+.4f}, {high:+.4f}]" in shown


def test_a_forecast_shows_its_interval_and_its_reach(fit, table):
    target = {"n_params": 1e6, "n_samples": 4e7}
    forecast = make_forecast(fit, table, table, target, study="s", settings={})
    shown = Texts(forecast._repr_html_()).texts
    assert f"{forecast.value:.5f} [{forecast.lower:.5f}, {forecast.upper:.5f}]" in shown
    assert "n_params x 1, n_samples x 4" in shown


def test_an_analysis_shows_its_text():
    shown = Texts(AnalysisResult({}, {}, "alpha <b>0.3</b> & more", True)._repr_html_())
    assert shown.texts == ["alpha <b>0.3</b> & more"]
    assert shown.tags == ["pre"]


def test_names_of_columns_are_escaped(fit):
    shown = replace(fit, y="<script>loss</script>")._repr_html_()
    assert "<script>" not in shown
    assert any("<script>loss</script>" in text for text in Texts(shown).texts)


def test_all_texts_of_a_table_are_escaped():
    shown = Texts(notebook_table("<a>", ["<b>"], [("<i>", "<u>")], ["<p2>"]))
    assert not {"a", "b", "i", "u", "p2"} & set(shown.tags)
    assert {"<a>", "<b>", "<i>", "<u>", "<p2>"} <= set(shown.texts)
