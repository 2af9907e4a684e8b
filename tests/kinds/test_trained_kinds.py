"""Every kind of model is trained, saved, read back and scored like a SUAN."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import small_config

from models.kinds import KINDS, exact_packing, options_of, options_type
from models.model_options import SuanOptions
from models.scoring.request import Candidates, History
from models.scoring.scorer import Scorer
from scaling.batches.gather import gather_batch
from scaling.records import RunStore
from scaling.training import train_model, train_run
from scaling.training.saved_model import load_model

OTHERS = [kind for kind in KINDS if "suan" not in kind]


def default(kind):
    return options_of(kind, SuanOptions(kind=kind) if "suan" in kind else options_type(kind)())


@pytest.fixture(scope="module", params=OTHERS)
def trained(request, tiny_store, tmp_path_factory):
    """A finished run with its model, in the folder of all runs."""
    torch.set_num_threads(1)
    runs = RunStore(tmp_path_factory.mktemp("runs"))
    config = small_config(tiny_store, model=default(request.param), n_samples=160)
    return config, train_run(config, tiny_store, runs), runs.folder(config.signature)


def test_the_record_names_the_kind_and_counts_its_flops(trained):
    config, record, _ = trained
    assert record.config.model == config.model
    assert record.flops == 3 * record.flops_per_sample * config.n_samples
    assert np.isfinite(record.metrics["logloss"])


def test_a_saved_model_scores_many_candidates_as_each_alone(trained, tiny_store):
    """Float32, sums in another order; a long history, a short one and none."""
    config, _, folder = trained
    model, scorer = load_model(folder), Scorer.load(folder)
    lengths = tiny_store.history_end - tiny_store.offsets[tiny_store.user]
    items = np.arange(0, 1000, 130)
    for row in (int(lengths.argmax()), int(lengths.argmin()), 400):
        state = scorer.encode(history_before(tiny_store, row))
        together = scorer.logits(state, candidates_at(tiny_store, row, items))
        single = np.array(
            [single_logit(model, tiny_store, row, item, config.grade.max_len) for item in items]
        )
        assert np.abs(together - single).max() < 1e-4


def history_before(store, row):
    user, end = store.user[row], store.history_end[row]
    events = slice(int(store.offsets[user]), int(end))
    return History(
        {f.name: store.behaviours[f.name][events] for f in store.schema.behaviour},
        store.event_time[events],
        {f.name: store.profiles[f.name][user] for f in store.schema.profile},
    )


def candidates_at(store, row, items):
    schema = store.schema
    return Candidates(
        {f.name: store.candidates[f.name][items] for f in schema.candidate},
        int(store.time[row]),
        {f.name: store.contexts[f.name][items] for f in schema.context},
        {name: store.numerics[name][items] for name in schema.numeric},
    )


@torch.no_grad()
def single_logit(model, store, row, item, max_len):
    batch, own = (gather_batch(store, np.array([one]), max_len) for one in (row, item))
    changed = {name: getattr(own, name) for name in ("candidate", "context", "numeric")}
    return model(replace(batch, **changed)).item()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_packed_by_request_learns(kind, tiny_store):
    config = small_config(tiny_store, model=default(kind), packing="request")
    _, first = train_model(replace(config, n_samples=32), tiny_store)
    _, whole = train_model(config, tiny_store)
    assert np.isfinite([first, whole]).all()


@pytest.mark.parametrize("kind", [k for k in OTHERS if "stretch" in exact_packing(default(k))])
def test_a_run_packed_by_stretch_is_trained(kind, tiny_store):
    config = small_config(tiny_store, model=default(kind), packing="stretch", n_samples=60)
    assert np.isfinite(train_model(config, tiny_store)[1])
