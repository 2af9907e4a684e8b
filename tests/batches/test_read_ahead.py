"""Reading ahead asks for the pages that the steps read, and changes nothing of what they read."""

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from list_logs import write_list_store
from small_runs import small_config

from models.model_options import SuanOptions
from scaling.batches import Epoch, find_groups, read_ahead

START = SuanOptions(pooling="running", positions="start")
PACKING = [("none", SuanOptions()), ("request", SuanOptions()), ("stretch", START)]


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    return write_list_store(
        tmp_path_factory.mktemp("lists") / "store", n_users=300, n_events=6000, n=3000
    )


@pytest.fixture
def asked(monkeypatch):
    """Bytes that were asked for, as (offset, length) by file."""
    found = defaultdict(list)

    def note(descriptor, offset, length, advice):
        assert advice == os.POSIX_FADV_WILLNEED
        found[str(Path(f"/proc/self/fd/{descriptor}").readlink())].append((offset, length))

    class AtOnce(ThreadPoolExecutor):
        """Has done what was submitted before it goes on."""

        def submit(self, *arguments):
            done = super().submit(*arguments)
            done.result()
            return done

    monkeypatch.setattr(read_ahead, "ThreadPoolExecutor", AtOnce)
    monkeypatch.setattr(os, "posix_fadvise", note)
    monkeypatch.setattr(read_ahead, "_SHARE", 0.0)
    return found


def epoch_of(store, packing, options, **changes):
    config = small_config(store, packing=packing, model=options, **changes)
    return Epoch(config, store, find_groups(config, store))


def read(epoch, first_step=0):
    return [part for parts in epoch.batches(first_step, 10_000) for part in parts]


@pytest.mark.parametrize(("packing", "options"), PACKING)
def test_the_batches_stay_the_same(lists, packing, options, monkeypatch):
    epoch = epoch_of(lists, packing, options)
    alone = read(epoch)
    monkeypatch.setattr(read_ahead, "_SHARE", 0.0)
    for one, other in zip(read(epoch), alone, strict=True):
        for name, value in vars(one).items():
            assert value is getattr(other, name) or torch.equal(value, getattr(other, name))


def is_covered(store, asked, name, starts, ends):
    """Whether rows `[starts, ends)` of an array lie in what was asked for."""
    file = store.path / f"{name}.npy"
    array = np.load(file, mmap_mode="r")
    covered = np.zeros(file.stat().st_size + 4096, dtype=bool)
    for offset, length in asked[str(file)]:
        covered[offset : offset + length] = True
    begin, size = array.offset, array.dtype.itemsize
    return all(covered[begin + s * size : begin + e * size].all() for s, e in zip(starts, ends, strict=True))  # fmt: skip


@pytest.mark.parametrize(("packing", "options"), PACKING)
def test_all_that_is_read_was_asked_for(lists, packing, options, asked):
    epoch = epoch_of(lists, packing, options)
    read(epoch)
    rows = epoch.rows()
    users = lists.user[rows]
    ends = lists.history_end[rows]
    starts = np.maximum(lists.offsets[users], ends - epoch.config.max_len)
    assert is_covered(lists, asked, "impressions/label", rows, rows + 1)
    assert is_covered(lists, asked, "impressions/candidate.item", rows, rows + 1)
    assert is_covered(lists, asked, "behaviours/feature.item", starts, ends)
    assert is_covered(lists, asked, "behaviours/offsets", users, users + 1)
    assert is_covered(lists, asked, "profile/feature.age", users, users + 1)
    offsets = lists.lists["behaviours/feature.tags"].offsets
    assert is_covered(lists, asked, "behaviours/feature.tags", offsets[starts], offsets[ends])
    assert is_covered(lists, asked, "behaviours/feature.price.weights", starts, ends)


def test_a_resumed_run_asks_for_nothing_of_earlier_steps(lists, asked):
    epoch = epoch_of(lists, "none", SuanOptions())
    last = epoch.n_steps - 1
    read(epoch, last)
    n_labels = sum(length for _, length in asked[str(lists.path / "impressions/label.npy")])
    assert n_labels <= 4096 * 2
    assert is_covered(
        lists, asked, "impressions/label", epoch._rows_of(last), epoch._rows_of(last) + 1
    )


def test_a_store_in_memory_is_not_asked_for(lists, asked, monkeypatch):
    monkeypatch.setattr(read_ahead, "_SHARE", 0.5)
    read(epoch_of(lists, "none", SuanOptions()))
    assert asked == {}


def test_a_file_system_that_takes_no_advice_is_read_all_the_same(lists, monkeypatch):
    def refuse(*_):
        raise OSError("not here")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    monkeypatch.setattr(read_ahead, "_SHARE", 0.0)
    assert sum(len(part.label) for part in read(epoch_of(lists, "none", SuanOptions()))) == 320


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9))))
def test_runs_of_pages_are_their_union(pages):
    first = np.array([begin for begin, _ in pages], dtype=np.int64)
    stop = first + np.array([length for _, length in pages], dtype=np.int64)
    runs = list(read_ahead._runs(first, stop))
    covered = [page for begin, end in runs for page in range(begin, end)]
    assert covered == sorted({page for begin, n in pages for page in range(begin, begin + n)})
