"""Agreement with public implementations, whose weights, outputs and gradients are frozen (README.md beside them)."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_inputs import SmallSchema, features
from torch.func import functional_call
from torch.nn import functional as F

from models.attention import Layout
from models.baselines import (
    BST,
    ActivationUnit,
    BSTBlock,
    BSTOptions,
    CrossNet,
    DeepNet,
    Dice,
    HSTULayer,
    HSTUOptions,
    RankingLayer,
    RankMixerBlock,
    pool_history,
)
from models.baselines.silu_attention import find_pairs
from models.encoder import EncoderInput
from models.grades import Grade

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "baselines"

pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference numbers are not here")

# (pattern of a name in the files, our name); \g<1> is the layer. The other names are the same.
NAMES = {
    "dice": [(r"bn\.", "")],
    "unit": [
        (r".*attention_layer\.mlp\.0\.", "first."),
        (r".*attention_layer\.mlp\.(\d+)\.(?:bn\.)?", lambda m: f"rest.{int(m[1]) - 1}."),
    ],
    "bst": [
        (r".*position_emb", "position"),
        (r".*transformer_blocks\.(\d+)\.attention\.in_proj_", r"blocks.\g<1>.qkv."),
        (r".*transformer_blocks\.(\d+)\.attention\.out_proj", r"blocks.\g<1>.out"),
        (r".*transformer_blocks\.(\d+)\.ffn\.0", r"blocks.\g<1>.up"),
        (r".*transformer_blocks\.(\d+)\.ffn\.2", r"blocks.\g<1>.down"),
        (r".*transformer_blocks\.(\d+)\.layer_norm1", r"blocks.\g<1>.norm_attention"),
        (r".*transformer_blocks\.(\d+)\.layer_norm2", r"blocks.\g<1>.norm_ffn"),
    ],
    "hstu": [
        (r"_attention_layers\.(\d+)\._uvqk", r"\g<1>.uvqk"),
        (r"_attention_layers\.(\d+)\._o\.", r"\g<1>.out."),
        (r"_attention_layers\.(\d+)\._rel_attn_bias\._pos_w", r"\g<1>.position"),
        (r"_attention_layers\.(\d+)\._rel_attn_bias\._ts_w", r"\g<1>.time"),
    ],
    "stu": [
        (r"_stu_layers\.(\d+)\._input_norm_", r"\g<1>.norm_in."),
        (r"_stu_layers\.(\d+)\._output_norm_", r"\g<1>.norm_out."),
        (r"_stu_layers\.(\d+)\._output_weight", r"\g<1>.out.weight"),
        (r"_stu_layers\.(\d+)\._uvqk_weight", r"\g<1>.uvqk"),
        (r"_stu_layers\.(\d+)\._uvqk_beta", r"\g<1>.uvqk_bias"),
    ],
    "rankmixer": [
        (r"blocks\.(\d+)\.p?ffn\.W1", r"\g<1>.up"),
        (r"blocks\.(\d+)\.p?ffn\.W2", r"\g<1>.down"),
        (r"blocks\.(\d+)\.p?ffn\.b1", r"\g<1>.up_bias"),
        (r"blocks\.(\d+)\.p?ffn\.b2", r"\g<1>.down_bias"),
        (r"blocks\.(\d+)\.norm1", r"\g<1>.norm_mix"),
        (r"blocks\.(\d+)\.norm2", r"\g<1>.norm_ffn"),
    ],
    "cross": [(r"(?:crossnet\.)?cross_layers\.(\d+)", r"layers.\g<1>")],
    "deep": [(r"\w+_dnn\.mlp\.(\d+)", lambda m: f"layers.{int(m[1]) // 2}")],
}


class Case:
    """A file, in one precision: its leaves take gradients."""

    def __init__(self, name, precision):
        self.arrays = np.load(REFERENCE / f"{name}.npz")
        self.meta = json.loads(str(self.arrays["meta"]))
        self.precision, self.leaves = precision, {}
        dtype = torch.float32 if precision == "f32" else torch.float64
        for key in self.arrays.files:
            if key.startswith(("input.", "weight.", "buffer.")):
                value = torch.from_numpy(self.arrays[key])
                value = value.to(dtype) if value.is_floating_point() else value
                trains = value.is_floating_point() and not key.startswith("buffer.")
                self.leaves[key] = value.requires_grad_() if trains else value

    def input(self, name):
        return self.leaves[f"input.{name}"]

    def weight(self, name):
        return self.leaves[f"weight.{name}"]

    def of(self, module, names):
        """The weights and buffers of a module of ours, under our names."""
        known = dict(module.named_parameters()) | dict(module.named_buffers())
        found = {}
        for key, leaf in self.leaves.items():
            ours = key.partition(".")[2]
            for pattern, replacement in NAMES[names]:
                ours, n = re.subn(f"^{pattern}", replacement, ours)
                if n:
                    break
            if ours.endswith(".position"):  # by j - i + n - 1 there, by i - j here
                leaf = leaf[: (len(leaf) + 1) // 2].flip(0)
            if ours in known:
                # PyTorch's matrices are [out, in]; the released (in, out) of this one is used as x W
                turned = ours.endswith("out.weight") and names == "stu"
                found[ours] = leaf.t() if turned else leaf
        assert set(found) == set(known)
        return found

    def apply(self, module, names, *args, **kwargs):
        module.train(self.meta["training"])
        self.used = self.of(module, names)
        return functional_call(module, self.used, args, kwargs, strict=True)

    def check(self, out, *, without_effect=None):
        """Hold output and gradients against the file; a weight without effect has only rounding there."""
        close = partial(assert_close, precision=self.precision)
        close(out, self.arrays[f"{self.precision}.output.out"], 1e-5)
        (out * torch.from_numpy(self.arrays["cotangent"]).to(out.dtype)).sum().backward()
        for key, leaf in self.leaves.items():
            kind, _, name = key.partition(".")
            stored = f"{self.precision}.grad_{kind}.{name}"
            if stored in self.arrays.files:
                gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
                if name == without_effect:
                    assert gradient.abs().max() < (1e-6 if self.precision == "f32" else 1e-14)
                else:
                    close(gradient, self.arrays[stored], 1e-4)


def assert_close(ours, theirs, in_float32, precision):
    tolerance = in_float32 if precision == "f32" else 1e-9
    assert ours.shape == theirs.shape
    error = np.abs(ours.detach().numpy() - theirs).max()
    assert error <= tolerance * np.abs(theirs).max()


def cases(prefix, *, without=()):
    """The files of a prefix in both precisions, where both are given."""
    found = []
    for path in sorted(REFERENCE.glob(f"{prefix}*.npz")):
        if path.stem not in without:
            dtypes = json.loads(str(np.load(path)["meta"]))["dtype"]
            found += [(path.stem, "f32")] + [(path.stem, "f64")] * ("float64" in dtypes)
    return pytest.mark.parametrize(("name", "precision"), found)


def look_up(case, field, ids, layer="embedding_layer."):
    """The embeddings of ids; row 0 is padding and has no gradient."""
    table = case.weight(f"{layer}embedding_layers.{field}.weight")
    return F.embedding(case.input(ids), table, padding_idx=0)


def network(case, x, n_layers):
    """A plain network of the file: ReLU between its layers."""
    for index in range(n_layers):
        x = x.relu() if index else x
        layer = f"dnn.mlp.{2 * index}"
        x = F.linear(x, case.weight(f"{layer}.weight"), case.weight(f"{layer}.bias"))
    return x


@cases("dice_")
def test_dice(name, precision):
    case = Case(name, precision)
    case.check(case.apply(Dice(5), "dice", case.input("x")))
    for key in [key for key in case.arrays.files if key.startswith(f"{precision}.buffer_after.bn")]:
        after = case.used[key.rpartition(".")[2]]
        assert_close(after, case.arrays[key], 1e-5, precision)


@cases("din_attention")
def test_target_attention(name, precision):
    case = Case(name, precision)
    target, history = case.input("target").unsqueeze(1), case.input("history")
    read = case.input("mask").bool().unsqueeze(1)
    unit = ActivationUnit(8, tuple(case.meta["units"]), case.meta["activation"].lower())
    # the public statistics of Dice cover padding
    scored = torch.ones_like(read) if case.meta["training"] else read
    scores = case.apply(unit, "unit", target, history, scored)
    softmax = case.meta["use_softmax"]
    pooled = pool_history(scores, history, read, softmax=softmax)
    # a softmax does not change if all scores rise by the last bias
    last_bias = f"attention_layer.mlp.{2 * len(case.meta['units'])}.bias"
    case.check(pooled.squeeze(1), without_effect=last_bias if softmax else None)


@cases("din_model")
def test_din_as_a_whole(name, precision):
    case = Case(name, precision)
    user, item, cate, hour = (
        look_up(case, f, f) for f in ("user_id", "item_id", "cate_id", "hour")
    )
    pairs = [("item_id", "item_hist"), ("cate_id", "cate_hist")]
    history = torch.cat([look_up(case, *pair) for pair in pairs], -1)
    target = torch.cat([item, cate], -1).unsqueeze(1)
    read = (case.input("item_hist") != 0).unsqueeze(1)
    unit = ActivationUnit(16, tuple(case.meta["att"]), "dice")
    scores = case.apply(unit, "unit", target, history, read)
    pooled = pool_history(scores, history, read, softmax=False).squeeze(1)
    case.check(network(case, torch.cat([user, item, cate, hour, pooled], -1), 3))


def run_bst(case, options, target, history, valid):
    schema = SmallSchema(behaviour=features(*"abc"[: target.shape[-1] // 8]))
    encoder = BST(Grade(case.meta["layers"], case.meta["heads"], 8, 7), options, schema)
    unused = torch.zeros(len(valid), 8, dtype=torch.int64)
    inputs = EncoderInput(
        tokens_BND=torch.cat([history, target.unsqueeze(1)], 1),
        own_BMC=unused,
        profile_BPd=unused,
        times=unused,
        hours=unused,
        lengths=valid.sum(1),
        token_ids=unused,
        n_candidates=1,
    )
    return case.apply(encoder, "bst", inputs).squeeze(1)


@cases("bst_", without=("bst_concat_1layer_rightpad", "bst_model_joint"))
def test_bst(name, precision):
    case = Case(name, precision)
    options = BSTOptions(causal=case.meta["causal"], pooling=case.meta["pooling"])
    valid = case.input("ids") != 0
    case.check(run_bst(case, options, case.input("target"), case.input("history"), valid))


@cases("bst_concat")
def test_bst_block_with_padding_on_the_right(name, precision):
    """All outputs side by side, those of padding included."""
    case = Case(name, precision)
    tokens = torch.cat([case.input("history"), case.input("target").unsqueeze(1)], 1)
    place = case.weight("position_emb").expand(4, -1, -1)
    readable = F.pad(case.input("ids") != 0, (0, 1), value=True)[:, None] | torch.eye(8).bool()
    block = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([BSTBlock(16, 2)])})
    weights = {key.removeprefix("blocks.0."): w for key, w in case.of(block, "bst").items()}
    x = torch.cat([tokens, place], -1)
    case.check(functional_call(block["blocks"][0], weights, (x, readable)).flatten(1))


@cases("bst_model")
def test_bst_as_a_whole(name, precision):
    case = Case(name, precision)
    user, item, cate, hour = (
        look_up(case, f, f) for f in ("user_id", "item_id", "cate_id", "hour")
    )
    pairs = [("item_id", "item_hist"), ("cate_id", "cate_hist")]
    history = torch.cat([look_up(case, *pair) for pair in pairs], -1)
    options = BSTOptions(causal=False, pooling="mean")
    target = torch.cat([item, cate], -1)
    pooled = run_bst(case, options, target, history, case.input("item_hist") != 0)
    case.check(network(case, torch.cat([user, item, cate, hour, pooled], -1), 3))


class Layers(torch.nn.ModuleList):
    def forward(self, history, own, pairs, divisor):
        for layer in self:
            history, own = layer(history, own, pairs, divisor=divisor, with_history=True)
        return history, own


@cases("hstu_research")
def test_hstu(name, precision):
    """The divisor is the padded length, and a query's time that of the next place, as in the public code."""
    case = Case(name, precision)
    n, lengths = case.meta["n"], torch.tensor(case.meta["lengths"])
    options = HSTUOptions(bias=case.meta["time_bias"], concat=case.meta.get("concat_ua", False))
    widths = (case.meta["dqk"], case.meta["dv"])
    layers = Layers(
        HSTULayer(8, case.meta["heads"], n - 1, options, widths) for _ in range(case.meta["layers"])
    )
    # padding is on the right there, on the left here
    rows, right = torch.arange(len(lengths))[:, None], torch.arange(n)
    to_left = (right - (n - lengths)[:, None]) % n
    to_right = (right + (n - lengths)[:, None]) % n
    times = case.input("timestamps")
    following = torch.cat([times[:, 1:], times[:, -1:]], 1)
    layout = Layout(lengths, n, 0)
    history = case.input("x")[rows, to_left] * layout.valid.unsqueeze(-1)
    none = torch.zeros(len(lengths), 0, n, dtype=torch.bool)
    pairs = find_pairs(layout, none, times[rows, to_left], following[rows, to_left])
    out, _ = case.apply(layers, "hstu", history, history[:, :0], pairs, n)
    case.check(out[rows, to_right] * (right < lengths[:, None]).unsqueeze(-1))


