import math

import pytest
import torch

from models.attention import Layout, RelativeBias, SelfAttention
from models.attention.bias import time_buckets
from models.attention.layout import MASKED


def dense(bias):
    """The bias of all pairs, [B, N, N]."""
    n_samples, n_tokens = bias.tiles[-1].samples.stop, bias.tiles[0].keys.stop
    whole = bias.values[0].new_full((n_samples, n_tokens, n_tokens), MASKED)
    for tile, value in zip(bias.tiles, bias.values, strict=True):
        whole[tile.samples, tile.queries, tile.keys] = value
    return whole


def plain_attention(module, x, bias):
    """softmax(q k' / sqrt(E) + bias) v, written with torch's own functions."""
    batch, n_tokens, width = x.shape
    q, k, v = (
        t.view(batch, n_tokens, module.n_heads, -1).transpose(1, 2)
        for t in module.qkv(x).chunk(3, -1)
    )
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=dense(bias)[:, None])
    return module.out(out.transpose(1, 2).reshape(batch, n_tokens, width))


def inputs(n_tokens, lengths):
    torch.manual_seed(0)
    module = SelfAttention(12, 3).double()
    bias_module = RelativeBias(n_tokens, position=True, time=True).double()
    torch.nn.init.normal_(bias_module.position)
    torch.nn.init.normal_(bias_module.time)
    x = torch.randn(len(lengths), n_tokens, 12, dtype=torch.float64)
    times = torch.randint(0, 10**6, (len(lengths), n_tokens)).cumsum(1)
    layout = Layout(torch.tensor(lengths) - 1, n_tokens - 1, n_candidates=1)
    valid = torch.arange(n_tokens) >= n_tokens - torch.tensor(lengths)[:, None]
    added = bias_module(times, layout, torch.float64, skip_future=True)
    return module, added, x, valid, (bias_module, times, layout)


@pytest.mark.parametrize("n_tokens", [1, 5, 64, 65, 150])
def test_blocks_of_queries_equal_torchs_attention_on_valid_tokens(n_tokens):
    module, added, x, valid, _ = inputs(n_tokens, [n_tokens, max(1, n_tokens // 2)])
    ours = module(x, added, n_tokens)
    error = (ours - plain_attention(module, x, added))[valid].abs().max()
    assert error < 1e-12  # float64, sums in another order


def test_gradients_equal_torchs_attention():
    module, _, x, valid, (bias, times, layout) = inputs(150, [150, 90])
    weights = torch.randn_like(x) * valid[:, :, None]
    leaves = [*module.parameters(), *bias.parameters(), x.requires_grad_()]
    ours = torch.autograd.grad(
        (module(x, bias(times, layout, torch.float64, skip_future=True), 150) * weights).sum(),
        leaves,
    )
    theirs = torch.autograd.grad(
        (
            plain_attention(module, x, bias(times, layout, torch.float64, skip_future=True))
            * weights
        ).sum(),
        leaves,
    )
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine - reference).abs().max() < 1e-10 * reference.abs().max()


def test_the_last_query_alone_equals_the_last_row_of_all():
    module, added, x, _, _ = inputs(70, [70, 20])
    full = module(x, added, 70)[:, -1:]
    assert (module(x, added, 1) - full).abs().max() < 1e-12


def test_a_later_token_never_changes_an_earlier_one():
    module, added, x, _, _ = inputs(100, [100])
    before = module(x, added, 100)
    x[:, 60:] += 1
    after = module(x, added, 100)
    assert torch.equal(before[:, :60], after[:, :60])


def test_padding_never_changes_a_valid_token():
    module, added, x, _, _ = inputs(80, [30])
    before = module(x, added, 80)
    x[:, :50] += 5
    after = module(x, added, 80)
    assert torch.equal(before[:, 50:], after[:, 50:])


def test_time_buckets_are_those_of_the_formula():
    gaps = [0, 1, 2, 3, 59, 3600, 86_400, 10**8]
    times = torch.tensor([[10**9, *(10**9 + gap for gap in gaps)]])
    expected = [math.floor(math.log(max(gap, 1)) / 0.301) for gap in gaps]
    assert time_buckets(times, times)[0, 0, 1:].tolist() == expected


def test_the_bias_of_three_events_by_hand():
    """Query i, key j: position[i - j] + time[bucket(|t_i - t_j|)], the future masked."""
    bias = RelativeBias(2, position=True, time=True)
    bias.position.data = torch.tensor([0.0, 10.0, 20.0])
    bias.time.data[:] = torch.arange(129) / 100
    times = torch.tensor([[1000, 1002, 1060]])  # gaps 2 -> bucket 2, 58 -> 13, 60 -> 13
    layout = Layout(torch.tensor([2]), 2, n_candidates=1)
    added = dense(bias(times, layout, torch.float32, skip_future=True))[0]
    expected = [[0.0, None, None], [10.02, 0.0, None], [20.13, 10.13, 0.0]]
    for i, row in enumerate(expected):
        for j, value in enumerate(row):
            if value is None:
                assert added[i, j] <= MASKED / 2
            else:
                assert added[i, j].item() == pytest.approx(value, abs=1e-6)  # float32


def test_the_gradient_of_the_bias_is_the_sum_over_all_pairs():
    """In three blocks of queries; the same look-up with torch's own gradient."""
    _, _, _, _, (bias, times, layout) = inputs(150, [150, 90])
    weights = torch.randn(2, 150, 150, dtype=torch.float64) * layout.readable
    added = bias(times, layout, torch.float64, skip_future=True)
    assert len(added.tiles) >= 3
    pairs = zip(added.tiles, added.values, strict=True)
    ours = sum((v * weights[t.samples, t.queries, t.keys]).sum() for t, v in pairs)
    buckets = time_buckets(times, times).long()
    table = bias.position[layout.distance.clamp(min=0)] + bias.time[buckets]
    leaves = list(bias.parameters())
    found = zip(
        torch.autograd.grad(ours, leaves),
        torch.autograd.grad((table * weights).sum(), leaves),
        strict=True,
    )
    for mine, reference in found:
        assert (mine - reference).abs().max() < 1e-10 * reference.abs().max()
