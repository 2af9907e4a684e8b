"""Estimates from runs and benchmarks; the errors for damaged measurements say what to do."""

from dataclasses import asdict, replace

import pytest
from small_studies import study_and_facts

import sweeps.planning.benchmark
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.errors import UserError
from scaling.store import LogShape
from scaling.study import Distillation
from sweeps.planning import grid_cells, speed_up
from sweeps.planning.cost_estimate import Throughput, estimate, measurements, read_benchmarks

MESSAGE = r"/benchmark\.json: damaged: \w.*; remove it, and run `scaling benchmark` again$"


@pytest.mark.parametrize("damage", ["", "null", "{}", "[3]", "["])
def test_a_damaged_benchmark_is_an_error_of_one_line(tmp_path, damage):
    (tmp_path / "benchmark.json").write_text(damage)
    with pytest.raises(UserError, match=MESSAGE):
        read_benchmarks(tmp_path)


def test_a_folder_in_the_place_of_a_benchmark_is_an_error(tmp_path):
    (tmp_path / "benchmark.json").mkdir()
    with pytest.raises(UserError, match=r"cannot be read: Is a directory; remove it, and run"):
        read_benchmarks(tmp_path)


def test_a_damaged_benchmark_is_an_error_before_a_new_one_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps.planning.benchmark, "prepare_process", pytest.fail)
    (tmp_path / "benchmark.json").write_text("null")
    with pytest.raises(UserError, match=MESSAGE):
        sweeps.planning.benchmark.benchmark_grades(None, ["SUAN-0"], tmp_path)


def epoch_of(config, rate):
    """The record of a run, as far as estimates read it."""
    return {"config": asdict(config), "samples_per_second": rate, "peak_memory_gib": 1.0}


def cells_of(study_file, *overrides):
    study, data = study_and_facts(study_file, *overrides)
    return {cell.n_samples: cell for cell in grid_cells(study, data)}, data


def test_a_run_of_the_same_size_is_the_estimate(study_file):
    cells, data = cells_of(study_file, 'grid.grade=["SUAN-0"]')
    known = measurements([epoch_of(cells[160], 80.0)], [], data.fingerprint)
    one = estimate(cells[160], data, known)
    assert one.source == "run"
    assert one.seconds - one.evaluation_seconds == pytest.approx(160 / 80)


@pytest.mark.parametrize(
    ("device", "precision", "source"),
    [
        ("cpu", "float32", "guess"),
        ("NVIDIA H100", "bf16", "guess"),
        ("NVIDIA H100", "float32", "run"),
    ],
)
def test_only_runs_on_a_gpu_in_its_precision_estimate_a_cell_on_a_gpu(
    study_file, device, precision, source
):
    cells, data = cells_of(study_file, 'grid.grade=["SUAN-0"]')
    record = epoch_of(replace(cells[160], precision=precision), 80.0)
    record["provenance"] = {"device": device}
    known = measurements([record], [], data.fingerprint)
    assert estimate(cells[160], data, known, on_gpu=True).source == source


@pytest.mark.parametrize(
    ("measured", "planned", "share"),
    [(1, 8, 1), (8, 8, 8), (8, 1, 1), (8, 2, 2), (2, 8, 2)],
)
def test_of_a_shared_gpu_only_what_was_measured_counts(study_file, measured, planned, share):
    """A run at 80 samples per second: beside seven others the GPU trained 640."""
    cells, data = cells_of(study_file, 'grid.grade=["SUAN-0"]')
    record = epoch_of(cells[160], 80.0)
    record["provenance"] = {"device": "NVIDIA H100", "attempts": [{"cells_per_gpu": measured}]}
    known = measurements([record], [], data.fingerprint)
    one = estimate(cells[160], data, known, on_gpu=True, cells_per_gpu=planned)
    assert one.seconds - one.evaluation_seconds == pytest.approx(160 / 80 / share)
    assert one.n_beside == share


def test_the_memory_of_ranks_that_divided_their_table_is_taken_back_to_one(study_file):
    cells, data = cells_of(study_file, 'grid.grade=["SUAN-0"]')
    record = epoch_of(cells[160], 80.0) | {"n_embedding_params": 2**30}
    found = []
    for attempt in ({"ranks": 4, "sharded": True}, {"ranks": 4}):
        record["provenance"] = {"attempts": [attempt]}
        found.append(estimate(cells[160], data, measurements([record], [], data.fingerprint)))
    # three quarters of 12 bytes for each parameter
    assert found[0].memory_gib - found[1].memory_gib == pytest.approx(9.0)


def test_the_speed_of_several_ranks_is_taken_back_to_one(study_file):
    cells, data = cells_of(study_file, 'grid.grade=["SUAN-0"]')
    record = epoch_of(cells[160], 80.0)
    record["provenance"] = {"attempts": [{"ranks": 2}]}
    one = estimate(cells[160], data, measurements([record], [], data.fingerprint))
    assert one.seconds - one.evaluation_seconds == pytest.approx(160 / 80 * speed_up(2))


