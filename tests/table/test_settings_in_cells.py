"""Settings that differ between rows of equal sizes, and the best of them."""

import pandas as pd
import pytest

from analysis.table import best_settings, differing_settings
from scaling.errors import UserError

SIZES = ["n", "d"]


def make_table():
    """Two cells, two rates with two seeds each; the best rate differs, and one lucky seed has the least loss."""
    return pd.DataFrame(
        {
            "n": [1] * 4 + [2] * 4,
            "d": 10,
            "lr": [0.1, 0.1, 0.2, 0.2] * 2,
            "seed": [0, 1] * 4,
            "loss": [5.0, 3.0, 3.5, 3.5, 2.0, 2.2, 2.5, 2.5],
            "auc": [0.5, 0.6, 0.7, 0.7, 0.8, 0.8, 0.7, 0.7],
            "note": "x",
        }
    )


def test_a_setting_that_differs_within_cells_is_found():
    assert differing_settings(make_table(), SIZES, ["loss"]) == ["lr"]


def test_a_setting_that_follows_from_the_sizes_does_not_differ():
    table = make_table()
    assert differing_settings(table.assign(lr=table["n"] / 10), SIZES, ["loss"]) == []


def test_a_size_that_the_law_lacks_differs():
    assert differing_settings(make_table(), ["d"], ["loss"]) == ["n", "lr"]


def test_the_best_setting_by_its_mean_keeps_its_seeds():
    best = best_settings(make_table(), ["lr"], sizes=SIZES, metric="loss", rising=False)
    assert best.table["lr"].tolist() == [0.2, 0.2, 0.1, 0.1]
    assert best.table["loss"].tolist() == [3.5, 3.5, 2.0, 2.2]
    assert (best.fewest, best.most) == (2, 2)


def test_the_best_of_a_rising_metric_is_the_largest():
    best = best_settings(make_table(), ["lr"], sizes=SIZES, metric="auc", rising=True)
    assert best.table["auc"].tolist() == [0.7, 0.7, 0.8, 0.8]


def test_of_equally_good_settings_one_stays():
    best = best_settings(
        make_table().assign(loss=1.0), ["lr"], sizes=SIZES, metric="loss", rising=False
    )
    assert best.table["lr"].tolist() == [0.1] * 4


@pytest.mark.parametrize(
    ("setting", "message"),
    [("lrr", "table: no column lrr, did you mean lr?"), ("n", "column n is a size or the metric")],
)
def test_what_is_no_setting_is_refused(setting, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        best_settings(make_table(), [setting], sizes=SIZES, metric="loss", rising=False)
