import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from analysis.latency import best_of_each, best_under, pareto_front, served_models
from analysis.plots.accuracy_latency import plot_latency
from analysis.table import runs_table
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.cli.laws.race_verb import _latency_parts
from scaling.errors import UserError
from scaling.records import RunRecord, RunStore, TeacherRecord
from scaling.serving import Latency, ServingReport, read_serving, runs_to_measure, write_serving
from scaling.study import Distillation, RunConfig

# signature: family, grade, AUC, p99
RUNS = {
    "a0": ("suan", "SUAN-0", 0.70, 2.0),
    "a1": ("suan", "SUAN-1", 0.74, 9.0),
    "a2": ("suan", "SUAN-2", 0.77, 30.0),
    "b1": ("lightsuan", "SUAN-1", 0.73, 5.0),
    "b2": ("lightsuan", "SUAN-2", 0.76, 8.0),
}
HERE = {"versions": {"torch": "2.13.0"}, "platform": "Linux", "device": "cpu"}


def latency(p99, n_candidates=100, way="parallel"):
    return Latency(way, n_candidates, 200, p99 / 2, p99 / 1.5, p99, p99 / 2, 1000.0)


@pytest.fixture
def study(tmp_path):
    rows = []
    for name, (kind, grade, auc, p99) in RUNS.items():
        for seed in (0, 1):
            signature = f"{name}-{seed}"
            (tmp_path / signature).mkdir()
            model = {"kind": kind, "window": 8, "dilation": 16}
            latencies = (latency(p99), latency(5 * p99, way="single"), latency(p99 / 2, 10))
            report = ServingReport(signature, model, 50, 100, 1, latencies, HERE)
            write_serving(tmp_path / signature, report)
            rows.append(
                {
                    "signature": signature,
                    "grade": grade,
                    "model.kind": kind,
                    "n_samples": 1000,
                    "seed": seed,
                    "auc": auc + 0.01 * seed - 0.005,
                    "logloss": 1 - auc,
                }
            )
    return pd.DataFrame(rows), tmp_path


def measure(folder, signature, **changes):
    """Change a run's measurement."""
    write_serving(folder / signature, replace(read_serving(folder / signature), **changes))


def distilled(table, **columns):
    """The table with the runs of b2 distilled, everything else plain."""
    plain = {
        "distill": "none",
        "teacher_grade": "none",
        "teacher_data": "none",
        "distill_weight": np.nan,
    }
    table = table.assign(**plain)
    mine = table["signature"].str.startswith("b2")
    student = {"distill": "cold", "teacher_grade": "SUAN-3", "distill_weight": 1.0} | columns
    for column, values in student.items():
        if column not in table.columns:
            table[column] = pd.Series(np.nan, index=table.index, dtype=object)
        table.loc[mine, column] = values
    return table


def test_models_are_served_in_their_best_way_and_averaged_over_seeds(study):
    served = served_models(*study, "auc")
    models = served.models
    assert models["p99_ms"].tolist() == [2, 5, 8, 9, 30]
    assert models["model"].tolist() == ["SUAN-0", "LightSUAN-1", "LightSUAN-2", "SUAN-1", "SUAN-2"]
    assert models["auc"].tolist() == pytest.approx([0.70, 0.73, 0.76, 0.74, 0.77])
    assert models["n_seeds"].tolist() == [2] * 5
    assert models["stderr"].tolist() == pytest.approx([0.005] * 5)
    assert served.notes == ()


@pytest.mark.parametrize("metric", ["auc", "logloss"])
def test_the_front_holds_what_no_model_beats(study, metric):
    front = pareto_front(served_models(*study, metric).models, metric)
    assert front["model"].tolist() == ["SUAN-0", "LightSUAN-1", "LightSUAN-2", "SUAN-2"]


def test_the_best_model_under_a_budget_is_named(study):
    models = served_models(*study, "auc").models
    assert best_under(models, "auc", 10).startswith("the best model under 10 ms is LightSUAN-2")
    assert "SUAN-0: AUC 0.7000, p99 2 ms" in best_under(models, "auc", 4)
    assert best_under(models, "auc", 1) == "no model stays under 1 ms at p99"


