"""A log that version 1 of the generator made (tests/golden/generated-v1) is used as it is."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from small_runs import small_config

from scaling.errors import UserError
from scaling.records import RunStore
from scaling.store import open_store
from scaling.study import data_facts, ensure_data
from scaling.study.sections import DataConfig
from scaling.training import train_run

GOLDEN = Path(__file__).parents[1] / "golden" / "generated-v1"
FINGERPRINT = "8159f3a07cbfa7cb44d90d6af36e3e18b58ca11906dda2ccfbc03e482d6dab4f"
MADE_WITH = {"n_train": 96, "n_test": 48, "seed": 3, "n_items": 100, "window": 16}


@pytest.fixture
def log(tmp_path):
    return Path(shutil.copytree(GOLDEN, tmp_path / "log"))


def test_it_opens_with_every_check_and_keeps_its_fingerprint(log):
    store = open_store(log, verify=True)
    assert store.fingerprint == FINGERPRINT
    assert store.components == {}


def test_it_trains_and_has_no_learned_components(log, tmp_path):
    store = open_store(log)
    record = train_run(small_config(store, n_samples=64), store, RunStore(tmp_path / "runs"))
    assert record.metrics["excess_logloss"] > 0
    assert not [name for name in record.metrics if name.startswith("learned_")]


def test_a_study_that_states_its_settings_uses_it_and_says_so(log, caplog):
    with caplog.at_level(logging.INFO):
        store = ensure_data(DataConfig(str(log), MADE_WITH))
    assert store.fingerprint == FINGERPRINT
    assert "made by version 1 of the generator, used as it is" in caplog.text


def test_settings_that_the_study_states_must_agree(log):
    with pytest.raises(UserError, match=r"was generated with .*'seed': 3.*'seed': 4"):
        data_facts(DataConfig(str(log), MADE_WITH | {"seed": 4}))


def test_a_store_of_a_later_generator_is_refused(log):
    document = json.loads((log / "dataset.json").read_text())
    document["source"]["version"] = 99
    (log / "dataset.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="newer version"):
        data_facts(DataConfig(str(log), MADE_WITH))
