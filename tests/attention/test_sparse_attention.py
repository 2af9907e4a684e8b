import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_cases import fast_only

from models.attention import (
    FlexBias,
    attend_history,
    flex_sparse_attention,
    gap_buckets,
    sparse_attention,
    sparse_bias,
)
from models.attention.candidates import find_keys
from models.sparse_pattern import SparsePattern, fit_tiles

HEADS, WIDTH = 2, 8


def masked_dense(qkv, position, time, times, lengths, pattern):
    """The definition: torch's dense attention under the pattern's mask; padding reads padding alone."""
    batch, n_tokens, _ = qkv.shape
    index = torch.arange(n_tokens)
    distance = index[:, None] - index
    valid = index >= n_tokens - lengths[:, None]
    readable = pattern.reads(distance) & (valid[:, None, :] | ~valid[:, :, None])
    times = times.masked_fill(~valid, 0)
    bias = (
        position[distance.clamp(min=0)]
        + time[gap_buckets(times[:, :, None] - times[:, None, :]).long()]
    )
    bias = bias.masked_fill(~readable, float("-inf"))
    q, k, v = (part.view(batch, n_tokens, HEADS, -1).transpose(1, 2) for part in qkv.chunk(3, -1))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None])
    return out.transpose(1, 2).reshape(batch, n_tokens, -1)


