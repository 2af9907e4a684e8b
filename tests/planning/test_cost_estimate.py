"""The errors for damaged measurements say what to do."""

import pytest

import sweeps.planning.benchmark
from scaling.errors import UserError
from sweeps.planning.cost_estimate import read_benchmarks

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
