"""Variants: the columns that separate runs, and the names of variants and their files."""

import numpy as np
import pandas as pd
import pytest

from analysis.report import file_names
from analysis.table import (
    describe_differences,
    describe_variants,
    distinguishing_columns,
    split_variants,
    variant_columns,
    variant_label,
)


def make_table():
    """A plain student, and one of each lambda; all of them sparse, beside a dense model."""
    return pd.DataFrame(
        {
            "grade": ["A", "B", "B", "B"],
            "n_samples": 100,
            "seed": 0,
            "distill": ["none", "none", "cold", "cold"],
            "distill_weight": [np.nan, np.nan, 1.0, 4.0],
            "distill_temperature": [np.nan, np.nan, 1.0, 1.0],
            "teacher_grade": ["none", "none", "T", "T"],
            "teacher_data": "none",
            "model.kind": ["suan", "lightsuan", "lightsuan", "lightsuan"],
            "model.window": [np.nan, 4.0, 4.0, 4.0],
        }
    )


def test_a_label_lists_the_differences_and_a_plain_run_has_no_lambda():
    assert list(split_variants(make_table())) == [
        "distill=cold, distill_weight=1, teacher_grade=T, model.kind=lightsuan",
        "distill=cold, distill_weight=4, teacher_grade=T, model.kind=lightsuan",
        "distill=none, model.kind=lightsuan",
        "distill=none, model.kind=suan",
    ]


def test_no_row_is_lost_if_plain_runs_differ_in_a_lambda():
    ways = [("none", 1.0), ("none", 2.0), ("none", np.nan), ("cold", 1.0)]
    table = pd.DataFrame(
        [{"grade": "A", "distill": way, "distill_weight": w, "seed": s} for way, w in ways for s in (0, 1)]
    )  # fmt: skip
    parts = split_variants(table)
    assert {label: len(part) for label, part in parts.items()} == {
        "distill=cold, distill_weight=1": 2,
        "distill=none, distill_weight=1": 2,
        "distill=none, distill_weight=2": 2,
        "distill=none": 2,
    }


def test_values_of_one_text_are_one_variant():
    table = pd.DataFrame({"grade": "A", "model.x": [1, "1", "p"], "seed": [0, 1, 2]})
    parts = split_variants(table)
    assert {label: len(part) for label, part in parts.items()} == {"model.x=1": 2, "model.x=p": 1}


def test_dropping_columns_that_follow_merges_no_variants():
    table = make_table()
    every = variant_columns(table, "teacher_grade")
    names = distinguishing_columns(table, every)
    assert len(names) < len(every)
    assert len(table[names].drop_duplicates()) == len(table[every].drop_duplicates())


def test_a_variant_is_named_by_the_columns_that_distinguish_it():
    table = make_table()
    assert describe_variants(table) == ["grade", "distill", "distill_weight", "teacher_grade"]


def test_differences_are_described_by_column_with_the_first_values():
    table = pd.DataFrame({"grade": "A", "packing": ["none", "request"] * 2, "model.x": range(4)})
    assert describe_differences(table) == "model.x (4: 0, 1, 2, ...)"
    assert describe_differences(table[:1]) == ""


def test_a_missing_value_is_one_value_of_a_column():
    table = pd.DataFrame({"grade": "A", "model.window": [np.nan, np.nan, 4.0]})
    assert variant_columns(table) == ["model.window"]
    assert variant_columns(table[:2]) == []


def test_a_rate_that_varies_within_a_cell_names_a_variant():
    table = pd.DataFrame(
        {"grade": "A", "n_samples": 100, "seed": [0, 0], "learning_rate": [1.0, 2.0]}
    )
    assert describe_variants(table) == ["grade", "learning_rate"]


def test_a_variant_without_any_value_still_has_a_label():
    assert variant_label(["model.window"], [np.nan]) == "model.window=nan"


@pytest.mark.parametrize("letter", ["a", "ß"])
def test_names_of_files_are_bounded_and_differ(letter):
    labels = [f"grade={letter * 300}{i}" for i in range(3)]
    names = file_names(labels, 80)
    assert len(set(names.values())) == 3
    assert max(len(name.encode()) for name in names.values()) <= 80


def test_short_names_stay_readable_unless_they_would_be_one_file():
    names = file_names(["a=1, b=2", "x/y", "X_y"], 80)
    assert names["a=1, b=2"] == "a_1__b_2"
    assert len({name.casefold() for name in names.values()}) == 3


def test_a_column_of_one_value_is_no_difference_worth_telling_beside_one_of_several():
    table = pd.DataFrame(
        {"grade": "A", "model.window": [np.nan, 4.0, 4.0, 4.0], "model.norm": ["a", "b", "a", "b"]}
    )
    assert describe_differences(table) == "model.norm (2: a, b)"
