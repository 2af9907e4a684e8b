"""What jobs asked and used, from submissions and attempts as jobs write them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from recorded_runs import edit_record
from small_studies import plan_of

from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.cli.app import main
from sweeps.dispatch import run_debug
from sweeps.efficiency import Span, efficiency_by_class
from sweeps.planning import Throughput, keep_benchmarks
from sweeps.queue import Submission, scheduler, write_submission

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SMALL = {"partition": "cpu", "cpus": 2, "gpus": 0, "memory_mib": 2048, "minutes": 30}
LARGE = {"partition": "gpu", "cpus": 4, "gpus": 2, "memory_mib": 8192, "minutes": 120}


def at(seconds):
    return (BEGIN + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def attempt(name, job_id, begin, end, *, process=None, restart=0, **facts):
    """An attempt from `begin` to `end` in seconds, of a process that began at `process`."""
    known = {
        "number": 1,
        "id": name,
        "state": "ended",
        "time": (BEGIN + timedelta(seconds=end)).timestamp(),
        "process_started": at(begin if process is None else process),
        "started": at(begin),
        "ended": at(end),
        "failure": "preempted",
        "message": "",
        "host": "n1",
        "pid": 7,
        "device": "cpu",
        "slurm_job_id": job_id,
        "slurm_restart_count": restart,
    }
    return {**known, **facts}


class Study:
    """A study whose jobs and attempts a test writes."""

    def __init__(self, path):
        self.path = path
        plan, self.runs = plan_of(path, root="runs/tiny")
        self.cells = [cell.config.signature for cell in plan.cells]

    def submit(self, job_ids, resources, minutes=-1, cells=None):
        made = (BEGIN + timedelta(minutes=minutes)).astimezone().strftime("%Y%m%d-%H%M%S")
        folder = self.runs.root.resolve() / "submissions" / f"{made}-1-{len(job_ids)}"
        folder.mkdir(parents=True)
        cells = cells or [(name,) for name in self.cells[: len(job_ids)]]
        write_submission(
            Submission(folder, "slurm", tuple(cells), tuple(job_ids), resources=resources)
        )

    def attempts(self, cell, *documents):
        folder = self.runs.folder(self.cells[cell]) / "attempts"
        folder.mkdir(parents=True, exist_ok=True)
        for number, document in enumerate(documents, start=1):
            (folder / f"{number}.json").write_text(json.dumps({**document, "number": number}))

    def rows(self, *overrides, chosen=None):
        plan, runs = plan_of(self.path, *overrides, root="runs/tiny")
        return efficiency_by_class(plan, runs, chosen)


@pytest.fixture
def study(study_file, monkeypatch):
    """Without an accounting, unless the test plays one."""
    monkeypatch.setattr(scheduler, "elapsed_seconds", lambda name, ids: {})
    return Study(study_file)


TABLE = """\
partition  cores  gpus  jobs  cells  core_hours  gpu_hours    busy  gib_asked  gib_max  gib_median  min_asked  min_longest  gib_next  min_next
gpu            4     2     1      1      4.0000     2.0000  0.6000     8.0000   3.0000      3.0000        120      60.0000    2.0000        15
cpu            2     0     2      2      0.5000     0.0000  0.4000     2.0000   1.0000      0.7500         30      10.0000    2.0000        15

