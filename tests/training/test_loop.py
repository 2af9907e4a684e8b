import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import small_config

import scaling.batches.epoch
import scaling.training.learner
import scaling.training.loop
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.store import Events, Feature, Impressions, Schema, write_store
from scaling.training import predict, train_model


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def config(tiny_store):
    return small_config(tiny_store, model=SuanOptions())


def trace(config, store):
    losses = []
    train_model(config, store, progress=lambda line: losses.append(line["loss"]))
    return losses


def test_the_same_config_gives_the_same_numbers(config, tiny_store):
    assert trace(config, tiny_store) == trace(config, tiny_store)


@pytest.fixture
def integer_store(tmp_path):
    """A store of random integers: the same bytes on every machine, unlike simulated floats."""
    rng = np.random.default_rng(0)
    names = {"behaviour": "item", "candidate": "item", "context": "hour", "profile": "age"}
    schema = Schema(
        **{group: (Feature(name, name),) for group, name in names.items()},
        vocabularies={"item": 40, "hour": 26, "age": 9},
    )
    events = Events(
        user=rng.integers(0, 30, 900),
        time=rng.integers(10**9, 10**9 + 10**6, 900),
        features={"item": rng.integers(2, 40, 900)},
    )
    impressions = Impressions(
        user=rng.integers(0, 30, 400),
        time=rng.integers(10**9, 10**9 + 10**6, 400),
        label=rng.integers(0, 2, 400),
        in_test=np.arange(400) >= 330,
        candidates={"item": rng.integers(2, 40, 400)},
        contexts={"hour": rng.integers(2, 26, 400)},
    )
    return write_store(
        tmp_path / "integers", schema, events, impressions, {"age": rng.integers(2, 9, 30)},
        n_users=30, split={"kind": "user"}, source={"kind": "test"},
    )  # fmt: skip


STRETCH = SuanOptions(pooling="running", positions="start")
TRACES = {
    "suan": {},
    "suan by stretch": {"packing": "stretch", "model": STRETCH},
    "lightsuan": {"model": SuanOptions(kind="lightsuan", window=3, dilation=4)},
}


@pytest.mark.parametrize("name", TRACES)
def test_twenty_steps_give_the_recorded_losses(config, integer_store, name):
    """A speed-up that is meant to change nothing keeps these traces.

    Renew one, and raise RUN_SCHEMA_VERSION, when the numbers are meant to change. Another CPU sums in
    another order: 1e-4 is a thousand float32 roundings over 20 steps.
    """
    config = replace(config, data_fingerprint=integer_store.fingerprint, **TRACES[name])
    recorded = json.loads((Path(__file__).parents[1] / "golden" / "losses.json").read_text())
    assert trace(config, integer_store) == pytest.approx(recorded[name], abs=1e-4)


@pytest.mark.parametrize("change", [{"seed": 1}, {"data_order": "shared"}])
def test_seed_and_order_change_the_numbers(config, tiny_store, change):
    assert trace(replace(config, **change), tiny_store) != trace(config, tiny_store)


def test_with_the_shared_order_grades_see_the_same_samples(config, tiny_store, monkeypatch):
    seen = []
    original = scaling.batches.epoch.iterate_training

    def spy(store, step_ends, max_len, order, *rest):
        seen.append(order)
        return original(store, step_ends, max_len, order, *rest)

    monkeypatch.setattr(scaling.batches.epoch, "iterate_training", spy)
    for data_order in ("shared", "independent"):
        for grade in ("SUAN-0", "SUAN-1"):
            small = replace(config, grade=GRADES[grade], data_order=data_order, n_samples=32)
            train_model(small, tiny_store)
    assert seen[0] == seen[1]
    assert seen[2] != seen[3]


def test_a_longer_run_begins_with_the_shorter_ones_samples(config, tiny_store):
    """With a constant rate after the same warm-up, the first losses agree to the bit."""
    short = replace(config, schedule="constant", n_samples=160)
    long = replace(short, n_samples=320)
    # the warm-up is a tenth of the run: compare the first step, which no rate has touched
    assert trace(short, tiny_store)[0] == trace(long, tiny_store)[0]


