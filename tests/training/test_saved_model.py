import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_runs import small_config

from models.model_options import EncoderOptions, SuanOptions
from scaling.errors import UserError
from scaling.metrics import evaluate
from scaling.records import MODEL_FILE, RunStore
from scaling.store import Schema
from scaling.study import RunOptions
from scaling.training import predict, train_model, train_run
from scaling.training.saved_model import load_model, save_model


@pytest.fixture
def config(tiny_store):
    torch.set_num_threads(1)
    return small_config(tiny_store, model=SuanOptions(norm="layer"), n_samples=64)


def test_a_finished_run_keeps_the_model_that_its_metrics_are_of(config, tiny_store, tmp_path):
    runs = RunStore(tmp_path)
    record = train_run(config, tiny_store, runs)
    model = load_model(runs.folder(config.signature))
    logits = predict(model, tiny_store, config.grade.max_len)
    labels = np.asarray(tiny_store.label[tiny_store.n_train :])
    assert evaluate(labels, logits)["logloss"] == record.metrics["logloss"]
    assert not model.training


def test_a_study_may_not_want_the_models(config, tiny_store, tmp_path):
    runs = RunStore(tmp_path)
    train_run(config, tiny_store, runs, options=RunOptions(keep_model=False))
    with pytest.raises(UserError, match=r"no such file; .* unless \[run\] keep_model = false"):
        load_model(runs.folder(config.signature))


def test_the_order_of_the_vocabularies_is_that_of_their_rows(config, tiny_store, tmp_path):
    """A table's rows follow the vocabularies in order, which JSON's sorted keys would lose."""
    schema = tiny_store.schema
    backwards = Schema(
        **{g: getattr(schema, g) for g in ("behaviour", "candidate", "context", "profile")},
        numeric=schema.numeric,
        vocabularies=dict(reversed(schema.vocabularies.items())),
    )
    model, _ = train_model(config, replace(tiny_store, schema=backwards))
    save_model(tmp_path, model, config, backwards)
    ours = predict(load_model(tmp_path), tiny_store, config.grade.max_len)
    assert np.array_equal(ours, predict(model, tiny_store, config.grade.max_len))


def test_the_source_of_a_model_is_to_be_restored_if_its_class_has_changed(
    config, tiny_store, tmp_path
):
    model, _ = train_model(config, tiny_store)
    other = replace(config, model=EncoderOptions("din", {}, "old"))
    path = save_model(tmp_path, model, other, tiny_store.schema)
    with pytest.raises(UserError) as error:
        load_model(tmp_path)
    assert str(error.value).startswith(f"{path}: din: its source has changed")
    assert "restore the source to use the run" in str(error.value)


def test_equal_runs_have_equal_models_with_the_permissions_of_the_umask(
    config, tiny_store, tmp_path
):
    folders = [RunStore(tmp_path / name) for name in "ab"]
    for runs in folders:
        train_run(config, tiny_store, runs)
    first, second = (runs.folder(config.signature) / MODEL_FILE for runs in folders)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_mode == first.with_name("record.json").stat().st_mode


def test_a_flipped_bit_in_the_model_of_a_finished_run_is_told(config, tiny_store, tmp_path):
    runs = RunStore(tmp_path)
    train_run(config, tiny_store, runs)
    path = runs.folder(config.signature) / MODEL_FILE
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="its digest differs from that in"):
        load_model(path.parent)


def test_a_model_of_an_earlier_version_has_an_entry_for_each_fact(config, tiny_store, tmp_path):
    model, _ = train_model(config, tiny_store)
    path = save_model(tmp_path, model, config, tiny_store.schema)
    with safe_open(path, "pt") as opened:
        facts = json.loads(opened.metadata()["facts"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(tensors, path, {name: json.dumps(value) for name, value in facts.items()})
    ours = predict(load_model(tmp_path), tiny_store, config.grade.max_len)
    assert np.array_equal(ours, predict(model, tiny_store, config.grade.max_len))


@pytest.mark.parametrize("n_bytes", [0, 5, 300, -1])
def test_a_damaged_model_is_refused(config, tiny_store, tmp_path, n_bytes):
    model, _ = train_model(config, tiny_store)
    path = save_model(tmp_path, model, config, tiny_store.schema)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(UserError, match="not a model of this version"):
        load_model(tmp_path)


def test_a_model_of_another_version_is_refused(config, tiny_store, tmp_path):
    from safetensors.torch import load_file, save_file

    model, _ = train_model(config, tiny_store)
    path = save_model(tmp_path, model, config, tiny_store.schema)
    facts = {
        "grade": json.dumps(asdict(config.grade)),
        "options": json.dumps({"norm": "spectral"}),
        "schema": json.dumps(tiny_store.schema.to_json()),
    }
    save_file(load_file(path), path, facts)
    with pytest.raises(UserError, match=f"{MODEL_FILE}.*norm"):
        load_model(tmp_path)
