"""The metrics by day of the test part, and runs on recent impressions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from recorded_runs import edit_record
from small_runs import numbers, small_config

from scaling.records import RunStore
from scaling.study import RunOptions
from scaling.training import PreemptedError, train_run

DAY = 86_400


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def store_by_time(tiny_store):
    """The tiny store as if its test part began with the earliest of its impressions."""
    boundary = int(tiny_store.time[tiny_store.n_train :].min())
    return replace(tiny_store, split={**tiny_store.split, "kind": "time", "boundary": boundary})


def test_days_add_up_to_the_test_part(store_by_time, tmp_path):
    record = train_run(small_config(store_by_time, n_samples=64), store_by_time, RunStore(tmp_path))
    days = (store_by_time.time[store_by_time.n_train :] - store_by_time.split["boundary"]) // DAY
    assert [day.day for day in record.by_day] == (np.unique(days) + 1).tolist()
    rows = np.array([day.metrics["n_rows"] for day in record.by_day])
    assert rows.tolist() == np.unique(days, return_counts=True)[1].tolist()
    for name in ("logloss", "soft_logloss", "base_rate"):
        mean = np.average([day.metrics[name] for day in record.by_day], weights=rows)
        assert mean == pytest.approx(record.metrics[name], rel=1e-12)


def test_a_log_that_is_split_by_user_has_no_days(tiny_store, tmp_path):
    record = train_run(small_config(tiny_store, n_samples=64), tiny_store, RunStore(tmp_path))
    assert record.by_day == ()


def test_a_record_of_an_earlier_version_has_no_days(store_by_time, tmp_path):
    runs, config = RunStore(tmp_path), small_config(store_by_time, n_samples=64)
    record = train_run(config, store_by_time, runs)
    path = runs.folder(config.signature) / "record.json"
    edit_record(path, lambda document: document.pop("by_day"))
    assert runs.read(config.signature) == replace(record, by_day=(), files={})


@pytest.mark.parametrize("packing", ["none", "request"])
def test_a_stopped_run_on_recent_impressions_ends_with_the_same_numbers(
    store_by_time, tmp_path, packing
):
    config = small_config(store_by_time, data_order="recent", packing=packing)
    whole = train_run(config, store_by_time, RunStore(tmp_path / "whole"))
    runs, asked = RunStore(tmp_path / "stopped"), iter([None] * 7 + ["stopped"])
    with pytest.raises(PreemptedError, match="saved at step 8"):
        train_run(config, store_by_time, runs, stop=lambda: next(asked))
    again = train_run(config, store_by_time, runs, options=RunOptions())
    assert numbers(again) == numbers(whole)
