"""Fit a joint law to your own table, without runs of this toolkit and without torch.

python examples/fit_any_table.py
"""

import numpy as np
import pandas as pd

from analysis.fit import fit_law
from analysis.laws import build_law

rng = np.random.default_rng(0)
rows = [
    {"n_params": n, "n_samples": d, "seed": seed, "logloss": 0.38 + 0.9 * n**-0.35 + 2.0 * d**-0.3}
    for n in (1e3, 1e4, 1e5, 1e6)
    for d in (1e4, 1e5, 1e6, 1e7)
    for seed in range(3)
]
table = pd.DataFrame(rows)
table["logloss"] += rng.normal(0, 3e-4, len(table))

fit = fit_law(build_law("additive"), table, y="logloss")
print(fit.summary())
print("at ten times the largest sizes:", fit.predict(1e7, 1e8))
