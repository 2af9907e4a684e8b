"""What holds for all encoders: packing, padding, gradients, sizes, refusals."""

from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from encoder_inputs import (
    SmallSchema,
    cut_at,
    features,
    only_candidate,
    only_pass,
    random_inputs,
    trim,
)
from torch.utils.flop_counter import FlopCounterMode

from models.baselines import (
    BST,
    DIN,
    HSTU,
    SIM,
    BSTOptions,
    DCNv2,
    DCNv2Options,
    DINOptions,
    HSTUOptions,
    RankMixer,
    RankMixerOptions,
    SIMOptions,
)
from models.encoder import Encoder, EncoderInput
from models.grades import Grade

GRADE, SCHEMA = Grade(2, 2, 4, 12), SmallSchema()
ENCODERS = [
    (DIN, DINOptions()),
    (DIN, DINOptions(activation="relu", softmax=True)),
    (BST, BSTOptions()),
    (BST, BSTOptions(pooling="mean", positions="start")),
    (BST, BSTOptions(causal=False)),
    (BST, BSTOptions(causal=False, pooling="mean")),
    (HSTU, HSTUOptions()),
    (HSTU, HSTUOptions(concat=True, bias=False)),
    (HSTU, HSTUOptions(form="ranking")),
    (RankMixer, RankMixerOptions()),
    (RankMixer, RankMixerOptions(n_tokens=3, placement="pre")),
    (DCNv2, DCNv2Options()),
    (SIM, SIMOptions(k=3)),
    (SIM, SIMOptions(search="hard", category="item", k=2)),
    (SIM, SIMOptions(search="eta", k=3)),
    (SIM, SIMOptions(search="twin", k=3)),
]
TENSORS = [
    f.name for f in fields(EncoderInput) if f.name not in ("ends", "present", "n_candidates")
]
every_encoder = pytest.mark.parametrize(("kind", "options"), ENCODERS, ids=str)


def build(kind, options, grade=GRADE, schema=SCHEMA):
    """An encoder in float64 whose weights are all away from their start."""
    torch.manual_seed(1)
    encoder = kind(grade, options, schema).double().eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def assert_same(one, other):
    assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


@every_encoder
def test_a_request_in_one_pass_gives_what_single_passes_give(kind, options):
    assert "request" in kind.packing(options)
    encoder, inputs = build(kind, options), random_inputs([9, 4, 0], 9, 3)
    packed = encoder(inputs)
    assert packed.shape == (3, 3, encoder.n_out)
    for index in range(3):
        assert_same(packed[:, [index]], encoder(only_candidate(inputs, index)))


@every_encoder
def test_a_stretch_in_one_pass_gives_what_single_passes_give_or_is_refused(kind, options):
    """`ends` are columns, so that the first request of the second pass reads nothing."""
    encoder, inputs = build(kind, options), random_inputs([9, 4], 9, 3)
    inputs = replace(inputs, ends=torch.tensor([[2, 6, 9], [5, 8, 9]]))
    if "stretch" not in kind.packing(options):
        if kind is not DCNv2:
            with pytest.raises(ValueError, match="stretch needs"):
                encoder(inputs)
        return
    packed = encoder(inputs)
    for row in range(2):
        for index in range(3):
            end = int(inputs.ends[row, index])
            one = cut_at(only_candidate(_row(inputs, row), index), end)
            assert_same(packed[row, index], encoder(one)[0, 0])


def _row(inputs, row):
    tensors = {f.name: getattr(inputs, f.name) for f in fields(inputs)}
    one = {k: v[row : row + 1] for k, v in tensors.items() if isinstance(v, torch.Tensor)}
    return replace(inputs, **one)


@every_encoder
def test_padding_changes_nothing(kind, options):
    encoder, inputs = build(kind, options), random_inputs([7, 3, 0], 7, 2)
    assert_same(encoder(inputs), encoder(trim(inputs, -5)))


@every_encoder
def test_padding_changes_nothing_in_training(kind, options):
    """Not even the statistics of Dice."""
    encoder, inputs = build(kind, options).train(), random_inputs([7, 3, 0], 7, 2)
    assert_same(encoder(inputs), encoder(trim(inputs, -5)))


@every_encoder
def test_a_pass_does_not_depend_on_the_others(kind, options):
    encoder, inputs = build(kind, options), random_inputs([7, 3, 0], 7, 2)
    together = encoder(inputs)
    for row in range(3):
        assert_same(together[[row]], encoder(only_pass(inputs, row)))


@every_encoder
def test_an_absent_candidate_changes_no_other(kind, options):
    encoder, inputs = build(kind, options).train(), random_inputs([7, 3], 7, 3)
    present = torch.tensor([[True, True, False], [True, False, False]])
    other = random_inputs([7, 3], 7, 3, seed=1)
    everywhere = torch.cat([torch.ones(2, 7, dtype=torch.bool), present], 1)
    masks = {"own_BMC": present, "tokens_BND": everywhere, "token_ids": everywhere}
    changed = {
        name: torch.where(mask.unsqueeze(-1), getattr(inputs, name), getattr(other, name))
        for name, mask in masks.items()
    }
    out = encoder(replace(inputs, present=present))
    assert_same(out[present], encoder(replace(inputs, present=present, **changed))[present])


