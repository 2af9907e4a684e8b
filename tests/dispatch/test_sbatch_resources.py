"""The resources of jobs: classes, packing, order, throttle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.study import SlurmConfig
from scaling.study.slurm_settings import SlurmGrade
from sweeps.dispatch.sbatch_resources import (
    Unit,
    cap_minutes,
    plan_arrays,
    sbatch_parameters,
    throttle_shares,
)


def unit(name, seconds, grade="A", **how):
    return Unit(
        (name,), grade, seconds, how.pop("memory_gib", 0.5), how.pop("source", "run"), **how
    )


def names(array):
    return [list(job.signatures) for job in array.jobs]


def test_long_cells_have_jobs_of_their_own_and_short_ones_share():
    units = [unit(f"s{i}", 100.0) for i in range(12)] + [unit("long", 5000.0)]
    (array,) = plan_arrays(SlurmConfig(max_parallel=2), units, 5.0)
    assert [len(job) for job in names(array)] == [6, 6, 1]
    assert [job.seconds for job in array.jobs] == [605.0, 605.0, 5005.0]


def test_packing_leaves_no_slot_idle():
    units = [unit(f"c{i}", 10.0) for i in range(8)]
    (array,) = plan_arrays(SlurmConfig(max_parallel=4), units, 5.0)
    assert [len(job) for job in names(array)] == [2, 2, 2, 2]


def test_cells_per_job_overrides_the_estimate():
    units = [unit(f"c{i}", 10.0) for i in range(5)]
    (array,) = plan_arrays(SlurmConfig(cells_per_job=2), units, 5.0)
    assert names(array) == [["c0", "c1"], ["c2", "c3"], ["c4"]]


def test_each_resource_class_is_an_array_and_the_cheapest_comes_first():
    slurm = SlurmConfig(grades={"B": SlurmGrade(gpus=1), "C": SlurmGrade(memory_gib=64.0)})
    units = [unit("c", 900.0, "C"), unit("b", 300.0, "B"), unit("a", 1.0), unit("a2", 400.0)]
    arrays = plan_arrays(slurm, units, 5.0)
    assert [names(array) for array in arrays] == [[["a"], ["a2"]], [["b"]], [["c"]]]
    assert [(a.resources.gpus, a.resources.memory_mib) for a in arrays] == [
        (0, 1024),
        (1, 1024),
        (0, 65536),
    ]


def test_a_cell_that_ran_out_of_memory_gets_more_than_the_others():
    units = [unit("a", 1.0), unit("b", 1.0, memory_factor=2.0)]
    arrays = plan_arrays(SlurmConfig(memory_gib=3.0), units, 5.0)
    assert sorted(array.resources.memory_mib for array in arrays) == [3072, 6144]


def test_a_cell_that_ran_out_of_time_gets_more():
    units = [unit("a", 1.0), unit("b", 1.0, time_factor=2.0)]
    arrays = plan_arrays(SlurmConfig(time_minutes=20), units, 5.0)
    assert sorted(array.resources.minutes for array in arrays) == [20, 40]


@pytest.mark.parametrize(("source", "minutes"), [("run", 60), ("guess", 240)])
def test_the_time_limit_depends_on_the_basis_of_the_estimate(source, minutes):
    (array,) = plan_arrays(SlurmConfig(), [unit("a", 1000.0, source=source)], 5.0)
    assert array.resources.minutes == minutes


def test_a_partition_with_a_shorter_limit_shortens_the_job():
    (array,) = plan_arrays(SlurmConfig(time_minutes=600), [unit("a", 1.0)], 5.0)
    assert cap_minutes(array, 120).resources.minutes == 120


def test_arrays_above_the_clusters_size_are_split():
    units = [unit(f"c{i}", 1.0 + i) for i in range(12)]
    arrays = plan_arrays(SlurmConfig(cells_per_job=1), units, 5.0, array_size=5)
    assert [len(array.jobs) for array in arrays] == [5, 5, 2]


@given(
    st.lists(st.tuples(st.floats(1.0, 1e6), st.sampled_from("ABC")), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_every_cell_is_in_exactly_one_job(cells, max_parallel):
    units = [unit(str(i), seconds, grade) for i, (seconds, grade) in enumerate(cells)]
    arrays = plan_arrays(SlurmConfig(max_parallel=max_parallel), units, 5.0)
    there = [name for array in arrays for job in array.jobs for name in job.signatures]
    assert sorted(there) == sorted(str(i) for i in range(len(cells)))


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.floats(0.0, 1e6), st.integers(1, 100)), min_size=1, max_size=8),
)
def test_shares_of_the_throttle_add_up(max_parallel, arrays):
    shares = throttle_shares(max_parallel, arrays)
    wanted = min(max(max_parallel, len(arrays)), sum(jobs for _, jobs in arrays))
    assert sum(shares) == wanted
    assert all(1 <= share <= jobs for share, (_, jobs) in zip(shares, arrays, strict=True))


def test_shares_of_the_throttle_are_in_proportion_to_the_work():
    # with the time in the queue, 60, 20 and 10 units of 12,000 s
    arrays = [(708_000.0, 10), (228_000.0, 10), (108_000.0, 10)]
    assert throttle_shares(9, arrays) == [6, 2, 1]


def test_the_options_of_a_grade_reach_sbatch_with_those_of_all_grades():
    own = SlurmGrade(partition="gpu", gpus=2, time_minutes=60, cpus=3)
    slurm = SlurmConfig(options={"account": "ours"}, grades={"B": own})
    arrays = plan_arrays(slurm, [unit("a", 1.0), unit("b", 9.0, "B")], 5.0)
    plain, large = (sbatch_parameters(slurm, array, 4, "sweep") for array in arrays)
    names = ("partition", "gpus_per_node", "time", "cpus_per_task")
    assert [large[name] for name in names] == ["gpu", 2, 60, 3]
    assert {"partition", "gpus_per_node"}.isdisjoint(plain)
    assert plain["additional_parameters"] == {"requeue": True, "account": "ours"}
    assert (large["array_parallelism"], large["job_name"]) == (4, "sweep")


def test_a_grade_on_several_devices_has_a_task_for_each():
    slurm = SlurmConfig(gpus=1, grades={"B": SlurmGrade(nodes=2, gpus=8)})
    arrays = plan_arrays(slurm, [unit("a", 1.0), unit("b", 9.0, "B")], 5.0)
    plain, large = (sbatch_parameters(slurm, array, 4, "sweep") for array in arrays)
    assert "nodes" not in plain
    assert [large[name] for name in ("nodes", "ntasks_per_node", "gpus_per_node")] == [2, 8, 8]
    assert large["srun_args"] == ["--kill-on-bad-exit=1"]
    # memory is that of a node, on which eight processes run
    assert arrays[1].resources.memory_mib == 8 * arrays[0].resources.memory_mib
    assert arrays[1].resources.n_ranks == 16
