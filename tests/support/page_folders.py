"""What a reader of a page has before its first command: runs of an earlier step, or a table of their own."""

from itertools import product

import pandas as pd

from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.records import RunRecord, RunStore
from scaling.study import RunConfig

__all__ = ["fill_folder"]


def fill_folder(page, folder):
    """Write into the folder what the page takes for granted."""
    if page == "README.md":
        write_runs(folder / "runs" / "quickstart")
    if page == "docs/fitting.md":
        write_tables(folder)


def loss_of(n_params, n_samples):
    return 0.4 + 2 * n_params**-0.4 + 3 * n_samples**-0.3


def write_runs(root):
    """Runs that lie on a law, as `make study` would leave them."""
    runs = RunStore(root)
    sizes = (4096, 16384, 65536, 262144)
    for row, (grade, shape) in enumerate(list(GRADES.items())[:4]):
        n_params = 2000 * 4**row
        for n_samples in sizes:
            config = RunConfig(
                *(grade, shape, SuanOptions(), n_samples, 0, 64, 1e-3),
                *("decay", "independent", "0" * 64, 10),
            )
            loss = loss_of(n_params, n_samples)
            metrics = {"logloss": loss, "soft_logloss": loss, "soft_auc": 1 - loss}
            flops = 100 * n_params
            runs.write(
                RunRecord(
                    *(config, n_params, 0, flops, 3 * flops, metrics, loss, 1.0, 1.0, 1.0),
                    {"truth": None},
                )
            )


def write_tables(folder):
    """A table of runs on a law, with a little noise, and one of optima."""
    rows = [
        {
            "n_params": n_params,
            "n_samples": n_samples,
            "seed": seed,
            "logloss": loss_of(n_params, n_samples) * (1 + 2e-4 * ((7 * i) % 5 - 2)),
            "flops": 6 * n_params * n_samples,
            "train_seconds": 1e-9 * n_params * n_samples,
        }
        for i, (n_params, n_samples, seed) in enumerate(
            product((10**4, 10**5, 10**6, 10**7), (10**5, 10**6, 10**7, 10**8), (0, 1))
        )
    ]
    runs = pd.DataFrame(rows)
    runs.assign(loss=runs["logloss"]).to_csv(folder / "runs.csv", index=False)
    optima = runs[runs["seed"] == 0].assign(
        best_n=lambda t: t["flops"] ** 0.5, best_lr=lambda t: t["n_params"] ** -0.3
    )
    optima.to_csv(folder / "optima.csv", index=False)
