"""The example of a table file: its keys are valid, and the counts of the real purchases."""

from pathlib import Path

import pytest
from raw_logs import real_files

from scaling.importers import import_logs
from scaling.importers.mapping import read_table_file
from scaling.store import validate_store

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "completejourney.toml"


def test_the_label_column_of_the_example_is_no_candidate_feature():
    _, spec = read_table_file(EXAMPLE)
    assert spec.impressions.label_when.column == "quantity"
    assert "quantity" in spec.features.behaviour
    assert "quantity" not in (*spec.features.candidate, *spec.features.context)


@pytest.mark.slow
def test_the_real_purchases_have_their_counts(tmp_path):
    real = real_files("completejourney")
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("transactions", "products", "demographics"):
        (raw / f"{name}.parquet").symlink_to(real / f"{name}.parquet")
    (raw / EXAMPLE.name).write_text(EXAMPLE.read_text())
    store = import_logs("table", raw, tmp_path / "store")
    assert store.source["rows"]["impressions"] == {
        "read": 1_469_307,
        "kept": 1_460_438,
        "dropped": {"nothing bought": 8_869},
    }
    assert store.n_users == 2_469
    assert int(store.history_quantiles["max"]) == 4_121
    assert validate_store(store.path) == []
