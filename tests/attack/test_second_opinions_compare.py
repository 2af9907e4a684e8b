"""How often intervals of `scaling compare` hold the true difference; the kept result is of more worlds and errors."""

import json
import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [2, 5, 10])
def test_intervals_of_compare_hold_the_truth_as_often_as_they_say(n_seeds):
    script = runpy.run_path(str(BENCHMARKS / "compare_coverage.py"))
    found = script["coverage"](600, n_seeds, script["ERRORS"]["normal"], seed=1)
    # three standard errors of a share from 600 worlds
    assert found == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 600) ** 0.5)


@pytest.mark.parametrize("n_seeds", [2, 5, 10])
def test_the_kept_coverage_of_compare_is_that_of_its_level(n_seeds):
    kept = json.loads((BENCHMARKS / "results" / "compare_coverage.json").read_text("utf-8"))
    row = next(r for r in kept["rows"] if (r["errors"], r["n_seeds"]) == ("normal", n_seeds))
    assert kept["n_worlds"] >= 4000
    assert row["coverage"] == pytest.approx(0.95, abs=3 * kept["standard_error"])