def test_a_distilled_model_is_a_family_of_its_own(study):
    table, folder = study
    table["distill"] = ["warm" if n.startswith("b2") else "none" for n in table["signature"]]
    models = served_models(table, folder, "auc").models
    assert models["model"].tolist()[2] == "distilled LightSUAN-2"
    ax = plot_latency(models, "auc")
    labels = ax.get_legend_handles_labels()[1]
    assert {"SUAN", "LightSUAN", "distilled LightSUAN", "budget 10 ms"} <= set(labels)


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (
            {"teacher_grade": ["SUAN-3", "SUAN-4"]},
            ["LightSUAN-2 after SUAN-3", "LightSUAN-2 after SUAN-4"],
        ),
        (
            {"distill": ["cold", "frozen"], "teacher_data": ["none", "same"]},
            ["distilled LightSUAN-2, cold", "distilled LightSUAN-2, frozen"],
        ),
        (
            {"distill": "frozen", "teacher_data": ["same", "65536"]},
            ["distilled LightSUAN-2, same data", "distilled LightSUAN-2, 65,536 seen"],
        ),
        (
            {"teacher_data": ["same", "65536"], "teacher_n_new_samples": [700, 5000]},
            ["distilled LightSUAN-2, as many seen", "distilled LightSUAN-2, 65,536 seen"],
        ),
        (
            {"distill_weight": [1.0, 4.0]},
            ["distilled LightSUAN-2, lambda 1", "distilled LightSUAN-2, lambda 4"],
        ),
        (
            {"distill_share_embeddings": [True, False]},
            ["distilled LightSUAN-2, shared embeddings", "distilled LightSUAN-2, own embeddings"],
        ),
    ],
)
def test_students_with_different_distillation_are_different_models(study, columns, names):
    table, folder = study
    models = served_models(distilled(table, **columns), folder, "auc").models.set_index("model")
    assert models.loc[names, "auc"].tolist() == pytest.approx([0.755, 0.765])
    assert models.loc[names, "n_seeds"].tolist() == [1, 1]
    assert "SUAN-2" in models.index


@pytest.mark.parametrize("column", ["packing", "model.fusion", "learning_rate"])
def test_runs_that_differ_are_never_seeds_of_one_model(study, column):
    table, folder = study
    mixed = pd.concat(
        [table.assign(**{column: 1.0}), table.assign(**{column: 2.0}, auc=table["auc"] - 0.1)]
    )
    models = served_models(mixed, folder, "auc").models
    assert models["n_seeds"].tolist() == [2] * 10
    words = column.removeprefix("model.").replace("_", " ")
    assert {f"SUAN-0, {words} 1", f"SUAN-0, {words} 2"} <= set(models["model"])


def test_a_seed_that_occurs_twice_is_refused(study):
    table, folder = study
    with pytest.raises(UserError, match=r"SUAN-0 D=1000 occurs twice with seed 0 \(runs a0-0 and "):
        served_models(pd.concat([table, table[:1]]), folder, "auc")


def test_all_models_are_of_the_largest_data_size_and_the_others_are_named(study):
    table, folder = study
    table.loc[table["signature"].str.startswith("a"), "n_samples"] = 4000
    served = served_models(table, folder, "auc")
    assert set(served.models["family"]) == {"SUAN"}
    assert served.notes == ("left out, not trained on 4,000 samples: LightSUAN-1; LightSUAN-2",)


def test_a_teacher_of_the_largest_size_is_the_same_at_that_size(study):
    table, folder = study
    larger = distilled(table, teacher_data="same").assign(n_samples=4000)
    small = distilled(table, teacher_data="4000").assign(signature=table["signature"] + "-small")
    both = pd.concat([larger, small])
    both["teacher_n_samples"] = np.where(both["distill"] == "none", np.nan, 4000)
    for signature in small["signature"]:
        (folder / signature).mkdir()
        report = read_serving(folder / signature.removesuffix("-small"))
        write_serving(folder / signature, replace(report, signature=signature))
    assert served_models(both, folder, "auc").notes == ()
    both.loc[both["teacher_data"] == "4000", "teacher_n_samples"] = 2000
    [note] = served_models(both, folder, "auc").notes
    assert note.startswith("left out, not trained on 4,000 samples: distilled LightSUAN-2")


def test_a_name_leaves_out_settings_in_which_only_other_sizes_differ(study):
    table, folder = study
    small = distilled(table).assign(n_samples=500, signature=table["signature"] + "-small")
    larger = distilled(table, distill_weight=[1.0, 4.0])
    models = served_models(pd.concat([small, larger]).query("seed == 0"), folder, "auc").models
    assert "distilled LightSUAN-2" in models["model"].tolist()


