from dataclasses import replace

import numpy as np
import pytest
import torch
from random_models import random_model

from models.attention import bias
from models.grades import Grade
from models.model_options import SuanOptions
from scaling.batches.gather import gather_batch, gather_packed

GRADE = Grade(2, 2, 8, 20)
LIGHT = SuanOptions(kind="lightsuan", window=3, dilation=4)
OPTIONS = [
    LIGHT,
    replace(LIGHT, pooling="running"),
    replace(LIGHT, pooling="all", bias="time"),
    replace(LIGHT, fusion="sum", bias="position"),
    replace(LIGHT, fusion="none", bias="none"),
    replace(LIGHT, target_aware=False),
]


def model_and_batch(store, options):
    model = random_model(GRADE, options, store.schema)
    empty = np.flatnonzero(store.history_end == store.offsets[store.user])[:2]
    rows = np.concatenate([empty, np.arange(0, 1200, 60)])
    batch = gather_batch(store, rows, GRADE.max_len)
    return model, replace(batch, numeric=batch.numeric.double())


def force(monkeypatch, sparse):
    monkeypatch.setattr(bias, "sparse_pays", lambda *_: sparse)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_model_is_the_same_function_sparse_and_dense(tiny_store, monkeypatch, options):
    """Logits and gradients, float64: sums in another order. The choice between them is one of speed."""
    model, batch = model_and_batch(tiny_store, options)
    results = []
    for sparse in (True, False):
        force(monkeypatch, sparse)
        logits = model(batch)
        gradients = torch.autograd.grad(logits.sum(), list(model.parameters()))
        results.append([logits, *(g.to_dense() for g in gradients)])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).abs().max() < 1e-10 * max(1, theirs.abs().max())


def test_a_window_over_the_whole_history_is_suan(tiny_store, monkeypatch):
    force(monkeypatch, True)
    light = replace(LIGHT, window=GRADE.max_len + 1)
    model, batch = model_and_batch(tiny_store, light)
    suan, _ = model_and_batch(tiny_store, SuanOptions())
    assert (model(batch) - suan(batch)).abs().max() < 1e-12


def test_a_narrow_pattern_reads_less(tiny_store, monkeypatch):
    force(monkeypatch, True)
    model, batch = model_and_batch(tiny_store, LIGHT)
    suan, _ = model_and_batch(tiny_store, SuanOptions())
    assert (model(batch) - suan(batch)).abs().max() > 1e-3


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("packing", ["request", "stretch"])
def test_packed_candidates_score_as_alone(tiny_store, monkeypatch, sparse, packing):
    force(monkeypatch, sparse)
    stretch = packing == "stretch"
    options = replace(LIGHT, pooling="running", positions="start") if stretch else LIGHT
    model, _ = model_and_batch(tiny_store, options)
    user = int(tiny_store.user[0])
    rows = np.flatnonzero(np.asarray(tiny_store.user[: tiny_store.n_train]) == user)
    ends = tiny_store.history_end[rows]
    first = int(tiny_store.offsets[user])
    rows = rows[(ends - first <= GRADE.max_len) & (stretch | (ends == ends[0]))][:6]
    packed = gather_packed(tiny_store, rows[None], np.array([first]), stretches=stretch)
    together = model(replace(packed, numeric=packed.numeric.double()))[0]
    for row, logit in zip(rows, together, strict=True):
        alone = gather_batch(tiny_store, np.array([row]), GRADE.max_len)
        assert abs(model(replace(alone, numeric=alone.numeric.double())) - logit) < 1e-12