@cases("stu_", without=("stu_1layer_ctx_window_groupnorm",))
def test_ranking_form_of_hstu(name, precision):
    """The last items of a sample are candidates that do not read each other."""
    case = Case(name, precision)
    meta, x = case.meta, case.input("x")
    n_targets, ends = torch.tensor(meta["num_targets"]), case.input("x_offsets")[1:]
    n_history = torch.tensor(meta["lengths"]) - n_targets
    longest, most = int(n_history.max()), int(n_targets.max())
    layout = Layout(n_history, longest, most)
    # row of x for each place; where there is none, any other
    of_history = ends[:, None] - n_targets[:, None] - longest + torch.arange(longest)
    of_own = ends[:, None] - n_targets[:, None] + torch.arange(most)
    present = torch.arange(most) < n_targets[:, None]
    history = x[of_history.clamp(min=0)] * layout.valid.unsqueeze(-1)
    own = x[of_own.clamp(max=len(x) - 1)] * present.unsqueeze(-1)
    layers = Layers(
        RankingLayer(meta["D"], meta["heads"], (meta["dqk"], meta["dv"]))
        for _ in range(meta["layers"])
    )
    seen = layout.valid[:, None, :].expand(-1, most, -1)
    times = torch.zeros(len(ends), longest + most, dtype=torch.int64)
    pairs = find_pairs(layout, seen, times)
    read = case.apply(layers, "stu", history, own, pairs, meta["max_seq_len"])
    out = torch.zeros_like(x)
    for places, values, real in zip(
        (of_history, of_own), read, (layout.valid, present), strict=True
    ):
        out = out.index_put((places[real],), values[real])
    case.check(out)