@every_encoder
def test_every_parameter_gets_a_gradient(kind, options):
    encoder = build(kind, options).train()
    encoder(random_inputs([9, 4, 6], 9, 2)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def count_flops(kind, options, n_candidates, *, device="cpu", backward=False):
    encoder = build(kind, options).train().to(device)
    inputs = random_inputs([12, 12], 12, n_candidates)
    moved = {name: getattr(inputs, name).to(device) for name in TENSORS}
    with FlopCounterMode(display=False) as counter:
        out = encoder(replace(inputs, **moved))
        if backward:
            out.sum().backward()
    return counter.get_total_flops()


@every_encoder
def test_mixed_precision_is_near(kind, options):
    """bfloat16 rounds each number to 1 in 256, and there are two blocks."""
    encoder, inputs = build(kind, options).float().train(), random_inputs([9, 4], 9, 3)
    kinds = ("tokens_BND", "own_BMC", "profile_BPd")
    inputs = replace(inputs, **{name: getattr(inputs, name).float() for name in kinds})
    exact = encoder(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(inputs)
        rounded.float().sum().backward()
    assert (rounded - exact).abs().max() < 0.03 * exact.abs().max()


# torch's counter does not know the fused attention of a CPU
countable = [(kind, options) for kind, options in ENCODERS if kind is not BST]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), countable, ids=str)
def test_flops_can_be_counted_without_memory(kind, options):
    """Tiles of a CPU compute a few pairs that nothing reads, and HSTU's scores again in the backward pass."""
    tiled = kind is HSTU and options.form == "research"
    count = partial(count_flops, kind, options, 2, backward=not tiled)
    meta, cpu = count(device="meta"), count(device="cpu")
    assert 0 < meta <= cpu <= (1.1 if tiled else 1) * meta


@pytest.mark.slow
def test_flops_of_bst():
    """12 N W^2 + 4 N^2 W for each block and pass, and the mean of all outputs."""
    n_tokens, width = 13, 16
    expected = 2 * (12 * n_tokens * width**2 + 4 * n_tokens**2 * width) + 2 * n_tokens * width
    options = BSTOptions(causal=False, pooling="mean")
    assert count_flops(BST, options, 1, device="meta") == 2 * expected


# candidates share the hashes of ETA, which at this width are most of its work, but not what is read
NOT_HASHED = [one for one in ENCODERS if getattr(one[1], "search", "") != "eta"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), NOT_HASHED, ids=str)
def test_candidates_share_the_work_where_the_history_is_encoded_once(kind, options):
    """Six candidates then cost less than half of six passes."""

    one, six = (count_flops(kind, options, n_candidates) for n_candidates in (1, 6))
    assert (six < 3 * one) == kind.encodes_once(options)


SMALL, LARGE = Grade(1, 1, 2, 32), Grade(1, 8, 64, 32)
DEFAULTS = [
    (DIN, DINOptions()),
    (BST, BSTOptions()),
    (HSTU, HSTUOptions()),
    (RankMixer, RankMixerOptions()),
    (DCNv2, DCNv2Options()),
    (SIM, SIMOptions()),
]


def n_dense(kind, options, grade):
    """Parameters of the encoder and of SUAN's head on it, without tables by place or time."""
    encoder = kind(grade, options, SmallSchema())
    tables = ("position", "time", "gap")
    own = sum(p.numel() for n, p in encoder.named_parameters() if n.split(".")[-1] not in tables)
    d = grade.d
    return own + (encoder.n_out + 5 * d) * 16 * d + 128 * d * d


@pytest.mark.parametrize(("kind", "options"), DEFAULTS, ids=str)
def test_the_ladder_spans_two_thousand_to_two_million(kind, options):
    small, large = (n_dense(kind, options, grade) for grade in (SMALL, LARGE))
    assert 1_000 < small < 4_000
    assert 1_000_000 < large < 4_000_000


@pytest.mark.parametrize(("kind", "options"), DEFAULTS, ids=str)
def test_depth_adds_weights(kind, options):
    shallow, deep = (n_dense(kind, options, Grade(n, 2, 8, 32)) for n in (1, 3))
    assert deep > shallow


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: DINOptions(activation="tanh"), "activation is 'tanh', expected"),
        (lambda: BSTOptions(pooling="last"), "pooling is 'last', expected 'target' or 'mean'"),
        (lambda: HSTUOptions(form="ranking", concat=True), "bias and concat are options of"),
        (lambda: RankMixerOptions(n_tokens=0), "n_tokens is 0, expected at least 1"),
        (lambda: SIMOptions(k=0), "k is 0, expected at least 1"),
        (lambda: SIMOptions(category="item"), 'category is an option of search = "hard"'),
        (
            lambda: SIM(GRADE, SIMOptions(search="hard", category="brand"), SmallSchema()),
            "category is 'brand', expected a feature .*: item, category",
        ),
        (
            lambda: SIM(GRADE, SIMOptions(search="hard"), SmallSchema(candidate=features("x"))),
            "in common: there is none",
        ),
    ],
)
def test_wrong_options_are_refused(make, line):
    with pytest.raises(ValueError, match=line):
        make()


def test_options_of_another_encoder_are_refused():
    with pytest.raises(TypeError, match="DIN: options are BSTOptions, expected DINOptions"):
        DIN(GRADE, BSTOptions(), SmallSchema())


def test_an_encoder_declares_nothing_by_default():
    assert Encoder.packing(None) == ()
    assert not Encoder.encodes_once(None)
