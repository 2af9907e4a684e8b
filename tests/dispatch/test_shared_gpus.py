"""Cells that share a GPU: what is refused, what jobs ask, what a plan says, how many a machine trains at once."""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
from small_studies import plan_of

import sweeps.dispatch.local_pool
from scaling.cli.app import main
from scaling.errors import UserError
from scaling.study import SlurmConfig, load_study
from scaling.study.slurm_settings import SlurmGrade
from sweeps.dispatch import benchmark_job, local_seconds, n_slots, run_local
from sweeps.dispatch.job_contents import cell_job
from sweeps.dispatch.job_processes.mps_daemon import GpuSharing
from sweeps.dispatch.preflight import check_partition
from sweeps.dispatch.sbatch_resources import Unit, plan_arrays, sbatch_parameters
from sweeps.queue import Partition

EIGHT = SlurmConfig(gpus=1, cells_per_gpu=8, max_parallel=4)


def units(*seconds, grade="A", **how):
    return [Unit((f"{grade}{i}",), grade, s, 0.5, "run", **how) for i, s in enumerate(seconds)]


def sizes(array):
    return [len(job.units) for job in array.jobs]


# What is refused


@pytest.mark.parametrize(
    ("own", "text"),
    [
        ("cells_per_gpu=8", "cells_per_gpu is 8, but gpus is 0"),
        ("cells_per_gpu=8, gpus=2", "a job has 2 GPUs and 2 tasks"),
        ("cells_per_gpu=8, gpus=1, nodes=2", "a job has 2 GPUs and 2 tasks"),
        ("cells_per_gpu=8, gpus=1, tasks_per_node=2", "each GPU has a task of its own"),
        ("cells_per_gpu=49, gpus=1", "a GPU serves at most 48 processes"),
        ("cells_per_gpu=8, gpus=1, cells_per_job=4", "a job has 4 cells"),
        ("cells_per_gpu=0, gpus=1", "cells_per_gpu is 0, expected a positive number"),
    ],
)
def test_cells_that_cannot_share_a_gpu_are_refused(study_file, own, text):
    general = [f"slurm.{setting}" for setting in own.split(", ")]
    for settings, where in ((general, "slurm: "), ([f"slurm.grades={{X={{{own}}}}}"], "X: ")):
        with pytest.raises(UserError, match="slurm") as error:
            load_study(study_file, settings)
        assert text in str(error.value)
        assert where in str(error.value)


def test_a_grade_on_several_devices_must_say_that_its_cells_share_none(study_file):
    general = ("slurm.gpus=1", "slurm.cells_per_gpu=4")
    several = "slurm.grades={SUAN-1={gpus=8, nodes=2%s}}"
    with pytest.raises(UserError, match=r"grades\.SUAN-1: cells_per_gpu is 4, but a job has 16"):
        load_study(study_file, [*general, several % ""])
    study = load_study(study_file, [*general, several % ", cells_per_gpu=1"])
    assert study.n_ranks("SUAN-1") == 16
    assert study.slurm.of_grade("SUAN-0").cells_per_gpu == 4


def test_one_grade_alone_may_share(study_file):
    own = "slurm.grades={SUAN-0={gpus=1, cells_per_gpu=4}}"
    study = load_study(study_file, ["slurm.tasks_per_node=2", own])
    assert study.slurm.of_grade("SUAN-0").n_ranks == 1


def test_more_cells_than_the_memory_of_a_gpu_holds_are_refused(study_file):
    share = ("slurm.gpus=1", "slurm.cells_per_gpu=8")
    with pytest.raises(UserError, match=r"does not hold 8; set cells_per_gpu to 4 or fewer"):
        plan_of(study_file, *share, "run.device_memory_gib=2")
    plan_of(study_file, *share, "run.device_memory_gib=4")


# What jobs ask


def test_a_job_has_a_core_and_the_memory_for_each_cell_and_one_gpu():
    (array,) = plan_arrays(EIGHT, units(*[10.0] * 16), 5.0)
    asked = array.resources
    assert (asked.cells_at_once, asked.cpus, asked.gpus, asked.n_ranks) == (8, 8, 1, 1)
    assert asked.memory_mib == 8 * 1024
    parameters = sbatch_parameters(EIGHT, array, 1, "sweep")
    assert (parameters["cpus_per_task"], parameters["gpus_per_node"]) == (8, 1)
    assert "ntasks_per_node" not in parameters


def test_memory_and_cores_of_the_study_hold_for_the_whole_job():
    slurm = replace(EIGHT, cpus=12, memory_gib=20.0)
    (array,) = plan_arrays(slurm, units(*[10.0] * 16), 5.0)
    assert (array.resources.cpus, array.resources.memory_mib) == (12, 20 * 1024)


def test_a_job_of_fewer_cells_asks_for_fewer_cores():
    (array,) = plan_arrays(EIGHT, units(10.0, 10.0, 10.0), 5.0)
    assert (array.resources.cells_at_once, array.resources.cpus) == (3, 3)


