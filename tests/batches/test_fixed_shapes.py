"""Padded batches: few shapes, the same impressions, the same logits."""

import numpy as np
import pytest
import torch
from steps import step_ends

from models.grades import Grade
from models.kinds.building import build_model
from models.model_options import EncoderOptions, SuanOptions
from scaling.batches import ANY_SHAPE, Shapes, iterate_training
from scaling.batches.fixed_shapes import padded
from scaling.batches.gather import gather_batch
from scaling.batches.packing import group_requests, group_stretches, iterate_packed

SHAPES = Shapes(n_passes=24, max_len=100)
RUNNING = SuanOptions(pooling="running", positions="start")


def steps_of(store, packing, shapes, tokens=1500):
    ends = step_ends(600, 24)
    if packing == "none":
        return iterate_training(store, ends, 100, 7, 0, tokens, shapes=shapes)
    group = group_requests if packing == "request" else group_stretches
    return iterate_packed(store, group(store, 100), ends, 7, 0, tokens, shapes=shapes)


def shape_of(batch):
    return tuple(batch.behaviours.shape[:2]) + tuple(batch.label.shape[1:])


def test_sizes_are_halves_multiples_and_powers():
    assert [SHAPES.passes(n) for n in (1, 2, 4, 7, 13, 24, 25)] == [1, 2, 6, 12, 24, 24, 25]
    assert [SHAPES.passes_within(n) for n in (0, 1, 5, 11, 12, 30)] == [1, 1, 3, 6, 12, 24]
    assert [SHAPES.width(n) for n in (1, 64, 65, 100, 120)] == [64, 64, 100, 100, 120]
    assert [SHAPES.candidates(n) for n in (1, 2, 3, 17)] == [1, 2, 4, 32]


def test_without_shapes_a_batch_is_returned_as_it_is(tiny_store):
    batch = gather_batch(tiny_store, np.arange(5), 100)
    assert padded(batch, ANY_SHAPE) is batch


@pytest.mark.parametrize(("packing", "bound"), [("none", 2 * 6), ("request", 2 * 6 * 5), ("stretch", 2 * 6 * 8)])  # fmt: skip
def test_an_epoch_has_few_shapes(tiny_store, packing, bound):
    """Two widths, at most six numbers of passes, and as many heights as powers of two."""
    found = {shape_of(b) for parts in steps_of(tiny_store, packing, SHAPES) for b in parts}
    free = {shape_of(b) for parts in steps_of(tiny_store, packing, ANY_SHAPE) for b in parts}
    assert len(found) <= bound
    assert len(found) < len(free)
    assert {width for _, width, *_ in found} <= {64, 100}


def test_whole_batches_have_one_shape_for_each_width(tiny_store):
    steps = list(steps_of(tiny_store, "none", SHAPES, tokens=10**6))
    assert {len(parts) for parts in steps} == {1}
    assert {shape_of(part) for (part,) in steps} <= {(24, 64), (24, 100)}


@pytest.mark.parametrize("packing", ["none", "request", "stretch"])
def test_padded_parts_keep_within_their_tokens(tiny_store, packing):
    for parts in steps_of(tiny_store, packing, SHAPES):
        for part in parts:
            n_passes, n_tokens = part.times.shape
            assert n_passes * n_tokens <= 1500 or n_passes == 1


@pytest.mark.parametrize("packing", ["none", "request", "stretch"])
def test_padding_adds_no_label(tiny_store, packing):
    def labels(shapes):
        return [
            sorted(
                (int(time), float(label))
                for part in parts
                for time, label, counts in zip(
                    part.times[:, part.behaviours.shape[1] :].flatten(),
                    part.label.flatten(),
                    (torch.ones_like(part.label, dtype=torch.bool) if part.present is None else part.present).flatten(),
                    strict=True,
                )
                if counts
            )
            for parts in steps_of(tiny_store, packing, shapes)
        ]  # fmt: skip

    assert labels(SHAPES) == labels(ANY_SHAPE)


@pytest.mark.parametrize(
    ("options", "packing"),
    [
        (SuanOptions(), "none"),
        (SuanOptions(pooling="all"), "none"),
        (SuanOptions(target_aware=False), "none"),
        (SuanOptions(), "request"),
        (RUNNING, "stretch"),
        (SuanOptions(kind="lightsuan", window=3, dilation=10), "request"),
        *((EncoderOptions(kind), "none") for kind in ("din", "bst", "hstu", "rankmixer")),
        # its other searches may keep another one of equal behaviours if there are more columns
        (EncoderOptions("sim", {"search": "eta"}), "none"),
    ],
    ids=str,
)
def test_padding_changes_no_logit(tiny_store, options, packing):
    grade = Grade(2, 2, 8, 100)
    model = build_model(grade, options, tiny_store.schema, base_rate=0.3, seed=1).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        model.embeddings.weight[0] = 0
        for parts in list(steps_of(tiny_store, packing, ANY_SHAPE))[:3]:
            for part in parts:
                wide = padded(part, SHAPES)
                assert wide.times.shape != part.times.shape
                present = torch.ones_like(part.label, dtype=torch.bool)
                present = present if part.present is None else part.present
                # the mask of -1e9 rounds the logits of rows that read nothing, which only this mean reads
                tolerance = 1e-7 if options == SuanOptions(pooling="all") else 1e-12
                torch.testing.assert_close(
                    model(wide)[wide.present], model(part)[present], rtol=tolerance, atol=tolerance
                )


def test_statistics_over_a_batch_see_no_padding(tiny_store):
    """Passes and candidates stay; only histories are padded."""
    (packed,) = next(steps_of(tiny_store, "request", ANY_SHAPE, tokens=10**6))
    for batch in (packed, gather_batch(tiny_store, np.arange(5), 30)):
        wide = padded(batch, Shapes(None, 100))
        assert torch.equal(wide.numeric, batch.numeric)
        assert torch.equal(wide.candidate, batch.candidate)
        assert wide.behaviours.shape[1] in (64, 100)
