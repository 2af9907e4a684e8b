"""Runs of the shipped studies keep their signatures, so that finished runs are found again."""

import hashlib
from pathlib import Path

import pytest

import scaling
from scaling.study import DataFacts, load_study
from scaling.synthetic import SyntheticConfig, synthetic_schema
from sweeps.planning import grid_cells

STUDIES = Path(scaling.__file__).parents[1] / "studies"
# the quickstart of the first version; the file has another grid now
GOLDEN = Path(__file__).parents[1] / "golden" / "studies"
QUICKSTART = GOLDEN / "quickstart-0.1.toml"


@pytest.mark.parametrize(
    ("file", "digest"),
    [
        (QUICKSTART, "a3072081b90c5a7b"),
        (STUDIES / "movielens-1m.toml", "18afa59597e50b56"),
        (GOLDEN / "learning-rate.toml", "f44ebdc93853328c"),
        (STUDIES / "packing.toml", "957114972f735c37"),
        (STUDIES / "distill-teachers.toml", "23bb25348af7cb64"),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_the_signatures_of_a_shipped_study_never_change(file, digest):
    """A change would give finished runs other signatures: raise RUN_SCHEMA_VERSION instead."""
    schema = synthetic_schema(SyntheticConfig(n_train=1000))
    data = DataFacts(Path("log"), schema, 10**8, 10**6, "f" * 64)
    # a study that was begun before recipe 2 goes on with recipe 1
    cells = grid_cells(load_study(file, ("train.recipe=1",)), data)
    signatures = "\n".join(cell.signature for cell in cells)
    assert hashlib.sha256(signatures.encode()).hexdigest()[:16] == digest
