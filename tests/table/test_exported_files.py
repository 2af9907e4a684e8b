"""Tables and training curves as files for other programs, read back with DuckDB."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from recorded_runs import config_of, write_curve, write_study

from analysis.table import curves_table, read_table, runs_table, write_table
from scaling.errors import UserError
from scaling.records import RunStore, read_curve


def read_parquet(path):
    with duckdb.connect() as connection:
        return connection.read_parquet(str(path)).df()


def assert_same(read, table):
    """The same columns, numbers to the last bit, and missing values where there were some."""
    assert list(read.columns) == list(table.columns)
    for name in table.columns:
        assert read[name].isna().tolist() == table[name].isna().tolist(), name
        assert read[name].dropna().tolist() == table[name].dropna().tolist(), name


def test_a_runs_table_comes_back_from_parquet_as_it_was(tmp_path):
    write_study(tmp_path / "runs")
    table = runs_table(tmp_path / "runs")
    write_table(table, tmp_path / "runs.parquet")
    assert_same(read_parquet(tmp_path / "runs.parquet"), table)


def test_columns_of_every_kind_come_back_from_parquet(tmp_path):
    table = pd.DataFrame(
        {
            "whole": [1, 2**53 + 1, -3],
            "number": [0.1, np.nan, 1e-300],
            "whole or missing": [1.0, np.nan, 3.0],
            "text": ["a", None, "ü"],
            "truth": [True, False, True],
            "truth or missing": pd.Series([True, None, False], dtype=object),
            "empty": pd.Series([None, None, None], dtype=object),
        }
    )
    write_table(table, tmp_path / "t.parquet")
    assert_same(read_parquet(tmp_path / "t.parquet"), table)


def test_a_column_of_several_types_is_text_in_parquet(tmp_path):
    write_table(pd.DataFrame({"mixed": [1, "same", None]}, dtype=object), tmp_path / "t.parquet")
    assert read_parquet(tmp_path / "t.parquet")["mixed"].tolist()[:2] == ["1", "same"]


def test_a_missing_number_is_a_null_in_parquet(tmp_path):
    write_table(pd.DataFrame({"mfu": [np.nan, 0.5]}), tmp_path / "t.parquet")
    with duckdb.connect() as connection:
        rows = connection.read_parquet(str(tmp_path / "t.parquet")).fetchall()
    assert rows == [(None,), (0.5,)]


def test_a_csv_holds_the_same_numbers(tmp_path):
    write_study(tmp_path / "runs")
    table = runs_table(tmp_path / "runs")
    write_table(table, tmp_path / "runs.csv")
    assert read_table(tmp_path / "runs.csv")["logloss"].tolist() == table["logloss"].tolist()


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"t\.parquet: cannot be written"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "file" / "t.parquet")


def test_curves_have_a_row_for_each_run_and_line(tmp_path):
    records = write_study(tmp_path)
    curves = curves_table(tmp_path)
    one = curves[curves["signature"] == records[0].signature]
    points = read_curve(tmp_path / records[0].signature)
    assert one["step"].tolist() == [10, 20, 30, 40, 50, 60]
    assert one["n_seen"].tolist() == [point.n_samples for point in points]
    assert one["loss"].tolist() == [point.loss for point in points]
    assert set(one["n_samples"]) == {4096}
    assert curves["signature"].nunique() == 4


def test_a_run_that_goes_on_has_no_rows_among_the_curves_of_finished_runs(tmp_path):
    records = write_study(tmp_path)
    write_curve(RunStore(tmp_path), config_of(seed=7), 3)
    assert set(curves_table(tmp_path)["signature"]) == {record.signature for record in records}


def test_curves_of_runs_without_lines_are_an_empty_table_with_its_columns(tmp_path):
    for record in write_study(tmp_path):
        (tmp_path / record.signature / "metrics.jsonl").unlink()
    curves = curves_table(tmp_path)
    assert curves.empty
    assert {"signature", "step", "n_seen", "loss"} <= set(curves.columns)


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    config = config_of()
    write_curve(RunStore(tmp_path), config, 2)
    path = tmp_path / config.signature / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 30, "n_st')
    assert [point.step for point in read_curve(path.parent)] == [10, 20]


@pytest.mark.parametrize(
    ("line", "message"), [("{", "line 1: not JSON"), ('{"step": "a"}', "line 1: ")]
)
def test_a_damaged_line_is_named(tmp_path, line, message):
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
    with pytest.raises(UserError, match=message):
        read_curve(tmp_path)
