"""One training for several data sizes gives the same numbers as separate trainings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slow_cases import fast_only
from small_runs import numbers, small_config

import scaling.study.batch_growth
import scaling.training.run_on_disk
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.batches import Epoch, find_groups
from scaling.records import RunStore
from scaling.study import RunConfig, data_facts, group_runs, load_study, trained_samples
from scaling.training import PreemptedError, train_run, train_runs
from sweeps.planning import grid_cells

SIZES = (48, 150, 160, 330)
START = SuanOptions(pooling="running", positions="start", dropout=0.1)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def trajectory(store, **changes):
    config = small_config(store, model=START, **changes)
    return [replace(config, n_samples=size) for size in SIZES]


@pytest.fixture(scope="module")
def separate(tmp_path_factory, tiny_store):
    runs = RunStore(tmp_path_factory.mktemp("separate"))
    return lambda configs: [numbers(train_run(config, tiny_store, runs)) for config in configs]


CASES = [(s, p) for s in ("constant", "decay") for p in ("none", "request", "stretch")]


@pytest.mark.parametrize(
    ("schedule", "packing"), fast_only([("decay", "request")], CASES, unpack=True)
)
def test_the_records_are_those_of_separate_runs(tiny_store, tmp_path, separate, schedule, packing):
    """Bit by bit, even if a size is not a multiple of the batch or ends within a shared history."""
    configs = trajectory(tiny_store, schedule=schedule, packing=packing)
    records = train_runs(configs, tiny_store, RunStore(tmp_path / "shared"), key="trajectory")
    assert [numbers(record) for record in records] == separate(configs)


GROWING = {"batch_schedule": "growing", "batch_size": 64}


@pytest.fixture
def fast_growth(monkeypatch):
    """Let the batch double every four steps, so that a tiny log is enough."""
    monkeypatch.setattr(scaling.study.batch_growth, "_STEPS_PER_DOUBLING", 4)


@pytest.mark.usefixtures("fast_growth")
@pytest.mark.parametrize("packing", fast_only(["request"], ["none", "request", "stretch"]))
def test_records_are_those_of_separate_runs_also_if_the_batch_grows(tiny_store, tmp_path, packing):
    configs = trajectory(tiny_store, schedule="decay", packing=packing, **GROWING)
    records = train_runs(configs, tiny_store, RunStore(tmp_path / "shared"), key="trajectory")
    separate = [train_run(config, tiny_store, RunStore(tmp_path / "own")) for config in configs]
    assert [numbers(record) for record in records] == [numbers(record) for record in separate]


@pytest.mark.usefixtures("fast_growth")
def test_the_rate_follows_the_growing_batch(tiny_store):
    config = small_config(
        tiny_store, n_samples=1100, schedule="constant", warmup_steps=1, **GROWING
    )
    epoch = Epoch(config, tiny_store)
    batches = np.diff(epoch.seen, prepend=0)[:-1]
    assert sorted(set(batches)) == [16, 32, 64]
    rates = [epoch.rate(step) for step in range(len(batches))]
    np.testing.assert_allclose(rates, config.learning_rate * (batches / 64) ** 0.25, rtol=1e-12)


@pytest.mark.parametrize("change", fast_only([GROWING], [{}, GROWING]))
@pytest.mark.parametrize("schedule", fast_only(["decay"], ["constant", "decay"]))
@pytest.mark.usefixtures("fast_growth")
def test_fewer_steps_are_trained(tiny_store, tmp_path, monkeypatch, schedule, change):
    configs = trajectory(tiny_store, schedule=schedule, **change)
    n_samples = 0
    train_step = scaling.training.run_on_disk.Training._train_step

    def count(training, parts, *step):
        nonlocal n_samples
        n_samples += sum(len(part.label) for part in parts)
        return train_step(training, parts, *step)

    monkeypatch.setattr(scaling.training.run_on_disk.Training, "_train_step", count)
    train_runs(configs, tiny_store, RunStore(tmp_path), key="trajectory")
    assert n_samples == trained_samples(configs) < sum(SIZES)


@pytest.mark.parametrize("stop", fast_only([12, 25], [1, 2, 5, 12, 20, 25, 31, 33]))
def test_a_trajectory_that_was_stopped_goes_on(tiny_store, tmp_path, separate, stop):
    """In the common path, in a branch, at a branching point, in an evaluation."""
    configs = trajectory(tiny_store, schedule="decay")
    runs = RunStore(tmp_path / "shared")
    asked = iter([None] * stop + ["signal 12"])
    with pytest.raises(PreemptedError):
        train_runs(configs, tiny_store, runs, key="trajectory", stop=lambda: next(asked))
    done = [config for config in configs if runs.has(config.signature)]
    assert runs.state(configs[-1].signature, "trajectory").state == "preempted"
    records = train_runs(configs, tiny_store, runs, key="trajectory")
    assert [numbers(record) for record in records] == separate(configs)
    attempts = [record.provenance["attempts"] for record in records]
    assert [len(a) for a in attempts] == [1] * len(done) + [2] * (len(configs) - len(done))
    assert not runs.folder("trajectory").joinpath("checkpoints").exists()


def test_a_size_added_later_joins_the_trajectory(tiny_store, tmp_path, separate):
    configs = trajectory(tiny_store)
    runs = RunStore(tmp_path / "shared")
    train_runs([configs[0], configs[3]], tiny_store, runs, key="trajectory")
    records = train_runs(configs, tiny_store, runs, key="trajectory")
    assert [numbers(record) for record in records] == separate(configs)


def test_a_smaller_size_that_is_added_after_a_stop_takes_no_checkpoint_beyond_its_path(
    tiny_store, tmp_path, separate
):
    configs = trajectory(tiny_store, schedule="decay")
    runs = RunStore(tmp_path / "shared")
    asked = iter([None] * 11 + ["signal 12"])
    with pytest.raises(PreemptedError, match="step 12"):
        train_runs(configs[3:], tiny_store, runs, key="trajectory", stop=lambda: next(asked))
    records = train_runs(configs, tiny_store, runs, key="trajectory")
    assert [numbers(record) for record in records] == separate(configs)


@pytest.mark.slow
def test_each_run_has_the_metrics_lines_of_its_own_size(tiny_store, tmp_path):
    configs = trajectory(tiny_store)
    shared, single = RunStore(tmp_path / "shared"), RunStore(tmp_path / "single")
    train_runs(configs, tiny_store, shared, key="trajectory")

    def lines(runs, config):
        text = (runs.folder(config.signature) / "metrics.jsonl").read_text()
        return [line.rpartition(', "samples_per_second"')[0] for line in text.splitlines()]

    for config in configs[:2]:
        train_run(config, tiny_store, single)
        assert lines(shared, config) == lines(single, config)
        assert len(lines(shared, config)) == Epoch(config, tiny_store).n_steps


@pytest.mark.parametrize(("schedule", "packing"), CASES)
def test_two_sizes_share_steps_until_their_rates_or_samples_differ(tiny_store, schedule, packing):
    configs = trajectory(tiny_store, schedule=schedule, packing=packing)
    groups = find_groups(configs[0], tiny_store)
    short, long = (Epoch(configs[i], tiny_store, groups) for i in (1, 3))
    n_shared = short.steps_shared(long)
    assert 0 < n_shared <= short.n_steps
    alike = [
        short.rate(step) == long.rate(step) and short.seen[step] == long.seen[step]
        for step in range(short.n_steps)
    ]
    assert alike[: n_shared + 1] == [True] * n_shared + [False] * (n_shared < short.n_steps)
    assert long.steps_shared(long) == long.n_steps


@given(
    sizes=st.lists(st.integers(1, 9999), min_size=1, max_size=5, unique=True),
    schedule=st.sampled_from(["constant", "decay"]),
)
def test_a_group_sees_at_least_its_largest_size_and_at_most_the_sum(sizes, schedule):
    config = RunConfig(
        "SUAN-1", GRADES["SUAN-1"], START, 1, 0, 16, 0.01, schedule, "independent", "f", 2
    )
    configs = [replace(config, n_samples=size) for size in sizes]
    assert max(sizes) <= trained_samples(configs) <= sum(sizes)


SHARE = ("train.share_prefix=true", "grid.n_samples=[160,320,1100]", "grid.n_seeds=[2,2,1]")


def test_a_study_that_shares_has_one_group_per_grade_and_seed(study_file):
    study = load_study(study_file, SHARE)
    cells = grid_cells(study, data_facts(study.data))
    groups = group_runs(cells, share_prefix=True).values()
    assert [[c.n_samples for c in group] for group in groups] == [[160, 320, 1100], [160, 320]] * 2
    assert [len(group) for group in group_runs(cells, share_prefix=False).values()] == [1] * 10


def test_the_rates_of_a_study_that_shares_do_not_depend_on_the_size(study_file):
    study = load_study(study_file, SHARE)
    settings = {
        (c.grade_name, c.batch_size, c.learning_rate, c.warmup_steps)
        for c in grid_cells(study, data_facts(study.data))
    }
    assert len(settings) == 2


def test_added_sizes_keep_the_runs_of_a_study_that_shares_if_the_recipe_is_fixed(study_file):
    held = (*SHARE[:1], "train.recipe_n_samples=400")
    before = load_study(study_file, [*held, "grid.n_samples=[160,320]"])
    after = load_study(study_file, [*held, "grid.n_samples=[40,160,320,1100]"])
    old, new = (
        {c.signature for c in grid_cells(study, data_facts(study.data))}
        for study in (before, after)
    )
    assert old < new
