"""The report against a script that recomputes its numbers from the records and shares no code with the project."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.report import analyse
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.records import RunRecord, RunStore
from scaling.study import RunConfig

SCRIPT = Path(__file__).with_name("recompute_report.py")


def test_the_script_imports_nothing_of_the_project():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    packages = {name.split(".")[0] for name in names}
    assert packages - set(sys.stdlib_module_names) == {"numpy", "scipy"}


def write_records(folder):
    """Runs on a law of known exponents: 4 sizes, 4 data sizes, 3 seeds, their data shared by no two runs."""
    store, rng = RunStore(folder), np.random.default_rng(0)
    for i, (grade, n) in enumerate(
        {"SUAN-0": 2_000, "SUAN-2": 9_000, "SUAN-3": 30_000, "SUAN-4": 100_000}.items()
    ):
        for d in (4096, 16384, 65536, 262144):
            for seed in range(3):
                loss = 0.4 + 2 * n**-0.25 + 3 * d**-0.3 + rng.normal(0, 1e-3)
                config = RunConfig(
                    grade_name=grade, grade=GRADES[grade], model=SuanOptions(), n_samples=d, seed=seed,
                    batch_size=64, learning_rate=d**-0.5, schedule="decay", data_order="independent",
                    data_fingerprint="f" * 64, warmup_steps=10,
                )  # fmt: skip
                store.write(
                    RunRecord(
                        config=config, n_params=n, n_embedding_params=10 * n, flops_per_sample=7 * n,
                        flops=21 * n * d, train_loss=0.6, train_seconds=n * d / 1e8,
                        samples_per_second=1e8 / n, peak_memory_gib=0.4 + i / 10,
                        metrics={
                            "soft_logloss": loss, "soft_auc": 1.2 - loss + rng.normal(0, 1e-3),
                            "soft_logloss_stderr": 5e-3, "soft_auc_stderr": 4e-3,
                            "logloss": loss, "auc": 0.7,
                        },
                        provenance={"truth": {"bayes_logloss": 0.4, "bayes_auc": 0.8}, "device": "cpu"},
                    )
                )  # fmt: skip


@pytest.mark.slow
def test_of_a_reports_numbers_only_those_differ_that_were_altered(tmp_path):
    runs, result = tmp_path / "known", tmp_path / "result.json"
    write_records(runs)
    analyse(runs, title="known")
    document = json.loads((runs / "report.json").read_text(encoding="utf-8"))
    gain = document["variants"][0]["metrics"]["soft_logloss"]["gains"][0]["more_of"][0]
    gain["improvement"][0] *= 1.03
    (runs / "report.json").write_text(json.dumps(document), encoding="utf-8")
    for name, found, wrong in (
        ("report.md", "| E | 0.4", "| E | 0.3"),
        ("table.csv", ",20000,", ",20001,"),
    ):
        text = (runs / name).read_text(encoding="utf-8")
        assert found in text
        (runs / name).write_text(text.replace(found, wrong, 1), encoding="utf-8")
    # away from the project, of which nothing can be imported
    command = [sys.executable, "-I", str(SCRIPT), str(runs), "-o", str(result)]
    code = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode
    found = json.loads(result.read_text(encoding="utf-8"))
    assert code == 1
    assert sum(found["compared"].values()) > 2000
    kinds = ("intervals", "intervals of gains", "page: intervals of laws", "tests of shared errors")
    assert all(found["compared"][kind] for kind in kinds)
    # the page shows the gain as the report's document had it before
    kinds = ("gains: ", "page: gains: ", "page: laws: ", "table.csv: ")
    assert len(found["differ"]) == len(kinds)
    assert all(map(str.startswith, sorted(found["differ"]), kinds)), found["differ"]
