"""The report's section on what models have learned of a generated log."""

import numpy as np
import pandas as pd
import pytest

from analysis.plots import draw_learned
from analysis.plots.learned_components import plot_learned
from analysis.report import analyse_table
from analysis.study_results import learned_parts
from analysis.table import size_of
from tests.support.figure_texts import colliding, cut_off, figure_of

TITLE = "What the models have learned"


def table(**columns):
    n, d = (v.ravel() for v in np.meshgrid([2e3, 2e4, 2e5], [1e4, 1e5, 1e6]))
    loss = 0.4 + 3 * n**-0.4 + 4 * d**-0.35
    rows = {"n_params": n.astype(int), "n_samples": d.astype(int), "soft_logloss": loss}
    return pd.DataFrame(rows | {name: values(n, d) for name, values in columns.items()})


def learned():
    return table(
        learned_item=lambda n, d: np.log10(n) / 10,
        learned_slow_interest=lambda n, d: np.log10(d) / 10,
        excess_logloss=lambda n, d: 3 * n**-0.4 + 4 * d**-0.35,
    )


@pytest.fixture
def parts():
    return learned_parts(learned(), size_of("n_params"), size_of("n_samples"))


def test_the_edges_of_the_grid_are_the_largest_data_and_the_largest_model(parts):
    assert parts.components == ("item", "slow interest")
    assert parts.measures == ("excess_logloss",)
    assert parts.by_size["n_samples"].unique().tolist() == [10**6]
    assert parts.by_data["n_params"].unique().tolist() == [2 * 10**5]
    np.testing.assert_allclose(parts.by_size["item"], np.log10([2e3, 2e4, 2e5]) / 10)


def test_a_size_that_only_some_models_have_is_no_edge():
    rows = learned().query("n_samples < 1e6 or n_params < 1e4")
    parts = learned_parts(rows, size_of("n_params"), size_of("n_samples"))
    assert parts.by_size["n_samples"].unique().tolist() == [10**5]
    assert len(parts.by_size) == 3


def test_a_real_log_has_no_such_part():
    assert learned_parts(table(), size_of("n_params"), size_of("n_samples")) is None


def test_the_caption_states_the_largest_cell(parts):
    assert "at 1,000,000 samples: item 0.53, slow interest 0.60" in draw_learned(parts).caption


def test_no_texts_of_the_figure_collide(parts):
    figure = figure_of(plot_learned(parts))
    assert (colliding(figure), cut_off(figure)) == ([], [])


def test_the_title_states_what_the_largest_model_has_learned(parts):
    title = draw_learned(parts).finding
    assert title.startswith("The largest model has learned 0.53 to 0.60 of the components' true")


@pytest.mark.slow
def test_the_report_on_a_generated_log_has_the_section(tmp_path):
    analyse_table(learned(), tmp_path, title="generated")
    assert TITLE in (tmp_path / "report.html").read_text()