def test_one_measured_seed_gives_the_latency_of_all(study):
    table, folder = study
    for path in folder.glob("*-1/serving.json"):
        path.unlink()
    models = served_models(table, folder, "auc").models
    assert models["n_seeds"].tolist() == [2] * 5
    assert models["auc"].tolist() == pytest.approx([0.70, 0.73, 0.76, 0.74, 0.77])


def test_a_latency_measured_at_another_data_size_is_the_models(study):
    table, folder = study
    larger = table.assign(n_samples=4000, signature=table["signature"] + "-larger")
    models = served_models(pd.concat([table, larger]), folder, "auc").models
    assert models["n_samples"].tolist() == [4000] * 5
    assert models["p99_ms"].tolist() == [2, 5, 8, 9, 30]


def test_models_that_were_not_measured_are_named(study):
    table, folder = study
    for path in folder.glob("a0-*/serving.json"):
        path.unlink()
    assert served_models(table, folder, "auc").notes == ("left out, not measured: SUAN-0",)


def test_latencies_of_other_numbers_of_threads_are_refused(study):
    table, folder = study
    measure(folder, "b1-0", n_threads=4)
    with pytest.raises(UserError) as refused:
        served_models(table, folder, "auc")
    message = str(refused.value)
    assert "run a0-0 was measured with 1 thread and run b1-0 with 4" in message
    assert message.endswith(f"`scaling serve-bench {folder / 'b1-0'} --threads 1`")


def test_latencies_of_two_machines_are_reported(study):
    table, folder = study
    measure(folder, "b1-0", environment=HERE | {"platform": "Darwin"})
    [note] = served_models(table, folder, "auc").notes
    assert "2 machines or versions (cpu, Linux, torch 2.13.0; cpu, Darwin, torch 2.13.0)" in note


def test_two_processors_are_two_machines(study):
    table, folder = study
    for path in folder.glob("*/serving.json"):
        measure(folder, path.parent.name, environment=HERE | {"processor": "EPYC"})
    assert served_models(table, folder, "auc").notes == ()
    measure(folder, "b1-0", environment=HERE | {"processor": "Xeon"})
    [note] = served_models(table, folder, "auc").notes
    assert "(cpu, Linux, EPYC, torch 2.13.0; cpu, Linux, Xeon, torch 2.13.0)" in note


def test_percentiles_of_few_requests_are_reported(study):
    table, folder = study
    measure(folder, "b1-0", latencies=(replace(latency(5.0), n_requests=7),))
    [note] = served_models(table, folder, "auc").notes
    assert note.startswith(
        "the p99 of 1 of 5 models comes from fewer than 100 requests (minimum 7)"
    )


def test_a_metric_that_no_measured_model_has_is_one_line(study):
    table, folder = study
    with pytest.raises(UserError, match="no measured model has a auc"):
        served_models(table.assign(auc=np.nan), folder, "auc")
    with pytest.raises(UserError, match="no column aux, did you mean auc"):
        served_models(table, folder, "aux")


def test_labels_overlap_neither_each_other_nor_the_frame(study):
    """Twenty students within a tenth of a millisecond: the front and each family's best are named all the same."""
    table, folder = study
    models = served_models(table, folder, "auc").models
    crowd = pd.concat([models[models["model"] == "LightSUAN-2"]] * 20, ignore_index=True)
    rng = np.random.default_rng(0)
    crowd["model"] = [f"LightSUAN-2 after SUAN-3, cold, lambda {i}" for i in range(20)]
    crowd["family"] = "distilled LightSUAN"
    crowd[["p99_ms", "auc"]] += rng.normal(0, [0.05, 0.002], (20, 2))
    every = pd.concat([models, crowd], ignore_index=True)
    ax = plot_latency(every, "auc")
    ax.figure.draw_without_rendering()
    # of the words alone, without the line that leads to the point
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    # a rounding of the layout, pixels
    inside = ax.get_window_extent().padded(1)
    assert all(inside.contains(*box.min) and inside.contains(*box.max) for box in boxes)
    shrunk = [box.padded(-0.5) for box in boxes]
    assert not any(a.overlaps(b) for i, a in enumerate(shrunk) for b in shrunk[:i])
    best = every.sort_values("auc").drop_duplicates("family", keep="last")["model"]
    named = {text.get_text().replace("\n", " ") for text in ax.texts}
    assert named >= {*pareto_front(every, "auc")["model"], *best}
    assert len(named) < len(every)


