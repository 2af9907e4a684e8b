"""Blocks that are computed again in the backward pass: the same gradients to the last bit, from less memory."""

import pytest
import torch
from encoder_inputs import SmallSchema

from models.accounting import MemoryUse, fitted
from models.grades import Grade
from models.kinds.building import build_model
from models.kinds.measured_size import empty_batch
from models.model_options import SuanOptions

SCHEMA = SmallSchema(
    vocabularies={"item": 40, "category": 9, "action": 4, "position": 6, "age": 7, "city": 8}
)
GRADE = Grade(3, 2, 4, 160)


def gradients(options, *, recomputes, n_steps=1):
    """The gradients of the last of some steps, and the bytes that its forward pass has kept."""
    torch.set_num_threads(1)
    model = build_model(GRADE, options, SCHEMA, base_rate=0.3, seed=0).train()
    model.encoder.recomputes = recomputes
    model.encoder.dropout_generator = torch.Generator().manual_seed(3)
    batch = empty_batch(SCHEMA, GRADE.max_len, 1, "cpu")
    generator = torch.Generator().manual_seed(0)
    batch.behaviours[:] = torch.randint(1, 4, batch.behaviours.shape, generator=generator)
    batch.times[:] = torch.arange(batch.times.numel()) * 1000
    batch.candidate[:], batch.profile[:] = 2, 3
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    for _ in range(n_steps):
        model.zero_grad()
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            logits = model(batch)
        logits.sum().backward()
    grads = [p.grad.to_dense() for p in model.parameters()]
    return grads, sum(kept.values())


@pytest.mark.parametrize(
    "options",
    [
        SuanOptions(),
        SuanOptions(dropout=0.3),
        SuanOptions(kind="lightsuan", window=8, dilation=8),
    ],
    ids=["suan", "dropout", "lightsuan"],
)
def test_gradients_are_equal_to_the_last_bit(options):
    """Over two steps, so that the generator of the dropout stands where it would stand."""
    ours, _ = gradients(options, recomputes=True, n_steps=2)
    plain, _ = gradients(options, recomputes=False, n_steps=2)
    assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


def test_less_is_kept_for_the_backward_pass():
    kept = [gradients(SuanOptions(), recomputes=on)[1] for on in (True, False)]
    assert kept[0] < kept[1] / 2


def test_blocks_are_computed_again_only_where_parts_would_be_small():
    size = {"max_len": 99, "n_layers": 10}
    assert fitted(2**40, 2**20, **size) == MemoryUse(2**19)
    # half of the memory holds 64 impressions
    assert fitted(2**27, 2**20, **size) == MemoryUse(6400)
    # 16; with one block and all inputs at a time 16 / (1 / 10 + 1 / 20)
    assert fitted(2**25, 2**20, **size) == MemoryUse(10_600, recomputes=True)
    assert fitted(2**25, 2**20, **size, can_recompute=False) == MemoryUse(1600)
    assert fitted(2**10, 2**20, **size) == MemoryUse(100, recomputes=True)


def test_parts_hold_whole_passes():
    assert MemoryUse(10_600).n_parts(256, 99) == 3
    assert MemoryUse(50).n_parts(4, 99) == 4