def test_a_run_with_a_smaller_batch_is_slower_per_sample(study_file):
    """Fixed costs of a step dominate at these sizes: 16 times the batch, nearly a 16th of the time per sample."""
    cells, data = cells_of(study_file, 'grid.grade=["SUAN-0"]')
    small, large = cells[160], replace(cells[320], batch_size=256)
    known = measurements([epoch_of(replace(small, batch_size=16), 80.0)], [], data.fingerprint)
    one = estimate(large, data, known)
    assert 320 / 80 / 16 <= one.seconds - one.evaluation_seconds < 320 / 80 / 4


def test_evaluation_of_a_packed_run_costs_what_unpacked_passes_cost(study_file):
    cells, data = cells_of(study_file, 'grid.grade=["SUAN-4"]')
    data = replace(data, shape=LogShape({"min": 80.0, "max": 80.0}, per_request=20.0))
    packed = replace(cells[320], packing="request", batch_size=256)
    known = measurements([epoch_of(packed, 80.0)], [], data.fingerprint)
    per_sample = estimate(packed, data, known).evaluation_seconds / data.n_test
    assert 0.5 / 80 < per_sample < 10 / 80


def test_a_growing_batch_is_measured_at_its_ends(study_file, tiny_store):
    study, _ = study_and_facts(
        study_file, "train.batch_schedule=growing", "train.batch_size=64", 'grid.grade=["SUAN-0"]'
    )
    found = sweeps.planning.benchmark._configurations(study, None, tiny_store)
    assert [(c.batch_size, c.batch_schedule) for c in found["SUAN-0"]] == [
        (16, "fixed"),
        (64, "fixed"),
    ]


def test_a_benchmark_counts_the_steps_of_a_growing_batch(study_file):
    cells, data = cells_of(
        study_file, "train.batch_schedule=growing", "train.batch_size=64", 'grid.grade=["SUAN-0"]'
    )
    cell = cells[320]
    bench = Throughput(cell.grade, cell.model, "none", "", "cpu", 2.0, 0.0, 0.0, 1.0, 1.0)
    known = measurements([], [bench], data.fingerprint)
    assert estimate(cell, data, known).seconds == 2.0 * 320 / 16
    # the last samples of a shared training
    assert estimate(cell, data, known, n_trained=160).seconds == 2.0 * 160 / 16


def test_a_benchmark_on_a_cpu_says_nothing_about_a_job_on_a_gpu(study_file):
    cells, data = cells_of(study_file, 'grid.grade=["SUAN-0"]')
    cell = cells[320]
    slow = Throughput(cell.grade, cell.model, "none", "", "cpu", 2.0, 0.0, 0.0, 1.0, 1.0)
    fast = replace(slow, device="NVIDIA", step_seconds=0.5)
    only_slow, both = (
        measurements([], found, data.fingerprint) for found in ([slow], [slow, fast])
    )
    assert estimate(cell, data, only_slow, on_gpu=True).source == "guess"
    assert estimate(cell, data, both, on_gpu=True).seconds == 0.5 * cell.n_steps
    assert estimate(cell, data, both).seconds == 2.0 * cell.n_steps


def test_the_mfu_of_a_benchmark_is_of_the_data_sheet_or_of_the_measured_product(study_file):
    cells, _ = cells_of(study_file, 'grid.grade=["SUAN-0"]')
    cell = cells[320]
    old = Throughput(cell.grade, cell.model, "none", "", "cpu", 2.0, 0.0, 0.0, 1.0, 1.0)
    assert old.mfu is None
    new = replace(old, flops_per_second=1e10, product_flops_per_second=4e10)
    assert new.mfu == 0.25
    assert replace(new, device="NVIDIA L4").mfu == pytest.approx(1e10 / 30.3e12)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_large_product_is_measured_once_for_all_grades(precision):
    rate = sweeps.planning.benchmark._product_flops_per_second("cpu", precision)
    assert rate > 0
    assert sweeps.planning.benchmark._product_flops_per_second("cpu", precision) is rate


def test_a_frozen_teacher_takes_a_third_of_the_time_of_its_training(study_file):
    cells, data = cells_of(study_file, 'grid.grade=["SUAN-0"]')
    cold = Distillation("SUAN-1", GRADES["SUAN-1"], SuanOptions(), 0.01, 1.0, 1.0)
    frozen = replace(cold, learning_rate=None, teacher_init="0" * 16)
    taught = [replace(cells[160], distill=one) for one in (cold, frozen)]
    runs = [epoch_of(taught[0].student_alone, 80.0), epoch_of(taught[0].teacher_alone, 40.0)]
    known = measurements(runs, [], data.fingerprint)
    trained, fixed = (estimate(one, data, known).seconds for one in taught)
    assert trained - fixed == pytest.approx(2 / 3 * 160 / 40)
