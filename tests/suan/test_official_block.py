"""Agreement with the authors' released block, computed by their code on TensorFlow."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.attention import Layout, RelativeBias
from models.model_options import SuanOptions
from models.suan import UnifiedAttentionBlock

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "official_uab"
RELEASED = SuanOptions(placement="released", pooling="all")

pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference numbers are not here")


def load_released_weights(block, bias, weights, index):
    """Map the released weights onto our modules (docs/suan.md, "Released weights")."""

    def dense(name):  # dense kernels are [in, out], ours are [out, in]
        return torch.from_numpy(weights[f"w/block{index}{name}/kernel"].T)

    attention = "_selfAttention/{}_linear"
    block.attention.qkv.weight.data = torch.cat([dense(attention.format(n)) for n in "qkv"])
    block.attention.out.weight.data = dense(attention.format("o"))
    cross = "_crossAttentioncross/{}_linear1"
    block.fusion.q.weight.data = dense(cross.format("q1"))
    block.fusion.k.weight.data = dense(cross.format("k2"))
    block.fusion.v.weight.data = dense(cross.format("v2"))
    block.fusion.out.weight.data = dense(cross.format("o"))
    block.fusion.squeeze.weight.data = dense("x_se_net_relu")
    block.fusion.weigh_sequence.weight.data = dense("x_se_net_weight1")
    block.fusion.weigh_profile.weight.data = dense("x_se_net_weight2")
    ffn = f"_SwiGLU/block{index}_SwiGLUfc{{}}"
    block.ffn.gate_and_up.weight.data = torch.cat([dense(ffn.format(n)) for n in "12"])
    block.ffn.gate_and_up.bias.data = torch.cat(
        [torch.from_numpy(weights[f"w/block{index}{ffn.format(n)}/bias"]) for n in "12"]
    )
    block.ffn.down.weight.data = dense(ffn.format("3"))
    block.ffn.down.bias.data = torch.from_numpy(weights[f"w/block{index}{ffn.format('3')}/bias"])
    for norm, name in [(1, "attention"), (2, "fusion"), (3, "ffn")]:
        gain = torch.from_numpy(weights[f"w/block{index}_norm_{norm}/gamma"])
        getattr(block, f"norm_{name}").weight.data = gain
    n_tokens = len(bias.position)
    # the released table is indexed by N - 1 + j - i, ours by the distance i - j
    bias.position.data = torch.from_numpy(weights["w/rel_pos_w"][:n_tokens][::-1].copy())
    bias.time.data = torch.from_numpy(weights["w/rel_ts_w"])


def run(case):
    weights = np.load(REFERENCE / f"{case}.npz")
    x = torch.from_numpy(weights["x"]).requires_grad_()
    profile = torch.from_numpy(weights["profile"]).requires_grad_()
    valid = torch.from_numpy(weights["ids"] != 0)
    _, n_tokens, width = x.shape
    n_blocks = sum(f"out{index}" in weights.files for index in range(2))
    bias = RelativeBias(n_tokens - 1, position=True, time=True)
    blocks = [UnifiedAttentionBlock(width, profile.shape[-1], 2, RELEASED) for _ in range(n_blocks)]
    for index, block in enumerate(blocks):
        load_released_weights(block, bias, weights, index)
    layout = Layout(valid.sum(1) - 1, n_tokens - 1, n_candidates=1)
    added = bias(torch.from_numpy(weights["time"]), layout, x.dtype, skip_future=False)
    pool = layout.pool("all", x.dtype)
    outputs, token = [], x
    for block in blocks:
        token = block(token, profile, added, pool, n_out=n_tokens)
        outputs.append(token)
    (outputs[-1][:, -1] * torch.from_numpy(weights["loss_weight"])).sum().backward()
    return weights, outputs, x, profile


@pytest.mark.parametrize("case", ["one_block", "two_blocks", "two_blocks_padded"])
def test_outputs_are_the_released_blocks(case):
    weights, outputs, _, _ = run(case)
    for index, output in enumerate(outputs):
        expected = weights[f"out{index}"]
        error = np.abs(output.detach().numpy() - expected).max() / np.abs(expected).max()
        assert error < 1e-5, (index, error)  # both sides are float32


@pytest.mark.parametrize("case", ["one_block", "two_blocks", "two_blocks_padded"])
def test_gradients_are_the_released_blocks(case):
    weights, _, x, profile = run(case)
    for name, tensor in [("grad_x", x), ("grad_profile", profile)]:
        expected = weights[name]
        error = np.abs(tensor.grad.numpy() - expected).max() / np.abs(expected).max()
        assert error < 1e-4, (name, error)
