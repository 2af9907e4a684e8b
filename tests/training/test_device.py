"""The operations for GPUs and mixed precision, compared on a CPU with our own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from steps import step_ends

import models.attention.bias
import models.attention.dense
import models.fusion
import models.layers
from models.grades import GRADES, Grade
from models.kinds.building import build_model
from models.model_options import SuanOptions
from scaling.batches import iterate_training
from scaling.batches.gather import gather_batch, gather_packed
from scaling.batches.packing import group_requests
from scaling.study import RunConfig
from scaling.training import autocast, compile_blocks, train_model
from scaling.training.device import on_device, tokens_per_part

# the modules that ask whether an array fits into a core's cache
_IN_CACHE = (models.layers, models.fusion, models.attention.bias, models.attention.dense)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def outputs_and_gradients(model, batch):
    model.zero_grad()
    logits = model(batch)
    logits.sin().sum().backward()
    gradients = [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in model.parameters()]
    return [logits.detach(), *gradients]


@pytest.mark.parametrize(
    "options",
    [
        SuanOptions(),
        SuanOptions(norm="layer", placement="post", ffn="relu", fusion="sum", bias="time"),
        SuanOptions(placement="released", pooling="all", bias="position"),
        SuanOptions(pooling="running", target_aware=False, bias="none"),
        SuanOptions(fusion="none"),
    ],
    ids=str,
)
def test_torchs_operations_give_what_ours_give(tiny_store, options, monkeypatch):
    """What a GPU computes is this path; histories are ragged, so padding is in it."""
    model = build_model(Grade(2, 2, 8, 70), options, tiny_store.schema, base_rate=0.3, seed=1)
    model.double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    batch = gather_batch(tiny_store, np.arange(0, 1200, 40), 70)
    ours = outputs_and_gradients(model, batch)
    for module in _IN_CACHE:
        monkeypatch.setattr(module, "in_cache", lambda _: False)
    for mine, other in zip(ours, outputs_and_gradients(model, batch), strict=True):
        # float64, sums in another order; a row without any valid key, which only pooling over all
        # tokens reads, has its logits rounded to 1e-7 by the mask of -1e9
        tolerance = 1e-7 if options.pooling == "all" else 1e-12
        assert (mine - other).abs().max() <= tolerance * mine.abs().max()


def test_packed_candidates_take_torchs_operations_too(tiny_store, monkeypatch):
    model = build_model(Grade(2, 2, 8, 70), SuanOptions(), tiny_store.schema, base_rate=0.3, seed=1)
    model.double()
    groups = group_requests(tiny_store, 70)
    counts = groups.counts[:20]
    rows = np.full((20, counts.max()), -1)
    for row, first, count in zip(rows, groups.first, counts, strict=False):
        row[:count] = groups.rows[first : first + count]
    batch = gather_packed(tiny_store, rows, groups.starts[:20], stretches=False)
    ours = outputs_and_gradients(model, batch)
    for module in _IN_CACHE:
        monkeypatch.setattr(module, "in_cache", lambda _: False)
    for mine, other in zip(ours, outputs_and_gradients(model, batch), strict=True):
        assert (mine - other).abs().max() <= 1e-12 * mine.abs().max()


def test_bfloat16_trains_to_nearly_the_same_loss(tiny_store):
    config = RunConfig(
        "SUAN-2", GRADES["SUAN-2"], SuanOptions(), 320, 0, 32, 0.005, "decay", "independent",
        tiny_store.fingerprint, 2,
    )  # fmt: skip
    _, full = train_model(config, tiny_store)
    _, mixed = train_model(replace(config, precision="bf16"), tiny_store)
    assert mixed != full
    assert mixed == pytest.approx(full, rel=5e-3)  # bfloat16 keeps 8 bits of mantissa


def test_a_cpu_keeps_its_batches_and_compiles_nothing(tiny_store):
    batches = list(iterate_training(tiny_store, step_ends(64, 32), 20, 7))
    assert [id(parts) for parts in on_device(batches, "cpu")] == [id(parts) for parts in batches]
    model = build_model(GRADES["SUAN-0"], SuanOptions(), tiny_store.schema, base_rate=0.3, seed=0)
    compile_blocks(model, "cpu")
    assert model.encoder.blocks[0]._compiled_call_impl is None


@pytest.mark.gpu
def test_a_gpu_gets_the_same_batches_and_numbers(tiny_store):
    batches = list(iterate_training(tiny_store, step_ends(64, 32), 20, 7, tokens_per_part=1000))
    model = build_model(GRADES["SUAN-2"], SuanOptions(), tiny_store.schema, base_rate=0.3, seed=0)
    expected = [model(part).detach() for parts in batches for part in parts]
    model.to("cuda")
    compile_blocks(model, "cuda")
    with autocast("cuda", "float32"):
        found = [model(part).cpu() for parts in on_device(batches, "cuda") for part in parts]
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.detach(), reference, rtol=1e-4, atol=1e-5)
    assert tokens_per_part("cuda") > tokens_per_part("cpu")
