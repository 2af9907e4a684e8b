"""`scaling benchmark --cluster slurm` on a fake SLURM; the test runs the jobs, or lets them end in other ways."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import fake_slurm
import pytest
from slurm_sweep import fake_sweep
from submitit.core.utils import DelayedSubmission

from scaling.errors import UserError
from sweeps.dispatch import benchmark_job
from sweeps.planning.cost_estimate import read_benchmarks

GRID = '[grid]\ngrade = ["SUAN-0", "SUAN-1"]\nn_samples = [160]\n'


def scripts():
    """The texts of the scripts of all jobs in the queue."""
    return [Path(job["script"]).read_text() for job in fake_slurm.read()]


def job_of(folder):
    (path,) = folder.glob("*_submitted.pkl")
    return DelayedSubmission.load(path).function


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys, tiny_store):
    sweep = fake_sweep(tmp_path, capsys, monkeypatch)
    sweep.write(tiny_store, GRID)
    monkeypatch.setattr(benchmark_job, "_SECONDS_BETWEEN_QUERIES", 0.0)
    monkeypatch.setattr(benchmark_job, "_SECONDS_AFTER_ITS_JOB", 0.0)
    return sweep


@pytest.fixture
def node(sweep, monkeypatch):
    """Call `act` with the folders of the jobs whenever the driver waits; return the texts of the queued scripts."""

    def play(act, monotonic=time.monotonic):
        seen = []

        def sleep(seconds):
            seen[:] = seen or scripts()
            act(sorted((sweep.runs.root / "submissions").iterdir()))

        # that of this module only: a subprocess sleeps, too
        clock = SimpleNamespace(sleep=sleep, monotonic=monotonic)
        monkeypatch.setattr(benchmark_job, "time", clock)
        return seen

    return play


def run_jobs(folders):
    for folder in folders:
        job_of(folder)()


def benchmark(sweep, *options, code=0):
    return sweep(
        "benchmark", sweep.study, "--cluster", "slurm", "--steps", "3", *options, code=code
    )


@pytest.mark.slow
def test_a_job_measures_and_its_results_are_kept_beside_the_runs_with_the_node(
    sweep, node, monkeypatch
):
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    node(run_jobs)
    out = benchmark(sweep)
    kept = read_benchmarks(sweep.runs.root.parent)
    assert [(one.grade.d, one.node, one.device) for one in kept] == [
        (2, "n7", "cpu"),
        (3, "n7", "cpu"),
    ]
    assert "submitted job 1 on the default partition: measures SUAN-0, SUAN-1" in out
    assert {cell.source for cell in sweep.plan().cells} == {"benchmark"}


def outcome(text):
    def write(folders):
        for folder in folders:
            (folder / "benchmark.json").write_text(json.dumps({"error": text}))

    return write


def test_a_grade_of_another_partition_is_measured_there(sweep, node, tiny_store):
    own = '[slurm.grades.SUAN-1]\npartition = "gpu"\ngpus = 2\n'
    sweep.write(tiny_store, GRID, f'partition = "cpu"\n{own}')
    small, large = (script for script in submitted(sweep, node))
    assert "--partition=cpu" in small
    assert "--gpus" not in small
    assert "--partition=gpu" in large
    assert "--gpus-per-node=1" in large  # one process is measured


def submitted(sweep, node, *options):
    seen = node(outcome("enough"))
    benchmark(sweep, *options, code=2)
    return seen


def test_the_job_asks_what_the_study_says(sweep, node, tiny_store):
    sweep.write(tiny_store, GRID, 'cpus = 3\nsetup = ["module load cuda"]')
    (script,) = submitted(sweep, node)
    for line in ("--cpus-per-task=3", "--mem=1229MB", "--time=19", "module load cuda"):
        assert line in script


def test_the_jobs_have_a_name_of_their_own_so_that_no_sweep_takes_them_for_its_cells(sweep, node):
    (script,) = submitted(sweep, node)
    assert "-benchmark\n" in script
    assert sweep.queue() == []


def test_only_named_grades_are_measured(sweep, node):
    grades = []

    def look(folders):
        grades.extend(job_of(folder).grades for folder in folders)
        outcome("enough")(folders)

    node(look)
    benchmark(sweep, "--grade", "SUAN-1", code=2)
    assert grades == [("SUAN-1",)]


def test_an_unknown_grade_is_refused_before_anything_is_queued(sweep):
    assert "grade SUAN-9: not in the grid" in benchmark(sweep, "--grade", "SUAN-9", code=2)
    assert fake_slurm.read() == []


def test_a_job_that_fails_is_one_line_with_its_log(sweep, node):
    node(outcome("torch finds no GPU there"))
    out = benchmark(sweep, code=2)
    (line,) = [line for line in out.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: benchmark: job 1: torch finds no GPU there; its log is /")
    assert line.endswith("/1_0_log.err")


def test_a_job_that_fails_takes_the_others_with_it(sweep, node, tiny_store):
    sweep.write(tiny_store, GRID, '[slurm.grades.SUAN-1]\npartition = "cpu"')

    def fail_first(folders):
        outcome("no")(folders[:1])

    node(fail_first)
    benchmark(sweep, code=2)
    assert fake_slurm.read() == []


def test_a_job_that_leaves_the_queue_without_a_result_has_failed(sweep, node):
    def vanish(folders):
        fake_slurm.write([])
        for folder in folders:
            (folder / "1_0_log.err").write_text("module: command not found\n")

    node(vanish)
    out = benchmark(sweep, code=2)
    assert "job 1: it ended without a result (module: command not found); its log is" in out


def test_a_job_killed_for_its_memory_says_so(sweep, node):
    def kill(folders):
        fake_slurm.write([])
        for folder in folders:
            (folder / "1_0_log.err").write_text("slurmstepd: error: Detected 1 oom-kill event(s)\n")

    node(kill)
    assert "job 1: slurmstepd: error: Detected 1 oom-kill event(s); its log is" in benchmark(
        sweep, code=2
    )


def test_a_job_that_does_not_start_in_time_is_cancelled(sweep, node):
    seconds = iter(range(0, 10_000, 30))
    node(lambda folders: None, monotonic=lambda: float(next(seconds)))
    out = benchmark(sweep, "--wait-minutes", "5", code=2)
    assert "job 1: it has not started in 5 minutes (Priority) and is cancelled" in out
    assert fake_slurm.read() == []


def test_an_interrupt_cancels_the_job(sweep, node):
    def interrupt(folders):
        raise KeyboardInterrupt

    node(interrupt)
    benchmark(sweep, code=130)
    assert fake_slurm.read() == []


def test_a_job_with_a_gpu_measures_no_core(tmp_path, monkeypatch):
    monkeypatch.setattr("scaling.process.prepare_process", lambda: "cpu")
    job = benchmark_job.BenchmarkJob({}, ("SUAN-0",), 3, str(tmp_path), on_gpu=True)
    with pytest.raises(UserError, match="torch finds no GPU on the node"):
        job()
    assert "no GPU" in json.loads((tmp_path / "benchmark.json").read_text())["error"]


def test_only_the_first_task_of_a_job_measures(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    benchmark_job.BenchmarkJob({}, ("SUAN-0",), 3, str(tmp_path), on_gpu=False)()
    assert list(tmp_path.iterdir()) == []


def test_without_a_study_there_is_nothing_to_submit(sweep):
    text = sweep("benchmark", "--grade", "SUAN-0", "--cluster", "slurm", code=2)
    assert "--cluster slurm: name a study" in text
