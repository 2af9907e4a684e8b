"""The runs table: from records to rows, variants, cells and what is refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.study_results import fit_study
from analysis.table import (
    RUN_COLUMNS,
    cell_table,
    check_runs,
    default_metrics,
    grade_column,
    read_table,
    rises,
    runs_table,
    size_of,
    sized_rows,
    split_variants,
    write_table,
)
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.errors import UserError
from scaling.metrics import evaluate, is_stderr, stderr_name
from scaling.records import RunRecord, RunStore, TeacherRecord
from scaling.study import Distillation, RunConfig


def make_record(grade="SUAN-1", n_samples=4096, seed=0, logloss=0.5, truth=True, **options):
    config = RunConfig(
        grade_name=grade,
        grade=GRADES[grade],
        model=SuanOptions(),
        n_samples=n_samples,
        seed=seed,
        batch_size=64,
        learning_rate=0.002,
        schedule="decay",
        data_order="independent",
        data_fingerprint="a" * 64,
        warmup_steps=10,
    )
    config = replace(config, **options)
    return RunRecord(
        config=config,
        n_params=1000 * (int(grade[-1]) + 1),
        n_embedding_params=5000,
        flops_per_sample=20_000,
        flops=3 * 20_000 * n_samples,
        metrics={"logloss": logloss, "auc": 0.7, "logloss_stderr": 0.001},
        train_loss=0.55,
        train_seconds=2.0,
        samples_per_second=n_samples / 2.0,
        peak_memory_gib=0.5,
        provenance={"truth": {"bayes_logloss": 0.4, "bayes_auc": 0.88} if truth else None},
    )


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "study")


def test_each_finished_run_is_a_row_with_the_documented_columns(store):
    for seed in (1, 0):
        store.write(make_record(seed=seed, logloss=0.5 + seed / 100))
    table = runs_table(store.root)
    assert list(table.columns) == [*RUN_COLUMNS, "auc", "logloss", "logloss_stderr"]
    assert table["seed"].tolist() == [0, 1]
    assert table["logloss"].tolist() == [0.5, 0.51]
    assert table["bayes_logloss"].tolist() == [0.4, 0.4]
    assert table["max_len"].tolist() == [16, 16]


def test_truth_is_missing_on_real_data(store):
    store.write(make_record(truth=False))
    assert runs_table(store.root)["bayes_auc"].isna().all()


def test_a_varied_model_option_becomes_a_column_and_splits_the_table(store):
    store.write(make_record())
    store.write(make_record(model=SuanOptions(norm="layer")))
    table = runs_table(store.root)
    assert "model.norm" in table.columns
    assert "model.ffn" not in table.columns
    parts = split_variants(table)
    assert list(parts) == ["model.norm=layer", "model.norm=rms"]
    assert [len(part) for part in parts.values()] == [1, 1]


def test_recipe_values_do_not_split_but_a_sweep_of_them_does(store):
    store.write(make_record(learning_rate=0.002))
    store.write(make_record(n_samples=8192, learning_rate=0.003))
    assert list(split_variants(runs_table(store.root))) == [""]
    store.write(make_record(learning_rate=0.004))
    assert len(split_variants(runs_table(store.root))) == 3


def test_a_folder_without_runs_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        runs_table(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no finished run yet"):
        runs_table(tmp_path / "empty")


def test_a_table_survives_its_file(store, tmp_path):
    store.write(make_record(logloss=0.1 + 0.2))
    table = runs_table(store.root)
    write_table(table, tmp_path / "table.csv")
    again = read_table(tmp_path / "table.csv")
    pd.testing.assert_frame_equal(again.reset_index(drop=True), table, check_dtype=False)
    assert again["logloss"][2] == 0.1 + 0.2  # on the file's second line


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "not a CSV table"), ("a,b\n", "no row"), ('a,b\n1,"2', "not a CSV table")],
)
def test_a_bad_file_is_one_clear_error(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_table(path)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_table(tmp_path / "absent.csv")


def test_a_run_counted_twice_is_an_error(store):
    store.write(make_record())
    table = runs_table(store.root)
    check_runs(table)
    with pytest.raises(UserError, match=r"grade SUAN-1, n_params 2000, .* stands twice"):
        check_runs(pd.concat([table, table]))


def test_cells_average_their_seeds_and_pool_their_noise():
    table = pd.DataFrame(
        {
            "grade": ["a", "a", "a", "b", "b", "c"],
            "n_params": [10, 10, 10, 20, 20, 30],
            "n_samples": 100,
            "seed": [0, 1, 2, 0, 1, 0],
            "logloss": [0.5, 0.52, 0.54, 0.4, 0.41, 0.3],
        }
    )
    cells = cell_table(table, ["logloss"])
    logloss = cells.metrics["logloss"]
    assert cells.n_seeds.tolist() == [3, 2, 1]
    np.testing.assert_allclose(logloss["mean"], [0.52, 0.405, 0.3])
    pooled = np.sqrt((2 * 0.02**2 + 1 * 0.005**2 * 2) / 3)
    np.testing.assert_allclose(logloss["mean_stderr"], pooled / np.sqrt([3, 2, 1]))
    assert np.isnan(logloss["seed_sd"][2])


def test_metrics_without_label_noise_come_first():
    table = pd.DataFrame({"logloss": [0.5], "auc": [0.7], "soft_logloss": [0.49]})
    assert default_metrics(table) == ["soft_logloss", "auc"]
    assert default_metrics(table.assign(soft_logloss=np.nan)) == ["logloss", "auc"]
    assert default_metrics(pd.DataFrame({"loss": [1.0]})) == []


@pytest.mark.parametrize(
    ("metric", "up"),
    [
        ("auc", True), ("soft_auc", True), ("ndcg@10", True), ("logloss", False),
        ("normalized_entropy", False), ("loss", False), ("hit_rate", True),
    ],
)  # fmt: skip
def test_direction_follows_from_the_name(metric, up):
    assert rises(metric) == up


def test_runs_that_begin_alike_name_their_trajectory(store):
    """To the bit, and whether or not one training served them: their luck is the same."""
    for n_samples in (4096, 8192):
        store.write(make_record(n_samples=n_samples))
    store.write(make_record(n_samples=8192, seed=1))
    table = runs_table(store.root).set_index(["n_samples", "seed"])["trajectory"]
    assert table[4096, 0] == table[8192, 0]
    assert table[4096, 0].startswith("trajectory-")
    assert pd.isna(table[8192, 1])


def taught(n_before, n_new, **options):
    """A run whose teacher had seen `n_before` impressions."""
    distill = Distillation(
        "SUAN-2", GRADES["SUAN-2"], SuanOptions(), None, 1.0, 1.0, False, "f" * 16
    )
    record = make_record(distill=distill, **options)
    return replace(record, teacher=TeacherRecord(3000, 9000, 30_000, {"auc": 0.8}, n_before, n_new))


def test_a_teacher_of_as_many_impressions_is_one_series_whatever_the_order(store):
    store.write(taught(1024, 770, n_samples=1024))
    store.write(taught(4096, 0, n_samples=4096))
    assert runs_table(store.root)["teacher_data"].tolist() == ["same", "same"]
    store.write(taught(4096, 3072, n_samples=1024, seed=1))
    assert set(runs_table(store.root)["teacher_data"]) == {"same", "4096"}


def test_a_law_of_the_teachers_size_is_of_runs_with_a_teacher(store):
    store.write(make_record())
    store.write(taught(4096, 0))
    sized = sized_rows(runs_table(store.root), "teacher_n_params", "n_samples")
    assert sized[["grade", "teacher_grade", "teacher_n_params"]].to_numpy().tolist() == [
        ["SUAN-1", "SUAN-2", 3000]
    ]
    assert grade_column(sized, "teacher_n_params") == "teacher_grade"
    assert not {"n_params", "max_len", "flops_per_sample"} & set(sized.columns)


def test_a_table_without_teachers_has_none_to_size_by(store):
    store.write(taught(4096, 0))
    plain = runs_table(store.root).assign(teacher_n_params=np.nan)
    with pytest.raises(UserError, match="no run has a teacher, so none has a teacher_n_params"):
        sized_rows(plain, "teacher_n_params", "n_samples")


def make_sizes():
    return pd.DataFrame(
        {
            "n_params": [10, 20], "n_samples": [300, 400], "flops": [5, 6], "auc": 0.6,
            "loss": 0.5, "grade": "A", "teacher_grade": "T", "teacher_n_params": [50.0, 60.0],
            "teacher_tokens": [0.5, 1.5], "teacher_loss": 0.4, "teacher_auc": 0.7,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("x", "data"), [("n_samples", "n_params"), ("flops", "n_params"), ("n_samples", "flops")]
)
def test_columns_of_sizes_keep_their_names(x, data):
    table = make_sizes()
    pd.testing.assert_frame_equal(sized_rows(table, x, data), table)


def test_only_whole_sizes_of_teachers_lose_their_point():
    table = make_sizes()
    whole = sized_rows(table, "teacher_n_params", "n_samples")["teacher_n_params"]
    assert (whole.dtype, whole.tolist()) == (int, [50, 60])
    halves = sized_rows(table, "teacher_tokens", "n_samples")["teacher_tokens"]
    assert halves.tolist() == [0.5, 1.5]


@pytest.mark.parametrize("column", ["auc", "loss", "teacher_auc", "teacher_loss"])
def test_a_metric_is_no_size(column):
    message = f"column {column} is a metric, not a size"
    with pytest.raises(UserError, match=message):
        sized_rows(make_sizes(), column, "n_samples", ["loss"])
    with pytest.raises(UserError, match=message):
        sized_rows(make_sizes(), "n_params", column, ["loss"])


def test_a_cell_without_a_length_is_a_cell():
    table = pd.DataFrame(
        {"grade": "A", "n_params": [1, 2], "max_len": [8, np.nan], "n_samples": 10, "auc": 0.5}
    )
    assert cell_table(table, ["auc"]).sizes["n_params"].tolist() == [1, 2]


def test_a_run_without_a_grade_is_told():
    table = pd.DataFrame(
        {"grade": ["A", None], "n_params": [1, 2], "n_samples": 10, "seed": 0, "auc": 0.5}
    )
    with pytest.raises(UserError, match="grade is empty in row 1"):
        fit_study(table, ["auc"])


def test_the_errors_of_metrics_have_the_name_that_fits_look_for():
    metrics = evaluate(np.array([0, 1, 1, 0]), np.array([-1.0, 0.5, 2.0, 0.1]), np.full(4, 0.5))
    errors = {name for name in metrics if is_stderr(name)}
    own = ("logloss", "auc", "soft_logloss", "excess_logloss")
    assert errors == {stderr_name(name) for name in own}


@pytest.mark.parametrize(
    ("column", "label", "unit"),
    [("flops", "training FLOPs $C$", "FLOPs"), ("n_samples", "training samples $D$", "samples"),
     ("tokens", "tokens", "")],
)  # fmt: skip
def test_a_size_carries_its_label_and_unit(column, label, unit):
    size = size_of(column)
    assert (size.column, size.label, size.unit) == (column, label, unit)


def test_cells_of_a_table_with_other_columns_keep_their_names():
    table = pd.DataFrame({"compute": [1, 1, 2], "tokens": 10, "seed": [0, 1, 0], "auc": 0.5})
    cells = cell_table(table, ["auc"], x="compute", data="tokens")
    assert cells.sizes.to_dict("list") == {"compute": [1, 2], "tokens": [10, 10]}
    assert cells.n_seeds.tolist() == [2, 1]


@pytest.mark.parametrize("name", ["n_seeds", "auc_mean_stderr", "auc_seed_sd", "mean", "index"])
def test_cells_keep_sizes_whose_columns_are_named_as_results(name):
    table = pd.DataFrame(
        {name: [3.0, 3.0, 5.0], "D": 10, "seed": [0, 1, 0], "auc": [0.5, 0.6, 0.7]}
    )
    cells = cell_table(table, ["auc"], x=name, data="D")
    assert cells.sizes[name].tolist() == [3.0, 5.0]
    np.testing.assert_allclose(cells.metrics["auc"]["mean"], [0.55, 0.7])


def test_cells_are_ordered_by_size_with_their_means():
    table = pd.DataFrame({"n_params": [9, 1, 5], "n_samples": 10, "auc": [0.9, 0.1, 0.5]})
    cells = cell_table(table, ["auc"])
    assert cells.sizes["n_params"].tolist() == [1, 5, 9]
    assert cells.metrics["auc"]["mean"].tolist() == [0.1, 0.5, 0.9]


def test_a_metric_named_grade_names_no_model():
    table = pd.DataFrame({"n_params": [1, 2], "grade": [0.5, 0.6]})
    assert grade_column(table, "n_params", ["grade"]) == "n_params"