def write_run(folder, n_samples, seed, model, distill, n_seen):
    config = RunConfig(
        grade_name="SUAN-1", grade=GRADES["SUAN-1"], model=model, n_samples=n_samples, seed=seed,
        batch_size=64, learning_rate=1e-3, schedule="decay", data_order="independent",
        data_fingerprint="f" * 64, warmup_steps=10, distill=distill,
    )  # fmt: skip
    teacher = TeacherRecord(9, 9, 9, {"auc": 0.8}, n_seen, n_seen) if distill else None
    record = RunRecord(config, 4, 4, 4, 4, {"auc": 0.7}, 0.5, 1.0, 1.0, 1.0, {}, teacher)
    RunStore(folder).write(record)
    report = ServingReport(
        record.signature, {"kind": model.kind}, 50, 100, 1, (latency(2.0 + model.dropout),), HERE
    )
    write_serving(folder / record.signature, report)


def test_serve_bench_and_the_frontier_name_a_studys_models_alike(tmp_path):
    light = SuanOptions(kind="lightsuan", window=8)
    cold = Distillation("SUAN-3", GRADES["SUAN-3"], SuanOptions(), 1e-3, 1.0, 1.0, False)
    frozen = replace(cold, learning_rate=None, teacher_init="a" * 16)
    models = [
        (SuanOptions(), None, 0),
        (replace(light, window=4), None, 0),
        (light, None, 0),
        (light, cold, 0),
        (light, replace(cold, weight=4.0), 0),
        (light, frozen, 4_000),
        (light, replace(frozen, teacher_name="SUAN-2", teacher=GRADES["SUAN-2"]), 16_000),
    ]
    for n_samples in (1_000, 4_000):
        for seed in (0, 1):
            for model in models:
                write_run(tmp_path, n_samples, seed, *model)
    chosen = [one for one in runs_to_measure([tmp_path]) if one.config.n_samples == 4_000]
    drawn = served_models(runs_table(tmp_path), tmp_path, "auc").models["model"]
    assert len(set(drawn)) == len(models)
    assert sorted(one.model for one in chosen) == sorted(drawn)


def test_other_numbers_of_candidates_are_other_latencies(study):
    assert served_models(*study, "auc", n_candidates=10).models["p99_ms"].tolist()[0] == 1
    with pytest.raises(UserError, match="no latency for 7 candidates; measured: 10, 100"):
        served_models(*study, "auc", n_candidates=7)


def test_without_measurements_the_verb_that_measures_is_named(study):
    table, folder = study
    for path in folder.glob("*/serving.json"):
        path.unlink()
    with pytest.raises(UserError, match="`scaling serve-bench "):
        served_models(table, folder, "auc")


def test_a_damaged_measurement_is_an_error(study):
    table, folder = study
    path = folder / "a0-0" / "serving.json"
    path.write_text(json.dumps({"signature": "x"}))
    with pytest.raises(UserError, match=r"serving\.json: model: missing"):
        served_models(table, folder, "auc")


def test_every_kind_of_model_has_a_look_of_its_own():
    kinds = ["SUAN", "LightSUAN", "BST", "DCNv2", "DIN", "HSTU", "RankMixer", "SIM", "own:Model"]
    models = pd.DataFrame(
        {
            "model": kinds,
            "family": kinds,
            "p99_ms": np.arange(1.0, 1 + len(kinds)),
            "auc": np.linspace(0.6, 0.7, len(kinds)),
            "stderr": 0.0,
        }
    )
    ax = plot_latency(models, "auc")
    looks = {
        (bars.lines[0].get_color(), bars.lines[0].get_marker()): bars.get_label()
        for bars in ax.containers
    }
    assert list(looks.values()) == kinds


def test_the_best_of_each_family_stays_within_the_budget(study):
    models = served_models(*study, "auc").models
    assert best_of_each(models, "auc", 10.0)["model"].tolist() == ["LightSUAN-2", "SUAN-1"]
    assert best_of_each(models, "auc", 0.5).empty


def test_a_race_says_the_best_of_each_model_within_a_budget(study):
    served = served_models(*study, "auc", n_candidates=10)
    title, table = _latency_parts(served, 4.0)
    assert title.startswith("the best model under 4 ms is LightSUAN-2: AUC 0.7600, p99 4 ms; ")
    assert [row[0] for row in table.rows] == ["LightSUAN-2", "SUAN-0"]
