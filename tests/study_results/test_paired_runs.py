"""Paired differences: the mean and Student's interval of the differences between two variants of one seed."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.study_results import paired_differences
from analysis.table import describe_variants
from scaling.cli.app import main
from scaling.errors import UserError


def make_table(n_seeds=5, sizes=(100, 200)):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "grade": grade,
                "n_samples": size,
                "seed": seed,
                "packing": packing,
                "auc": 0.5 + 0.1 * rng.random(),
            }
            for grade, packing in (("a", "none"), ("b", "none"), ("b", "request"))
            for size in sizes
            for seed in range(n_seeds)
        ]
    )


@pytest.mark.slow
@given(n_seeds=st.integers(2, 30), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_differences_and_intervals_are_those_of_scipys_paired_test(n_seeds, confidence):
    table = make_table(n_seeds)
    base = table["grade"] == "a"
    found = paired_differences(table, base, ["auc"], confidence=confidence)
    assert found["n_pairs"].tolist() == [n_seeds] * 4
    for row in found.itertuples():
        own = table[(table.grade == row.grade) & (table.packing == row.packing)]
        ours, theirs = (
            t[t.n_samples == row.n_samples]["auc"].to_numpy() for t in (own, table[base])
        )
        interval = stats.ttest_rel(ours, theirs).confidence_interval(confidence)
        assert row.auc_difference == pytest.approx((ours - theirs).mean())
        assert (row.auc_low, row.auc_high) == pytest.approx((interval.low, interval.high))


def test_pairs_are_of_one_seed_whatever_the_order_of_the_rows():
    table = make_table()
    shuffled = table.sample(frac=1, random_state=1)
    one, other = (paired_differences(t, t["grade"] == "a", ["auc"]) for t in (table, shuffled))
    keys = ["grade", "packing", "n_samples"]
    pd.testing.assert_frame_equal(
        one.sort_values(keys, ignore_index=True), other.sort_values(keys, ignore_index=True)
    )


def test_a_seed_without_its_twin_is_left_out():
    table = make_table().query("not (grade == 'a' and seed == 3)")
    assert set(paired_differences(table, table["grade"] == "a", ["auc"])["n_pairs"]) == {4}


def test_one_pair_has_no_interval():
    found = paired_differences(t := make_table(1), t["grade"] == "a", ["auc"])
    assert found["auc_low"].isna().all()
    assert found["auc_difference"].notna().all()


def test_runs_on_other_data_are_no_pair():
    table = make_table().assign(data_fingerprint="x")
    table.loc[table["packing"] == "request", "data_fingerprint"] = "y"
    found = paired_differences(table, table["grade"] == "a", ["auc"])
    assert len(found) == 2
    assert (found["data_fingerprint"] == "x").all()


def test_a_variant_is_named_by_what_tells_it_apart():
    table = make_table()
    table["model.norm"] = np.where(table["grade"] == "a", "rms", "layer")  # follows from the grade
    assert describe_variants(table) == ["grade", "packing"]


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("z", "no run is the baseline"),
        ("b", "several runs of a seed are the baseline: packing=none and packing=request"),
    ],
)
def test_a_baseline_is_one_variant(baseline, message):
    table = make_table()
    with pytest.raises(UserError, match=message):
        paired_differences(table, table["grade"] == baseline, ["auc"])


def test_the_verb_prints_every_variant(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    make_table().to_csv(path, index=False)
    arguments = ["compare", str(path), "--baseline", "grade=b", "--baseline", "packing=none"]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--y", "auc", "--json"])
    assert end.value.code == 0
    document = json.loads(capsys.readouterr().out)
    variants = [(v["grade"], v["packing"], v["n_samples"]) for v in document["variants"]]
    assert variants == [
        ("a", "none", 100),
        ("a", "none", 200),
        ("b", "request", 100),
        ("b", "request", 200),
    ]
    with pytest.raises(SystemExit) as end:
        main([*arguments[:-1], "packing=non"])
    assert end.value.code == 2
    assert "--baseline packing=non: no such row, did you mean none?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--y", "aux"], "--y aux: no column aux, did you mean auc?"),
        (["--y", "grade"], "column grade holds 'a' in line 2, expected numbers"),
        (["--baseline", "packing"], "--baseline packing: expected COLUMN=VALUE, e.g. packing=none"),
    ],
)
def test_bad_use_is_one_line(tmp_path, capsys, arguments, message):
    path = tmp_path / "runs.csv"
    make_table().to_csv(path, index=False)
    with pytest.raises(SystemExit) as end:
        main(["compare", str(path), "--baseline", "grade=a", *arguments])
    err = capsys.readouterr().err
    assert (end.value.code, err.count("\n")) == (2, 1)
    assert message in err


def test_runs_that_nothing_distinguishes_are_no_pair():
    table = make_table()
    twice = pd.concat([table, table[table["grade"] == "b"]])
    with pytest.raises(
        UserError, match=r"several runs of a seed belong to one variant \(grade=b, packing="
    ):
        paired_differences(twice, twice["grade"] == "a", ["auc"])


def test_without_grades_variants_are_named_by_their_parameters():
    table = make_table().assign(n_params=lambda t: np.where(t["grade"] == "a", 10, 20))
    table = table.drop(columns="grade")
    assert describe_variants(table) == ["packing", "n_params"]
    message = "several runs of a seed are the baseline: n_params=10 and n_params=20; name one"
    with pytest.raises(UserError, match=message):
        paired_differences(table, table["packing"] == "none", ["auc"])


def test_a_baseline_that_occurs_twice_is_reported_by_its_size_and_seed():
    table = make_table()
    twice = pd.concat([table, table[table["grade"] == "a"]])
    with pytest.raises(UserError, match="baseline: n_samples 100, seed 0 stands twice"):
        paired_differences(twice, twice["grade"] == "a", ["auc"])


@pytest.mark.parametrize("column", ["seed", "n_samples"])
def test_what_pairs_runs_must_be_there(tmp_path, capsys, column):
    path = tmp_path / "runs.csv"
    make_table().drop(columns=column).to_csv(path, index=False)
    with pytest.raises(SystemExit) as end:
        main(["compare", str(path), "--baseline", "grade=a"])
    err = capsys.readouterr().err
    assert (end.value.code, err.count("\n")) == (2, 1)
    assert f"no column {column}" in err


def test_data_sizes_may_be_written_with_a_point(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    make_table().astype({"n_samples": float}).to_csv(path, index=False)
    with pytest.raises(SystemExit) as end:
        main(["compare", str(path), "--baseline", "grade=a"])
    assert end.value.code == 0
    assert "against grade=a at n_samples 200: " in capsys.readouterr().out