@cases("rankmixer_", without=("rankmixer_preln_2layer_tokenizer",))
def test_rankmixer(name, precision):
    case = Case(name, precision)
    meta, placement = case.meta, "pre" if "preln" in name else "post"
    blocks = torch.nn.Sequential(
        *(RankMixerBlock(meta["T"], meta["D"], meta["k"], placement) for _ in range(meta["layers"]))
    )
    out = case.apply(blocks, "rankmixer", case.input("x"))
    if meta.get("head"):
        norm, last = (
            [case.weight(f"output.{i}.{n}") for n in ("weight", "bias")] for i in range(2)
        )
        out = F.linear(F.layer_norm(out.mean(1), out.shape[-1:], *norm), *last)
    case.check(out)


@cases("crossnetv2")
def test_cross_layers(name, precision):
    case = Case(name, precision)
    x = case.input("x")
    case.check(case.apply(CrossNet(x.shape[-1], case.meta["layers"]), "cross", x))


@cases("dcnv2_model")
def test_dcnv2_as_a_whole(name, precision):
    case = Case(name, precision)
    fields = ("user_id", "item_id", "cate_id", "hour")
    where = "embedding_layer.embedding_layer."
    x = torch.cat([look_up(case, field, field, where) for field in fields], -1)
    crossed = case.apply(CrossNet(32, case.meta["cross"]), "cross", x)
    if case.meta["structure"] == "parallel":
        deep = case.apply(DeepNet(32, tuple(case.meta["dnn"])), "deep", x)
        out = torch.cat([crossed, deep], -1)
    else:
        out = case.apply(DeepNet(32, tuple(case.meta["dnn"])), "deep", crossed)
    case.check(F.linear(out, case.weight("fc.weight"), case.weight("fc.bias")))