def test_each_job_has_enough_cells_for_its_gpu():
    """By their times alone, each would have a job of its own."""
    (array,) = plan_arrays(EIGHT, units(*[5000.0] * 20), 5.0)
    assert sizes(array) == [8, 12]


def test_short_cells_share_a_job_as_without_sharing():
    (array,) = plan_arrays(replace(EIGHT, max_parallel=2), units(*[20.0] * 60), 5.0)
    assert sizes(array) == [30, 30]


def test_cells_of_a_trajectory_count_as_one():
    pairs = [Unit((f"a{i}", f"b{i}"), "A", 900.0, 0.5, "run") for i in range(4)]
    (array,) = plan_arrays(replace(EIGHT, cells_per_gpu=4), pairs, 5.0)
    assert array.resources.cells_at_once == 4
    assert len(array.jobs[0].signatures) == 8


def test_a_job_begins_with_its_longest_cell():
    (array,) = plan_arrays(EIGHT, units(10.0, 300.0, 20.0), 5.0)
    assert array.jobs[0].signatures == ("A1", "A2", "A0")


def test_until_it_is_measured_sharing_is_not_taken_to_save_time():
    alone, shared = (
        plan_arrays(slurm, units(*[1000.0] * 8), 5.0)[0].seconds
        for slurm in (SlurmConfig(gpus=1, cells_per_job=8), EIGHT)
    )
    assert shared == alone == 8005.0


def test_a_cell_takes_its_measured_time_however_few_are_beside_it():
    """Beside seven others it took 1,000 seconds: 125 of the GPU."""
    (full,) = plan_arrays(EIGHT, units(*[125.0] * 8, n_beside=8), 5.0)
    (single,) = plan_arrays(EIGHT, units(125.0, 1.0, n_beside=8), 5.0)
    assert (full.seconds, single.seconds) == (1005.0, 1005.0)


def test_each_grade_shares_as_it_says():
    slurm = replace(
        EIGHT, grades={"B": SlurmGrade(cells_per_gpu=2), "C": SlurmGrade(cells_per_gpu=1)}
    )
    three = [*units(*[1.0] * 8), *units(*[9.0] * 8, grade="B"), *units(*[99.0] * 8, grade="C")]
    arrays = plan_arrays(slurm, three, 5.0)
    assert [array.resources.cells_at_once for array in arrays] == [8, 2, 1]


def test_a_job_of_the_plan_trains_so_many_at_once(study_file):
    plan, runs = plan_of(study_file)
    assert cell_job(plan, runs, plan.cells).n_at_once == 1
    assert cell_job(plan, runs, plan.cells, n_at_once=4).n_at_once == 4


def test_a_benchmark_measures_one_process(study_file):
    plan, _ = plan_of(study_file, "slurm.gpus=1", "slurm.cells_per_gpu=4")
    array = benchmark_job._array(plan.study.slurm, plan.cells, plan.start_seconds)
    assert (array.resources.cells_at_once, array.resources.cpus) == (1, 1)


def test_a_node_with_too_few_cores_is_named_by_the_key_to_change():
    (array,) = plan_arrays(EIGHT, units(*[10.0] * 8), 5.0)
    small = Partition("gpu", is_default=True, minutes=60, gpus=1, cpus=4, memory_mib=64_000)
    with pytest.raises(UserError, match=r"slurm\.cells_per_gpu: 8 cores requested, .* more than 4"):
        check_partition(array, {"gpu": small})


# What a plan says


def plan_text(capsys, study_file, *options):
    with pytest.raises(SystemExit) as exited:
        main(["plan", str(study_file), *options])
    out, err = capsys.readouterr()
    assert exited.value.code == 0, err
    return out


SHARE = ("--set", "slurm.gpus=1", "--set", "slurm.cells_per_gpu=4")


def test_plan_shows_jobs_of_cells_that_share_a_gpu(capsys, study_file):
    out = plan_text(capsys, study_file, *SHARE)
    assert "on SLURM: 4 cells in 1 job with one GPU, 4 cores and " in out
    assert "for 4 cells side by side; about " in out
    assert "as if trained one after the other, since none were measured side by side" in out
    assert "on SLURM" not in plan_text(capsys, study_file)


def test_the_gpu_hours_are_those_of_one_gpu_for_each_job(capsys, study_file):
    totals = json.loads(plan_text(capsys, study_file, *SHARE, "--json"))["totals"]
    (jobs,) = totals["jobs_of_shared_gpus"]
    assert (jobs["n_cells"], jobs["n_jobs"], jobs["cells_at_once"], jobs["cpus"]) == (4, 1, 4, 4)
    assert jobs["measured_side_by_side"] is False
    # the job starts its processes once, the sum of all cells each
    assert 0 < jobs["gpu_hours"] < totals["gpu_hours_to_do"]


# This machine; its GPUs are invented


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(sweeps.dispatch.local_pool, "_n_gpus", lambda: 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))


