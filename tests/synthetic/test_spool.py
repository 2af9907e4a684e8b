import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_logs import assert_same_files

import scaling.synthetic.spool
from scaling.store import open_store
from scaling.synthetic import SyntheticConfig, generate_logs
from scaling.synthetic.spool import ColumnSpool, TimeSpool

ROW = np.dtype([("time", "i8"), ("user", "i4"), ("other", "i4")])


@given(
    rows=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 3), st.integers(0, 3)), min_size=1),
    n_files=st.integers(1, 9),
    cut=st.integers(0, 50),
)
def test_rows_come_back_sorted_by_time_user_and_the_rest(tmp_path_factory, rows, n_files, cut):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling.synthetic.spool, "ROWS_IN_MEMORY", max(1, len(rows) // n_files))
        # the span is too short on purpose: later rows share the last file
        spool = TimeSpool(tmp_path_factory.mktemp("spool"), len(rows), 0, 900)
        array = np.array(rows, dtype=ROW)
        for part in (array[:cut], array[cut:]):
            if len(part):
                spool.add(part)
        found = np.concatenate(list(spool.pieces()))
    np.testing.assert_array_equal(found, np.sort(array, order=["time", "user", "other"]))


def test_rows_after_the_expected_time_are_sorted_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling.synthetic.spool, "ROWS_IN_MEMORY", 10)
    spool = TimeSpool(tmp_path, 100, 0, 60)
    times = np.random.default_rng(0).integers(0, 6000, 1000)
    spool.add(np.array([(time, 0, 0) for time in times], dtype=ROW))
    pieces = list(spool.pieces())
    np.testing.assert_array_equal(np.concatenate(pieces)["time"], np.sort(times))
    assert max(len(piece) for piece in pieces) <= 40


def test_columns_come_back_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling.synthetic.spool, "ROWS_IN_MEMORY", 3)
    spool = ColumnSpool(tmp_path)
    spool.add({"a": np.arange(5), "b": np.arange(5, dtype=np.uint8)})
    spool.add({"a": np.arange(5, 7), "b": np.arange(5, 7, dtype=np.uint8)})
    for name in "ab":
        np.testing.assert_array_equal(np.concatenate(list(spool.pieces(name))), np.arange(7))


@pytest.mark.slow
def test_the_store_does_not_depend_on_how_many_rows_are_in_memory(tmp_path, monkeypatch):
    config = SyntheticConfig(n_train=3000, n_test=500, n_items=300, window=8, warmup_events=5)
    whole = generate_logs(tmp_path / "whole", config)
    monkeypatch.setattr(scaling.synthetic.spool, "ROWS_IN_MEMORY", 200)
    pieces = generate_logs(tmp_path / "pieces", config)
    assert_same_files(whole, pieces)
    open_store(pieces.path, verify=True)
