"""Values that a column of a known name cannot have."""

import pytest

from analysis.table import read_table
from scaling.errors import UserError


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("flops", "0", "a positive number of FLOPs"),
        ("flops_per_sample", "-3", "a positive number of FLOPs"),
        ("logloss", "-1", "a loss of at least 0"),
        ("excess_logloss", "-0.5", "a loss of at least 0"),
        ("auc", "150", "an AUC from 0 to 1, or in percent"),
        ("soft_auc", "-0.1", "an AUC from 0 to 1, or in percent"),
    ],
)
def test_an_impossible_value_is_refused_by_line(tmp_path, column, value, expected):
    path = tmp_path / "runs.csv"
    path.write_text(f"n,{column}\n1,0.5\n2,{value}\n")
    with pytest.raises(UserError) as error:
        read_table(path)
    assert str(error.value) == f"{path}: line 3, column {column}: {value}, expected {expected}"


@pytest.mark.parametrize(
    ("column", "value"), [("logloss", "0"), ("auc", "1"), ("flops", ""), ("gain", "-1")]
)
def test_a_possible_value_passes(tmp_path, column, value):
    path = tmp_path / "runs.csv"
    path.write_text(f"n,{column}\n1,0.5\n2,{value}\n")
    assert len(read_table(path)) == 2