def test_a_machine_trains_so_many_cells_on_each_gpu(study_file, two_gpus):
    for settings, n in (((), 2), (("slurm.gpus=1", "slurm.cells_per_gpu=4"), 8)):
        plan, _ = plan_of(study_file, *settings)
        assert n_slots(plan, plan.cells) == n


def test_a_machine_trains_no_more_cells_than_it_has_cores(study_file, two_gpus):
    plan, _ = plan_of(study_file, "slurm.gpus=1", "slurm.cells_per_gpu=32")
    assert n_slots(plan, plan.cells) == 16


def test_without_gpus_a_machine_trains_one_cell_on_each_core(study_file, monkeypatch):
    monkeypatch.setattr(sweeps.dispatch.local_pool, "_n_gpus", lambda: 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    plan, _ = plan_of(study_file, "slurm.gpus=1", "slurm.cells_per_gpu=8")
    assert n_slots(plan, plan.cells) == 3


class FakePool:
    """A stand-in for submitit's local executor: each job takes some polls, and its GPU is noted."""

    def __init__(self, monkeypatch):
        self.active, self.most, self.jobs = [], {}, []
        pool = self

        class Executor:
            def __init__(self, folder):
                self.gpus = ()

            def update_parameters(self, **parameters):
                self.gpus = parameters.get("visible_gpus", self.gpus)

            def submit(self, job):
                one = Job(tuple(self.gpus), job)
                pool.active.append(one)
                pool.jobs.append(job)
                for gpu in one.gpus:
                    here = [other.grade for other in pool.active if gpu in other.gpus]
                    pool.most[gpu] = max(pool.most.get(gpu, []), here, key=len)
                    pool.together.append(sorted(here))
                return one

        class Job:
            job_id = "1"

            def __init__(self, gpus, job):
                self.gpus, self.polls = gpus, 3
                self.grade = job.configs[0]["grade_name"]

            def done(self):
                self.polls -= 1
                if self.polls == 0:
                    pool.active.remove(self)
                return self.polls == 0

            class paths:
                stderr = "missing"

        self.together = []
        monkeypatch.setattr("submitit.LocalExecutor", Executor)
        monkeypatch.setattr(sweeps.dispatch.local_pool, "_SECONDS_PER_JOB", 0.0)
        monkeypatch.setattr(sweeps.dispatch.local_pool, "_POLL_SECONDS", 0.0)


def test_the_workers_of_a_machine_share_its_gpus_evenly(study_file, two_gpus, monkeypatch):
    pool = FakePool(monkeypatch)
    plan, runs = plan_of(study_file, "slurm.gpus=1", "slurm.cells_per_gpu=3", "grid.n_seeds=5")
    run_local(plan, runs, plan.cells, n_jobs=n_slots(plan, plan.cells), watch=lambda: None)
    assert {gpu: len(most) for gpu, most in pool.most.items()} == {0: 3, 1: 3}
    assert {job.cells_per_gpu for job in pool.jobs} == {3}


@pytest.mark.parametrize(("cells_per_gpu", "started"), [(1, 0), (2, 1)])
def test_mps_serves_a_machine_only_if_its_gpus_are_shared(
    study_file, two_gpus, monkeypatch, cells_per_gpu, started
):
    FakePool(monkeypatch)
    calls = []

    @contextmanager
    def shared_gpus():
        calls.append("start")
        yield GpuSharing(True, "shared")
        calls.append("end")

    monkeypatch.setattr(sweeps.dispatch.local_pool, "shared_gpus", shared_gpus)
    plan, runs = plan_of(study_file, "slurm.gpus=1", f"slurm.cells_per_gpu={cells_per_gpu}")
    run_local(plan, runs, plan.cells, n_jobs=n_slots(plan, plan.cells), watch=lambda: None)
    assert calls == ["start", "end"] * started


def test_cells_of_a_grade_that_shares_with_fewer_have_more_of_a_gpu(
    study_file, two_gpus, monkeypatch
):
    pool = FakePool(monkeypatch)
    own = ("slurm.gpus=1", "slurm.cells_per_gpu=4", "slurm.grades={SUAN-1={cells_per_gpu=2}}")
    plan, runs = plan_of(study_file, *own, "grid.n_seeds=5")
    run_local(plan, runs, plan.cells, n_jobs=n_slots(plan, plan.cells), watch=lambda: None)
    parts = {"SUAN-0": 1 / 4, "SUAN-1": 1 / 2}
    assert max(sum(parts[grade] for grade in grades) for grades in pool.together) == 1.0
    assert max(grades.count("SUAN-1") for grades in pool.together) == 2
    assert len(pool.jobs) == 20


def test_the_estimate_of_a_machine_does_not_count_on_sharing_either(study_file, two_gpus):
    plan, _ = plan_of(study_file, "slurm.gpus=1", "slurm.cells_per_gpu=4", "grid.n_seeds=8")
    cells = [replace(cell, seconds=1000.0) for cell in plan.cells]
    plan = replace(plan, start_seconds=0.0)
    assert local_seconds(plan, cells, 8) == local_seconds(plan, cells, 2) == 16_000.0