3 jobs: 4.50 core-hours and 2.00 GPU-hours billed, by their own clocks
gpu, 8 GiB: [slurm] fixes memory_gib (2 GiB; 1.5 without it)
cpu, 2 GiB: [slurm] fixes memory_gib (2 GiB; 1.5 without it)
"""


def test_the_table_has_a_row_for_each_class_and_says_what_is_fixed(study, capsys):
    study.submit(["1_0", "1_1"], SMALL)
    study.submit(["2"], LARGE, cells=[(study.cells[2],)])
    used = {"cpu_seconds": 480.0, "peak_memory_gib": 1.0}
    study.attempts(0, attempt("a", "1_0", 0, 600, **used))
    study.attempts(1, attempt("b", "1_1", 0, 300, cpu_seconds=240.0, peak_memory_gib=0.5))
    on_gpu = {"device": "NVIDIA H200", "gpu_busy": 0.8, "peak_memory_gib": 3.0}
    study.attempts(2, attempt("c", "2", 900, 3600, process=0, **on_gpu))
    with pytest.raises(SystemExit) as exited:
        main(["status", str(study.path), "--efficiency", "--set", "slurm.memory_gib=2.0"])
    assert (exited.value.code, capsys.readouterr().out) == (0, TABLE)


def test_the_page_on_slurm_shows_this_table():
    assert TABLE in (Path(__file__).parents[2] / "docs" / "slurm.md").read_text()


def test_every_start_of_a_job_that_was_queued_again_is_billed(study):
    study.submit(["1"], SMALL)
    study.attempts(0, attempt("a", "1", 0, 360), attempt("b", "1", 1000, 1720, restart=1))
    (row,) = study.rows()
    assert (row.n_jobs, row.n_starts, row.core_hours) == (1, 2, 2 * 0.3)
    assert row.longest_minutes == 12


def test_cells_of_one_job_share_its_time(study):
    study.submit(["1"], SMALL, cells=[study.cells[:2]])
    study.attempts(0, attempt("a", "1", 100, 300, process=0, cpu_seconds=90.0))
    study.attempts(1, attempt("b", "1", 300, 720, process=0, cpu_seconds=360.0))
    (row,) = study.rows()
    assert (row.n_jobs, row.n_cells, row.core_hours) == (1, 2, 0.4)
    assert row.busy_share == 360 / (2 * 720)


def test_a_job_id_that_was_used_again_belongs_to_the_submission_before_the_attempt(study):
    study.submit(["1"], SMALL, minutes=-60)
    study.submit(["1"], LARGE, minutes=60)
    study.attempts(0, attempt("a", "1", 0, 60))
    (row,) = study.rows()
    assert row.asked.partition == "cpu"


def set_usage(path, attempts, peak_memory_gib):
    def change(document):
        document["provenance"]["attempts"] = attempts
        document["peak_memory_gib"] = peak_memory_gib

    edit_record(path, change)


def test_attempts_of_earlier_versions_have_no_share_but_the_memory_of_their_record(study):
    plan, runs = plan_of(study.path, root="runs/tiny")
    run_debug(plan, runs, plan.cells[:1], lambda: None)
    path = runs.folder(study.cells[0]) / "record.json"
    old = attempt("a", "1", 0, 360)
    del old["process_started"]
    set_usage(path, [old], 0.75)
    study.submit(["1"], SMALL)
    (row,) = study.rows()
    assert (row.busy_share, row.memory_max_gib, row.core_hours) == (None, 0.75, 0.2)


def test_the_accounting_decides_what_is_billed_even_for_jobs_that_trained_nothing(
    study, monkeypatch
):
    study.submit(["1_0", "1_1"], SMALL)
    study.attempts(0, attempt("a", "1_0", 0, 360))
    times = {"1_0": [400.0, 500.0], "1_1": [900.0]}
    monkeypatch.setattr(scheduler, "elapsed_seconds", lambda name, ids: times)
    (row,) = study.rows()
    assert (row.billed_by, row.n_jobs, row.n_starts) == ("accounting", 2, 3)
    assert (row.core_hours, row.longest_minutes) == (1.0, 15)


def test_a_finished_runs_own_memory_is_what_the_next_submission_asks(study):
    plan, runs = plan_of(study.path, root="runs/tiny")
    run_debug(plan, runs, plan.cells[:1], lambda: None)
    path = runs.folder(study.cells[0]) / "record.json"
    set_usage(path, [attempt("a", "1", 0, 360)], 3.1)
    study.submit(["1"], SMALL)
    (row,) = study.rows()
    assert row.next_memory_gib == Span(4.0, 4.0)  # 1.25 times, in steps of a half


def test_a_job_whose_cells_are_no_longer_in_the_grid_is_billed_but_asks_nothing(study):
    study.submit(["1"], SMALL)
    study.attempts(0, attempt("a", "1", 0, 360))
    (row,) = study.rows("grid.n_samples=[320]")
    assert (row.core_hours, row.next_memory_gib) == (0.2, None)


def test_a_job_of_several_nodes_is_billed_for_all_its_devices(study):
    """Two nodes with two GPUs, a task of four cores for each: 16 cores and 4 GPUs for half an hour."""
    several = {"nodes": 2, "tasks_per_node": 2, "max_parallel": 4}
    study.submit(["1"], {**LARGE, **several})
    facts = {"device": "NVIDIA H200", "gpu_busy": 0.5, "ranks": 4, "peak_memory_gib": 3.0}
    study.attempts(0, attempt("a", "1", 0, 1800, **facts))
    (row,) = study.rows()
    assert (row.core_hours, row.gpu_hours, row.busy_share) == (8.0, 2.0, 0.5)
    assert row.memory_max_gib == 6.0  # both tasks of a node


def test_cells_that_share_a_gpu_are_billed_once_and_their_processes_add_up(study):
    """Two side by side for an hour, then one of them trains a third for half an hour."""
    study.submit(["1"], {**LARGE, "gpus": 1}, cells=[tuple(study.cells[:3])])
    facts = {"device": "NVIDIA H200", "gpu_busy": 0.5, "peak_memory_gib": 3.0, "cells_per_gpu": 2}
    study.attempts(0, attempt("a", "1", 0, 3600, pid=7, **facts))
    study.attempts(1, attempt("b", "1", 0, 3600, pid=8, **facts))
    study.attempts(2, attempt("c", "1", 3600, 5400, process=0, pid=8, **facts))
    (row,) = study.rows()
    assert (row.n_jobs, row.n_cells) == (1, 3)
    assert (row.core_hours, row.gpu_hours, row.busy_share) == (6.0, 1.5, 0.5)
    assert row.memory_max_gib == 6.0


def test_an_attempt_that_shared_a_gpu_has_spent_its_share(study):
    study.attempts(0, attempt("a", None, 0, 3600, cells_per_gpu=4))
    plan, _ = plan_of(study.path, root="runs/tiny")
    assert plan.cells[0].spent_seconds == 900.0


def test_an_attempt_that_says_its_submission_needs_no_clock(study):
    study.submit(["1"], SMALL, minutes=60)
    (folder,) = (study.runs.root / "submissions").iterdir()
    study.attempts(0, attempt("a", "1", 0, 60, submission=folder.name))
    (row,) = study.rows()
    assert row.asked.partition == "cpu"


def test_only_jobs_of_chosen_cells_count(study):
    study.submit(["1_0", "1_1"], SMALL)
    study.attempts(0, attempt("a", "1_0", 0, 360))
    study.attempts(1, attempt("b", "1_1", 0, 60))
    (row,) = study.rows(chosen={study.cells[1]})
    assert (row.n_jobs, row.longest_minutes) == (1, 1)


def test_processes_of_a_machine_without_slurm_have_a_row(study):
    on_gpu = {"device": "NVIDIA H200", "gpu_busy": 0.5}
    study.attempts(0, attempt("a", None, 0, 360, **on_gpu))
    study.attempts(1, attempt("b", None, 420, 720, process=360, **on_gpu))
    (row,) = study.rows()
    assert (row.asked.cluster, row.n_jobs, row.gpu_hours) == ("local", 2, 0.2)


def test_processes_inside_a_job_that_somebody_else_started_count_one_by_one(study):
    """An interactive job in which `scaling run` started two processes."""
    inside = {"submission": "20260301-115900-1-0"}
    study.attempts(0, attempt("a", "9", 0, 360, **inside))
    study.attempts(1, attempt("b", "9", 0, 360, **inside, pid=8))
    (row,) = study.rows()
    assert (row.asked.cluster, row.n_jobs, row.core_hours) == ("local", 2, 0.2)


def test_a_driver_that_closed_an_attempt_nobody_began_is_no_job(study):
    study.runs.fail(study.cells[0], "the job ended", "lost")
    assert study.rows() == []


def test_a_study_that_never_ran_says_so(study, capsys):
    with pytest.raises(SystemExit) as exited:
        main(["status", str(study.path), "--efficiency"])
    assert exited.value.code == 0
    assert capsys.readouterr().out == "no job has trained a cell of this study yet\n"


def test_watching_and_efficiency_exclude_each_other(study, capsys):
    with pytest.raises(SystemExit) as exited:
        main(["status", str(study.path), "--efficiency", "--watch"])
    assert exited.value.code == 2
    assert "--efficiency: prints once" in capsys.readouterr().err


def finished(study, cell, document, *, flops=67e12, seconds=100.0, precision="float32"):
    """Write the record of a cell, as far as its efficiency goes."""
    record = {
        "config": {
            "grade": {}, "model": {}, "packing": "none", "n_samples": 160, "precision": precision
        },
        "metrics": {"logloss": 0.6}, "samples_per_second": 1.0, "peak_memory_gib": 1.0,
        "n_params": 1, "n_embedding_params": 1, "flops_per_sample": 1, "train_loss": 0.6,
        "flops": int(flops), "train_seconds": seconds,
        "provenance": {"device": document["device"], "attempts": [document]},
    }  # fmt: skip
    folder = study.runs.folder(study.cells[cell])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record))


def test_mfu_is_over_the_peaks_and_times_of_finished_cells(study):
    """67 TFLOP in 100 seconds at a peak of 67 TFLOP/s, then in 50 seconds on two GPUs, or on half a GPU."""
    study.submit(["1"], LARGE, cells=[study.cells[:3]])
    on_gpu = {"device": "NVIDIA H200", "process": 0}
    finished(study, 0, attempt("a", "1", 0, 100, **on_gpu))
    (row,) = study.rows()
    assert (row.mfu, row.mfu_of) == (pytest.approx(0.01), "data sheet")
    finished(study, 1, attempt("b", "1", 100, 200, ranks=2, **on_gpu), seconds=50.0)
    assert study.rows()[0].mfu == pytest.approx(0.01)
    finished(study, 2, attempt("c", "1", 200, 300, cells_per_gpu=2, **on_gpu), seconds=400.0)
    assert study.rows()[0].mfu == pytest.approx(3 / (100 + 100 + 200))


def test_mfu_on_a_cpu_is_of_the_measured_product(study):
    study.submit(["1"], SMALL, cells=[study.cells[:1]])
    finished(study, 0, attempt("a", "1", 0, 100), flops=1e12)
    assert (study.rows()[0].mfu, study.rows()[0].mfu_of) == (None, None)
    measured = Throughput(
        GRADES["SUAN-0"], SuanOptions(), "none", "", "cpu", 0.0, 1e-3, 1e-3, 1.0, 1.0,
        product_flops_per_second=4e10,
    )  # fmt: skip
    keep_benchmarks(study.runs.root.parent, [measured])
    (row,) = study.rows()
    assert (row.mfu, row.mfu_of) == (pytest.approx(0.25), "product")
