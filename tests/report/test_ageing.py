"""How fast models age: the metrics by day as a table, summarised, drawn and reported."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_runs import small_config

from analysis.plots import draw_ageing
from analysis.plots.ageing_days import plot_ageing
from analysis.report.sections.model_ageing import ageing_section
from analysis.study_results import find_ageing
from analysis.table import days_table
from scaling.cli.app import main
from scaling.records import DayMetrics, RunRecord, RunStore
from tests.support.figure_texts import colliding, cut_off, figure_of


def days(slope, n_days=5):
    """Two orders of two sizes; the loss over the day's entropy rises by `slope` per day for the order recent."""
    rows = []
    for order in ("independent", "recent"):
        for n_samples in (1000, 4000):
            for seed in (0, 1):
                for day in range(1, n_days + 1):
                    entropy = 0.6 + 0.05 * np.sin(day)
                    ratio = 0.9 + (slope * day if order == "recent" else 0.0) + 0.01 * (seed - 0.5)
                    rows.append(
                        {
                            "grade": "SUAN-1",
                            "n_params": 100,
                            "n_samples": n_samples,
                            "seed": seed,
                            "data_order": order,
                            "signature": f"{order}{n_samples}{seed}",
                            "day": day,
                            "logloss": ratio * entropy,
                            "normalized_entropy": ratio,
                        }
                    )
    return pd.DataFrame(rows)


def test_the_slope_is_that_of_the_loss_over_the_days_entropy():
    lost = find_ageing(days(0.004)).lost
    assert lost["recent"].to_numpy() == pytest.approx(0.4)
    assert lost["independent"].to_numpy() == pytest.approx(0, abs=1e-12)


def test_only_the_largest_model_counts():
    small = days(0.0).assign(n_params=10, grade="SUAN-0", logloss=9.0)
    found = find_ageing(pd.concat([small, days(0.0)]))
    assert found.grade == "SUAN-1"
    assert found.by_day.to_numpy().max() < 1


@pytest.mark.parametrize("table", [pd.DataFrame(), days(0.0, n_days=1)])
def test_a_single_day_shows_no_ageing(table):
    assert "logloss" not in table or find_ageing(table) is None
    assert ageing_section(table).parts == []


def test_the_report_has_one_row_per_order_and_size():
    table = ageing_section(days(0.004)).parts[-1]
    assert [row[:2] for row in table.rows] == [
        ["independent", "1k"],
        ["independent", "4k"],
        ["recent", "1k"],
        ["recent", "4k"],
    ]
    assert [row[-1] for row in table.rows] == ["+0.00", "+0.00", "+0.40", "+0.40"]


def test_the_figure_is_a_png():
    assert draw_ageing(find_ageing(days(0.004))).png.startswith(b"\x89PNG")


def test_no_texts_of_the_figure_collide():
    figure = figure_of(plot_ageing(find_ageing(days(0.004))))
    assert (colliding(figure), cut_off(figure)) == ([], [])


@pytest.fixture
def finished(tiny_store, tmp_path):
    """A folder with a run that has two days and one that has none."""
    runs = RunStore(tmp_path / "runs")
    base = RunRecord(
        small_config(tiny_store), 100, 10, 5, 50, {"logloss": 0.5, "auc": 0.7}, 0.5, 1.0, 64.0, 0.2, {}
    )  # fmt: skip
    two = tuple(DayMetrics(day, {"logloss": 0.5 + day, "n_rows": 10.0}) for day in (1, 2))
    runs.write(replace(base, by_day=two))
    runs.write(replace(base, config=small_config(tiny_store, seed=1)))
    return runs.root


def test_the_table_by_day_has_one_row_per_run_and_day(finished):
    table = days_table(finished)
    assert table[["seed", "day", "logloss"]].to_numpy().tolist() == [[0, 1, 1.5], [0, 2, 2.5]]


def test_the_verb_prints_the_days_on_request(finished, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["table", str(finished), "--by-day"])
    assert not ended.value.code
    header, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert [row[header.index("day")] for row in rows] == ["1", "2"]


def test_a_csv_has_no_days(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    path.write_text("n_params,n_samples,logloss\n1,2,0.5\n")
    with pytest.raises(SystemExit) as ended:
        main(["table", str(path), "--by-day"])
    assert ended.value.code == 2
    assert "--by-day reads the records" in capsys.readouterr().err
