"""Runs of the shipped studies keep their signatures, so that finished runs are found again."""

import hashlib
from pathlib import Path

import pytest

import scaling
from scaling.study import DataFacts, load_study
from scaling.synthetic import SyntheticConfig, synthetic_schema
from sweeps.planning import grid_cells

STUDIES = Path(scaling.__file__).parents[1] / "studies"


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("quickstart", "a3072081b90c5a7b"),
        ("movielens-1m", "18afa59597e50b56"),
        ("learning-rate", "f44ebdc93853328c"),
        ("packing", "957114972f735c37"),
        ("distill-teachers", "23bb25348af7cb64"),
    ],
)
def test_the_signatures_of_a_shipped_study_never_change(name, digest):
    """A change would give finished runs other signatures: raise RUN_SCHEMA_VERSION instead."""
    schema = synthetic_schema(SyntheticConfig(n_train=1000))
    data = DataFacts(Path("log"), schema, 10**8, 10**6, "f" * 64)
    # a study that was begun before recipe 2 goes on with recipe 1
    cells = grid_cells(load_study(STUDIES / f"{name}.toml", ("train.recipe=1",)), data)
    signatures = "\n".join(cell.signature for cell in cells)
    assert hashlib.sha256(signatures.encode()).hexdigest()[:16] == digest
