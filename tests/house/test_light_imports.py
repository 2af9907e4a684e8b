"""Help is instant and analysis works where torch is not installed: heavy packages load where they are needed."""

import pkgutil
import re

import numpy as np
import pandas as pd
import pytest
from blocked_imports import run_without

import analysis
import scaling
import sweeps

# The rooms and modules that need torch; everything else does without.
NEED_TORCH = (
    "scaling.batches",
    "scaling.serving.latency_bench",
    "scaling.training",
    "sweeps.planning.benchmark",
)
TORCH_FREE = [
    "models.accounting",
    "models.grades",
    "models.input_schema",
    "models.model_options",
    "models.sparse_pattern",
    *(
        module.name
        for package in (scaling, sweeps, analysis)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not f"{module.name}.".startswith(tuple(f"{name}." for name in NEED_TORCH))
    ),
]


def test_no_help_needs_a_heavy_package():
    program = (
        "import contextlib, typer.main\n"
        "from scaling.cli.app import app, main\n"
        "def help_of(command, words):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([*words, '--help'])\n"
        "    for name, child in getattr(command, 'commands', {}).items():\n"
        "        help_of(child, [*words, name])\n"
        "help_of(typer.main.get_command(app), [])\n"
    )
    done = run_without(
        ["torch", "pandas", "matplotlib", "scipy", "numpy", "submitit", "rich"], program
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: scaling ") > 8


@pytest.mark.slow
def test_plans_records_and_analysis_do_without_torch():
    program = f"import importlib\nfor name in {TORCH_FREE!r}: importlib.import_module(name)"
    done = run_without(["torch", "submitit"], program)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_block_blocks():
    for name in NEED_TORCH:
        done = run_without(["torch"], f"import {name}")
        assert "No module named 'torch'" in done.stderr, name


def test_any_csv_is_fitted_without_torch(tmp_path):
    n_params, n_samples = np.meshgrid(np.geomspace(1e4, 1e7, 5), np.geomspace(1e5, 1e8, 5))
    logloss = 0.4 + 2.0 * n_params**-0.3 + 5.0 * n_samples**-0.35
    table = pd.DataFrame(
        {"n_params": n_params.ravel(), "n_samples": n_samples.ravel(), "logloss": logloss.ravel()}
    )
    table.to_csv(tmp_path / "points.csv", index=False)
    program = "from scaling.cli import main; main()"
    arguments = ["fit", "points.csv", "--law", "additive", "--json"]
    done = run_without(["torch", "submitit"], program, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    alpha = re.search(r'"alpha": (?P<value>[0-9.]+)', done.stdout)
    # The points lie on the law: what is left is rounding.
    assert float(alpha["value"]) == pytest.approx(0.3, rel=1e-6)