@pytest.fixture(scope="module")
def easy_store(tmp_path_factory):
    """A log in which the candidate decides: items 2 to 5 are clicked with 0.9, items 6 to 9 with 0.1."""
    rng = np.random.default_rng(0)
    n_users, n_requests, shown = 80, 5, 4
    user = np.repeat(np.arange(n_users), n_requests * shown)
    time = np.tile(np.repeat(np.arange(1, n_requests + 1) * 1000, shown), n_users)
    item = rng.integers(2, 10, len(user))
    p = np.where(item < 6, 0.9, 0.1)
    events = Events(
        user=np.repeat(np.arange(n_users), 30),
        time=np.tile(np.arange(30) * 200, n_users),
        features={"item": rng.integers(2, 10, 30 * n_users)},
    )
    impressions = Impressions(
        user=user, time=time, label=rng.random(len(user)) < p, in_test=user >= 60,
        candidates={"item": item}, probability=p,
    )  # fmt: skip
    of_item = (Feature("item", "item"),)
    return write_store(
        tmp_path_factory.mktemp("data") / "easy",
        Schema(behaviour=of_item, candidate=of_item, vocabularies={"item": 10}),
        events, impressions, {}, n_users=n_users, split={"kind": "user"}, source={"kind": "test"},
    )  # fmt: skip


def test_nothing_is_dropped_in_an_evaluation(config, tiny_store):
    model, _ = train_model(
        replace(config, model=SuanOptions(dropout=0.5), n_samples=32), tiny_store
    )
    model.train()
    first, second = (predict(model, tiny_store, config.max_len) for _ in range(2))
    assert np.array_equal(first, second)
    assert not model.training


@pytest.mark.parametrize("packing", ["none", "request", "stretch"])
def test_training_beats_the_base_rate(easy_store, config, packing):
    options = SuanOptions(pooling="running", positions="start")
    long = replace(config, n_samples=1200, packing=packing, model=options)
    model, _ = train_model(long, easy_store)
    logits = predict(model, easy_store, config.grade.max_len)
    p = easy_store.probability[easy_store.n_train :].astype(float)
    base = easy_store.base_rate["train"]

    def logloss(q):
        return -(p * np.log(q) + (1 - p) * np.log1p(-q)).mean()

    assert logloss(1 / (1 + np.exp(-logits))) < logloss(base) - 0.1


def test_untouched_embedding_rows_keep_their_start(config, tiny_store):
    """Lazy Adam: only rows that a batch touches are updated."""
    before = scaling.training.learner.build_model(
        config.grade, config.model, tiny_store.schema,
        base_rate=tiny_store.base_rate["train"], seed=scaling.training.learner.order_key("init", 0) % 2**63,
    )  # fmt: skip
    model, _ = train_model(replace(config, n_samples=16), tiny_store)
    same = (model.embeddings.weight == before.embeddings.weight).all(1)
    assert same[0]  # padding
    assert 0 < same.sum() < len(same)


@pytest.mark.parametrize("packing", ["request", "stretch"])
def test_a_packed_epoch_counts_its_own_steps_to_the_last(tiny_store, config, packing):
    """Groups larger than a batch make fewer steps: the last loss and the end of the cool-down stay."""
    options = SuanOptions(pooling="running", positions="start")
    packed = replace(config, batch_size=2, n_samples=300, packing=packing, model=options)
    lines = []
    _, loss = train_model(packed, tiny_store, progress=lines.append)
    assert lines[-1]["step"] == lines[-1]["n_steps"] < 150
    assert lines[-1]["n_samples"] == 300
    assert 0.3 < loss < 3


def test_every_variation_trains(config, tiny_store):
    options = SuanOptions(
        norm="layer", placement="post", ffn="relu", fusion="sum", bias="time",
        pooling="running", target_aware=False, dropout=0.1,
    )  # fmt: skip
    losses = trace(replace(config, model=options, n_samples=64), tiny_store)
    assert all(math.isfinite(loss) for loss in losses)
