"""`scaling fit` on what is best at each size."""

import json

import numpy as np
import pandas as pd


def test_the_best_size_needs_no_direction(run, tmp_path):
    flops = np.geomspace(1e16, 1e20, 9)
    best = 0.1 * flops**0.497 * np.exp(np.random.default_rng(0).normal(0, 0.01, 9))
    pd.DataFrame({"flops": flops, "best": best}).to_csv(tmp_path / "optima.csv", index=False)
    arguments = ("--x", "flops", "--y", "best", "--law", "log-linear", "--json")
    code, out, _ = run("fit", tmp_path / "optima.csv", *arguments)
    assert code == 0
    # The standard error of the exponent is 0.001.
    assert abs(json.loads(out)["params"]["a"] - 0.497) < 0.004