def inputs(n_tokens, lengths, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    lengths = torch.tensor(lengths)
    gaps = torch.exp(torch.randn(len(lengths), n_tokens, generator=generator) * 3 + 5).long()
    times = 1_700_000_000 + gaps.cumsum(1)
    return draw(len(lengths), n_tokens, 3 * WIDTH), draw(n_tokens + 1), draw(129), times, lengths


def sparse(qkv, position, time, times, lengths, pattern):
    tiles = fit_tiles(pattern, qkv.shape[1])
    bias = sparse_bias(position, time, times, lengths, tiles)
    return sparse_attention(qkv, bias, HEADS, tiles)


def difference(pattern, arguments):
    """Largest absolute differences of the output and of all gradients, relative to their size."""
    leaves = arguments[:3]
    weights = torch.randn(
        (*arguments[0].shape[:2], WIDTH),
        dtype=leaves[0].dtype,
        generator=torch.Generator().manual_seed(1),
    )
    results = []
    for attention in (sparse, masked_dense):
        out = attention(*arguments, pattern)
        results.append([out, *torch.autograd.grad((out * weights).sum(), leaves)])
    return max(
        ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)).item()
        for ours, theirs in zip(*results, strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(
    n_tokens=st.integers(1, 130),
    window=st.integers(1, 150),
    dilation=st.integers(1, 150),
    lengths=st.lists(st.floats(0, 1), min_size=1, max_size=3),
)
def test_it_equals_masked_dense_attention_with_its_gradients(n_tokens, window, dilation, lengths):
    """Float64: sums in another order."""
    arguments = inputs(n_tokens, [round(share * n_tokens) for share in lengths])
    assert difference(SparsePattern(window, dilation), arguments) < 1e-10


@pytest.mark.parametrize(
    ("n_tokens", "window", "dilation"),
    fast_only(
        [(999, 31, 37)],
        [
            (500, 16, 16),
            (999, 31, 37),
            (1000, 32, 32),
            (2000, 32, 32),
            (2000, 7, 3),
            (2000, 64, 997),
        ],
        unpack=True,
    ),
)
def test_it_equals_masked_dense_attention_on_long_histories(n_tokens, window, dilation):
    assert (
        difference(SparsePattern(window, dilation), inputs(n_tokens, [n_tokens * 2 // 3])) < 1e-10
    )


@pytest.mark.parametrize("n_tokens", [7, 200, 1000])
def test_in_float32_it_equals_masked_dense_attention_within_rounding(n_tokens):
    """A sum of n terms of float32 rounds by about 1e-7 sqrt(n) of its largest part."""
    pattern = SparsePattern(8, 16)
    assert difference(pattern, inputs(n_tokens, [n_tokens], torch.float32)) < 2e-5


@pytest.mark.parametrize(("window", "dilation"), fast_only([(3, 4)], [(3, 4), (5, 2)], unpack=True))
def test_gradients_equal_finite_differences(window, dilation):
    qkv, position, time, times, lengths = inputs(9, [9, 5])
    pattern = SparsePattern(window, dilation)
    time = time[:60].detach().requires_grad_()

    def attend(qkv, position, time):
        table = torch.cat([time, time.new_zeros(69)])
        return sparse(qkv, position, table, times, lengths, pattern)

    assert torch.autograd.gradcheck(attend, (qkv, position, time))


def test_all_heads_at_once_and_one_by_one_are_the_same(monkeypatch):
    arguments = inputs(60, [60, 31])
    together = sparse(*arguments, SparsePattern(5, 7))
    monkeypatch.setattr("models.attention.sparse._PAIRS", 0)
    assert (sparse(*arguments, SparsePattern(5, 7)) - together).abs().max() < 1e-14


def test_buckets_are_those_of_the_formula():
    gaps = [0, 1, -2, 3, 59, 3600, -86_400, 10**8]
    expected = [math.floor(math.log(max(abs(gap), 1)) / 0.301) for gap in gaps]
    assert gap_buckets(torch.tensor(gaps)).tolist() == expected


@given(
    n_tokens=st.integers(1, 2001),
    window=st.integers(1, 3000),
    dilation=st.integers(1, 3000),
)
@settings(deadline=None)
def test_tiles_hold_every_pair_and_few_others(n_tokens, window, dilation):
    """Per query at most about 4 windows and twice the dilated past, for any sizes."""
    tiles = fit_tiles(SparsePattern(window, dilation), n_tokens)
    assert tiles.padded >= n_tokens
    assert tiles.padded % tiles.block == 0
    if tiles.far:
        assert tiles.padded % dilation == 0
        assert (tiles.far + tiles.pattern.skipped) * dilation >= n_tokens
    assert tiles.near <= 4 * min(window, n_tokens) + 32


@pytest.mark.parametrize("pattern", [None, SparsePattern(3, 4)])
@pytest.mark.parametrize("stretch", [False, True])
def test_candidates_read_as_the_next_event_would(pattern, stretch):
    """Each against the last row of dense attention over its own history and itself."""
    qkv, position, time, times, _ = inputs(15, [15, 15])
    n_history, lengths = 12, torch.tensor([12, 7])
    ends = torch.tensor([[12, 6, 9], [12, 7, 10]]) if stretch else None
    keys = find_keys(
        (position, time), (times[:, :n_history], times[:, n_history:]), lengths, pattern, ends
    )
    out = attend_history(qkv[:, n_history:], qkv[:, :n_history, WIDTH:], keys, HEADS)
    for row in range(2):
        for m in range(3):
            end = n_history if ends is None else int(ends[row, m])
            chosen = [*range(end), n_history + m]
            expected = masked_dense(
                qkv[row : row + 1, chosen],
                position,
                time,
                times[row : row + 1, chosen],
                lengths[row : row + 1] - n_history + end + 1,
                pattern or SparsePattern(1, 1),
            )
            assert (out[row, m] - expected[0, -1]).abs().max() < 1e-12


@pytest.mark.slow  # importing the compiler takes seconds
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("window", "dilation"), [(5, 4), (3, 7), (8, 16), (40, 3), (1, 1)])
def test_two_flex_calls_equal_masked_dense_attention(window, dilation):
    """On a CPU without gradients, which FlexAttention lacks there; float64, sums in another order."""
    qkv, position, time, times, lengths = inputs(37, [37, 20, 0])
    times = times.masked_fill(torch.arange(37) < 37 - lengths[:, None], 0)
    pattern = SparsePattern(window, dilation)
    with torch.no_grad():
        out = flex_sparse_attention(
            qkv.detach(), FlexBias(pattern, position, time, times, lengths), HEADS
        )
        expected = masked_dense(qkv, position, time, times, lengths, pattern)
    assert (out - expected).abs().max() < 1e-12


@pytest.mark.gpu
def test_flex_attention_on_a_gpu_equals_masked_dense_attention_with_its_gradients():
    pattern = SparsePattern(16, 16)
    arguments = [
        x.detach().cuda().requires_grad_(x.is_floating_point())
        for x in inputs(300, [300, 180], torch.float32)
    ]
    qkv, position, time, times, lengths = arguments
    wide = torch.cat([qkv] * 4, -1)  # heads of 16
    times = times.masked_fill(torch.arange(300).cuda() < 300 - lengths[:, None], 0)
    out = flex_sparse_attention(wide, FlexBias(pattern, position, time, times, lengths), HEADS)
    expected = masked_dense(wide, position, time, times, lengths, pattern)
    leaves = [qkv, position, time]
    ours = [out, *torch.autograd.grad(out.sum(), leaves)]
    theirs = [expected, *torch.autograd.grad(expected.sum(), leaves)]
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine - reference).abs().max() < 1e-3 * reference.abs().max()
