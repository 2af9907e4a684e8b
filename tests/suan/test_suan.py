from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from random_models import random_model

from models.accounting import model_size
from models.attention import Layout
from models.fusion import AdaptiveFusion
from models.grades import Grade
from models.kinds.building import build_model
from models.model_options import SuanOptions
from scaling.batches.gather import gather_batch

GRADE = Grade(2, 2, 8, 20)
ROWS = np.arange(0, 1200, 60)
TABLES = {"embeddings.weight", "encoder.position", "encoder.hour"}


PAPER = SuanOptions()


def model_and_batch(store, options=PAPER, rows=ROWS):
    model = random_model(GRADE, options, store.schema)
    batch = gather_batch(store, rows, GRADE.max_len)
    return model, replace(batch, numeric=batch.numeric.double())


def select(batch, index):
    return replace(batch, **{f.name: getattr(batch, f.name)[index] for f in fields(batch)})


ALL_OPTIONS = [
    SuanOptions(),
    SuanOptions(norm="layer", placement="post", ffn="relu", fusion="sum", bias="time"),
    SuanOptions(placement="released", pooling="all", bias="position"),
    SuanOptions(pooling="running", target_aware=False, bias="none"),
    SuanOptions(fusion="none"),
]


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
def test_every_parameter_gets_a_gradient(tiny_store, options):
    model, batch = model_and_batch(tiny_store, options)
    model.train()
    model(batch).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
def test_a_sample_does_not_depend_on_its_batch(tiny_store, options):
    """Padding to the batch's longest history is invisible, also to a user without any."""
    empty = np.flatnonzero(tiny_store.history_end == tiny_store.offsets[tiny_store.user])[:2]
    rows = np.concatenate([empty, ROWS])
    model, batch = model_and_batch(tiny_store, options, rows)
    together = model(batch)
    for row in range(0, len(rows), 5):
        alone = model(gather_batch(tiny_store, rows[row : row + 1], GRADE.max_len))
        assert abs(alone.item() - together[row].item()) < 1e-12


def test_cutting_the_last_block_changes_nothing(tiny_store):
    model, batch = model_and_batch(tiny_store)
    cut = model(batch)
    for block in model.encoder.blocks:
        forward = block.forward
        block.forward = lambda *a, forward=forward, **k: forward(
            *a, **{**k, "n_out": a[0].shape[1]}
        )
    assert (model(batch) - cut).abs().max() < 1e-12


@pytest.mark.parametrize(("pooling", "blind"), [("behaviours", True), ("all", False)])
def test_the_history_ignores_the_candidate_only_with_pooling_over_behaviours(
    tiny_store, pooling, blind
):
    """Padding rows attend to everything, but nothing reads them."""
    model, batch = model_and_batch(tiny_store, SuanOptions(pooling=pooling))
    seen = []
    model.encoder.blocks[0].register_forward_hook(
        lambda module, args, output: seen.append(output[:, :-1])
    )
    model(batch)
    model(replace(batch, candidate=batch.candidate.flip(0)))
    width = batch.behaviours.shape[1]
    valid = torch.arange(width) >= width - batch.lengths[:, None]
    assert torch.equal(seen[0][valid], seen[1][valid]) is blind


def test_fusion_equals_cross_attention_written_out():
    torch.manual_seed(0)
    fusion = AdaptiveFusion(12, 4, 3, "dual").double()
    s, profile = torch.randn(2, 5, 12).double(), torch.randn(2, 6, 4).double()
    pool = Layout(torch.tensor([4, 4]), 4, n_candidates=1).pool("all", torch.float64)
    q, k, v = (
        t.view(2, -1, 3, 4).transpose(1, 2)
        for t in (fusion.q(s), fusion.k(profile), fusion.v(profile))
    )
    c = torch.softmax(q @ k.transpose(-1, -2) * 6**-0.5, -1) @ v
    c = fusion.out(c.transpose(1, 2).reshape(2, 5, 12))
    h = torch.relu(fusion.squeeze((s + c).mean(1)))
    pair = torch.stack([fusion.weigh_sequence(h), fusion.weigh_profile(h)])
    w_s, w_c = torch.softmax(pair, 0)[:, :, None]
    expected = w_s * s + w_c * c
    assert (fusion(s, profile, pool, 5) - expected).abs().max() < 1e-12


def test_the_running_mean_reads_only_the_valid_past():
    mean = Layout(torch.tensor([2]), 3, n_candidates=1).pool("running", torch.float64)
    weights = mean(torch.eye(4, dtype=torch.float64)[None])[0]
    third = 1 / 3
    expected = [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0.5, 0], [0, third, third, third]]
    assert torch.allclose(weights, torch.tensor(expected, dtype=torch.float64), atol=1e-15)


def test_an_empty_history_is_scored(tiny_store):
    rows = np.flatnonzero(tiny_store.history_end == tiny_store.offsets[tiny_store.user])[:2]
    model, batch = model_and_batch(tiny_store, rows=rows)
    assert torch.isfinite(model(batch)).all()


def test_it_starts_near_the_base_rate(tiny_store):
    model = build_model(GRADE, SuanOptions(), tiny_store.schema, base_rate=0.3, seed=1).eval()
    p = torch.sigmoid(model(gather_batch(tiny_store, ROWS, GRADE.max_len)))
    assert (p - 0.3).abs().max() < 0.05


def test_a_seed_fixes_the_start_and_leaves_torchs_generator_alone(tiny_store):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two = (
        build_model(GRADE, SuanOptions(), tiny_store.schema, base_rate=0.3, seed=9)
        for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert torch.equal(before, torch.random.get_rng_state())


def test_dropout_draws_from_its_own_generator(tiny_store):
    model, batch = model_and_batch(tiny_store, SuanOptions(dropout=0.5))
    model.train()

    def logits(seed):
        model.encoder.dropout_generator = torch.Generator().manual_seed(seed)
        return model(batch)

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))


def test_without_a_profile_there_is_no_fusion(tiny_store):
    schema = replace(tiny_store.schema, profile=())
    model = build_model(GRADE, SuanOptions(), schema, base_rate=0.3, seed=1).eval()
    bare = build_model(GRADE, SuanOptions(fusion="none"), schema, base_rate=0.3, seed=1).eval()
    batch = gather_batch(tiny_store, ROWS, GRADE.max_len)
    batch = replace(batch, profile=batch.profile[:, :0])
    assert torch.equal(model(batch), bare(batch))
    sizes = [model_size(GRADE, SuanOptions(fusion=f), schema) for f in ("dual", "none")]
    assert sizes[0] == sizes[1]
    assert sizes[0].n_params == sum(
        p.numel() for name, p in model.named_parameters() if name not in TABLES
    )
