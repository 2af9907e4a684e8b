"""Parts of the baselines against their definitions, written out plainly."""

import math

import pytest
import torch
from encoder_inputs import SmallSchema, random_inputs
from torch.nn import functional as F

from models.attention import Layout
from models.baselines import (
    BST,
    SIM,
    ActivationUnit,
    BSTOptions,
    Dice,
    HSTULayer,
    HSTUOptions,
    SIMOptions,
)
from models.baselines.silu_attention import find_pairs
from models.grades import Grade


def random(*shape):
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
    )


@pytest.mark.parametrize("share", [0.2, 0.8, 1.0])
def test_the_unit_reads_target_behaviour_difference_and_product(share):
    """Few pairs are gathered, many are computed as one product per pass: the scores are the same."""
    torch.manual_seed(0)
    target, history = random(3, 2, 4), random(3, 6, 4)
    read = torch.rand(3, 2, 6) < share
    unit = ActivationUnit(4, (5, 3), "relu").double()
    t, h = torch.broadcast_tensors(target.unsqueeze(2), history.unsqueeze(1))
    expected = unit.rest(unit.first(torch.cat([t, h, t - h, t * h], -1))).squeeze(-1)
    assert torch.allclose(unit(target, history, read), expected * read)


@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_of_dice(training):
    dice = Dice(3).double().train(training)
    torch.nn.init.normal_(dice.alpha)
    dice.running_mean.normal_()
    assert torch.autograd.gradcheck(dice, random(5, 3).requires_grad_())


def test_dice_with_a_single_row_uses_the_running_statistics():
    dice, x = Dice(3).double(), random(1, 3)
    assert torch.equal(dice.train()(x), dice.eval()(x))


def test_a_long_sequence_in_blocks_is_the_same_as_all_pairs_at_once():
    """Beyond 64 behaviours HSTU's pairs come in blocks."""
    torch.manual_seed(0)
    n, width, n_heads = 150, 4, 2
    layer = HSTULayer(width, n_heads, n, HSTUOptions()).double()
    x, times = random(2, n, width), torch.arange(n).expand(2, n) ** 3
    layout = Layout(torch.tensor([n, n]), n, 0)
    pairs = find_pairs(layout, torch.zeros(2, 0, n, dtype=torch.bool), times)
    out, _ = layer(x, x[:, :0], pairs, divisor=n, with_history=True)

    normed = F.layer_norm(x, (width,), eps=1e-6)
    u, v, q, k = F.silu(normed @ layer.uvqk).view(2, n, 4, n_heads, 2).permute(2, 0, 3, 1, 4)
    i, j = torch.arange(n)[:, None], torch.arange(n)
    gap = (times[0][:, None] - times[0]).clamp(min=1).double()
    bucket = (gap.log() / 0.301).floor().long().clamp(max=128)
    bias = layer.position[(i - j).clamp(min=0)] + layer.time[bucket]
    read = F.silu(q @ k.mT + bias) * (i >= j) / n @ v
    read, u = (part.transpose(1, 2).flatten(2) for part in (read, u))
    expected = x + layer.out(F.layer_norm(read, (width,), eps=1e-6) * u)
    assert torch.allclose(out, expected)


def test_positions_of_bst_start_as_sinusoids():
    encoder = BST(Grade(1, 1, 4, 9), BSTOptions(), SmallSchema())
    expected = [math.sin(7), math.cos(7), math.sin(0.07), math.cos(0.07)]
    assert encoder.position[7].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_soft_search_keeps_the_largest_products():
    inputs = random_inputs([9], 9, 1)
    encoder = SIM(Grade(1, 1, 4, 9), SIMOptions(k=3), SmallSchema())
    columns, found = encoder.search(inputs)
    products = (inputs.history_BLD @ inputs.candidate_BMD.mT)[0, :, 0]
    assert set(columns[0, 0].tolist()) == set(products.argsort()[-3:].tolist())
    assert found.all()


def test_a_hard_search_keeps_the_latest_of_the_category():
    inputs = random_inputs([9], 9, 1)
    inputs.history_ids[0, :, 1] = torch.tensor([7, 7, 7, 5, 7, 5, 5, 7, 5])
    inputs.candidate_ids[0, 0, 1] = 7
    encoder = SIM(Grade(1, 1, 4, 9), SIMOptions(k=3, search="hard"), SmallSchema())
    columns, found = encoder.search(inputs)
    assert sorted(columns[0, 0][found[0, 0]].tolist()) == [2, 4, 7]


def test_hash_bits_in_common_follow_the_angle():
    """Two vectors at an angle t differ in a share t / pi of the bits (Charikar, STOC '02)."""
    inputs = random_inputs([9], 9, 1)
    encoder = SIM(Grade(1, 1, 4, 9), SIMOptions(search="eta"), SmallSchema()).double()
    generator = torch.Generator().manual_seed(0)
    encoder.projection = torch.randn(encoder.n_out, 20_000, generator=generator).double()
    same = encoder._scores(inputs)[0, 0].floor() / 20_000
    cosines = torch.cosine_similarity(inputs.history_BLD[0], inputs.candidate_BMD[0], -1)
    expected = 1 - 2 * cosines.acos() / math.pi
    # 4 standard errors of a share of 20,000 bits
    assert same.tolist() == pytest.approx(expected.tolist(), abs=8 * 0.5 / 20_000**0.5)


def test_a_search_by_hash_keeps_the_same_hash_first():
    inputs = random_inputs([9], 9, 1)
    inputs.history_BLD[0, 4] = inputs.candidate_BMD[0, 0]
    inputs.history_BLD[0, 6] = 3 * inputs.candidate_BMD[0, 0]
    encoder = SIM(Grade(1, 1, 4, 9), SIMOptions(search="eta", k=1), SmallSchema()).double()
    assert encoder.search(inputs)[0].tolist() == [[[6]]]


def test_a_search_by_attention_keeps_what_the_first_round_reads_most():
    inputs = random_inputs([9], 9, 1)
    encoder = SIM(Grade(1, 1, 4, 9), SIMOptions(search="twin", k=3), SmallSchema()).double()
    first, tokens = encoder.rounds[0], []
    first.key_value.register_forward_hook(lambda layer, given, out: tokens.append((given[0], out)))
    first(
        inputs.candidate_BMD,
        encoder._behaviours(inputs, torch.arange(9).view(1, 1, 9)),
        torch.ones(1, 1, 9, dtype=torch.bool),
    )
    keys = tokens[0][1][0, 0, :, : encoder.n_out]
    scores = keys @ first.query(inputs.candidate_BMD[0, 0])
    columns, found = encoder.search(inputs)
    assert set(columns[0, 0].tolist()) == set(scores.argsort()[-3:].tolist())
    assert found.all()


def test_a_candidate_without_a_category_finds_nothing():
    inputs = random_inputs([9], 9, 1)
    inputs.candidate_ids[..., 1] = inputs.history_ids[..., 1] = 0
    encoder = SIM(Grade(1, 1, 4, 9), SIMOptions(search="hard"), SmallSchema())
    assert not encoder.search(inputs)[1].any()
