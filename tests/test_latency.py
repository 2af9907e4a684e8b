import json

import pandas as pd
import pytest

from analysis.latency import best_under, pareto_front, plot_latency, served_models
from scaling.errors import UserError
from scaling.serving_report import Latency, ServingReport, write_serving

# signature: family, grade, AUC, p99
RUNS = {
    "a0": ("suan", "SUAN-0", 0.70, 2.0),
    "a1": ("suan", "SUAN-1", 0.74, 9.0),
    "a2": ("suan", "SUAN-2", 0.77, 30.0),
    "b1": ("lightsuan", "SUAN-1", 0.73, 5.0),
    "b2": ("lightsuan", "SUAN-2", 0.76, 8.0),
}


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
            report = ServingReport(signature, model, 50, 100, 1, latencies, {})
            write_serving(tmp_path / signature, report)
            rows.append(
                {
                    "signature": signature,
                    "grade": grade,
                    "n_samples": 1000,
                    "seed": seed,
                    "auc": auc + 0.01 * seed - 0.005,
                    "logloss": 1 - auc,
                }
            )
    return pd.DataFrame(rows), tmp_path


def test_models_are_served_in_their_best_way_and_averaged_over_seeds(study):
    models = served_models(*study, "auc")
    assert models["p99_ms"].tolist() == [2, 5, 8, 9, 30]
    assert models["model"].tolist() == ["SUAN-0", "LightSUAN-1", "LightSUAN-2", "SUAN-1", "SUAN-2"]
    assert models["auc"].tolist() == pytest.approx([0.70, 0.73, 0.76, 0.74, 0.77])
    assert models["n_seeds"].tolist() == [2] * 5
    assert models["stderr"].tolist() == pytest.approx([0.005] * 5)


@pytest.mark.parametrize("metric", ["auc", "logloss"])
def test_the_front_holds_what_no_model_beats(study, metric):
    front = pareto_front(served_models(*study, metric), metric)
    assert front["model"].tolist() == ["SUAN-0", "LightSUAN-1", "LightSUAN-2", "SUAN-2"]


def test_the_best_model_under_a_budget_is_named(study):
    models = served_models(*study, "auc")
    assert best_under(models, "auc", 10).startswith("the best model under 10 ms is LightSUAN-2")
    assert "SUAN-0: AUC 0.7000, p99 2 ms" in best_under(models, "auc", 4)
    assert best_under(models, "auc", 1) == "no model stays under 1 ms at p99"


def test_a_distilled_model_is_a_family_of_its_own(study):
    table, folder = study
    table["distill"] = ["warm" if n.startswith("b2") else "none" for n in table["signature"]]
    models = served_models(table, folder, "auc")
    assert models["model"].tolist()[2] == "distilled LightSUAN-2"
    ax = plot_latency(models, "auc")
    labels = ax.get_legend_handles_labels()[1]
    assert {"SUAN", "LightSUAN", "distilled LightSUAN", "budget 10 ms"} <= set(labels)


def test_students_of_different_teachers_are_different_models(study):
    table, folder = study
    table = table.assign(distill="none", teacher_grade="none", distill_weight=float("nan"))
    mine = table["signature"].str.startswith("b2")
    table.loc[mine, ["distill", "distill_weight"]] = ["cold", 1.0]
    table.loc[mine, "teacher_grade"] = ["SUAN-3", "SUAN-4"]
    models = served_models(table, folder, "auc").set_index("model")
    told = ["distilled LightSUAN-2 (SUAN-3)", "distilled LightSUAN-2 (SUAN-4)"]
    assert models.loc[told, "auc"].tolist() == pytest.approx([0.755, 0.765])
    assert models.loc[told, "n_seeds"].tolist() == [1, 1]


def test_only_the_largest_data_size_is_shown(study):
    table, folder = study
    table.loc[table["signature"].str.startswith("a"), "n_samples"] = 4000
    assert set(served_models(table, folder, "auc")["family"]) == {"SUAN"}


def test_other_numbers_of_candidates_are_other_latencies(study):
    assert served_models(*study, "auc", n_candidates=10)["p99_ms"].tolist()[0] == 1
    with pytest.raises(UserError, match="no latency for 7 candidates; measured were 10, 100"):
        served_models(*study, "auc", n_candidates=7)


def test_without_measurements_the_verb_that_measures_is_named(study):
    table, folder = study
    for path in folder.glob("*/serving.json"):
        path.unlink()
    with pytest.raises(UserError, match="`scaling serve-bench "):
        served_models(table, folder, "auc")


def test_a_damaged_measurement_is_told(study):
    table, folder = study
    path = folder / "a0-0" / "serving.json"
    path.write_text(json.dumps({"signature": "x"}))
    with pytest.raises(UserError, match=r"serving\.json: model: missing"):
        served_models(table, folder, "auc")
